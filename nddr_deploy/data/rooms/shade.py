"""Colour: procedural textures under ambient and ceiling light, in linear RGB. Compiled by numba, like `trace`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

PLAIN, STRIPES, CHECKS, TILES, WOOD, MARBLE, DOTS, WEAVE = range(8)
TEXTURES = 8


def compiled(function: Kernel) -> Kernel:
    kernel: Kernel = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return kernel


@compiled
def hashed(i, j, seed):  # type: ignore[no-untyped-def]
    """A number in 0..1 for each whole (i, j)."""
    value = (i * 374761393 + j * 668265263 + seed * 2246822519) & 0xFFFFFFFF
    value = ((value ^ (value >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((value ^ (value >> 16)) & 0xFFFFFF) / 16777215.0


@compiled
def noise(u, v, seed):  # type: ignore[no-untyped-def]
    """Smooth value noise in 0..1 with one cell per unit."""
    i, j = math.floor(u), math.floor(v)
    a, b = u - i, v - j
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    i, j = int(i), int(j)
    low = hashed(i, j, seed) * (1 - a) + hashed(i + 1, j, seed) * a
    high = hashed(i, j + 1, seed) * (1 - a) + hashed(i + 1, j + 1, seed) * a
    return low * (1 - b) + high * b


@compiled
def wave(u, edge):  # type: ignore[no-untyped-def]
    """0 for half a unit, 1 for the other half, with ramps of width `edge`."""
    u = u - math.floor(u)
    distance = 0.25 - abs(u - 0.5)  # > 0 in the middle half
    return min(1.0, max(0.0, 0.5 + distance / edge))


@compiled
def line(u, width, edge):  # type: ignore[no-untyped-def]
    """1 within `width` / 2 of whole numbers, else 0, with ramps of width `edge`."""
    u = abs(u - math.floor(u + 0.5))
    return min(1.0, max(0.0, 0.5 + (0.5 * width - u) / edge)) * min(1.0, width / edge)


@compiled
def mix(material, u, v, footprint):  # type: ignore[no-untyped-def]
    """How much of the second colour there is at (u, v) metres, seen through a pixel `footprint` metres wide: 0..1."""
    u, v = (u * material.c - v * material.s) / material.period, (u * material.s + v * material.c) / material.period
    blur = footprint / material.period
    edge = max(0.02, blur)
    kind, seed = material.kind, material.seed
    mean, value = 0.5, 0.5
    if kind == PLAIN:
        mean = 0.15
        value = 0.3 * noise(3 * u, 3 * v, seed)
    elif kind == STRIPES:
        value = wave(u, edge)
    elif kind == CHECKS:
        a, b = wave(u, edge), wave(v, edge)
        value = a * (1 - b) + b * (1 - a)
    elif kind == TILES:
        grout = max(line(u, 0.06, edge), line(v, 0.06, edge))
        tone = 0.25 * hashed(int(math.floor(u)), int(math.floor(v)), seed)
        mean, value = 0.22, grout + (1 - grout) * tone
    elif kind == WOOD:
        row = int(math.floor(u))
        along = v * 0.22 + 7.3 * hashed(row, 3, seed)
        tone = hashed(row, int(math.floor(along)), seed)
        grain = noise(u * 9, v * 0.9 + 17 * tone, seed)
        joint = max(line(u, 0.04, edge), line(along, 0.01, edge * 0.22))
        mean, value = 0.4, min(1.0, 0.45 * tone + 0.4 * grain * min(1.0, 0.15 / edge) + joint)
    elif kind == MARBLE:
        bend = 1.6 * noise(u * 1.7, v * 1.7, seed) + 0.6 * noise(u * 4.1, v * 4.1, seed + 1)
        value = 0.5 + 0.5 * math.sin(5.0 * (u + bend))
    elif kind == DOTS:
        a, b = u - math.floor(u) - 0.5, v - math.floor(v) - 0.5
        mean, value = 0.28, min(1.0, max(0.0, 0.5 + (0.3 - math.sqrt(a * a + b * b)) / edge))
    else:
        mean, value = 0.5, 0.5 * (wave(u, edge) + wave(v, edge))
    keep = min(1.0, max(0.0, 1.6 - 1.8 * blur))  # fade what is too fine for the pixels
    return mean + keep * (value - mean)


@compiled
def shade(  # type: ignore[no-untyped-def]
    materials, material_of, position, axes, focal, ambient, lamp, intensity, tint, depth, normals, surface, texture,
    lit, open_, image,
):  # fmt: skip
    """Fill `image` (H, W, 3) with linear RGB. `material_of`: material per surface; the rest as in `trace.trace`."""
    height, width = depth.shape
    for i in range(height):
        v = (i - 0.5 * (height - 1)) / focal
        for j in range(width):
            u = (j - 0.5 * (width - 1)) / focal
            t = depth[i, j]
            rx = axes[0, 0] * u + axes[1, 0] * v + axes[2, 0]
            ry = axes[0, 1] * u + axes[1, 1] * v + axes[2, 1]
            rz = axes[0, 2] * u + axes[1, 2] * v + axes[2, 2]
            nx, ny, nz = normals[i, j, 0], normals[i, j, 1], normals[i, j, 2]
            facing = abs(rx * nx + ry * ny + rz * nz) / math.sqrt(rx * rx + ry * ry + rz * rz)
            m = materials[material_of[surface[i, j]]]
            share = mix(m, texture[i, j, 0], texture[i, j, 1], t / focal / max(facing, 0.15))
            around = (
                nx * nx * ambient[1 if nx > 0 else 0]
                + ny * ny * ambient[3 if ny > 0 else 2]
                + nz * nz * ambient[5 if nz > 0 else 4]
            ) * open_[i, j]
            dx, dy, dz = lamp[0] - position[0] - t * rx, lamp[1] - position[1] - t * ry, lamp[2] - position[2] - t * rz
            square = dx * dx + dy * dy + dz * dz
            direct = intensity * lit[i, j] * max(0.0, nx * dx + ny * dy + nz * dz) / math.sqrt(square) / (0.6 + square)
            direct *= 0.5 + 0.5 * open_[i, j]
            image[i, j, 0] = (m.r0 + share * (m.r1 - m.r0)) * (around * (2 - tint[0]) + direct * tint[0])
            image[i, j, 1] = (m.g0 + share * (m.g1 - m.g0)) * (around * (2 - tint[1]) + direct * tint[1])
            image[i, j, 2] = (m.b0 + share * (m.b1 - m.b0)) * (around * (2 - tint[2]) + direct * tint[2])
