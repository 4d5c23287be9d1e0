from __future__ import annotations

import numpy as np
import pytest

from nddr_deploy.errors import InputError
from nddr_deploy.resize import Grid
from nddr_deploy.tasks import Depth

TASK = Depth(max_m=8.0)


def metres(*values: float) -> np.ndarray:
    return np.array([values], dtype=np.float32)


def test_decoding_is_linear_metres_never_negative_and_not_cut_at_max_m() -> None:
    raw = np.array([[[-1.0, 1.0, 21.0]]], dtype=np.float32)

    decoded = TASK.decode(raw, Grid((1, 3), np.zeros(1), np.array([0, 0.25, 1, 1.5, 2])))

    assert decoded.tolist() == [[0, 0, 1, 11, 21]]
    assert decoded.dtype == np.float32


def test_metrics_by_hand() -> None:
    metric = TASK.metric()

    metric.update(metres(2.0, 5.0), metres(1.0, 4.0))
    metric.update(metres(3.0, 9.0), metres(4.0, 0.0))

    # Errors 1, 1, 1 at 1, 4, 4 m; ratios 2, 1.25 (not below), 1.33. The last pixel was not measured.
    assert metric.result() == {
        "RMSE": pytest.approx(1.0),
        "AbsRel": pytest.approx((1 + 0.25 + 0.25) / 3),
        "delta_1.25": 0.0,
    }


def test_delta_counts_ratios_either_way() -> None:
    metric = TASK.metric()

    metric.update(metres(1.2, 1.0, 1.0, 0.0), metres(1.0, 1.2, 1.3, 1.0))

    assert metric.result()["delta_1.25"] == 0.5


def test_rmse_is_over_all_pixels_of_the_set() -> None:
    metric = TASK.metric()

    metric.update(metres(4.0), metres(1.0))
    metric.update(metres(1.0, 1.0, 1.0), metres(1.0, 1.0, 1.0))

    assert metric.result()["RMSE"] == pytest.approx((9 / 4) ** 0.5)


def test_nan_is_refused_where_the_depth_is_known() -> None:
    metric = TASK.metric()
    metric.update(metres(np.nan, 1.0), metres(0.0, 1.0))

    with pytest.raises(InputError, match="NaN"):
        metric.update(metres(np.nan), metres(1.0))


def test_near_is_warm_far_is_cold_and_missing_is_black() -> None:
    picture = TASK.render(metres(0.8, 7.2, 0.0, 100.0), np.zeros((1, 4, 3), np.uint8)).astype(int)[0]

    assert picture[0, 0] > picture[0, 2] + 50  # red above blue
    assert picture[1, 2] > picture[1, 0] + 50
    assert picture[2].tolist() == [0, 0, 0]
    assert tuple(picture[3]) == TASK.legend()[-1][1]


def test_the_legend_names_distances_in_the_colours_of_the_picture() -> None:
    rows = TASK.legend()

    assert [text for text, _ in rows] == ["0 m", "2 m", "4 m", "6 m", "8 m"]
    picture = TASK.render(metres(2, 4, 6, 8), np.zeros((1, 4, 3), np.uint8))[0]
    assert [colour for _, colour in rows[1:]] == [tuple(colour) for colour in picture.tolist()]


def test_flipping_mirrors() -> None:
    assert TASK.flip(metres(1, 2, 3)).tolist() == [[3, 2, 1]]
