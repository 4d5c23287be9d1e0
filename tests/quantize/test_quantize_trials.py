"""Variants of one model: judged once, remembered in memory and in a folder, never beyond what they depend on."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import colour_network
import numpy as np
import onnx
import pytest
from colour_network import TASKS, Colours, layer, network
from onnx import numpy_helper

from nddr_deploy.engines.run_bytes import run_bytes
from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.evaluate.sample_scores import EvaluationSet, compare
from nddr_deploy.graph.calibration import Range, calibrate
from nddr_deploy.graph.metadata import manifest_of
from nddr_deploy.graph.quantize import observed, quantize
from nddr_deploy.quantize.trials import Trials

LAYERS = tuple(
    [layer("stage", task.name) for task in TASKS[:2]]
    + [layer(place, task.name) for task in TASKS[:2] for place in ("fusion", "last")]
)
LAST = layer("last", "segmentation")


@cache
def model() -> onnx.ModelProto:
    return network()


@cache
def ranges(target: str = "cpu") -> dict[str, Range]:
    images = [Colours("train")[place].image[None] for place in range(6)]
    return calibrate(model(), observed(model(), target), images, run_bytes, symmetric=target != "cpu")


def evaluation(**options: Any) -> EvaluationSet:
    return EvaluationSet.labelled_data(manifest_of(model(), source="it"), Colours("val", **{"count": 3, **options}))


def trials(**options: Any) -> Trials:
    settings: dict[str, Any] = {
        "model": model(),
        "ranges": ranges(),
        "target": "cpu",
        "evaluation": evaluation(),
        "run": run_bytes,
    }
    return Trials(**{**settings, **options})


def values(changes: Any) -> list[tuple[Any, ...]]:
    """Comparable, also where something is NaN."""
    return [
        (each.task, each.metric, *map(str, (each.before, each.after, each.low, each.high, each.loss)))
        for each in changes
    ]


def test_a_trials_changes_are_those_of_the_quantised_file_on_the_same_samples():
    tried = trials()

    changes = tried.changes({LAST})

    float_scores = evaluation().score(run_bytes(model().SerializeToString()))
    quantised = quantize(model(), ranges(), "cpu", keep={LAST}).model
    scores = evaluation().score(run_bytes(quantised.SerializeToString()))
    assert values(changes) == values(compare(float_scores, scores, tried.evaluation.tasks, resamples=0))


def test_layers_are_what_may_be_quantised_but_for_the_fixed_ones():
    assert trials().layers == LAYERS
    fixed = trials(fixed=(LAST,))
    assert fixed.layers == LAYERS[:3] + LAYERS[4:]
    assert {each.node for each in fixed.graph().kept} >= {LAST}
    assert LAST not in fixed.graph({LAYERS[0]}).layers


def test_no_other_layer_can_be_kept():
    with pytest.raises(ConfigError, match="keep"):
        trials().changes({"stages.9.normals.conv/Conv"})


def test_a_mix_is_judged_once():
    tried = trials()

    first = tried.changes([LAYERS[1], LAYERS[0]])
    second = tried.changes((LAYERS[0], LAYERS[1], LAYERS[0]))

    assert first is second
    assert tried.judged == 1


def test_intervals_are_measured_where_budgets_must_be_sure():
    plain, sure = trials().changes()[0], trials(sure=True).changes()[0]

    assert np.isnan(plain.low)
    assert sure.low <= sure.change <= sure.high
    assert sure.change == plain.change


def test_another_run_of_the_program_judges_nothing_again(tmp_path):
    first = trials(folder=tmp_path)
    expected = [values(first.changes(keep)) for keep in ((), {LAST})]
    assert first.judged == 2

    def refuse(_: bytes) -> Any:
        raise AssertionError("a model was run")

    second = trials(folder=tmp_path, run=refuse)
    assert [values(second.changes(keep)) for keep in ((), {LAST})] == expected
    assert second.judged == 0


def test_a_folder_is_left_alone_by_whoever_got_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    trials().changes()

    assert list(tmp_path.iterdir()) == []


def with_changed_weight() -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model())
    weight = next(each for each in changed.graph.initializer if each.name == "stages.2.normals.weight")
    weights = numpy_helper.to_array(weight).copy()
    weights[0, 0] *= 1.5
    weight.CopyFrom(numpy_helper.from_array(weights, weight.name))
    return changed


def with_other_range() -> dict[str, Range]:
    name = next(name for name in ranges() if "fusions" in name)
    return {**ranges(), name: Range(ranges()[name].low, 2 * ranges()[name].high)}


@pytest.mark.parametrize(
    "different",
    [
        lambda: {"model": with_changed_weight(), "reference": model()},
        lambda: {"reference": with_changed_weight()},
        lambda: {"ranges": with_other_range()},
        lambda: {"target": "tensorrt8", "ranges": ranges("tensorrt8")},
        lambda: {"evaluation": evaluation(first=1)},
        lambda: {"evaluation": evaluation(count=2)},
        lambda: {"evaluation": evaluation(tasks=("segmentation",))},
        lambda: {"fixed": (LAYERS[0],)},
        lambda: {"reduce_range": True},
        lambda: {"sure": True},
        lambda: {"runtime": "another version of it"},
    ],
    ids=[
        "weight",
        "reference",
        "range",
        "target",
        "image",
        "limit",
        "tasks",
        "fixed",
        "reduce_range",
        "sure",
        "runtime",
    ],
)
def test_whatever_decides_an_outcome_is_judged_anew_when_it_changes(tmp_path, different):
    trials(folder=tmp_path).changes()

    other = trials(folder=tmp_path, **different())
    other.changes()

    assert other.judged == 1


def test_results_of_another_quantiser_are_not_taken_for_those_of_this_one(tmp_path, monkeypatch):
    trials(folder=tmp_path).changes()

    def coarser(graph: Any, *others: Any, **options: Any) -> Any:
        return quantize(graph, *others, **{**options, "reduce_range": True})

    monkeypatch.setattr("nddr_deploy.quantize.trials.quantize", coarser)
    changed = trials(folder=tmp_path)
    changed.changes()

    assert changed.judged == 1


def test_how_raw_outputs_are_resized_belongs_to_the_key(tmp_path):
    trials(folder=tmp_path).changes()
    other = evaluation()
    manifest = other.manifest.model_copy(update={"resize": "align_corners"})

    changed = trials(folder=tmp_path, evaluation=EvaluationSet(manifest, other.tasks, True, "", other.samples))
    changed.changes()

    assert changed.judged == 1


def test_what_is_only_written_about_a_model_does_not_count(tmp_path):
    trials(folder=tmp_path).changes()
    noted = onnx.ModelProto()
    noted.CopyFrom(model())
    noted.metadata_props.add(key="note", value="exported on a Monday")

    again = trials(folder=tmp_path, model=noted)
    again.changes()

    assert again.judged == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text(path.read_text()[:-20]),
        lambda path: path.write_text(""),
        lambda path: path.write_bytes(b"\xff\x00"),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), "key": "0" * 64})),
        lambda path: _change(path, lambda rows: rows[:-1]),
        lambda path: _change(path, lambda rows: [rows[0], *rows]),
        lambda path: _change(path, lambda rows: [[*row[:2], "0.5", *row[3:]] for row in rows]),
        lambda path: _change(path, lambda rows: [["depth", *row[1:]] for row in rows]),
        lambda path: _change(path, lambda rows: {"rows": rows}),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["cut", "empty", "binary", "list", "foreign-key", "fewer", "twice", "texts", "other-task", "no-list", "folder"],
)
def test_a_damaged_entry_is_judged_anew(tmp_path, damage):
    expected = values(trials(folder=tmp_path).changes())
    (entry,) = tmp_path.iterdir()

    damage(entry)
    again = trials(folder=tmp_path)

    assert values(again.changes()) == expected
    assert again.judged == 1


def _change(path: Path, change: Any) -> None:
    entry = json.loads(path.read_text())
    entry["value"]["changes"] = change(entry["value"]["changes"])
    path.write_text(json.dumps(entry))


def test_a_folder_that_is_gone_is_no_reason_to_stop(tmp_path):
    folder = tmp_path / "gone"

    tried = trials(folder=folder)

    assert values(tried.changes()) == values(trials().changes())
    assert not folder.exists()


def test_what_is_no_number_survives_the_folder(tmp_path):
    unknown = evaluation(unknown=("depth",), tasks=("segmentation", "depth"))
    unknown = EvaluationSet(three().evaluation.manifest, TASKS[::2], True, "", unknown.samples)

    first = three(folder=tmp_path, evaluation=unknown)
    expected = values(first.changes())
    second = three(folder=tmp_path, evaluation=unknown)

    assert values(second.changes()) == expected
    assert second.judged == 0
    depth = [change for change in second.changes() if change.task == "depth"]
    assert depth
    assert all(np.isnan(change.before) and np.isnan(change.loss) for change in depth)
    assert "NaN" not in next(tmp_path.iterdir()).read_text()  # it is JSON for others, too


def three(**options: Any) -> Trials:
    """With a depth head."""
    graph = network(3)
    images = [Colours("train")[place].image[None] for place in range(4)]
    data = EvaluationSet.labelled_data(manifest_of(graph, source="it"), Colours("val", count=2))
    settings: dict[str, Any] = {
        "model": graph,
        "ranges": calibrate(graph, observed(graph, "cpu"), images, run_bytes),
        "target": "cpu",
        "evaluation": data,
        "run": run_bytes,
    }
    return Trials(**{**settings, **options})


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path):
    mixes = [frozenset({name}) for name in LAYERS]
    started = 0

    def dying(content: bytes) -> Any:
        nonlocal started
        started += 1
        if started == 5:  # the float model, three trials, and no further
            raise KeyboardInterrupt
        return run_bytes(content)

    killed = trials(folder=tmp_path, run=dying)
    with pytest.raises(KeyboardInterrupt):
        [killed.changes(keep) for keep in mixes]
    assert len(list(tmp_path.iterdir())) == 3  # and nothing half written

    resumed = trials(folder=tmp_path)
    found = [values(resumed.changes(keep)) for keep in mixes]

    assert resumed.judged == len(mixes) - 3
    assert found == [values(trials().changes(keep)) for keep in mixes]


def test_a_trial_that_fails_is_not_remembered(tmp_path):
    def broken(_: bytes) -> Any:
        return lambda images: {
            name: np.full((1, 3, 11, 17), np.nan, np.float32) for name in ("segmentation", "normals")
        }

    tried = trials(folder=tmp_path, run=broken, run_reference=run_bytes)

    for _ in range(2):
        with pytest.raises(InputError):
            tried.changes()
    assert list(tmp_path.iterdir()) == []


def test_variants_are_held_against_the_reference_not_against_the_graph_that_is_quantised():
    changed = with_changed_weight()

    against_itself, against_model = trials(model=changed), trials(model=changed, reference=model())

    assert against_model.baseline().result() == trials().baseline().result()
    assert against_itself.baseline().result() != against_model.baseline().result()


def test_the_reference_may_be_run_otherwise_than_variants():
    ran = []

    def noted(content: bytes) -> Any:
        ran.append(content)
        return run_bytes(content)

    trials(run_reference=noted).changes()

    assert ran == [model().SerializeToString()]


def test_the_network_of_these_tests_knows_colours():
    scores = trials().baseline().result()

    assert scores["segmentation"]["PAcc"] > 0.8
    assert scores["normals"]["mean_angle"] < 20
    assert colour_network.picture(3).shape == (*colour_network.SIZE, 3)
