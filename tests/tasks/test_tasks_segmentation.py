from __future__ import annotations

import numpy as np
import pytest

from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.resize import Grid
from nddr_deploy.tasks import Segmentation
from nddr_deploy.tasks.palette import distinct_colours
from nddr_deploy.tasks.segmentation import SegmentationMetric

TASK = Segmentation(classes=("a", "b", "c", "d"), palette=((10, 0, 0), (20, 0, 0), (30, 0, 0), (40, 0, 0)))


def labels(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.uint8)


def test_decoding_takes_the_best_class_after_resizing_the_scores() -> None:
    raw = np.zeros((4, 1, 2), dtype=np.float32)
    raw[1, 0, 0] = 3.0  # b falls from 3 to 0 between the two pixels
    raw[2, 0, 1] = 1.0  # c rises from 0 to 1: they meet at 3/4 of the way

    decoded = TASK.decode(raw, Grid((1, 2), np.zeros(1), np.array([0, 0.5, 0.74, 0.76, 1.0])))

    assert decoded.tolist() == [[1, 1, 1, 2, 2]]


def test_metrics_by_hand() -> None:
    metric = TASK.metric()

    metric.update(labels([0, 0, 1, 1]), labels([0, 1, 1, 255]))
    metric.update(labels([0, 2]), labels([0, 1]))

    # a: 2 true, both found, 1 predicted wrongly: 2/3. b: 3 true, 1 found: 1/3. c: predicted once, never true: 0.
    # d is in neither and is left out.
    result = metric.result()
    assert result == {"mIoU": pytest.approx((2 / 3 + 1 / 3 + 0) / 3), "PAcc": pytest.approx(3 / 5)}


@pytest.mark.parametrize(("absent", "expected"), [("skip", 1.0), ("zero", 0.5), ("nan", float("nan"))])
def test_absent_classes_count_as_the_named_definition_says(absent: str, expected: float) -> None:
    metric = SegmentationMetric(TASK.classes, absent=absent)  # type: ignore[arg-type]

    metric.update(labels([0, 1]), labels([0, 1]))

    assert metric.result()["mIoU"] == pytest.approx(expected, nan_ok=True)
    assert metric.class_iou() == pytest.approx({"a": 1, "b": 1, "c": float("nan"), "d": float("nan")}, nan_ok=True)


def test_an_unknown_definition_of_absent_is_refused() -> None:
    with pytest.raises(ConfigError, match="skip, zero, nan"):
        SegmentationMetric(("a",), absent="drop")  # type: ignore[arg-type]


def test_the_confusion_matrix_counts_whole_pixels_beyond_what_float32_can() -> None:
    metric = SegmentationMetric(("a", "b"))
    metric.confusion[0, 0] = 2**24

    metric.update(labels([0]), labels([0]))

    assert metric.confusion.dtype == np.int64
    assert metric.confusion.tolist() == [[2**24 + 1, 0], [0, 0]]


def test_rows_of_the_confusion_matrix_are_the_truth() -> None:
    metric = SegmentationMetric(("a", "b"))

    metric.update(labels([1, 1, 0]), labels([0, 0, 0]))

    assert metric.confusion.tolist() == [[1, 2], [0, 0]]


def test_metrics_are_of_the_set_and_not_means_over_images() -> None:
    metric = SegmentationMetric(("a", "b"))

    metric.update(labels([0]), labels([1]))
    metric.update(labels([0, 0, 0]), labels([0, 0, 0]))

    assert metric.result()["PAcc"] == pytest.approx(3 / 4)  # per image it would be (0 + 1) / 2


@pytest.mark.parametrize(("found", "truth", "which"), [(4, 0, "prediction"), (255, 0, "prediction"), (0, 4, "target")])
def test_a_label_that_is_no_class_is_refused(found: int, truth: int, which: str) -> None:
    with pytest.raises(InputError, match=f"{which} holds the label"):
        TASK.metric().update(labels([found]), labels([truth]))


def test_an_image_without_labels_counts_nothing() -> None:
    metric = TASK.metric()

    metric.update(labels([0, 1]), labels([255, 255]))

    assert np.isnan(metric.result()["mIoU"])


def test_rendering_uses_the_palette_and_black_for_what_is_not_labelled() -> None:
    picture = TASK.render(labels([0, 3, 255]), np.zeros((1, 3, 3), np.uint8))

    assert picture.tolist() == [[[10, 0, 0], [40, 0, 0], [0, 0, 0]]]
    assert TASK.legend()[3] == ("d", (40, 0, 0))


def test_flipping_mirrors_left_and_right() -> None:
    assert TASK.flip(labels([0, 1, 2], [3, 0, 0])).tolist() == [[2, 1, 0], [0, 0, 3]]


def test_resampling_invents_no_labels() -> None:
    larger = TASK.resample(labels([0, 3]), Grid.between((1, 2), (2, 8), "half_pixel"))

    assert larger.tolist() == [[0, 0, 0, 0, 3, 3, 3, 3]] * 2


def test_default_colours_differ_are_the_same_every_time_and_none_is_black() -> None:
    colours = distinct_colours(255)

    assert len(set(colours)) == 255
    assert colours[:41] == distinct_colours(41)
    assert min(max(colour) for colour in colours) > 60
    apart = np.abs(np.array(colours[:41])[:, None] - np.array(colours[:41])[None]).sum(axis=2)
    assert apart[~np.eye(41, dtype=bool)].min() > 30  # summed over red, green, blue
