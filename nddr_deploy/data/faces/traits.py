"""What a face looks like, given an age and a gender. Every trait overlaps between ages and genders, as in life."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MALE, FEMALE = 0, 1
Colour = tuple[float, float, float]

SKINS: tuple[Colour, ...] = (
    (255, 224, 196),
    (244, 204, 170),
    (226, 178, 138),
    (198, 146, 104),
    (160, 112, 78),
    (118, 80, 56),
)
HAIRS: tuple[Colour, ...] = ((34, 28, 30), (72, 46, 32), (118, 76, 42), (168, 116, 62), (214, 172, 104), (150, 64, 36))
IRISES: tuple[Colour, ...] = ((70, 44, 30), (104, 70, 40), (70, 110, 80), (72, 112, 160), (100, 110, 120))


@dataclass(frozen=True)
class Face:
    """Lengths in units of half a grown-up's head height; shares are 0 .. 1.

    Attributes:
        head: half width and half height; jaw: how much the chin narrows; square: how angular it is.
        eye_y, eye_x, eye: height and distance of the eyes, and their size; lid: how far the lids droop.
        nose, ears, mouth, lip: sizes. brow: thickness.
        wrinkles: 0 none .. 1 deep; spots: how many.
        hair: colour; length: 0 cropped .. 1 long; bald: how much is gone; fringe: how far it covers the forehead.
        beard: full beard 0 .. 1 opacity; moustache: the same. lashes, glasses, earrings, bun: has them.
        skin, iris, lips, shirt, back: colours, RGB 0..255.
        tilt: of the head, in radians; shift, scale: of the head in the picture. smile: -1 .. 1.
        light: where it comes from, -1 left .. 1 right.
    """

    head: tuple[float, float]
    jaw: float
    square: float
    eye_y: float
    eye_x: float
    eye: float
    lid: float
    nose: float
    ears: float
    mouth: float
    lip: float
    brow: float
    wrinkles: float
    spots: int
    hair: Colour
    length: float
    bald: float
    fringe: float
    beard: float
    moustache: float
    lashes: bool
    glasses: bool
    earrings: bool
    bun: bool
    skin: Colour
    iris: Colour
    lips: Colour
    shirt: Colour
    back: Colour
    tilt: float
    shift: tuple[float, float]
    scale: float
    light: float
    smile: float


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second colour."""
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(first, second, strict=True))
    return red, green, blue


def draw_face(rng: np.random.Generator, age: int, gender: int) -> Face:
    """Random traits for a person of that age (years) and gender."""
    young = float(np.clip(1 - age / 19 + rng.normal(0, 0.06), 0, 1))  # 1 for a baby, 0 when grown up
    old = float(np.clip((age - 28) / 62 + rng.normal(0, 0.07), 0, 1))  # 0 until about thirty
    # how much the grown-up differences of the genders show: hardly in children
    male = float(np.clip(0.5 + (0.5 if gender == MALE else -0.5) * (1 - 0.75 * young) + rng.normal(0, 0.14), 0, 1))
    skin = mixed(SKINS[rng.integers(6)], SKINS[rng.integers(6)], rng.uniform(0, 0.4))
    grey = float(np.clip((age - 45 + rng.normal(0, 8)) / 28, 0, 1)) * (0.6 if rng.random() < 0.12 else 1.0)
    hair = mixed(HAIRS[rng.integers(6)], (222, 222, 226), grey)
    grown_man = gender == MALE and young < 0.1
    long = rng.random() < (0.1 if gender == MALE else 0.85) * (1 - 0.5 * young)
    growth = float(rng.choice([0.0, 0.35, 1.0], p=[0.45, 0.25, 0.3])) if grown_man else 0.0
    losing = grown_man and rng.random() < 0.25 + 0.5 * old
    return Face(
        head=(0.72 + 0.06 * young + 0.04 * male + rng.normal(0, 0.02), 0.93 - 0.14 * young + rng.normal(0, 0.02)),
        jaw=0.36 - 0.2 * male - 0.12 * young + rng.normal(0, 0.03),
        square=0.75 * male * (1 - young),
        eye_y=0.02 + 0.17 * young + rng.normal(0, 0.015),
        eye_x=0.31 + 0.02 * young + rng.normal(0, 0.01),
        eye=0.115 + 0.06 * young - 0.02 * old - 0.015 * male + rng.normal(0, 0.006),
        lid=0.1 + 0.45 * old,
        nose=0.11 + 0.04 * male * (1 - young) + 0.05 * old - 0.04 * young + rng.normal(0, 0.01),
        ears=0.16 + 0.06 * old,
        mouth=0.27 - 0.08 * young + rng.normal(0, 0.02),
        lip=0.035 + 0.035 * (1 - male) * (1 - 0.5 * old),
        brow=0.022 + 0.035 * male * (1 - young),
        wrinkles=old,
        spots=int(rng.poisson(5 * max(0.0, old - 0.45))),
        hair=hair,
        length=float(np.clip(rng.normal(0.85 if long else 0.12, 0.1), 0, 1)),
        bald=float(np.clip(rng.uniform(0.3, 0.7) + 0.4 * old, 0, 1)) if losing else float(age < 2),
        fringe=float(np.clip(rng.uniform(0.1, 0.9) * (1 - 0.3 * old), 0, 1)),
        beard=growth,
        moustache=max(growth, float(grown_man and rng.random() < 0.2)),
        lashes=rng.random() < 0.05 + 0.8 * (1 - male),
        glasses=rng.random() < (0.12 + 0.35 * old) * (1 - young),
        earrings=rng.random() < (0.06 if gender == MALE else 0.4) * (1 - young),
        bun=gender == FEMALE and not long and rng.random() < 0.45,
        skin=skin,
        iris=IRISES[rng.integers(len(IRISES))],
        lips=mixed(skin, (196, 70, 84), 0.3 + 0.3 * (1 - male)),
        shirt=random_colour(rng),
        back=random_colour(rng),
        tilt=rng.normal(0, 0.08),
        shift=(rng.normal(0, 0.06), 0.08 + rng.normal(0, 0.05)),
        scale=rng.uniform(0.88, 1.08),
        light=rng.uniform(-1, 1),
        smile=float(np.clip(rng.normal(0.55, 0.4), -0.5, 1)),
    )


def random_colour(rng: np.random.Generator) -> Colour:
    red, green, blue = rng.uniform(75, 220, 3)
    return float(red), float(green), float(blue)
