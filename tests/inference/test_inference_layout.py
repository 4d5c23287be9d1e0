"""Layouts: the promised size, every head visible, texts that never cover everything, at any size of frame."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from nddr_deploy.errors import ConfigError
from nddr_deploy.inference.base import Frame, Result
from nddr_deploy.inference.layout import LAYOUTS, Layout, clock_text, division, legend_rows, tiling
from nddr_deploy.tasks import Age, Binary, Depth, Normals, Segmentation

CLASSES = tuple(f"class {number}" for number in range(40))
TASKS = (Segmentation("segmentation", classes=CLASSES), Normals("normals"), Depth("depth"), Age("age"))
SIZES = [(1, 1), (2, 3), (17, 90), (240, 320), (321, 427), (1080, 1920), (640, 480)]


def make_result(size_hw: tuple[int, int], time_s: Fraction | None = Fraction(83, 2)) -> Result:
    """A black frame; half labels of class 0, half of class 1; normals to the camera; 5 m."""
    labels = np.zeros(size_hw, np.uint8)
    labels[:, size_hw[1] // 2 :] = 1
    normals = np.zeros((*size_hw, 3), np.float32)
    normals[..., 2] = -1
    decoded = {
        "segmentation": labels,
        "normals": normals,
        "depth": np.full(size_hw, 5, np.float32),
        "age": np.asarray(34, np.float32),
    }
    return Result(Frame(np.zeros((*size_hw, 3), np.uint8), 0, time_s, "a"), decoded)


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_picture_has_the_promised_size_and_the_frame_is_left_alone(name: str, size_hw: tuple[int, int]) -> None:
    layout, result = Layout(TASKS, name), make_result(size_hw)

    picture = layout.compose(result)

    assert picture.dtype == np.uint8
    assert picture.shape == (*layout.size_hw(size_hw), 3)
    if name != "tiles":
        assert picture.shape == result.frame.image.shape
    assert not result.frame.image.any()


@pytest.mark.parametrize("size_hw", [(240, 320), (1080, 1920), (640, 480)])
def test_the_overlay_leaves_most_of_the_frame_free_of_texts_and_insets(size_hw: tuple[int, int]) -> None:
    layout, result = Layout(TASKS, "overlay", alpha=0.5), make_result(size_hw)
    blended = np.rint(TASKS[0].render(result.decoded["segmentation"], result.frame.image) * 0.5)

    picture = layout.compose(result)

    free = (np.abs(picture.astype(int) - blended) <= 1).all(axis=2).mean()
    assert 0.5 < free < 0.95, "40 classes in the legend, two insets, name, age and time"


def test_a_legend_with_too_many_classes_for_a_panel_shows_those_in_the_picture() -> None:
    labels = np.full((240, 320), 7, np.uint8)
    labels[:, :20] = 30

    assert len(legend_rows(TASKS[0], labels, (1080, 1920))) == 40
    assert [text for text, _ in legend_rows(TASKS[0], labels, (120, 160))] == ["class 7", "class 30"]


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_alpha_goes_from_the_frame_alone_to_the_colours_alone(alpha: float) -> None:
    result = make_result((240, 320))

    picture = Layout(TASKS, "overlay", alpha=alpha).compose(result)

    colours = np.asarray(TASKS[0].legend()[0][1]) if alpha else np.zeros(3)
    assert np.array_equal(picture[100, 140], colours)  # left half, between texts


@pytest.mark.parametrize("name", ["grid", "tiles"])
def test_every_head_has_its_panel(name: str) -> None:
    result = make_result((240, 320))

    picture = Layout(TASKS, name).compose(result)

    rows, columns = division(4, (240, 320)) if name == "grid" else tiling(4, (240, 320))
    height, width = picture.shape[0] // rows, picture.shape[1] // columns
    middles = [
        picture[row * height + 2 * height // 5, column * width + 2 * width // 5].tolist()
        for row in range(rows)
        for column in range(columns)
    ]
    small = make_result((2, 2))
    expected = [task.render(small.decoded[task.name], small.frame.image)[0, 0].tolist() for task in TASKS[:3]]
    assert middles[:4] == [[0, 0, 0], *expected]


def test_without_a_segmentation_the_first_map_is_laid_over() -> None:
    result = make_result((240, 320))

    picture = Layout(TASKS[1:], "overlay", alpha=1.0).compose(result)

    assert np.abs(picture[100, 140].astype(int) - [128, 128, 255]).max() <= 1, "toward the camera"


@pytest.mark.parametrize("name", LAYOUTS)
def test_probabilities_and_normals_in_unknown_axes_have_their_panels(name: str) -> None:
    tasks = (Binary("edge"), Normals("normals", axes=None))
    edge = np.zeros((240, 320), np.float32)
    edge[60:180, 80:240] = 1
    result = Result(make_result((240, 320)).frame, {**make_result((240, 320)).decoded, "edge": edge})

    picture = Layout(tasks, name, alpha=1.0).compose(result).reshape(-1, 3).tolist()

    for task in tasks:
        drawn = task.render(result.decoded[task.name], result.frame.image)[120, 160].tolist()
        assert picture.count(drawn) > 500  # the smallest panel, in the grid, has 120x160 pixels


def test_pooled_tasks_alone_are_written_on_the_frame() -> None:
    plain = Layout((), "overlay").compose(make_result((240, 320), time_s=None))
    with_age = Layout((TASKS[3],), "overlay").compose(make_result((240, 320), time_s=None))

    assert not plain.any()
    assert 0 < (with_age > 0).any(axis=2).mean() < 0.3


@pytest.mark.parametrize("name", LAYOUTS)
def test_pictures_without_a_time_show_none(name: str) -> None:
    timed, untimed = (Layout(TASKS, name).compose(make_result((240, 320), time)) for time in (Fraction(1), None))

    changed = (timed != untimed).any(axis=2)
    assert 0 < changed.mean() < 0.1


@pytest.mark.parametrize(
    ("time_s", "text"),
    [
        (Fraction(0), "0:00.00"),
        (Fraction(61), "1:01.00"),
        (Fraction(3599999, 1000), "59:59.99"),
        (Fraction(3600), "1:00:00.00"),
        (Fraction(-1, 4), "-0:00.25"),
    ],
)
def test_times_read_like_a_clock_and_are_never_rounded_up(time_s: Fraction, text: str) -> None:
    assert clock_text(time_s) == text


@pytest.mark.parametrize(("name", "alpha"), [("gird", 0.5), ("grid", 1.5), ("grid", float("nan"))])
def test_an_unknown_layout_or_weight_is_refused(name: str, alpha: float) -> None:
    with pytest.raises(ConfigError):
        Layout(TASKS, name, alpha)
