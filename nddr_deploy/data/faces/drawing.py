"""A face's traits -> a picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nddr_deploy.data.faces.canvas import CIRCLE, Canvas, Points
from nddr_deploy.data.faces.traits import Colour, Face, mixed

DARK: Colour = (48, 28, 26)
WHITE: Colour = (250, 250, 248)


def draw(face: Face, size_hw: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """RGB uint8 (H, W, 3); `rng` places spots and stubble."""
    canvas = Canvas(size_hw, face.back)
    canvas.place(face.shift, 0.0, face.scale)
    _body(canvas, face)
    canvas.place(face.shift, face.tilt, face.scale)
    _hair_behind(canvas, face)
    _head(canvas, face, rng)
    _wrinkles(canvas, face)
    _mouth(canvas, face)
    _nose(canvas, face)
    for side in (-1, 1):
        _eye(canvas, face, side)
    _hair_in_front(canvas, face)
    _extras(canvas, face)
    _light(canvas, face)
    return canvas.finished()


def _outline(face: Face, grow: float = 0.0) -> Points:
    """(P, 2): an egg whose lower half narrows to the chin."""
    x, y = CIRCLE[:, 0], CIRCLE[:, 1]
    low = np.maximum(y, 0)
    angular = np.sign(x) * np.abs(x) ** (1 - 0.45 * face.square * low)
    narrow = 1 - face.jaw * low**1.5
    return np.stack([(face.head[0] + grow) * angular * narrow, (face.head[1] + grow) * y], axis=1)


def _body(canvas: Canvas, face: Face) -> None:
    shade = mixed(face.skin, DARK, 0.18)
    wide = 0.24 + 0.12 * face.square
    canvas.fill([(-wide, 0.4), (wide, 0.4), (wide + 0.05, 1.3), (-wide - 0.05, 1.3)], shade)
    canvas.ellipse(0, 1.95, 1.15 + 0.2 * face.square, 0.85, face.shirt)
    canvas.ellipse(0, 1.15, wide + 0.06, 0.16, shade)


def _hair_behind(canvas: Canvas, face: Face) -> None:
    width, height = face.head
    behind = mixed(face.hair, DARK, 0.25)
    if face.length > 0.4 and face.bald < 0.5:
        low = 0.25 + 0.95 * face.length
        canvas.ellipse(0, -0.15, width + 0.16, height, behind)
        canvas.fill([(-width - 0.15, -0.2), (width + 0.15, -0.2), (width + 0.2, low), (-width - 0.2, low)], behind)
    if face.bun:
        canvas.ellipse(0, -height - 0.12, 0.3, 0.27, behind)


def _head(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    width, height = face.head
    for side in (-1, 1):
        canvas.ellipse(side * (width + 0.01), face.eye_y + 0.1, 0.1, face.ears, mixed(face.skin, DARK, 0.1))
    canvas.fill(_outline(face), face.skin)
    blush = mixed(face.skin, (226, 96, 92), 0.16)
    for side in (-1, 1):
        canvas.ellipse(side * 0.42, face.eye_y + 0.3, 0.15, 0.1, blush)
    for _ in range(face.spots):
        angle, out = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.8)
        x, y = out * width * np.cos(angle), -0.1 + out * 0.7 * height * np.sin(angle)
        canvas.ellipse(x, y, rng.uniform(0.015, 0.035), 0.02, mixed(face.skin, (110, 66, 40), 0.35))
    if face.beard > 0:
        beard = mixed(face.skin, face.hair, 0.25 + 0.65 * face.beard)
        points = _outline(face, 0.02 + 0.08 * max(0.0, face.beard - 0.5))
        low = points[points[:, 1] > 0.28]
        inner = [(0.9 * width, 0.3), (0.42, 0.44), (0.3, 0.36), (-0.3, 0.36), (-0.42, 0.44), (-0.9 * width, 0.3)]
        order = np.argsort(np.arctan2(low[:, 1], low[:, 0]))  # along the chin, from right to left
        canvas.fill(np.concatenate([low[order], inner[::-1]]) if len(low) else inner, beard)
    if face.moustache > 0:
        colour = mixed(face.skin, face.hair, 0.3 + 0.6 * face.moustache)
        canvas.stroke([(-0.2, 0.47), (-0.1, 0.41), (0, 0.43), (0.1, 0.41), (0.2, 0.47)], 0.07, colour)


def _wrinkles(canvas: Canvas, face: Face) -> None:
    """Lines on the forehead, beside the eyes and the nose, and bags below the eyes: more and darker with age."""
    if face.wrinkles < 0.04:
        return
    colour = mixed(face.skin, DARK, 0.12 + 0.33 * face.wrinkles)
    thin = 0.016 + 0.016 * face.wrinkles
    for line in range(round(4 * face.wrinkles)):
        canvas.arc(0, -0.2 - 0.1 * line, 0.36 - 0.03 * line, 0.07, 200, 340, thin, colour)
    for side in (-1, 1):
        x = side * face.eye_x
        fold = [(side * 0.16, 0.24), (side * 0.25, 0.36), (side * (0.27 + 0.03 * face.wrinkles), 0.5)]
        canvas.stroke(fold, thin, colour)
        if face.wrinkles > 0.2:
            canvas.arc(x, face.eye_y + 0.09, face.eye * 1.1, 0.06, 20, 160, thin, colour)
        if face.wrinkles > 0.35:
            for line in (-1, 0, 1):
                start = (x + side * (face.eye + 0.05), face.eye_y + 0.03 * line)
                canvas.stroke([start, (start[0] + side * 0.1, start[1] + 0.05 * line)], thin, colour)
        if face.wrinkles > 0.55:
            canvas.stroke([(side * 0.3, 0.58), (side * 0.27, 0.7)], thin, colour)


def _mouth(canvas: Canvas, face: Face) -> None:
    half, y = face.mouth, 0.55
    x = np.linspace(-1, 1, 13)
    bend = 0.1 * face.smile * (1 - x**2)
    upper = np.stack([half * x, y + bend - face.lip * (1 - x**2) * (1 - 0.35 * np.exp(-((x / 0.15) ** 2)))], axis=1)
    lower = np.stack([half * x, y + bend + 1.3 * face.lip * (1 - x**2)], axis=1)
    canvas.fill(np.concatenate([upper, lower[::-1]]), face.lips)
    canvas.stroke(np.stack([half * x, y + bend], axis=1), 0.02, mixed(face.lips, DARK, 0.55))


def _nose(canvas: Canvas, face: Face) -> None:
    colour = mixed(face.skin, DARK, 0.28)
    low = face.eye_y + 0.22 + 0.6 * face.nose
    canvas.arc(0, low - 0.03, face.nose, 0.06, 10, 170, 0.024, colour)
    canvas.stroke(
        [(0.3 * face.nose, face.eye_y + 0.08), (0.55 * face.nose, low - 0.08)], 0.018, mixed(face.skin, DARK, 0.14)
    )


def _eye(canvas: Canvas, face: Face, side: int) -> None:
    x, y, size = side * face.eye_x, face.eye_y, face.eye
    canvas.ellipse(x, y, size * 1.25, size, WHITE)
    canvas.ellipse(x, y, size * 0.72, size * 0.78, face.iris)
    canvas.ellipse(x, y, size * 0.4, size * 0.44, (18, 14, 16))
    canvas.ellipse(x + 0.28 * size, y - 0.3 * size, size * 0.18, size * 0.18, WHITE)
    lid = mixed(face.skin, DARK, 0.1)
    top = y - size * 1.06 + 2 * size * face.lid * 0.9
    canvas.fill(
        [
            (x - 1.4 * size, y - 1.25 * size),
            (x + 1.4 * size, y - 1.25 * size),
            (x + 1.4 * size, top),
            (x - 1.4 * size, top),
        ],
        lid,
    )
    canvas.stroke(
        [
            (x - 1.3 * size, top + 0.25 * size),
            (x - 0.5 * size, top),
            (x + 0.5 * size, top),
            (x + 1.3 * size, top + 0.25 * size),
        ],
        0.02 + 0.02 * face.lashes,
        DARK,
    )
    if face.lashes:
        canvas.stroke(
            [(x + side * 1.15 * size, top + 0.2 * size), (x + side * 1.6 * size, top - 0.25 * size)], 0.03, DARK
        )
    brow = mixed(face.hair, DARK, 0.25)
    height = y - size - 0.1
    canvas.stroke(
        [(x - side * 0.15, height + 0.02), (x, height - 0.03), (x + side * 0.16, height + 0.03)], face.brow * 1.6, brow
    )


def _hair_in_front(canvas: Canvas, face: Face) -> None:
    width, height = face.head
    colour = face.hair
    if face.bald > 0.85:
        pass
    elif face.bald > 0.25:  # what is left at the sides, and a thin top
        top = mixed(face.skin, colour, 0.75 * (1 - face.bald))
        canvas.fill(_cap(face, -height * (0.62 + 0.3 * face.bald), 0.02), top)
    else:
        canvas.fill(_cap(face, -height * (0.78 - 0.34 * face.fringe), 0.09), colour)
    if face.bald < 0.98:
        thick = 0.1 + 0.06 * face.length
        low = 0.05 + (0.7 * face.length if face.length > 0.4 else 0.0)
        for side in (-1, 1):
            x = side * (width + 0.02)
            canvas.fill(
                [(x - side * thick, -0.45), (x + side * 0.06, -0.4), (x + side * 0.08, low), (x - side * 0.02, low)],
                colour,
            )
    shine = mixed(colour, WHITE, 0.25)
    if face.bald < 0.25:
        canvas.arc(0, -0.1, width * 0.72, height * 0.86, 225, 275, 0.05, shine)


def _cap(face: Face, hairline: float, grow: float) -> Points:
    """The part of the head above the hairline, which sinks to the temples."""
    points = _outline(face, grow)
    top = points[points[:, 1] < -0.3]
    order = np.argsort(np.arctan2(-top[:, 1], -top[:, 0]))
    x = np.linspace(0.9, -0.9, 11) * face.head[0]
    line = hairline + 0.3 * np.abs(x / face.head[0]) ** 2.5 * face.head[1]
    return np.concatenate([top[order], np.stack([x, line], axis=1)])


def _extras(canvas: Canvas, face: Face) -> None:
    if face.glasses:
        for side in (-1, 1):
            canvas.arc(side * face.eye_x, face.eye_y, 0.24, 0.19, 0, 360, 0.03, (60, 50, 60))
        canvas.stroke([(-face.eye_x + 0.24, face.eye_y), (face.eye_x - 0.24, face.eye_y)], 0.03, (60, 50, 60))
    if face.earrings:
        for side in (-1, 1):
            canvas.ellipse(
                side * (face.head[0] + 0.04), face.eye_y + 0.1 + face.ears + 0.05, 0.05, 0.06, (236, 200, 80)
            )


def _light(canvas: Canvas, face: Face) -> None:
    """Brighter on the side that the light comes from, darker to the picture's edge."""
    height, width = canvas.image.shape[:2]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    factor = 0.98 + np.float32(0.16 * face.light) * x - 0.06 * y - 0.05 * (x * x + y * y)
    canvas.image = np.clip(canvas.image * factor[..., None], 0, 255).astype(np.uint8)
