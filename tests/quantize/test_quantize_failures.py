"""What goes wrong: a sentence, an exit status, and nothing half done left behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from colour_network import layer, network, save, write_pictures

from nddr_deploy.card.card_file import card_path, page_path
from nddr_deploy.card.make import own_card
from nddr_deploy.engines.run_bytes import run_bytes
from nddr_deploy.errors import BudgetError, ConfigError, InputError, OutputError, UnsupportedError
from nddr_deploy.graph.fp16 import to_fp16
from nddr_deploy.graph.ranges import scan_ranges
from nddr_deploy.quantize.__main__ import main

BAD = layer("last", "segmentation")
IMPOSSIBLE = ("segmentation.PAcc=0", "normals=0")  # every mix moves some pixel's class, or some angle
UNLABELLED = {"data": None, "images": "colours", "split": "val"}
DATA = ("--calibration", "colours", "--data", "colours")
IMPOSSIBLE_LINE = (
    *("model.onnx", "--calibration", "colours", "--images", "colours", "--split", "val"),
    *(word for text in IMPOSSIBLE for word in ("--budget", text)),
)
TASKS = ("segmentation", "normals")
ATTEMPT = "model.int8.best-attempt"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(network(), tmp_path / "model.onnx")


@pytest.fixture
def command(
    model: Path, colours: str, quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`command("--data", "colours")` in the model's folder: exit status, standard output, standard error."""
    monkeypatch.chdir(model.parent)

    def run(*line: str) -> tuple[int, str, str]:
        status = main(line)
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def test_an_impossible_budget_leaves_the_best_attempt_and_says_so(command, tmp_path):
    status, out, told = command(*IMPOSSIBLE_LINE, "--report", "report.json")

    assert status == 1
    assert out == ""
    assert told.count("error:") == 1
    for part in (
        "model.int8.onnx was not written",
        f"The best attempt is {ATTEMPT}.onnx",
        "normals=0: 0 -> ",
        "degrees (95 %: ",
    ):
        assert part in told
    assert names(tmp_path) == sorted(
        ["model.onnx", "report.json", f"{ATTEMPT}.onnx", f"{ATTEMPT}.card.json", f"{ATTEMPT}.card.html"]
    )
    card = own_card(tmp_path / f"{ATTEMPT}.onnx")
    assert card.model.name == f"{ATTEMPT}.onnx"
    assert card.search is not None
    assert not card.search.met
    assert False in [head.met for head in card.heads if head.budget]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["file"] == f"{ATTEMPT}.onnx"
    assert report["card"]["search"]["met"] is False


def test_the_best_attempt_misses_by_less_than_plain_integers(quantise):
    with pytest.raises(BudgetError):
        quantise({"spoiled": [BAD]}, budgets=IMPOSSIBLE, **UNLABELLED)

    plain = quantise({"spoiled": [BAD]}, **UNLABELLED)
    card = own_card(plain.path.with_name(f"{ATTEMPT}.onnx"))
    loss, plain_loss = (
        next(-head.change for head in each.heads if head.metric == "PAcc") for each in (card, plain.card)
    )
    assert BAD in card.search.kept
    assert loss < plain_loss / 10


def test_files_of_the_final_name_stay_what_they_were(command, tmp_path):
    command("model.onnx", *DATA)
    final = tmp_path / "model.int8.onnx"
    before = {path: path.read_bytes() for path in (final, card_path(final), page_path(final))}

    status, _, _ = command(*IMPOSSIBLE_LINE)

    assert status == 1
    assert {path: path.read_bytes() for path in before} == before


def test_an_older_best_attempt_makes_room_for_the_new_one(quantise):
    for spoiled in ([], [BAD]):
        with pytest.raises(BudgetError) as caught:
            quantise({"spoiled": spoiled}, budgets=IMPOSSIBLE, streams="plain", max_trials=1, **UNLABELLED)
    assert f"{ATTEMPT}.onnx" in str(caught.value)


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_a_file_that_misses_what_its_trials_met_does_not_get_the_final_name(quantise, tmp_path, monkeypatch, target):
    """As FP16 might: what is judged last is the file itself."""
    from nddr_deploy.quantize import write

    original = write._graph

    def worse(made: Any) -> Any:
        graph, kept = original(made)
        for weight in graph.graph.initializer:
            if weight.name.startswith("heads.segmentation.weight"):
                values = onnx.numpy_helper.to_array(weight)
                weight.CopyFrom(onnx.numpy_helper.from_array(values[::-1].copy(), weight.name))
        return graph, kept

    monkeypatch.setattr(write, "_graph", worse)

    with pytest.raises(BudgetError, match=r"segmentation\.PAcc=-5"):
        quantise(budgets=["segmentation.PAcc=-5"], target=target, output=tmp_path / "small.onnx")

    assert names(tmp_path) == [
        "model.onnx",
        "small.best-attempt.card.html",
        "small.best-attempt.card.json",
        "small.best-attempt.onnx",
    ]
    card = own_card(tmp_path / "small.best-attempt.onnx")
    assert card.search is not None
    assert not card.search.met
    assert "the file itself, judged on all samples, misses one" in card.search.about


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("make_card", KeyboardInterrupt),
        ("render", KeyboardInterrupt),
        ("render", InputError),
        ("compare", KeyboardInterrupt),
    ],
)
def test_a_run_that_is_stopped_in_the_middle_leaves_nothing_new(quantise, tmp_path, monkeypatch, step, error):
    quantise()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def stop(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(f"nddr_deploy.quantize.write.{step}", stop)
    with pytest.raises(error):
        quantise(keep=[BAD])

    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_model_card_and_page_take_their_places_together_or_not_at_all(quantise, tmp_path, monkeypatch):
    quantise()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    replace = Path.replace

    def fail_at_the_page(self: Path, target: Any) -> Any:
        if str(target).endswith("model.int8.card.html") and "partial" in self.name:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_at_the_page)
    with pytest.raises(OutputError, match="No space left"):
        quantise(keep=[BAD])

    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


