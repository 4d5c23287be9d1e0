"""Scores are compared with metrics computed directly from the arithmetic of the hand-made model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from nddr_deploy.data.base import Sample
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.base import Engine
from nddr_deploy.errors import InputError
from nddr_deploy.evaluate import __main__ as command
from nddr_deploy.evaluate.decode import decode_outputs
from nddr_deploy.evaluate.score import score
from nddr_deploy.evaluate.shared_tasks import shared_tasks
from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import Fit
from nddr_deploy.resize import Grid
from nddr_deploy.tasks import Age, Depth, Normals, Segmentation, Task

CLASSES = ("floor", "wall", "sofa")


@dataclass(frozen=True)
class Samples:
    """A data set in memory."""

    tasks: tuple[Task, ...]
    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


class Echo(Engine):
    """An engine that returns what it was given: arrays by name, for every image of the batch."""

    backend, precision, device, threads = "echo", "fp32", "none", 1

    def __init__(self, manifest: Manifest, outputs: dict[str, Any]) -> None:
        self.manifest = manifest
        self.outputs = outputs

    def _run(self, images: Any) -> dict[str, Any]:
        return {name: np.stack([output] * len(images)) for name, output in self.outputs.items()}

    def close(self) -> None:
        pass


def ages(count: int, size_hw: tuple[int, int] = (16, 24)) -> Samples:
    generator = np.random.default_rng(5)
    samples = [
        Sample(str(index), generator.integers(0, 256, (*size_hw, 3), dtype=np.uint8), {"age": np.float32(index)})
        for index in range(count)
    ]
    return Samples((Age("age", classes=4),), tuple(samples))


def test_scores_are_those_of_the_decoded_outputs(handmade: Callable[..., Any]) -> None:
    model = handmade()
    dataset = ages(5)

    with open_engine(model.path, threads=1) as engine:
        scores = score(engine, dataset)

    logits = np.concatenate([model.expected(sample.image[None])["age"] for sample in dataset.samples])
    odds = np.exp(logits)
    years = (odds / odds.sum(axis=1, keepdims=True)) @ np.arange(4)
    assert set(scores) == {"age"}
    assert scores["age"]["MAE"] == pytest.approx(np.abs(years - np.arange(5)).mean(), rel=1e-5)


def test_a_perfect_prediction_scores_one_at_the_sample_s_own_size() -> None:
    labels = np.repeat(np.arange(3, dtype=np.uint8), 8)[:, None].repeat(10, axis=1)  # (24, 10) in bands
    manifest = Manifest(tasks=(Segmentation("segmentation", CLASSES),), size_hw=(24, 10), outputs="decoded")
    sample = Sample("0", np.zeros((24, 10, 3), np.uint8), {"segmentation": labels})

    scores = score(Echo(manifest, {"segmentation": labels}), Samples(manifest.tasks, (sample,)))

    assert scores["segmentation"]["mIoU"] == 1.0


@pytest.mark.parametrize("batch", [1, 4])
def test_a_batch_that_does_not_divide_the_samples_changes_nothing(handmade: Callable[..., Any], batch: int) -> None:
    dataset = ages(6)

    with open_engine(handmade(batch=batch).path, threads=1) as engine:
        scores = score(engine, dataset)
    with open_engine(handmade(dynamic=("batch",)).path, threads=1) as engine:
        expected = score(engine, dataset)

    assert scores["age"]["MAE"] == pytest.approx(expected["age"]["MAE"], rel=1e-6)


def test_the_limit_scores_the_first_samples_only(handmade: Callable[..., Any]) -> None:
    dataset = ages(6)

    with open_engine(handmade().path, threads=1) as engine:
        limited = score(engine, dataset, limit=2)
        first = score(engine, Samples(dataset.tasks, dataset.samples[:2]))

    assert limited == first


def test_letterbox_leaves_the_padding_out_and_stretch_has_none() -> None:
    # The model sees class 1 in the middle half of its image, where a wide frame lies, and class 0 in the padding.
    labels = np.zeros((24, 24), np.uint8)
    labels[6:18] = 1
    manifest = Manifest(tasks=(Segmentation("segmentation", CLASSES),), size_hw=(24, 24), outputs="decoded")
    sample = Sample("0", np.zeros((24, 48, 3), np.uint8), {"segmentation": np.ones((24, 48), np.uint8)})
    engine, dataset = Echo(manifest, {"segmentation": labels}), Samples(manifest.tasks, (sample,))

    assert score(engine, dataset, fit="letterbox")["segmentation"]["PAcc"] == 1.0
    assert score(engine, dataset, fit="stretch")["segmentation"]["PAcc"] == 0.5


@pytest.mark.parametrize("convention", ["half_pixel", "align_corners", "asymmetric"])
def test_raw_maps_are_read_in_the_model_s_own_convention(convention: Any) -> None:
    task = Normals("normals")
    raw = np.random.default_rng(0).normal(size=(1, 3, 5, 7)).astype(np.float32)
    manifest = Manifest(tasks=(task,), size_hw=(33, 49), resize=convention)

    decoded = decode_outputs({"normals": raw}, 0, manifest, Fit.of((33, 49), (33, 49)))

    expected = task.decode(raw[0], Grid.between((5, 7), (33, 49), convention))
    np.testing.assert_allclose(decoded["normals"], expected, atol=1e-6)


def test_decoded_maps_and_raw_maps_of_one_model_end_at_the_frame_s_size() -> None:
    tasks = (Depth("depth"), Age("age", classes=3))
    fit = Fit.of((31, 50), (24, 24))
    raw = {"depth": np.full((2, 1, 3, 3), 0.5, np.float32), "age": np.zeros((2, 3), np.float32)}
    whole = {"depth": np.full((2, 24, 24), 2.5, np.float32), "age": np.float32([1.0, 2.0])}

    from_raw = decode_outputs(raw, 1, Manifest(tasks=tasks, size_hw=(24, 24)), fit)
    from_whole = decode_outputs(whole, 1, Manifest(tasks=tasks, size_hw=(24, 24), outputs="decoded"), fit)

    assert from_raw["depth"].shape == from_whole["depth"].shape == (31, 50)
    np.testing.assert_allclose(from_whole["depth"], 2.5, rtol=1e-6)  # float32 weights sum to nearly one
    assert (float(from_raw["age"]), float(from_whole["age"])) == (1.0, 2.0)


def test_tasks_without_targets_are_named_and_left_out(handmade: Callable[..., Any]) -> None:
    shared, skipped = shared_tasks(handmade().manifest, ages(1))

    assert [task.name for task in shared] == ["age"]
    assert skipped == dict.fromkeys(("segmentation", "normals"), "the data has no targets for it")


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (Depth("depth"), "no name in common"),
        (Depth("normals"), "the model's is a normals task, the data's a depth task"),
        (Segmentation("segmentation", ("floor", "sofa", "wall")), "number 1: 'wall' in the model, 'sofa' in the data"),
        (Segmentation("segmentation", ("floor", "wall")), "number 2: 'sofa' in the model, 'no class' in the data"),
    ],
)
def test_data_that_means_something_else_is_refused(handmade: Callable[..., Any], task: Task, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        shared_tasks(handmade().manifest, Samples((task,), ()))


def test_normals_in_axes_that_are_not_known_are_left_out_and_refused_where_nothing_else_is_scored() -> None:
    unknown, normals, depth = Normals(axes=None), Normals(), Depth()

    shared, skipped = shared_tasks(Manifest(tasks=(unknown, depth), size_hw=(8, 8)), Samples((normals, depth), ()))

    assert shared == (depth,)
    assert list(skipped) == ["normals"]
    assert "axes are not known" in skipped["normals"]
    with pytest.raises(InputError, match=r"normals: its axes are not known.*Import the model again"):
        shared_tasks(Manifest(tasks=(unknown,), size_hw=(8, 8)), Samples((normals,), ()))


@pytest.mark.parametrize("model", [Normals(), Normals(coding="colour", axes=("left", "up", "toward"))])
def test_normals_are_scored_whatever_their_coding_once_their_axes_are_known(model: Normals) -> None:
    shared, skipped = shared_tasks(Manifest(tasks=(model,), size_hw=(8, 8)), Samples((Normals(),), ()))

    assert (shared, skipped) == ((model,), {})


def test_other_colours_of_the_same_classes_are_fine(handmade: Callable[..., Any]) -> None:
    palette = ((1, 2, 3), (4, 5, 6), (7, 8, 9))

    shared, _ = shared_tasks(handmade().manifest, Samples((Segmentation("segmentation", CLASSES, palette),), ()))

    assert [task.name for task in shared] == ["segmentation"]


@pytest.mark.parametrize("limit", [None, 0, -1])
def test_nothing_to_score_is_refused(handmade: Callable[..., Any], limit: int | None) -> None:
    with (
        open_engine(handmade().path, threads=1) as engine,
        pytest.raises(InputError, match="nothing to score"),
    ):
        score(engine, ages(0 if limit is None else 3), limit=limit)


def test_the_command_prints_a_table_and_writes_json(
    handmade: Callable[..., Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def open_dataset(name: str, split: str, **options: Any) -> Samples:
        asked.append((name, split, options))
        return ages(4)

    monkeypatch.setattr("nddr_deploy.data.open_dataset", open_dataset, raising=False)
    report = tmp_path / "metrics.json"

    options = ["--option", "count=4", "--option", "path=x", "--limit", "3", "--threads", "1", "--json", str(report)]

    status = command.main([str(handmade().path), "--data", "faces", *options])

    printed = capsys.readouterr()
    written = json.loads(report.read_text())
    assert status == 0
    assert asked == [("faces", "val", {"count": 4, "path": "x"})]
    for name in ("segmentation", "normals"):
        assert f"{name} is left out: the data has no targets for it.\n" in printed.err
    assert "MAE" in printed.out
    assert (written["samples"], written["backend"], written["precision"]) == (3, "onnxruntime", "fp32")
    assert written["metrics"]["age"]["MAE"] > 0


def test_a_wrong_model_ends_the_command_with_one_line_and_status_two(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    status = command.main([str(tmp_path / "none.onnx"), "--data", "rooms"])

    assert status == 2
    assert capsys.readouterr().err.count("\n") == 1
