"""Prediction beside truth."""

from __future__ import annotations

import numpy as np

from nddr_deploy.data.base import Sample
from nddr_deploy.evaluate.comparison import compare
from nddr_deploy.tasks import Age, Classification, Depth, Segmentation

TASKS = (Segmentation(classes=("a", "b")), Age(), Classification("gender", ("female", "male")), Depth())
IMAGE = np.full((3, 5, 3), 90, np.uint8)


def test_dense_tasks_are_drawn_in_pairs_and_pooled_ones_are_said() -> None:
    labels, wrong = np.zeros((3, 5), np.uint8), np.ones((3, 5), np.uint8)
    depth = np.full((3, 5), 2.0, np.float32)
    truth = {"segmentation": labels, "age": np.float32(31), "gender": np.int64(1)}  # and no depth
    result = {"segmentation": wrong, "age": np.float32(34.4), "gender": np.array([0.75, 0.25]), "depth": depth}

    found = compare(Sample("s", IMAGE, truth), result, TASKS)

    titles = [view.title for view in found.views]
    assert titles == ["image", "segmentation, prediction", "segmentation, truth", "depth, prediction"]
    assert np.array_equal(found.views[1].picture, TASKS[0].render(wrong, IMAGE))
    assert np.array_equal(found.views[2].picture, TASKS[0].render(labels, IMAGE))
    assert found.words == ("age 34, truth: age 31", "gender female 75 %, truth: male")
    assert [view.smooth for view in found.views] == [True, False, False, False]  # colours of classes do not mix