WRONG: dict[str, tuple[Sequence[str], str]] = {
    "no calibration": (("model.onnx",), "needs pictures to measure ranges on"),
    "target": (("model.onnx", *DATA, "--target", "gpu"), "target: 'gpu' is unknown"),
    "method": (("model.onnx", *DATA, "--method", "kl"), "method: 'kl' is unknown"),
    "streams": (("model.onnx", *DATA, "--streams", "none"), "streams: 'none' is unknown"),
    "percentile": (("model.onnx", *DATA, "--method", "percentile", "--percentile", "0.5"), "percentile: got 0.5"),
    "percentile of another method": (("model.onnx", *DATA, "--percentile", "99"), "not of minmax. Choose that"),
    "no pictures wanted": (("model.onnx", *DATA, "--calibration-limit", "0"), "calibration_limit: got 0"),
    "a broken picture": (("model.onnx", "--calibration", "broken.png"), "None of 1 pictures of broken.png"),
    "a broken video": (("model.onnx", "--calibration", "empty.mp4"), "empty (0 bytes)"),
    "a checkpoint": (("best.pt", *DATA), "is a checkpoint, no ONNX file"),
    "data": (("model.onnx", "--calibration", "colours", "--data", "colors"), "Did you mean 'colours'"),
    "no model": (("other.onnx", *DATA), "other.onnx"),
    "a folder as the model": ((".", *DATA), "."),
    "output is the model": (("model.onnx", *DATA, "--output", "model.onnx"), "is the float model itself"),
    "output is the model by another way": (("model.onnx", *DATA, "--output", "../HERE/model.onnx"), "float model"),
    "output is no ONNX": (("model.onnx", *DATA, "--output", "model.int8"), "should end in .onnx"),
    "output in no folder": (("model.onnx", *DATA, "--output", "nowhere/model.onnx"), "nowhere does not exist"),
    "report in no folder": (("model.onnx", *DATA, "--report", "nowhere/report.json"), "nowhere does not exist"),
    "matrix in no folder": (("model.onnx", *DATA, "--sensitivity", "nowhere/matrix"), "nowhere does not exist"),
    "no pictures": (("model.onnx", "--calibration", "nowhere/"), "nowhere"),
    "an empty name": (("model.onnx", "--calibration", ""), "An empty name stands for no pictures"),
    "an empty folder": (("model.onnx", "--calibration", "empty"), "empty"),
    "few pictures": (("model.onnx", "--calibration", "few"), "too few"),
    "budget of nobody": (("model.onnx", *DATA, "--budget", "edges=-1"), "task: 'edges' is unknown"),
    "budget of no metric": (("model.onnx", *DATA, "--budget", "normals.AbsRel=+1"), "metric of normals: 'AbsRel'"),
    "budget to the better": (("model.onnx", *DATA, "--budget", "segmentation=+1"), "higher is better"),
    "budget twice": (("model.onnx", *DATA, "--budget", "normals=+1", "--budget", "normals=+2"), "Give one"),
    "budget that the data cannot judge": (
        ("model.onnx", *DATA, "--option", 'tasks=["normals"]', "--budget", "segmentation=-1"),
        "can judge normals only",
    ),
    "labels that do not fit": (("model.onnx", *DATA, "--option", 'classes=["red", "blue"]'), "model has 3 classes"),
    "an option that there is not": (
        ("model.onnx", *DATA, "--option", "size=3"),
        "of colours: 'size' is unknown",
    ),
    "both judges": (("model.onnx", *DATA, "--images", "few"), "--data and --images both"),
    "the same pictures": (("model.onnx", "--calibration", "few", "--images", "few"), "both calibrated and judged on"),
    "no samples": (("model.onnx", *DATA, "--limit", "0"), "limit: got 0"),
    "no samples for trials": (("model.onnx", *DATA, "--search-limit", "0"), "search_limit: got 0"),
    "no trials": (("model.onnx", *DATA, "--max-trials", "0"), "max_trials: got 0"),
    "a layer that there is not": (("model.onnx", *DATA, "--keep", "conv1"), "keep: 'conv1' is unknown"),
    "every layer kept": (("model.onnx", *DATA, "--keep", "ALL"), "Nothing of this model can be quantised"),
    "a tensor's name": (
        ("model.onnx", *DATA, "--keep", "stages.1.normals.conv/Relu"),
        "mean 'stages.1.normals",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_sentence_and_leaves_nothing_behind(command, tmp_path, case):
    (tmp_path / "empty").mkdir()
    write_pictures(tmp_path / "few", 2)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "best.pt").write_bytes(b"PK\x03\x04 no model")
    line, message = WRONG[case]
    every = ",".join(layer(place, task) for place in ("stage", "fusion", "last") for task in TASKS)
    before = names(tmp_path)

    status, out, told = command(*(word.replace("HERE", tmp_path.name).replace("ALL", every) for word in line))

    assert message in told
    assert status == 2
    assert out == ""
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert len(told) < 500
    assert names(tmp_path) == before


def quantised(folder: Path) -> Path:
    from nddr_deploy.quantize.recipe import quantize_model

    return quantize_model(folder / "model.onnx", folder / "input.onnx", calibration="colours", data="colours").path


def in_fp16(folder: Path) -> Path:
    graph = network()
    images = [np.zeros((1, 21, 34, 3), np.uint8)]
    return save(to_fp16(graph, scan_ranges(graph, run_bytes, images)).model, folder / "input.onnx")


def narrow(folder: Path) -> Path:
    return save(network(width=8), folder / "input.onnx")


def foreign(folder: Path) -> Path:
    graph = network()
    del graph.metadata_props[:]
    return save(graph, folder / "input.onnx")


def damaged(folder: Path) -> Path:
    path = folder / "input.onnx"
    path.write_bytes((folder / "model.onnx").read_bytes()[:500])
    return path


def without_names(folder: Path) -> Path:
    graph = network()
    for node in graph.graph.node:
        node.name = ""
    return save(graph, folder / "input.onnx")


def newest_opset(folder: Path) -> Path:
    return save(network(opset=20), folder / "input.onnx")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (quantised, "quantised already"),
        (in_fp16, "expected a float32 graph"),
        (narrow, "below 16 integers gain no time"),
        (foreign, "manifest"),
        (damaged, "input.onnx"),
        (without_names, "names of their own"),
    ],
)
def test_a_model_that_cannot_be_quantised_is_refused_before_pictures_are_read(command, tmp_path, make, message):
    make(tmp_path)
    before = names(tmp_path)

    status, out, told = command("input.onnx", "--calibration", "nowhere")

    assert (status, out) == (2, "")
    assert message in told
    assert told.count("\n") == 1
    assert names(tmp_path) == before


