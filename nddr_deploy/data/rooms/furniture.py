"""Furniture and wall fittings, composed from solids.

Every piece is built in its own axes: x to its right, y to its back (the wall behind it), z up; the origin lies on the
floor in the middle of its footprint. Fittings (doors, windows, pictures) lie against y = 0 and stick out to -y.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nddr_deploy.data.rooms.scene import BOX, CONE, ELLIPSOID, GROUP, LABELS, SOLID, Rows

Row = tuple[int, int, int, float, float, float, float, float, float, float, float, float]


class Piece:
    """Solids of one label and the footprint they stand on.

    Attributes:
        width, depth, height: in metres, of the footprint and from the floor to the top.
        materials: indices that the piece may use: main, second, accent.
    """

    def __init__(self, label: str, materials: Sequence[int]) -> None:
        self.label = LABELS[label]
        self.main, self.second, self.accent = materials
        self.rows: list[Row] = []
        self.width = self.depth = self.height = 0.0

    def box(self, x: float, y: float, z0: float, w: float, d: float, h: float, material: int) -> None:
        """Centred at (x, y), standing at height z0; width, depth, height."""
        self.rows.append((BOX, self.label, material, x, y, z0 + h / 2, w / 2, d / 2, h / 2, 1.0, 0.0, 0.0))

    def cone(self, x: float, y: float, z0: float, h: float, bottom: float, top: float, material: int) -> None:
        """Upright, with the radii of its two ends."""
        middle, slope = (bottom + top) / 2, (top - bottom) / h
        self.rows.append((CONE, self.label, material, x, y, z0 + h / 2, middle, middle, h / 2, 1.0, 0.0, slope))

    def ellipsoid(self, x: float, y: float, z: float, w: float, d: float, h: float, material: int) -> None:
        self.rows.append((ELLIPSOID, self.label, material, x, y, z, w / 2, d / 2, h / 2, 1.0, 0.0, 0.0))

    def sized(self, width: float, depth: float, height: float) -> Piece:
        self.width, self.depth, self.height = width, depth, height
        return self

    def placed(self, x: float, y: float, yaw: float, z: float = 0.0) -> tuple[Rows, Rows]:
        """In the room, turned counter-clockwise seen from above: (solids, their group of indices from 0)."""
        solids = np.array(self.rows, dtype=SOLID)
        c, s = math.cos(yaw), math.sin(yaw)
        px, py = solids["x"].copy(), solids["y"].copy()
        solids["x"], solids["y"], solids["z"] = x + c * px - s * py, y + s * px + c * py, solids["z"] + z
        solids["c"], solids["s"] = c, s
        reach = np.maximum(solids["hx"] + np.abs(solids["slope"]) * solids["hz"], solids["hx"])
        across = np.where(solids["shape"] == CONE, reach, solids["hy"])
        ex, ey = abs(c) * reach + abs(s) * across, abs(s) * reach + abs(c) * across
        ez = solids["hz"]
        group = np.zeros(1, dtype=GROUP)
        group["stop"] = len(solids)
        for axis, extent in (("x", ex), ("y", ey), ("z", ez)):
            group[f"{axis}0"], group[f"{axis}1"] = (solids[axis] - extent).min(), (solids[axis] + extent).max()
        return solids, group


def table(rng: np.random.Generator, materials: Sequence[int]) -> Piece:
    piece = Piece("table", materials)
    height, thick = rng.uniform(0.68, 0.78), rng.uniform(0.05, 0.09)
    if rng.random() < 0.3:
        radius = rng.uniform(0.45, 0.65)
        piece.cone(0, 0, height - thick, thick, radius, radius, piece.main)
        piece.cone(0, 0, 0.04, height - thick - 0.04, 0.09, 0.06, piece.second)
        piece.cone(0, 0, 0, 0.05, 0.6 * radius, 0.5 * radius, piece.second)
        return piece.sized(2 * radius, 2 * radius, height)
    width, depth, leg = rng.uniform(0.95, 1.6), rng.uniform(0.65, 0.95), rng.uniform(0.06, 0.1)
    piece.box(0, 0, height - thick, width, depth, thick, piece.main)
    if rng.random() < 0.4:
        piece.box(0, 0, height - thick - 0.1, width - 0.12, depth - 0.12, 0.1, piece.second)
    for x in (-1, 1):
        for y in (-1, 1):
            piece.box(
                x * (width - leg - 0.04) / 2, y * (depth - leg - 0.04) / 2, 0, leg, leg, height - thick, piece.second
            )
    return piece.sized(width, depth, height)


def chair(rng: np.random.Generator, materials: Sequence[int]) -> Piece:
    piece = Piece("chair", materials)
    width, depth = rng.uniform(0.46, 0.56), rng.uniform(0.44, 0.52)
    seat, top, leg = rng.uniform(0.42, 0.48), rng.uniform(0.95, 1.15), rng.uniform(0.055, 0.075)
    piece.box(0, 0, seat - 0.06, width, depth, 0.07, piece.main)
    for x in (-1, 1):
        piece.box(x * (width - leg) / 2, -(depth - leg) / 2, 0, leg, leg, seat - 0.06, piece.second)
        piece.box(x * (width - leg) / 2, (depth - leg) / 2, 0, leg, leg, top - 0.02, piece.second)
    back = (depth - leg) / 2
    if rng.random() < 0.7:
        piece.box(0, back, seat + 0.1, width - leg, 0.04, top - seat - 0.1, piece.main)
    else:
        bars = 3
        step = (top - seat - 0.06) / bars
        for bar in range(bars):
            piece.box(0, back, seat + 0.1 + bar * step, width - leg, 0.04, 0.65 * step, piece.main)
    return piece.sized(width, depth, top)


def bed(rng: np.random.Generator, materials: Sequence[int]) -> Piece:
    piece = Piece("bed", materials)
    width, length = rng.uniform(1.1, 1.75), rng.uniform(1.9, 2.1)
    frame, mattress, head = rng.uniform(0.24, 0.34), rng.uniform(0.16, 0.24), rng.uniform(0.85, 1.2)
    top = frame + mattress
    piece.box(0, length / 2 - 0.04, 0, width + 0.06, 0.08, head, piece.second)
    piece.box(0, -0.02, 0.06, width, length - 0.1, frame - 0.06, piece.second)
    piece.box(0, -0.03, frame, width - 0.04, length - 0.14, mattress, piece.main)
    cover = rng.uniform(0.5, 0.68) * length
    piece.box(0, -(length - cover) / 2 - 0.01, frame - 0.08, width + 0.03, cover, mattress + 0.12, piece.accent)
    pillows = 2 if width > 1.35 else 1
    for index in range(pillows):
        x = (index - (pillows - 1) / 2) * width / 2
        piece.ellipsoid(
            x, length / 2 - 0.33, top + 0.06, 0.42 * width if pillows == 2 else 0.6 * width, 0.42, 0.2, piece.main
        )
    return piece.sized(width + 0.06, length, head)


def sofa(rng: np.random.Generator, materials: Sequence[int]) -> Piece:
    piece = Piece("sofa", materials)
    width, depth, arm = rng.uniform(1.3, 2.1), rng.uniform(0.8, 0.95), rng.uniform(0.16, 0.24)
    seat, back, rest = rng.uniform(0.36, 0.42), rng.uniform(0.75, 0.95), rng.uniform(0.52, 0.64)
    piece.box(0, 0, 0.08, width, depth, seat - 0.16, piece.main)
    piece.box(0, depth / 2 - 0.11, 0.08, width, 0.22, back - 0.08, piece.main)
    for side in (-1, 1):
        piece.box(side * (width - arm) / 2, -0.01, 0.05, arm, depth - 0.02, rest - 0.05, piece.main)
    seats = 3 if width > 1.75 else 2
    each = (width - 2 * arm) / seats
    for index in range(seats):
        x = (index - (seats - 1) / 2) * each
        piece.box(x, -0.12, seat - 0.08, each - 0.02, depth - 0.24, 0.14, piece.second)
        piece.box(x, depth / 2 - 0.29, seat + 0.06, each - 0.04, 0.16, back - seat - 0.1, piece.second)
    for index in range(int(rng.integers(0, 3))):
        x = (1 if index else -1) * (width / 2 - arm - 0.2)
        piece.ellipsoid(x, -0.02, seat + 0.22, 0.36, 0.2, 0.34, piece.accent)
    return piece.sized(width, depth, back)


def cabinet(rng: np.random.Generator, materials: Sequence[int]) -> Piece:
    """A wardrobe, a sideboard, a chest of drawers or a shelf."""
    piece = Piece("cabinet", materials)
    form = rng.choice(4, p=[0.35, 0.2, 0.2, 0.25])
    if form == 3:
        return _shelf(rng, piece)
    if form == 0:
        width, depth, height, columns, rows = rng.uniform(0.9, 1.6), rng.uniform(0.5, 0.6), rng.uniform(1.75, 2.1), 2, 1
    elif form == 1:
        width, depth, height, columns, rows = rng.uniform(1.1, 1.7), rng.uniform(0.4, 0.5), rng.uniform(0.75, 1.0), 3, 1
    else:
        width, depth, height, columns, rows = (
            rng.uniform(0.7, 1.1),
            rng.uniform(0.42, 0.5),
            rng.uniform(0.9, 1.25),
            1,
            4,
        )
    base = 0.08
    piece.box(0, 0.01, 0, width - 0.06, depth - 0.06, base, piece.second)
    piece.box(0, 0.01, base, width, depth - 0.04, height - base, piece.main)
    front = -depth / 2 + 0.02
    w, h = width / columns, (height - base) / rows
    for column in range(columns):
        for row in range(rows):
            x, z = (column + 0.5) * w - width / 2, base + row * h
            piece.box(x, front, z + 0.02, w - 0.04, 0.04, h - 0.04, piece.accent)
            knob_x = x if rows > 1 else x + (0.4 * w if column % 2 == 0 else -0.4 * w)
            knob_z = z + h / 2 if rows > 1 else z + min(0.55 * h, 1.0)
            piece.ellipsoid(knob_x, front - 0.035, knob_z, 0.05, 0.05, 0.05, piece.second)
    return piece.sized(width, depth, height)


def _shelf(rng: np.random.Generator, piece: Piece) -> Piece:
    """Open boards with books and boxes, all of them cabinet."""
    width, depth, height = rng.uniform(0.8, 1.4), rng.uniform(0.3, 0.4), rng.uniform(1.3, 2.0)
    boards = int(rng.integers(3, 6))
    piece.box(0, depth / 2 - 0.015, 0, width, 0.03, height, piece.second)
    for side in (-1, 1):
        piece.box(side * (width - 0.04) / 2, 0, 0, 0.04, depth, height, piece.main)
    step = (height - 0.04) / (boards - 1)
    for board in range(boards):
        piece.box(0, 0, board * step, width - 0.08, depth, 0.04, piece.main)
        if board == boards - 1:
            break
        x = -width / 2 + 0.08
        while x < width / 2 - 0.35:
            wide, tall = rng.uniform(0.08, 0.28), rng.uniform(0.5, 0.85) * (step - 0.06)
            piece.box(x + wide / 2, 0.02, board * step + 0.04, wide, 0.7 * depth, tall, piece.accent)
            x += wide + rng.uniform(0.02, 0.2)
    return piece.sized(width, depth, height)


def floor_lamp(rng: np.random.Generator, materials: Sequence[int]) -> Piece:
    piece = Piece("lamp", materials)
    shade, height = rng.uniform(0.42, 0.6), rng.uniform(1.45, 1.8)
    bottom, top = rng.uniform(0.32, 0.42), rng.uniform(0.16, 0.24)
    piece.cone(0, 0, 0, 0.05, 0.2, 0.18, piece.second)
    piece.cone(0, 0, 0.05, height - shade, 0.04, 0.035, piece.second)
    piece.cone(0, 0, height - shade, shade, bottom, top, piece.main)
    return piece.sized(2 * bottom, 2 * bottom, height)


def table_lamp(rng: np.random.Generator, materials: Sequence[int]) -> Piece:
    piece = Piece("lamp", materials)
    foot, shade, bottom = rng.uniform(0.2, 0.3), rng.uniform(0.28, 0.36), rng.uniform(0.22, 0.28)
    piece.ellipsoid(0, 0, foot / 2, 0.18, 0.18, foot, piece.second)
    piece.cone(0, 0, foot - 0.03, shade, bottom, rng.uniform(0.1, 0.15), piece.main)
    return piece.sized(2 * bottom, 2 * bottom, foot + shade)


def pendant(rng: np.random.Generator, materials: Sequence[int], ceiling: float) -> Piece:
    piece = Piece("lamp", materials)
    low, shade, bottom = rng.uniform(1.4, 1.65), rng.uniform(0.3, 0.42), rng.uniform(0.3, 0.42)
    if rng.random() < 0.25:
        piece.ellipsoid(0, 0, low + shade / 2, 1.5 * bottom, 1.5 * bottom, 1.5 * bottom, piece.main)
    else:
        piece.cone(0, 0, low, shade, bottom, rng.uniform(0.08, 0.16), piece.main)
    piece.cone(0, 0, low + shade, ceiling - low - shade, 0.015, 0.015, piece.second)
    return piece.sized(2 * bottom, 2 * bottom, ceiling)


def door(rng: np.random.Generator, materials: Sequence[int]) -> Piece:
    piece = Piece("door", materials)
    width, height, frame = rng.uniform(0.8, 1.0), rng.uniform(1.95, 2.12), 0.09
    for side in (-1, 1):
        piece.box(side * (width + frame) / 2, -0.04, 0, frame, 0.08, height + frame, piece.second)
    piece.box(0, -0.04, height, width, 0.08, frame, piece.second)
    piece.box(0, -0.015, 0, width, 0.03, height, piece.main)
    columns, rows = (1, 2) if rng.random() < 0.5 else (2, 3)
    for column in range(columns):
        for row in range(rows):
            w, h = (width - 0.14) / columns, (height - 0.2) / rows
            x, z = (column + 0.5) * w - columns * w / 2, 0.12 + row * h
            piece.box(x, -0.0325, z, w - 0.08, 0.035, h - 0.1, piece.accent)
    side = 1 if rng.random() < 0.5 else -1
    piece.ellipsoid(side * (width / 2 - 0.07), -0.07, 1.0, 0.07, 0.09, 0.07, piece.second)
    return piece.sized(width + 2 * frame, 0.08, height + frame)


def window(rng: np.random.Generator, materials: Sequence[int]) -> Piece:
    """Stands on its sill at z = 0: place it at the sill's height."""
    piece = Piece("window", materials)
    width, height, frame = rng.uniform(1.0, 1.8), rng.uniform(1.05, 1.35), rng.uniform(0.07, 0.1)
    piece.box(0, -0.01, 0, width, 0.02, height, piece.main)
    for x in (-1, 1):
        piece.box(x * (width - frame) / 2, -0.05, 0, frame, 0.1, height, piece.second)
    for z in (0.0, height - frame):
        piece.box(0, -0.05, z, width - 2 * frame, 0.1, frame, piece.second)
    columns, rows = int(rng.integers(2, 4)), int(rng.integers(1, 3))
    for column in range(1, columns):
        piece.box(column * width / columns - width / 2, -0.04, frame, 0.06, 0.08, height - 2 * frame, piece.second)
    for row in range(1, rows):
        piece.box(0, -0.035, row * height / rows - 0.03, width - 2 * frame, 0.07, 0.06, piece.second)
    piece.box(0, -0.09, -0.06, width + 0.12, 0.18, 0.06, piece.second)
    return piece.sized(width + 0.12, 0.18, height)


def picture(rng: np.random.Generator, materials: Sequence[int]) -> Piece:
    """Hangs with its lower edge at z = 0."""
    piece = Piece("picture", materials)
    width, height, frame = rng.uniform(0.7, 1.3), rng.uniform(0.55, 0.9), rng.uniform(0.06, 0.1)
    piece.box(0, -0.025, 0, width, 0.05, height, piece.second)
    piece.box(0, -0.03, frame, width - 2 * frame, 0.06, height - 2 * frame, piece.main)
    inner = 0.25 * min(width, height)
    piece.box(0, -0.032, inner, width - 2 * inner, 0.064, height - 2 * inner, piece.accent)
    return piece.sized(width, 0.064, height)
