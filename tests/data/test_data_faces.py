from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nddr_deploy.data import open_dataset
from nddr_deploy.data.faces.canvas import Canvas
from nddr_deploy.data.faces.drawing import draw
from nddr_deploy.data.faces.traits import FEMALE, MALE, draw_face


def test_samples_are_what_the_contract_says() -> None:
    dataset = open_dataset("faces", "train", count=3, size_hw=(64, 48))

    sample = dataset[2]

    assert [task.name for task in dataset.tasks] == ["age", "gender"]
    assert sample.image.shape == (64, 48, 3)
    assert sample.image.dtype == np.uint8
    assert sample.targets["age"].dtype == np.float32
    assert sample.targets["gender"].dtype == np.int64
    assert sample.targets["age"].shape == sample.targets["gender"].shape == ()


def test_ages_and_genders_are_spread_evenly() -> None:
    dataset = open_dataset("faces", "train", count=400, size_hw=(16, 16))

    samples = list(dataset)

    ages = np.array([sample.targets["age"] for sample in samples])
    assert ages.min() >= 0
    assert ages.max() <= 99
    assert ages.mean() == pytest.approx(49.5, abs=5)  # the mean of 400 has a deviation of 1.4
    assert np.mean([sample.targets["gender"] for sample in samples]) == pytest.approx(0.5, abs=0.08)


def means(age: int, gender: int) -> dict[str, float]:
    faces = [draw_face(np.random.default_rng(index), age, gender) for index in range(200)]
    names = ("wrinkles", "eye", "eye_y", "jaw", "length", "beard", "brow", "lip")
    return {name: float(np.mean([getattr(face, name) for face in faces])) for name in names}


def test_traits_tell_age_and_gender() -> None:
    child, adult, old = (means(age, FEMALE) for age in (5, 35, 85))
    man, woman = means(40, MALE), means(40, FEMALE)

    assert child["wrinkles"] < adult["wrinkles"] < old["wrinkles"]
    assert child["eye"] > adult["eye"]
    assert child["eye_y"] > adult["eye_y"]
    assert man["beard"] > 0.2
    assert woman["beard"] == 0
    assert man["length"] < woman["length"] - 0.3
    assert man["brow"] > woman["brow"]


def test_no_single_trait_is_certain() -> None:
    long_haired = [draw_face(np.random.default_rng(index), 40, MALE).length > 0.5 for index in range(200)]
    short_haired = [draw_face(np.random.default_rng(index), 40, FEMALE).length < 0.5 for index in range(200)]

    assert 0 < sum(long_haired) < 60
    assert 0 < sum(short_haired) < 80


def test_the_mean_colour_says_little_about_age_and_nothing_about_gender() -> None:
    """A straight line through the mean colours of 300 faces explains little of the answers for 300 others."""
    dataset = open_dataset("faces", "train", count=600, size_hw=(32, 32))
    samples = list(dataset)
    colours = np.array(
        [[1.0, *sample.image.mean(axis=(0, 1)), *sample.image[12:28, 8:24].mean(axis=(0, 1))] for sample in samples]
    )

    def explained(name: str) -> float:
        answers = np.array([float(sample.targets[name]) for sample in samples])
        line = np.linalg.lstsq(colours[:300], answers[:300], rcond=None)[0]
        left = answers[300:] - colours[300:] @ line
        return 1 - float(left.var() / answers[300:].var())

    assert explained("age") < 0.25  # grey hair does tell something
    assert explained("gender") < 0.1


def test_a_wrinkle_and_a_beard_are_drawn() -> None:
    face = replace(draw_face(np.random.default_rng(4), 40, MALE), beard=0.0, moustache=0.0, wrinkles=0.0, spots=0)

    def picture(**changes: float) -> np.ndarray:
        return draw(replace(face, **changes), (64, 64), np.random.default_rng(0)).astype(int)

    plain = picture()
    assert (np.abs(picture(wrinkles=1.0) - plain).max(axis=2) > 10).mean() > 0.01
    lower = (np.abs(picture(beard=1.0) - plain).max(axis=2) > 10)[32:]
    assert lower.mean() > 0.03


def test_shapes_lie_where_they_are_put() -> None:
    canvas = Canvas((30, 60), (0.0, 0.0, 0.0))
    canvas.place((0.5, 0.0), 0.0, 1.0)  # a unit is 10 pixels here
    canvas.ellipse(0.0, 0.0, 0.5, 0.5, (255.0, 255.0, 255.0))

    picture = canvas.finished()[..., 0]

    rows, columns = np.nonzero(picture > 127)
    assert rows.mean() == pytest.approx(14.5, abs=0.5)
    assert columns.mean() == pytest.approx(34.5, abs=0.5)
    assert len(rows) == pytest.approx(78.5, rel=0.12)  # the area of a circle of 5 pixels
