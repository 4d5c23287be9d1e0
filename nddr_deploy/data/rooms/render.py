"""From a scene and a camera to a picture and its exact targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nddr_deploy.data.rooms.scene import LABELS, Camera, Scene

SURFACE_LABELS = (LABELS["floor"], LABELS["ceiling"], *[LABELS["wall"]] * 4)


@dataclass(frozen=True)
class Rendering:
    """What a perfect camera would see.

    Attributes:
        radiance: (H, W, 3) float32 linear RGB, no unit: `data.sensor` chooses the exposure.
        labels: (H, W) uint8 index into `scene.CLASSES`.
        normals: (H, W, 3) float32 unit vectors toward the camera, in camera axes (x right, y down, z forward).
        depth: (H, W) float32 metres along the optical axis (not along the ray).
    """

    radiance: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    normals: npt.NDArray[np.float32]
    depth: npt.NDArray[np.float32]


def render(scene: Scene, camera: Camera, size_hw: tuple[int, int]) -> Rendering:
    """Cast one ray through every pixel's centre; labels, normals and depth are exact there."""
    from nddr_deploy.data.rooms import shade, trace

    focal = camera.focal(size_hw[1])
    depth, lit, open_ = (np.empty(size_hw, dtype=np.float32) for _ in range(3))
    normals, image = (np.empty((*size_hw, 3), dtype=np.float32) for _ in range(2))
    surface = np.empty(size_hw, dtype=np.int64)
    texture = np.empty((*size_hw, 2), dtype=np.float32)
    position, axes, lighting = camera.position, camera.axes, scene.lighting
    material_of = np.concatenate([scene.surfaces, scene.solids["material"]])
    labels_of = np.concatenate([SURFACE_LABELS, scene.solids["label"]]).astype(np.uint8)
    trace.trace(scene.extent, scene.solids, position, axes, focal, np.zeros(2), depth, normals, surface, texture)
    trace.light(
        scene.extent, scene.solids, scene.groups, position, axes, focal, lighting.position, depth, normals, surface,
        lit, open_,
    )  # fmt: skip
    shade.shade(
        scene.materials, material_of, position, axes, focal, lighting.ambient, lighting.position, lighting.intensity,
        lighting.colour, depth, normals, surface, texture, lit, open_, image,
    )  # fmt: skip
    in_camera = normals @ axes.T.astype(np.float32)
    return Rendering(image, labels_of[surface], np.ascontiguousarray(in_camera), depth)
