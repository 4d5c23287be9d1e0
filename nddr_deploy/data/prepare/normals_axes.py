"""Normals of other people in other axes: brought into ours, and the axes found where nobody says them."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np

from nddr_deploy.data.prepare.depth_to_normals import normals_from_depth
from nddr_deploy.data.prepare.nyuv2_source import CAMERA
from nddr_deploy.errors import InputError
from nddr_deploy.tasks.base import Array
from nddr_deploy.tasks.normals import Normals, angles_between

Axes = tuple[str, str, str]
FITS = 20.0  # degrees that half of all pixels may be apart in the best axes; real frames: about 4
LINES = (("right", "left"), ("down", "up"), ("away", "toward"))


def in_camera_axes(normals: Array, axes: Axes) -> Array:
    """Unit vectors in camera axes, zeros for missing ones.

    Args:
        normals: (H, W, 3), of any length from 0.5.
        axes: the directions in which their components grow, as of `tasks.Normals`.
    """
    components, signs = Normals(axes=axes).camera
    turned = normals.astype(np.float32)[..., list(components)] * np.array(signs, np.float32)
    length = np.linalg.norm(turned, axis=2, keepdims=True)
    return np.where(length > 0.5, turned / np.maximum(length, 0.5), 0).astype(np.float32)


def axes_that_fit(normals: Array, depth: Array, where: str) -> Axes:
    """The axes in which normals agree best with those of a depth map.

    Args:
        normals: (H, W, 3); depth: (H, W) metres, of NYU's camera.
        where: file, for the message.

    Raises:
        InputError: no axes fit.
    """
    measured = normals_from_depth(depth, CAMERA)
    both = (measured != 0).any(axis=2) & (np.linalg.norm(normals, axis=2) > 0.5)
    found: dict[Axes, float] = {}
    for lines in permutations(LINES):
        for directions in product(*lines):
            axes: Axes = (directions[0], directions[1], directions[2])
            if both.any():
                found[axes] = float(np.median(angles_between(in_camera_axes(normals, axes)[both], measured[both])))
    best = min(found, key=lambda axes: found[axes]) if found else None
    if best is None or found[best] > FITS:
        how = "no pixel has both" if best is None else f"at best {found[best]:.0f} degrees apart"
        raise InputError(f"{where}: in no axes do these normals fit the depth ({how}). Say --normals-axes.")
    return best
