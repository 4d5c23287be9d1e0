"""Ray casting: what each pixel sees, and how much of the ceiling light and of the surroundings reaches it.

Compiled by numba; import this module only when rendering. No kernel calls one of another file, because numba's cache
notices changes of a kernel's own file only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numba

from nddr_deploy.data.rooms.scene import BOX, CONE

Kernel = TypeVar("Kernel", bound=Callable[..., Any])
FAR = 1e9


def compiled(function: Kernel) -> Kernel:
    kernel: Kernel = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return kernel


@compiled
def hit_box(ox, oy, oz, dx, dy, dz, s):  # type: ignore[no-untyped-def]
    """The first crossing of a ray (in the solid's axes) from outside: (t, axis); t = FAR without one."""
    near, far, axis = -FAR, FAR, -1
    for a in range(3):
        o, d, h = (ox, dx, s.hx) if a == 0 else ((oy, dy, s.hy) if a == 1 else (oz, dz, s.hz))
        if abs(d) < 1e-12:
            if abs(o) > h:
                return FAR, 0
            continue
        t0, t1 = (-h - o) / d, (h - o) / d
        if t0 > t1:
            t0, t1 = t1, t0
        if t0 > near:
            near, axis = t0, a
        far = min(far, t1)
        if near > far or far <= 0:
            return FAR, 0
    return (near, axis) if near > 1e-6 else (FAR, 0)


@compiled
def hit_cone(ox, oy, oz, dx, dy, dz, s):  # type: ignore[no-untyped-def]
    """As `hit_box`; axis 0: the side, axis 2: a flat end."""
    best, axis = FAR, 0
    radius, slope = s.hx + s.slope * oz, s.slope * dz
    a = dx * dx + dy * dy - slope * slope
    b = ox * dx + oy * dy - radius * slope
    c = ox * ox + oy * oy - radius * radius
    root = b * b - a * c
    if root >= 0 and abs(a) > 1e-12:
        root = math.sqrt(root)
        for sign in (-1.0, 1.0):
            t = (-b + sign * root) / a
            if 1e-6 < t < best and abs(oz + t * dz) <= s.hz and s.hx + s.slope * (oz + t * dz) >= 0:
                best = t
    if abs(dz) > 1e-12:
        for end in (-s.hz, s.hz):
            t = (end - oz) / dz
            x, y, r = ox + t * dx, oy + t * dy, s.hx + s.slope * end
            if 1e-6 < t < best and x * x + y * y <= r * r:
                best, axis = t, 2
    return best, axis


@compiled
def hit_ellipsoid(ox, oy, oz, dx, dy, dz, s):  # type: ignore[no-untyped-def]
    ox, oy, oz, dx, dy, dz = ox / s.hx, oy / s.hy, oz / s.hz, dx / s.hx, dy / s.hy, dz / s.hz
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    root = b * b - a * (ox * ox + oy * oy + oz * oz - 1)
    if root < 0:
        return FAR, 0
    t = (-b - math.sqrt(root)) / a
    return (t, 0) if t > 1e-6 else (FAR, 0)


@compiled
def hit(ox, oy, oz, dx, dy, dz, s):  # type: ignore[no-untyped-def]
    if s.shape == BOX:
        return hit_box(ox, oy, oz, dx, dy, dz, s)
    if s.shape == CONE:
        return hit_cone(ox, oy, oz, dx, dy, dz, s)
    return hit_ellipsoid(ox, oy, oz, dx, dy, dz, s)


@compiled
def window_of(s, position, axes, focal, height, width):  # type: ignore[no-untyped-def]
    """The rows and columns of the image that can show a solid: (top, bottom, left, right), empty if top >= bottom."""
    top, bottom, left, right = 1e9, -1e9, 1e9, -1e9
    behind = 0
    reach = max(s.hx + abs(s.slope) * s.hz, s.hx)
    across = s.hy if s.shape != CONE else reach
    for corner in range(8):
        lx = reach if corner & 1 else -reach
        ly = across if corner & 2 else -across
        x = s.x + lx * s.c - ly * s.s - position[0]
        y = s.y + lx * s.s + ly * s.c - position[1]
        z = s.z + (s.hz if corner & 4 else -s.hz) - position[2]
        forward = axes[2, 0] * x + axes[2, 1] * y + axes[2, 2] * z
        if forward < 0.02:
            behind += 1
            continue
        column = focal * (axes[0, 0] * x + axes[0, 1] * y + axes[0, 2] * z) / forward + 0.5 * (width - 1)
        row = focal * (axes[1, 0] * x + axes[1, 1] * y + axes[1, 2] * z) / forward + 0.5 * (height - 1)
        top, bottom, left, right = min(top, row), max(bottom, row), min(left, column), max(right, column)
    if behind == 8:
        return 0, 0, 0, 0
    if behind > 0:
        return 0, height, 0, width
    return (
        max(0, int(math.floor(top))),
        min(height, int(math.ceil(bottom)) + 1),
        max(0, int(math.floor(left))),
        min(width, int(math.ceil(right)) + 1),
    )


@compiled
def trace(extent, solids, position, axes, focal, shift, depth, normals, surface, texture):  # type: ignore[no-untyped-def]
    """Fill what every pixel sees.

    Args:
        extent, solids: of the scene.
        position, axes, focal: of the camera; `shift` (row, column) moves the rays by parts of a pixel.
        depth: (H, W) along the optical axis.
        normals: (H, W, 3) in world axes.
        surface: (H, W) 0..5 one of the room's own, 6 + index of a solid.
        texture: (H, W, 2) metres on the surface.
    """
    height, width = depth.shape
    down, across = 0.5 * (height - 1) - shift[0], 0.5 * (width - 1) - shift[1]
    for i in range(height):
        v = (i - down) / focal
        for j in range(width):
            u = (j - across) / focal
            best, face = FAR, 0
            for a in range(3):
                d = axes[0, a] * u + axes[1, a] * v + axes[2, a]
                if d > 1e-12:
                    t, side = (extent[a] - position[a]) / d, 1
                elif d < -1e-12:
                    t, side = -position[a] / d, 0
                else:
                    continue
                if t < best:
                    best, face = t, 2 * a + side
            depth[i, j] = best
            axis = face // 2
            for a in range(3):
                normals[i, j, a] = 0.0
            normals[i, j, axis] = 1.0 if face % 2 == 0 else -1.0
            surface[i, j] = face - 4 if axis == 2 else face + 2
            first, second = (1, 2) if axis == 0 else ((0, 2) if axis == 1 else (0, 1))
            for k in range(2):
                a = first if k == 0 else second
                texture[i, j, k] = position[a] + best * (axes[0, a] * u + axes[1, a] * v + axes[2, a])
    for index in range(len(solids)):
        s = solids[index]
        top, bottom, left, right = window_of(s, position, axes, focal, height, width)
        x, y, oz = position[0] - s.x, position[1] - s.y, position[2] - s.z
        ox, oy = x * s.c + y * s.s, y * s.c - x * s.s
        for i in range(top, bottom):
            v = (i - down) / focal
            for j in range(left, right):
                u = (j - across) / focal
                x = axes[0, 0] * u + axes[1, 0] * v + axes[2, 0]
                y = axes[0, 1] * u + axes[1, 1] * v + axes[2, 1]
                dz = axes[0, 2] * u + axes[1, 2] * v + axes[2, 2]
                dx, dy = x * s.c + y * s.s, y * s.c - x * s.s
                t, axis = hit(ox, oy, oz, dx, dy, dz, s)
                if t >= depth[i, j]:
                    continue
                px, py, pz = ox + t * dx, oy + t * dy, oz + t * dz
                nx, ny, nz, p, q = 0.0, 0.0, 0.0, px, pz
                if s.shape == BOX:
                    if axis == 0:
                        nx, p = (-1.0 if dx > 0 else 1.0), py
                    elif axis == 1:
                        ny = -1.0 if dy > 0 else 1.0
                    else:
                        nz, q = (-1.0 if dz > 0 else 1.0), py
                elif s.shape == CONE:
                    if axis == 2:
                        nz, q = (-1.0 if dz > 0 else 1.0), py
                    else:
                        radius = math.sqrt(px * px + py * py) + 1e-12
                        scale = 1.0 / math.sqrt(1.0 + s.slope * s.slope)
                        nx, ny, nz = px / radius * scale, py / radius * scale, -s.slope * scale
                        if nx * dx + ny * dy + nz * dz > 0:  # seen from inside, as a lamp shade from below
                            nx, ny, nz = -nx, -ny, -nz
                        p = math.atan2(py, px) * s.hx
                else:
                    nx, ny, nz = px / (s.hx * s.hx), py / (s.hy * s.hy), pz / (s.hz * s.hz)
                    scale = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz)
                    nx, ny, nz = nx * scale, ny * scale, nz * scale
                    p = math.atan2(py, px) * s.hx
                depth[i, j] = t
                normals[i, j, 0] = nx * s.c - ny * s.s
                normals[i, j, 1] = nx * s.s + ny * s.c
                normals[i, j, 2] = nz
                surface[i, j] = 6 + index
                texture[i, j, 0], texture[i, j, 1] = p, q


