"""What a room is made of. World axes: x along the width, y along the length, z up, metres; the floor is z = 0."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CLASSES = (
    "floor",
    "ceiling",
    "wall",
    "door",
    "window",
    "picture",
    "table",
    "chair",
    "bed",
    "sofa",
    "cabinet",
    "lamp",
)  # fmt: skip
LABELS = {name: label for label, name in enumerate(CLASSES)}

PALETTE = (
    (196, 164, 132),
    (222, 226, 230),
    (143, 163, 191),
    (166, 86, 40),
    (77, 190, 238),
    (231, 111, 168),
    (240, 170, 40),
    (214, 60, 50),
    (106, 76, 180),
    (47, 158, 94),
    (120, 116, 60),
    (250, 228, 80),
)

BOX, CONE, ELLIPSOID = 0, 1, 2

# One solid. `x y z`: its centre; `hx hy hz`: half sizes in its own axes, turned by a yaw of cosine `c` and sine `s`.
# A cone is vertical, of radius `hx` in the middle, growing by `slope` metres per metre of height.
SOLID = np.dtype(
    [("shape", "i8"), ("label", "i8"), ("material", "i8")]
    + [(name, "f8") for name in ("x", "y", "z", "hx", "hy", "hz", "c", "s", "slope")]
)

# One piece of furniture: solids `start` to `stop`, inside an upright box.
GROUP = np.dtype([("start", "i8"), ("stop", "i8")] + [(name, "f8") for name in ("x0", "x1", "y0", "y1", "z0", "z1")])

# A procedural texture between two linear RGB colours; `period` in metres, turned by a cosine `c` and sine `s`.
MATERIAL = np.dtype(
    [("kind", "i8"), ("seed", "i8")]
    + [(name, "f8") for name in ("r0", "g0", "b0", "r1", "g1", "b1", "period", "c", "s")]
)

# The room's own surfaces, in the order of `Scene.surfaces`.
FLOOR, CEILING, WEST, EAST, SOUTH, NORTH = range(6)

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[Any]


@dataclass(frozen=True)
class Lighting:
    """What lights a room, in linear intensities.

    Attributes:
        ambient: (6,) light that reaches a face whose normal points to -x, +x, -y, +y, -z, +z.
        position: (3,) of the ceiling light, which casts shadows.
        intensity: of the ceiling light at 1 m.
        colour: (3,) RGB factors of the ceiling light; the ambient light has the complementary tint.
    """

    ambient: Floats
    position: Floats
    intensity: float
    colour: Floats


@dataclass(frozen=True)
class Scene:
    """One furnished room.

    Attributes:
        extent: (3,) width, length and height.
        solids: (P,) of `SOLID`.
        groups: (G,) of `GROUP`; every solid belongs to one.
        surfaces: (6,) material of floor, ceiling, west, east, south and north wall.
        materials: (M,) of `MATERIAL`.
        lighting: the room's light.
    """

    extent: Floats
    solids: Rows
    groups: Rows
    surfaces: npt.NDArray[np.int64]
    materials: Rows
    lighting: Lighting


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with square pixels, its optical axis through the image's middle.

    Attributes:
        position: (3,) in the room.
        axes: (3, 3) rows: the camera's x (right), y (down) and z (forward) axis in world coordinates.
        field_of_view: across the image's width, in radians.
    """

    position: Floats
    axes: Floats
    field_of_view: float

    @classmethod
    def looking(cls, position: Floats, yaw: float, pitch: float, roll: float, field_of_view: float) -> Camera:
        """Angles in radians. Yaw 0 looks along +y and grows to the right, positive pitch looks down."""
        forward = np.array([math.sin(yaw) * math.cos(pitch), math.cos(yaw) * math.cos(pitch), -math.sin(pitch)])
        right = np.array([math.cos(yaw), -math.sin(yaw), 0.0])
        down = np.cross(forward, right)
        cosine, sine = math.cos(roll), math.sin(roll)
        axes = np.stack([cosine * right + sine * down, cosine * down - sine * right, forward])
        return cls(np.asarray(position, dtype=np.float64), axes, field_of_view)

    def focal(self, width: int) -> float:
        """In pixels, for an image of that width."""
        return 0.5 * width / math.tan(0.5 * self.field_of_view)
