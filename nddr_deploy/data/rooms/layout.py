"""A random room: its shell, what stands and hangs in it, its light, and a camera that looks at it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from nddr_deploy.data.rooms import furniture
from nddr_deploy.data.rooms.furniture import Piece
from nddr_deploy.data.rooms.materials import draw_materials
from nddr_deploy.data.rooms.scene import (
    EAST,
    NORTH,
    SOUTH,
    WEST,
    Camera,
    Lighting,
    Rows,
    Scene,
)

MATERIALS = 14
# How a piece against a wall is turned, so that its back (+y) points to that wall.
YAWS = {NORTH: 0.0, WEST: 0.5 * math.pi, SOUTH: math.pi, EAST: -0.5 * math.pi}
Rectangle = tuple[float, float, float, float]


class Room:
    """Collects pieces that do not run into each other."""

    def __init__(self, rng: np.random.Generator, extent: tuple[float, float, float], materials: Sequence[int]) -> None:
        self.rng = rng
        self.choice = list(materials)
        self.width, self.length, self.height = extent
        self.taken: list[tuple[Rectangle, float]] = []  # footprints and heights
        self.hung: list[tuple[int, float, float, float, float]] = []  # wall, from, to, lowest, highest
        self.solids: list[Rows] = []
        self.groups: list[Rows] = []
        self.count = 0

    def materials(self) -> Sequence[int]:
        """Three different ones; none of the shell's, so that what stands in the room stands out from it."""
        return [int(index) for index in self.rng.choice(self.choice, size=3, replace=False)]

    def keep_free(self, rectangle: Rectangle) -> None:
        self.taken.append((rectangle, 0.0))

    def add(self, piece: Piece, x: float, y: float, yaw: float, z: float = 0.0) -> None:
        solids, group = piece.placed(x, y, yaw, z)
        group["start"] += self.count
        group["stop"] += self.count
        self.count += len(solids)
        self.solids.append(solids)
        self.groups.append(group)

    def stand(self, piece: Piece, x: float, y: float, yaw: float, margin: float = 0.04) -> bool:
        """Put a piece on the floor, if there is room for it."""
        c, s = abs(math.cos(yaw)), abs(math.sin(yaw))
        half_x, half_y = (c * piece.width + s * piece.depth) / 2, (s * piece.width + c * piece.depth) / 2
        rectangle = (x - half_x, x + half_x, y - half_y, y + half_y)
        if rectangle[0] < 0.01 or rectangle[1] > self.width - 0.01:
            return False
        if rectangle[2] < 0.01 or rectangle[3] > self.length - 0.01:
            return False
        if any(overlap(rectangle, other, margin) for other, _ in self.taken):
            return False
        self.taken.append((rectangle, piece.height))
        self.add(piece, x, y, yaw)
        return True

    def at_wall(self, wall: int, along: float, out: float) -> tuple[float, float]:
        """The floor position `along` a wall (0..1 of its length) and `out` metres from it."""
        if wall == NORTH:
            return along * self.width, self.length - out
        if wall == SOUTH:
            return along * self.width, out
        return (out if wall == WEST else self.width - out), along * self.length

    def stand_at_wall(self, piece: Piece, walls: Sequence[int], tries: int = 10) -> bool:
        for _ in range(tries):
            wall = int(self.rng.choice(walls))
            x, y = self.at_wall(wall, self.rng.uniform(0.05, 0.95), piece.depth / 2 + self.rng.uniform(0.015, 0.05))
            if self.stand(piece, x, y, YAWS[wall]):
                return True
        return False

    def hang(self, piece: Piece, walls: Sequence[int], z: float, clear: float, tries: int = 10) -> bool:
        """Fix a piece to a wall where nothing hides it; `clear`: free floor in front of it, in metres."""
        for _ in range(tries):
            wall = int(self.rng.choice(walls))
            extent = self.width if wall in (NORTH, SOUTH) else self.length
            half = piece.width / 2
            middle = self.rng.uniform(half + 0.1, extent - half - 0.1)
            span = (wall, middle - half - 0.08, middle + half + 0.08, z - 0.08, z + piece.height + 0.05)
            if any(same_place(span, other) for other in self.hung):
                continue
            corners = [
                self.at_wall(wall, (middle + side * half) / extent, out)
                for side in (-1, 1)
                for out in (0, max(clear, 0.15))
            ]
            xs, ys = zip(*corners, strict=True)
            front = (min(xs), max(xs), min(ys), max(ys))
            if any(height > z - 0.05 and overlap(front, other, 0.0) for other, height in self.taken):
                continue
            if clear > 0:
                self.keep_free(front)
            self.hung.append(span)
            x, y = self.at_wall(wall, middle / extent, 0.0)
            self.add(piece, x, y, YAWS[wall], z)
            return True
        return False


def overlap(a: Rectangle, b: Rectangle, margin: float) -> bool:
    return a[0] < b[1] + margin and b[0] < a[1] + margin and a[2] < b[3] + margin and b[2] < a[3] + margin


def same_place(a: tuple[int, float, float, float, float], b: tuple[int, float, float, float, float]) -> bool:
    return a[0] == b[0] and a[1] < b[2] and b[1] < a[2] and a[3] < b[4] and b[3] < a[4]


