from __future__ import annotations

import numpy as np
import pytest

from nddr_deploy.errors import InputError
from nddr_deploy.tasks import Age, Classification

AGE = Age()
GENDER = Classification("gender", ("female", "male"))


def years(value: float) -> np.ndarray:
    return np.asarray(value, dtype=np.float32)


def test_age_is_the_expectation_over_years() -> None:
    raw = np.full(100, -np.inf, dtype=np.float32)
    raw[[20, 40]] = np.log([0.25, 0.75])

    decoded = AGE.decode(raw)

    assert decoded.shape == ()
    assert decoded.dtype == np.float32
    assert float(decoded) == pytest.approx(35.0)


def test_large_logits_do_not_overflow() -> None:
    assert GENDER.decode(np.array([1000.0, 990.0])).tolist() == pytest.approx([1, np.exp(-10)], rel=1e-4)


def test_age_metrics_by_hand() -> None:
    metric = AGE.metric()

    for found, truth in ((30, 31), (30, 28), (30, 40)):
        metric.update(years(found), years(truth))

    assert metric.result() == {"MAE": pytest.approx(13 / 3), "MedAE": 2.0}


def test_accuracy_by_hand() -> None:
    metric = GENDER.metric()

    for probabilities, truth in (((0.9, 0.1), 0), ((0.2, 0.8), 1), ((0.6, 0.4), 1)):
        metric.update(np.float32(probabilities), np.int64(truth))

    assert metric.result() == {"accuracy": pytest.approx(2 / 3)}


def test_pooled_targets_stay_as_they_are_when_mirrored() -> None:
    assert AGE.flip(years(31)) == 31
    assert GENDER.flip(np.int64(1)) == 1


def test_nan_is_refused() -> None:
    with pytest.raises(InputError, match="NaN"):
        AGE.metric().update(years(np.nan), years(1))
    with pytest.raises(InputError, match="NaN"):
        GENDER.metric().update(np.float32([np.nan, 0.5]), np.int64(0))


def test_shapes_and_classes_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="one age"):
        AGE.metric().update(np.zeros(2), years(1))
    with pytest.raises(InputError, match="2 probabilities"):
        GENDER.metric().update(np.zeros(3), np.int64(0))
    with pytest.raises(InputError, match="is 2; expected a class 0 to 1"):
        GENDER.metric().update(np.zeros(2), np.int64(2))


def test_captions_say_the_result() -> None:
    assert AGE.caption(years(34.4)) == "age 34"
    assert GENDER.caption(np.float32([0.93, 0.07])) == "gender female 93 %"


def test_rendering_writes_on_a_copy_of_the_frame() -> None:
    frame = np.full((120, 160, 3), 200, np.uint8)

    picture = GENDER.render(np.float32([0.93, 0.07]), frame)

    assert picture.shape == frame.shape
    assert (frame == 200).all()
    assert (picture != 200).any()
