from __future__ import annotations

import numpy as np
import pytest

from nddr_deploy.errors import InputError
from nddr_deploy.resize import Grid
from nddr_deploy.tasks import Binary

TASK = Binary("edge")


def chances(*values: float) -> np.ndarray:
    return np.array([values], dtype=np.float32)


def labels(*values: int) -> np.ndarray:
    return np.array([values], dtype=np.uint8)


def test_decoding_is_the_sigmoid_of_the_resized_logits() -> None:
    raw = np.float32([[[-2, 4]]])

    decoded = TASK.decode(raw, Grid((1, 2), np.zeros(1), np.array([0, 0.5, 1.0])))

    assert decoded.dtype == np.float32
    np.testing.assert_allclose(decoded, [1 / (1 + np.exp([2.0, -1, -4]))], atol=1e-7)  # not the mean of the outer two


@pytest.mark.filterwarnings("error")
def test_huge_logits_are_certain_and_nan_stays() -> None:
    decoded = TASK.decode(np.float32([[[-1e30, 1e30, -np.inf, np.nan]]]))

    assert decoded[0, :3].tolist() == [0, 1, 0]
    assert np.isnan(decoded[0, 3])


def test_metrics_by_hand() -> None:
    metric = TASK.metric()

    metric.update(chances(0.9, 0.6, 0.3), labels(1, 0, 1))
    metric.update(chances(0.1, 0.99), labels(0, 255))

    # Found at 0.3: all three of 0.9, 0.6, 0.3, so P = 2/3, R = 1 and F = 0.8; at 0.9: P = 1, R = 1/2, F = 2/3.
    # At 1/2: one right, one wrong, one missed.
    assert metric.result() == {"maxF": pytest.approx(0.8), "IoU": pytest.approx(1 / 3)}


def test_the_curve_is_that_of_the_whole_data_set() -> None:
    metric = TASK.metric()

    metric.update(chances(0.9, 0.8), labels(1, 0))
    metric.update(chances(0.2, 0.1), labels(1, 0))

    # Alone, each picture has a threshold that is perfect. Together: all found but 0.1, P = 2/3, R = 1.
    assert metric.result()["maxF"] == pytest.approx(0.8)


def test_a_half_counts_as_yes_in_the_target_and_in_the_score() -> None:
    around = chances(0.5, np.nextafter(np.float32(0.5), np.float32(0)))
    metric = TASK.metric()

    metric.update(around, TASK.as_target(around))

    assert TASK.as_target(around).tolist() == [[1, 0]]
    assert metric.result() == {"maxF": 1.0, "IoU": 1.0}


def test_without_a_yes_there_is_no_f_and_what_is_found_is_wrong() -> None:
    metric = TASK.metric()
    metric.update(chances(0.1, 0.2), labels(0, 0))
    assert all(np.isnan(value) for value in metric.result().values())

    metric.update(chances(0.8), labels(0))

    assert np.isnan(metric.result()["maxF"])
    assert metric.result()["IoU"] == 0


def test_nan_and_other_labels_are_refused_where_labelled() -> None:
    metric = TASK.metric()
    metric.update(chances(np.nan), labels(255))

    with pytest.raises(InputError, match="NaN"):
        metric.update(chances(np.nan), labels(1))
    with pytest.raises(InputError, match="holds 7; expected 0"):
        metric.update(chances(0.5), labels(7))


def test_likelier_is_brighter_and_not_labelled_is_black() -> None:
    picture = TASK.render(chances(0, 0.25, 0.5, 0.75, 1, 255), np.zeros((1, 6, 3), np.uint8))[0].astype(int)

    assert (np.diff(picture[:5].sum(axis=1)) > 60).all()
    assert picture[5].tolist() == [0, 0, 0]
    assert [text for text, _ in TASK.legend()] == ["0%", "25%", "50%", "75%", "100%"]
    assert [colour for _, colour in TASK.legend()] == [tuple(colour) for colour in picture[:5].tolist()]


def test_targets_are_drawn_as_certain() -> None:
    frame = np.zeros((1, 3, 3), np.uint8)

    drawn = TASK.render(labels(0, 1, 255), frame)

    np.testing.assert_array_equal(drawn, TASK.render(chances(0, 1, 255), frame))


def test_resampling_is_bilinear_and_flipping_mirrors() -> None:
    assert TASK.resample(chances(0, 1), Grid.between((1, 2), (1, 3), "align_corners")).tolist() == [[0, 0.5, 1]]
    assert TASK.flip(labels(0, 1, 255)).tolist() == [[255, 1, 0]]