def test_a_graph_that_tensorrt_8_does_not_read_is_refused(command, tmp_path):
    newest_opset(tmp_path)

    status, _, told = command("input.onnx", "--calibration", "nowhere", "--target", "tensorrt8")

    assert status == 2
    assert "opset 20" in told


def test_a_budget_that_the_labels_say_nothing_of_is_refused(quantise, tmp_path):
    with pytest.raises(ConfigError, match=r"budget 'depth=.10%'.*the AbsRel of the float model is no number"):
        quantise({"count": 3}, options={"unknown": ["depth"]}, budgets=["depth=+10%"])

    assert names(tmp_path) == ["model.onnx"]


def test_a_metric_that_the_labels_say_nothing_of_is_told_as_not_measured(quantise):
    done = quantise({"count": 3}, options={"unknown": ["depth"]})

    assert "depth.AbsRel: not measured" in done.text()
    depth = next(head for head in done.card.heads if head.task == "depth" and head.headline)
    assert (depth.before, depth.change) == (None, None)


@pytest.mark.parametrize("form", ["equalised", "split", "float"])
def test_a_form_of_streams_that_nothing_is_there_for_is_refused(quantise, tmp_path, form):
    with pytest.raises(ConfigError, match="nothing joins streams"):
        quantise({"count": 1}, streams=form)

    assert names(tmp_path) == ["model.onnx"]


def test_a_folder_that_cannot_be_written_to_is_told_before_the_work(quantise, tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr("nddr_deploy.files.os.access", lambda *_: False)

    with pytest.raises(InputError, match="cannot be written to"):
        quantise(output=tmp_path / "locked" / "model.onnx", calibration="nowhere")


def test_a_cache_that_cannot_be_written_changes_nothing(quantise, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    assert quantise().path.exists()


def test_layers_that_are_all_to_stay_in_float_are_refused_whoever_wants_it(quantise):
    others = [layer(place, task) for place in ("stage", "last") for task in ("segmentation", "normals")]

    with pytest.raises(UnsupportedError, match="every layer that can be is to stay in higher precision"):
        quantise(keep=others, streams="float")


def test_what_would_leave_nothing_to_quantise_is_not_chosen_by_itself(quantise):
    others = [layer(place, task) for place in ("stage", "last") for task in ("segmentation", "normals")]

    done = quantise(keep=others)

    assert done.form != "float"
    assert "float" not in done.forms
