"""Tasks as values: names, options, JSON, errors of one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.resize import Grid
from nddr_deploy.tasks import TASKS, Age, Binary, Classification, Depth, Normals, Segmentation, Task, task_from_dict

EXAMPLES: list[Task] = [
    Segmentation("parts", ("floor", "wall"), ((1, 2, 3), (4, 5, 6))),
    Segmentation(classes=("floor", "wall", "chair")),
    Normals("facing"),
    Normals("painted", coding="colour", axes=("right", "toward", "up")),
    Normals("whichever", axes=None),
    Binary("edge"),
    Depth("far", max_m=4.5),
    Age("years", classes=90),
    Classification("gender", ("female", "male")),
]


@pytest.mark.parametrize("task", EXAMPLES, ids=lambda task: task.name)
def test_a_task_survives_json(task: Task) -> None:
    read = task_from_dict(json.loads(json.dumps(task.to_dict())))

    assert read == task
    assert hash(read) == hash(task)
    assert type(read) is type(task)


@pytest.mark.parametrize("task", EXAMPLES, ids=lambda task: task.name)
def test_headline_names_a_metric_and_nothing_seen_is_nan(task: Task) -> None:
    result = task.metric().result()

    assert task.headline in result
    assert all(np.isnan(value) for value in result.values())


def test_the_table_holds_every_kind_under_its_name() -> None:
    assert sorted(TASKS) == ["age", "binary", "classification", "depth", "normals", "segmentation"]
    assert all(task.kind == kind for kind, task in TASKS.items())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "segmentatoin", "name": "x"}, "Did you mean 'segmentation'"),
        ({"name": "x"}, "with a 'kind'"),
        (["depth"], "with a 'kind'"),
        ({"kind": ["depth"]}, "unknown"),
        ({"kind": "depth", "maxm": 3}, "Did you mean 'max_m'"),
        ({"kind": "classification", "name": "gender"}, "needs 'classes'"),
        ({"kind": "depth", "max_m": -1}, "positive number of metres; got -1"),
        ({"kind": "depth", "max_m": "far"}, "positive number of metres; got 'far'"),
        ({"kind": "age", "classes": 1}, "at least 2"),
        ({"kind": "segmentation"}, "1 to 255 class names"),
        ({"kind": "segmentation", "classes": "floor"}, "1 to 255 class names"),
        ({"kind": "segmentation", "classes": 40}, "1 to 255 class names; got 40"),
        ({"kind": "segmentation", "classes": ["floor", 3]}, "1 to 255 class names"),
        ({"kind": "segmentation", "classes": [str(i) for i in range(256)]}, "1 to 255 class names"),
        ({"kind": "segmentation", "classes": ["wall", "floor", "wall"]}, "'wall' is listed twice"),
        ({"kind": "segmentation", "classes": ["a", "b"], "palette": [[0, 0, 0]]}, "1 colours for 2 classes"),
        ({"kind": "segmentation", "classes": ["a"], "palette": [[0, 0, 256]]}, "three numbers 0 to 255"),
        ({"kind": "segmentation", "classes": ["a"], "palette": ["red"]}, "three numbers 0 to 255"),
        ({"kind": "segmentation", "classes": ["a"], "palette": 3}, "A palette is a list"),
        ({"kind": "classification", "name": "gender", "classes": ["one"]}, "2 to"),
        ({"kind": "normals", "coding": "color"}, "Did you mean 'colour'"),
        ({"kind": "normals", "axes": ["right", "left", "up"]}, "three directions"),
        ({"kind": "normals", "axes": ["right", "down"]}, "three directions"),
        ({"kind": "normals", "axes": ["right", "down", "forward"]}, "one of away or toward"),
        ({"kind": "normals", "axes": [["right"], "down", "away"]}, "three directions"),
        ({"kind": "normals", "axes": "rgb"}, "three directions, one of right or left"),
        ({"kind": "depth", "name": "../up"}, "cannot name a task"),
        ({"kind": "depth", "name": "images"}, "cannot name a task"),
        ({"kind": "depth", "name": 3}, "cannot name a task"),
    ],
)
def test_a_wrong_description_is_one_sentence(values: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        task_from_dict(values)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", EXAMPLES, ids=lambda task: task.name)
def test_decoding_another_shape_is_refused(task: Task) -> None:
    dense = task.head == "dense"
    right = (task.channels, 4, 5) if dense else (task.channels,)
    wrong = [(task.channels + 1, *right[1:]), (1, *right), (task.channels, 0, 5) if dense else (task.channels, 1, 1)]

    for shape in wrong:
        with pytest.raises(InputError, match=f"{task.name}: expected"):
            task.decode(np.zeros(shape, np.float32))


@pytest.mark.parametrize("task", [task for task in EXAMPLES if task.head == "dense"], ids=lambda task: task.name)
def test_decoding_with_the_grid_of_another_map_is_refused(task: Task) -> None:
    grid = Grid.between((5, 4), (40, 32), "half_pixel")

    with pytest.raises(InputError, match=r"\(5, 4\).*\(4, 5\)"):
        task.decode(np.zeros((task.channels, 4, 5), np.float32), grid)


@pytest.mark.parametrize("task", EXAMPLES, ids=lambda task: task.name)
def test_decoding_keeps_its_hands_off_the_raw_output(task: Task) -> None:
    raw = -np.ones((task.channels, 4, 5) if task.head == "dense" else (task.channels,), np.float32)
    before = raw.copy()

    decoded = task.decode(raw)

    np.testing.assert_array_equal(raw, before)
    assert not np.shares_memory(decoded, raw)


@pytest.mark.parametrize("task", [task for task in EXAMPLES if task.head == "dense"], ids=lambda task: task.name)
def test_results_and_targets_of_different_sizes_are_refused_with_both_sizes(task: Task) -> None:
    first = task.decode(np.ones((task.channels, 4, 5), np.float32))
    second = task.decode(np.ones((task.channels, 5, 4), np.float32))

    with pytest.raises(InputError, match=r"4x5 .* 5x4"):
        task.metric().update(first, second)
    with pytest.raises(InputError, match=r"4x5 .* 5x4"):
        task.render(first, np.zeros((5, 4, 3), np.uint8))


@pytest.mark.parametrize("task", EXAMPLES, ids=lambda task: task.name)
def test_a_result_scored_against_itself_is_perfect(task: Task) -> None:
    raw = np.random.default_rng(0).normal(size=(task.channels, 9, 7) if task.head == "dense" else task.channels)
    decoded = task.decode(raw)
    metric = task.metric()

    metric.update(decoded, task.as_target(decoded))

    assert metric.result()[task.headline] == (1.0 if task.higher_is_better else 0.0)


def test_importing_tasks_loads_neither_numba_nor_cv2() -> None:
    probe = (
        "import sys, nddr_deploy.tasks; print([m for m in ('numba', 'cv2', 'PIL', 'matplotlib') if m in sys.modules])"
    )

    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"