def draw_view(rng: np.random.Generator) -> tuple[Scene, Camera]:
    """A furnished room and a camera near its south wall that looks into it."""
    extent = (rng.uniform(3.2, 4.5), rng.uniform(3.3, 4.6), rng.uniform(2.3, 2.75))
    width, length, _ = extent
    position = np.array([rng.uniform(0.25, 0.75) * width, rng.uniform(0.2, 0.7), rng.uniform(1.15, 1.75)])
    aim = np.array([rng.uniform(0.3, 0.7) * width, rng.uniform(0.65, 0.9) * length])
    yaw = math.atan2(aim[0] - position[0], aim[1] - position[1]) + rng.normal(0, math.radians(12))
    camera = Camera.looking(
        position,
        yaw=yaw,
        pitch=math.radians(rng.uniform(2, 20)),
        roll=math.radians(rng.normal(0, 2.0)),
        field_of_view=math.radians(rng.uniform(62, 76)),
    )
    x, y = position[0], position[1]
    return furnish(rng, extent, (x - 0.6, x + 0.6, 0.0, y + 1.1)), camera


def furnish(rng: np.random.Generator, extent: tuple[float, float, float], free: Rectangle) -> Scene:
    """A room of that width, length and height, with nothing standing in the rectangle `free` (x0, x1, y0, y1)."""
    width, length, height = extent
    floor, ceiling, wall, *others = (int(index) for index in rng.permutation(MATERIALS))
    room = Room(rng, extent, others)
    room.keep_free(free)
    sides = (NORTH, NORTH, WEST, EAST)
    room.hang(furniture.door(rng, room.materials()), sides, 0.0, 0.45)
    if rng.random() < 0.4:
        room.hang(furniture.door(rng, room.materials()), (WEST, EAST, SOUTH), 0.0, 0.45)
    for make, chance in _large(rng):
        if rng.random() < chance:
            piece = make(rng, room.materials())
            if room.stand_at_wall(piece, sides) and piece.height < 1.3 and make is furniture.cabinet:
                _light_up(room, piece.height)
    _dine(room)
    if rng.random() < 0.9:
        room.stand_at_wall(furniture.floor_lamp(rng, room.materials()), sides)
    for chance in (0.9, 0.5):
        if rng.random() < chance:
            room.hang(furniture.window(rng, room.materials()), sides, rng.uniform(0.8, 1.0), 0.0)
    for chance in (0.95, 0.75, 0.5):
        if rng.random() < chance:
            room.hang(furniture.picture(rng, room.materials()), sides, rng.uniform(1.2, 1.5), 0.0)
    return Scene(
        extent=np.array(extent),
        solids=np.concatenate(room.solids),
        groups=np.concatenate(room.groups),
        surfaces=np.array([floor, ceiling, wall, wall, wall, wall], dtype=np.int64),
        materials=draw_materials(rng, MATERIALS),
        lighting=_lighting(rng, width, length, height),
    )


Maker = Callable[[np.random.Generator, Sequence[int]], Piece]


def _large(rng: np.random.Generator) -> list[tuple[Maker, float]]:
    pieces: list[tuple[Maker, float]] = [
        (furniture.bed, 0.55),
        (furniture.sofa, 0.75),
        (furniture.cabinet, 0.85),
        (furniture.cabinet, 0.25),
    ]
    order = rng.permutation(len(pieces))
    return [pieces[index] for index in order]


def _light_up(room: Room, height: float) -> None:
    """Perhaps a lamp on the piece that was put down last, `height` metres high."""
    if room.rng.random() < 0.7:
        (x0, x1, y0, y1), _ = room.taken[-1]
        lamp = furniture.table_lamp(room.rng, room.materials())
        room.add(lamp, (x0 + x1) / 2, (y0 + y1) / 2, 0.0, height)


def _dine(room: Room) -> None:
    """A table with chairs around it, and perhaps a lamp above; then perhaps a chair on its own."""
    rng = room.rng
    table = furniture.table(rng, room.materials())
    chairs = room.materials()
    for _ in range(16 if rng.random() < 0.95 else 0):
        x, y = rng.uniform(0.2, 0.8) * room.width, rng.uniform(0.45, 0.8) * room.length
        yaw = rng.choice([0.0, 0.5 * math.pi]) + rng.normal(0, 0.08)
        if not room.stand(table, x, y, yaw, margin=0.12):
            continue
        for side in rng.permutation(4)[: rng.integers(1, 5)]:
            chair = furniture.chair(rng, chairs)
            across = (table.depth if side % 2 == 0 else table.width) / 2
            out = across + chair.depth / 2 + rng.uniform(0.0, 0.2)
            turn = yaw + side * 0.5 * math.pi
            towards = turn + rng.normal(0, 0.2)
            room.stand(chair, x - out * math.sin(turn), y + out * math.cos(turn), towards, margin=-0.08)
        if rng.random() < 0.6:
            room.add(furniture.pendant(rng, room.materials(), room.height), x, y, 0.0)
        break
    for _ in range(6 if rng.random() < 0.6 else 0):
        chair = furniture.chair(rng, room.materials())
        x, y = rng.uniform(0.15, 0.85) * room.width, rng.uniform(0.35, 0.85) * room.length
        if room.stand(chair, x, y, rng.uniform(-math.pi, math.pi), margin=0.15):
            break


def _lighting(rng: np.random.Generator, width: float, length: float, height: float) -> Lighting:
    """Faces of different orientation get clearly different ambient light; which gets how much changes per room."""
    sides = rng.permutation([0.3, 0.45, 0.6, 0.75]) + rng.uniform(-0.06, 0.06, 4)
    ambient = np.array([*sides, rng.uniform(0.4, 0.6), rng.uniform(0.6, 0.9)])
    position = np.array([rng.uniform(0.3, 0.7) * width, rng.uniform(0.3, 0.7) * length, height - 0.12])
    warmth = rng.normal(0.04, 0.05)
    tint = np.array([1 + warmth, 1.0, 1 - warmth])
    return Lighting(ambient, position, rng.uniform(1.2, 2.6), tint)