@compiled
def blocked(x, y, z, dx, dy, dz, solids, groups):  # type: ignore[no-untyped-def]
    """Whether anything lies between a point and point + d."""
    for g in range(len(groups)):
        group = groups[g]
        near, far = 0.0, 1.0
        for a in range(3):
            if a == 0:
                o, d, low, high = x, dx, group.x0, group.x1
            elif a == 1:
                o, d, low, high = y, dy, group.y0, group.y1
            else:
                o, d, low, high = z, dz, group.z0, group.z1
            if abs(d) < 1e-9:
                if o < low or o > high:
                    near = 2.0
                continue
            t0, t1 = (low - o) / d, (high - o) / d
            near, far = max(near, min(t0, t1)), min(far, max(t0, t1))
        if near > far:
            continue
        for index in range(group.start, group.stop):
            s = solids[index]
            px, py = x - s.x, y - s.y
            t, _ = hit(
                px * s.c + py * s.s,
                py * s.c - px * s.s,
                z - s.z,
                dx * s.c + dy * s.s,
                dy * s.c - dx * s.s,
                dz,
                s,
            )
            if t < 0.999:
                return True
    return False


@compiled
def light(extent, solids, groups, position, axes, focal, lamp, depth, normals, surface, lit, open_):  # type: ignore[no-untyped-def]
    """Fill `lit` (H, W), 1 where the ceiling light is seen, else 0; and `open_` (H, W), below 1 near other things."""
    height, width = depth.shape
    for i in range(height):
        v = (i - 0.5 * (height - 1)) / focal
        for j in range(width):
            u = (j - 0.5 * (width - 1)) / focal
            t = depth[i, j]
            nx, ny, nz = normals[i, j, 0], normals[i, j, 1], normals[i, j, 2]
            x = position[0] + t * (axes[0, 0] * u + axes[1, 0] * v + axes[2, 0]) + 1e-3 * nx
            y = position[1] + t * (axes[0, 1] * u + axes[1, 1] * v + axes[2, 1]) + 1e-3 * ny
            z = position[2] + t * (axes[0, 2] * u + axes[1, 2] * v + axes[2, 2]) + 1e-3 * nz
            dx, dy, dz = lamp[0] - x, lamp[1] - y, lamp[2] - z
            facing = nx * dx + ny * dy + nz * dz > 0
            lit[i, j] = 1.0 if facing and not blocked(x, y, z, dx, dy, dz, solids, groups) else 0.0
            amount = 1.0
            for a in range(3):
                p, n, e = (x, nx, extent[0]) if a == 0 else ((y, ny, extent[1]) if a == 1 else (z, nz, extent[2]))
                if abs(n) < 0.9:  # the corners of the room, for the faces that stand across
                    amount *= (1.0 - 0.35 * math.exp(-p / 0.22)) * (1.0 - 0.35 * math.exp((p - e) / 0.22))
            own = surface[i, j] - 6
            for g in range(len(groups)):
                group = groups[g]
                if group.start <= own < group.stop:
                    continue
                gx = max(group.x0 - x, 0.0, x - group.x1)
                gy = max(group.y0 - y, 0.0, y - group.y1)
                gz = max(group.z0 - z, 0.0, z - group.z1)
                square = gx * gx + gy * gy + gz * gz
                if square < 0.2:
                    amount *= 1.0 - 0.4 * math.exp(-math.sqrt(square) / 0.09)
            open_[i, j] = amount
