"""From a float model to a quantised one with a card, end to end on small networks that are right by construction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from colour_network import TASKS, Colours, layer, network, save, write_pictures

from nddr_deploy.card.card_file import card_path, page_path, read_card
from nddr_deploy.card.make import own_card
from nddr_deploy.engines import open_engine
from nddr_deploy.evaluate.sample_scores import EvaluationSet, compare
from nddr_deploy.files import sha256
from nddr_deploy.graph.fusion_layers import fusion_layers
from nddr_deploy.graph.metadata import manifest_of, read_model
from nddr_deploy.graph.quantize_lint import lint
from nddr_deploy.quantize.recipe import ENDINGS, quantize_model

BAD = layer("last", "segmentation")
TARGETS = ("cpu", "tensorrt", "tensorrt8")
BUDGETS = ("segmentation.PAcc=-3", "normals=+2")  # points and degrees: plain integers lose about 1.2 and 0.5


def backend(target: str) -> str:
    return "onnxruntime" if target == "cpu" else "onnxruntime-as-written"


def float_nodes(card: Any) -> dict[str, str]:
    """Node -> reason, of what stayed in float."""
    return {each.node: each.reason for each in card.layers if each.precision != "int8"}


@pytest.mark.parametrize("target", TARGETS)
def test_a_model_its_card_and_its_page_come_out_for_every_target(quantise, tmp_path, target):
    done = quantise(target=target, budgets=BUDGETS)

    assert done.path == tmp_path / f"model{ENDINGS[target]}"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["model.onnx", done.path.name, card_path(done.path).name, page_path(done.path).name]
    )
    assert own_card(done.path) == done.card  # it is that of the file as it lies there
    assert [finding for finding in lint(read_model(done.path), target) if finding.level == "error"] == []
    assert done.card.model.target == target
    assert done.card.model.name == done.path.name
    assert {link.role: (link.file, link.sha256) for link in done.card.chain} == {
        "onnx": ("model.onnx", sha256(tmp_path / "model.onnx"))
    }
    assert "<img" in page_path(done.path).read_text()


@pytest.mark.parametrize("target", TARGETS)
def test_the_card_says_what_the_file_itself_does_on_the_samples(quantise, target):
    done = quantise(target=target, options={"count": 5})

    with open_engine(done.path, backend(target)) as engine, open_engine(done.source, "onnxruntime") as reference:
        data = EvaluationSet.labelled_data(engine.manifest, Colours("val", count=5))
        expected = compare(data.score(reference.infer), data.score(engine.infer), data.tasks, resamples=50)
    found = {(head.task, head.metric): (head.before, head.after, head.low, head.high) for head in done.card.heads}
    assert found == {(each.task, each.metric): (each.before, each.after, each.low, each.high) for each in expected}
    assert done.card.evaluation.samples == 5
    assert done.card.evaluation.dataset.name == "colours"


@pytest.mark.parametrize("target", TARGETS)
def test_integers_are_near_the_float_model_on_every_target(quantise, target):
    done = quantise(target=target)

    heads = {head.metric: head.change for head in done.card.heads if head.headline or head.metric == "PAcc"}
    assert abs(heads["PAcc"]) < 0.03
    assert abs(heads["mean_angle"]) < 1.0  # degree
    (parity,) = done.card.parity
    assert parity.hop == "fp32 to int8"


@pytest.mark.parametrize("target", TARGETS)
def test_exactly_the_layer_that_integers_ruin_stays_in_float(quantise, target):
    done = quantise({"spoiled": [BAD]}, target=target, budgets=BUDGETS)

    assert done.card.search.kept == (BAD,)
    assert done.card.search.met
    reasons = float_nodes(done.card)
    assert reasons[BAD] == "the budgets need it"
    others = {name for name in reasons if name != BAD}
    assert others == {
        f"{part}.{task.name}{end}"
        for task in TASKS[:2]
        for part, end in (("stages.0", ".conv/Conv"), ("heads", "/Conv"))
    }
    assert all(head.met for head in done.card.heads if head.budget)
    kinds = {each.precision for each in done.card.layers if each.node == BAD}
    assert kinds == {"fp16" if target == "tensorrt" else "fp32"}


def test_without_the_search_that_layer_would_miss_the_budget(quantise):
    done = quantise({"spoiled": [BAD]})

    accuracy = next(head for head in done.card.heads if head.metric == "PAcc")
    assert accuracy.change < -0.1
    assert done.card.search.kept == ()


def test_a_budget_of_one_task_leaves_the_other_tasks_layers_in_integers(quantise):
    bad = [layer("last", "segmentation"), layer("last", "normals")]

    done = quantise({"spoiled": bad}, budgets=["normals=+2"])

    assert done.card.search.kept == (bad[1],)


def test_without_labels_the_float_models_results_are_the_truth(quantise, tmp_path):
    done = quantise(
        {"spoiled": [BAD]},
        calibration=str(write_pictures(tmp_path / "pictures", 12)),
        data=None,
        budgets=["segmentation.PAcc=-3"],
    )

    assert done.card.search.kept == (BAD,)
    assert not done.card.evaluation.labelled
    assert done.card.evaluation.samples == 3
    accuracy = next(head for head in done.card.heads if head.metric == "PAcc")
    assert accuracy.before == 1
    assert done.card.calibration.images == 9


@pytest.mark.parametrize("target", TARGETS)
def test_three_tasks_of_which_the_data_has_two(quantise, target):
    done = quantise({"count": 3}, target=target, options={"tasks": ["segmentation", "depth"]}, budgets=["depth=+5%"])

    assert {head.task for head in done.card.heads} == {"segmentation", "depth"}
    assert done.card.model.tasks == ("segmentation", "normals", "depth")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("streams", ["plain", "equalised", "split"])
def test_every_form_of_the_streams_for_every_target(quantise, target, streams):
    done = quantise({"count": 3, "scales": (1.0, 20.0, 5.0)}, target=target, streams=streams)

    graph = read_model(done.path)
    assert [finding for finding in lint(graph, target) if finding.level == "error"] == []
    assert done.form == streams
    assert bool(fusion_layers(graph)) == (streams != "split")
    assert [each.applied for each in done.card.equalisation] == ([True] if streams == "equalised" else [])
    with open_engine(done.path, backend(target)) as engine:
        outputs = engine.infer(Colours("val")[0].image[None])
    assert all(np.isfinite(value).all() for value in outputs.values())


@pytest.mark.parametrize("target", TARGETS)
def test_nddr_layers_may_stay_in_higher_precision(quantise, target):
    done = quantise(target=target, streams="float", budgets=BUDGETS)

    joining = {layer("fusion", task.name) for task in TASKS[:2]}
    reasons = float_nodes(done.card)
    assert {node for node, reason in reasons.items() if "it joins streams" in reason} == joining
    assert done.card.search.met
    assert all(head.met for head in done.card.heads if head.budget)
    assert {each.precision for each in done.card.layers if each.node in joining} == {
        "fp16" if target == "tensorrt" else "fp32"
    }


def test_nddr_layers_stay_in_float_by_themselves_where_integers_ruin_them(quantise):
    done = quantise({"spoiled": [layer("fusion", "segmentation"), layer("fusion", "normals")]})

    assert done.form == "float"
    assert all(abs(head.change) < 0.03 for head in done.card.heads if head.metric == "PAcc")


def test_streams_of_different_range_are_not_left_as_they_are(quantise):
    done = quantise({"scales": (1.0, 100.0)})

    assert done.form == "equalised"
    assert done.forms["equalised"] < done.forms["plain"] / 2
    plain = quantise({"scales": (1.0, 100.0)}, streams="plain")
    accuracy = [next(head.change for head in each.card.heads if head.metric == "PAcc") for each in (done, plain)]
    assert accuracy[0] > accuracy[1] + 0.05


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("options", [{"batch": 2}, {"dynamic": ["batch", "size"]}])
def test_models_of_other_batches_and_sizes(quantise, target, options):
    done = quantise({**options, "spoiled": [BAD]}, target=target, budgets=BUDGETS)

    assert done.card.search.kept == (BAD,)
    with open_engine(done.path, backend(target)) as engine:
        count = options.get("batch", 3)
        images = np.stack([Colours("val")[place].image for place in range(count)])
        assert len(engine.infer(images)["segmentation"]) == count


@pytest.mark.parametrize("target", TARGETS)
def test_models_that_return_decoded_results(tmp_path, colours, quick, target):
    done = quantize_model(
        decoded(tmp_path / "decoded.onnx"), calibration=colours, data=colours, target=target, budgets=BUDGETS
    )

    assert done.card.model.outputs == "decoded"
    assert done.card.search.kept == (BAD,)
    with open_engine(done.path, backend(target)) as engine:
        outputs = engine.infer(Colours("val")[0].image[None])
    assert outputs["segmentation"].dtype == np.uint8
    assert outputs["normals"].dtype == np.float32


def decoded(path: Path) -> Path:
    pytest.importorskip("onnx_graphsurgeon")
    from nddr_deploy.graph.decode_graph import append_decoders

    return save(append_decoders(network(spoiled=[BAD])), path)


def test_layers_that_are_named_stay_in_float(quantise):
    named = [layer("stage", "normals"), layer("fusion", "normals")]

    done = quantise(keep=named)

    reasons = float_nodes(done.card)
    assert {reasons[name] for name in named} == {"it was asked to stay in float"}
    assert done.card.search.kept == ()


def test_layers_that_are_named_and_those_that_budgets_need_are_told_apart(quantise):
    named = layer("last", "normals")

    done = quantise({"spoiled": [BAD]}, keep=[named], budgets=BUDGETS)

    reasons = float_nodes(done.card)
    assert (reasons[BAD], reasons[named]) == ("the budgets need it", "it was asked to stay in float")


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_the_card_says_how_ranges_were_chosen(quantise, method):
    options = {"percentile": 99.5} if method == "percentile" else {}

    done = quantise(method=method, calibration_options={"count": 6}, **options)

    assert done.card.calibration.method == method
    assert done.card.calibration.images == 6
    assert done.card.calibration.parameters == options


def test_seven_bit_weights_are_there_for_processors_that_need_them(quantise):
    done = quantise(reduce_range=True)

    weights = [
        onnx.numpy_helper.to_array(each)
        for each in read_model(done.path).graph.initializer
        if each.name.endswith("weight/quantised")
    ]
    assert max(np.abs(each.astype(int)).max() for each in weights) == 64


def test_a_second_run_measures_nothing_again(quantise, own_cache, monkeypatch):
    first = quantise({"spoiled": [BAD]}, budgets=BUDGETS)
    entries = sorted(own_cache.rglob("*.json"))

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr("nddr_deploy.quantize.trials.Trials._score", refuse)
    monkeypatch.setattr("nddr_deploy.quantize.cache.calibrate", refuse)
    second = quantise({"spoiled": [BAD]}, budgets=BUDGETS)

    assert entries
    assert sorted(own_cache.rglob("*.json")) == entries
    assert second.path.read_bytes() == first.path.read_bytes()
    assert second.card.heads == first.card.heads
    assert second.card.search == first.card.search


def test_a_cache_that_is_not_wanted_is_neither_read_nor_written(quantise, own_cache):
    quantise(cache=False)

    assert list(own_cache.rglob("*.json")) == []


def test_twice_the_same_gives_the_same_file(quantise):
    first = quantise(budgets=BUDGETS, cache=False).path.read_bytes()

    assert quantise(budgets=BUDGETS, cache=False).path.read_bytes() == first


def test_the_matrix_of_layers_and_tasks_is_written_where_it_is_asked_for(quantise, tmp_path):
    done = quantise(sensitivity=tmp_path / "matrix", search_limit=2)

    rows = (tmp_path / "matrix.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:-1]] == list(done.sensitivity.layers)
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")
    assert done.sensitivity.samples == 2


def test_the_outcome_is_there_as_json(quantise, tmp_path):
    done = quantise(budgets=BUDGETS, report=tmp_path / "report.json")

    told = json.loads((tmp_path / "report.json").read_text())
    assert told == json.loads(json.dumps(done.to_dict()))
    assert told["file"] == "model.int8.onnx"
    assert told["card"]["search"]["met"] is True
    assert told["streams"]["chosen"] == done.form


def test_where_the_files_go_may_be_said(quantise, tmp_path):
    (tmp_path / "out").mkdir()

    done = quantise(output=tmp_path / "out" / "small.onnx")

    assert done.path == tmp_path / "out" / "small.onnx"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "small.card.html",
        "small.card.json",
        "small.onnx",
    ]


def test_the_manifest_tells_what_the_file_was_made_from(quantise):
    done = quantise()

    manifest = manifest_of(read_model(done.path), source="it")
    assert manifest.hashes["onnx"] == sha256(done.source)
    assert any("quantised for CPUs: 6 layers in int8" in note for note in manifest.notes)


def test_the_card_says_how_fast_it_is_beside_the_float_model(tmp_path, colours, monkeypatch):
    from functools import partial

    from nddr_deploy.card.latency import time_engines

    monkeypatch.setattr("nddr_deploy.quantize.write.time_engines", partial(time_engines, rounds=1, seconds=0.01))

    done = quantize_model(save(network(), tmp_path / "model.onnx"), calibration=colours, data=colours)

    cases = [(case.label, case.file) for case in done.card.latency.cases]
    assert cases[:2] == [("FP32, onnxruntime", "model.onnx"), ("INT8, onnxruntime", "model.int8.onnx")]
    assert "speed    FP32, onnxruntime: " in done.text()
    assert " times as fast (" in done.text()
    intervals = [(head.low, head.change, head.high) for head in done.card.heads if head.headline]
    assert all(low < change < high for low, change, high in intervals)


def test_a_task_that_the_data_cannot_judge_is_named(quantise):
    done = quantise(options={"tasks": ["normals"]})

    assert done.card.unjudged == ("segmentation",)
    assert "         segmentation: not judged" in done.text()


def test_a_card_of_a_quantised_model_can_be_read_again(quantise):
    done = quantise({"spoiled": [BAD]}, budgets=BUDGETS)

    assert read_card(card_path(done.path)) == done.card
    assert BAD in page_path(done.path).read_text()


@pytest.mark.parametrize("target", TARGETS)
def test_trials_for_tensorrt_run_as_they_are_written(quantise, target, monkeypatch):
    """Optimised, ONNX Runtime would quantise layers that are to stay in float."""
    from nddr_deploy.engines.run_bytes import run_bytes

    ways: dict[bool, set[bool]] = {True: set(), False: set()}  # whether integers are in the graph -> as written

    def noted(content: bytes, **options: Any) -> Any:
        graph = onnx.load_from_string(content)
        quantised = any(node.op_type == "QuantizeLinear" for node in graph.graph.node)
        ways[quantised].add(options.get("as_written", False))
        return run_bytes(content, **options)

    monkeypatch.setattr("nddr_deploy.quantize.recipe.run_bytes", noted)
    done = quantise(target=target, budgets=BUDGETS, data=None, images="colours", split="val")

    assert ways == {True: {target != "cpu"}, False: {False}}
    assert {head.before for head in done.card.heads if head.metric == "mean_angle"} == {0.0}


@pytest.mark.parametrize("target", TARGETS)
def test_verifying_a_quantised_model_finds_what_its_card_says(quantise, target):
    from nddr_deploy.card.verify import verify

    done = quantise(target=target, options={"count": 3}, budgets=BUDGETS)

    found = verify(done.path, latency=False)

    assert not found.changed, found.text()
