"""`build_engine` on a simulated GPU: both files only when every check passed, and everything asked for in the plan.

A test also fails where something was not freed on the GPU, or was done that CUDA or TensorRT forbid: see `simulate`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import build_subjects as subjects
import numpy as np
import onnx
import pytest
from build_subjects import graph_of, pair, write
from simulated.simulate import VERSIONS, simulate
from simulated.trt_engine import Engine
from simulated.trt_network import Network

from nddr_deploy.build.recipe import build_engine, write_graph
from nddr_deploy.engines import open_engine
from nddr_deploy.errors import ConfigError, ModelFileError, NddrError, OutputError, ParityError, UnsupportedError
from nddr_deploy.files import sha256
from nddr_deploy.graph.metadata import manifest_of, write_manifest

every_version = pytest.mark.parametrize("version", VERSIONS)


@every_version
def test_the_plan_is_what_the_builder_returned_and_the_manifest_tells_the_rest(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write(tmp_path, dynamic=("batch",))
    model = onnx.load(made.path)
    write_manifest(model, made.manifest.model_copy(update={"hashes": {"checkpoint": "c" * 64}}))
    onnx.save(model, made.path)
    plans = subjects.built_plans(monkeypatch)

    with simulate(version) as machine:
        report = build_engine(made.path, precision="fp16", batch=(1, 2, 4), timing_cache=None)
        assert machine.world.contexts == 0

    assert set(pair(report.path)) == {"model.onnx", "model.trt", "model.trt.json"}
    assert report.path == tmp_path / "model.trt"
    assert plans == [report.path.read_bytes()]
    about = json.loads((tmp_path / "model.trt.json").read_text())
    assert about["plan"] == hashlib.sha256(plans[0]).hexdigest()
    assert about["model"]["hashes"] == {"checkpoint": "c" * 64, "onnx": sha256(made.path)}
    assert about["tensorrt"].startswith(version)
    assert (about["gpu"], about["compute_capability"]) == ("NVIDIA Simulated", "8.6")
    assert (about["precision"], about["realised"]["counts"]) == ("fp16", {"fp16": 3})
    assert about["profile"] == {"min": [1, 16, 24, 3], "opt": [2, 16, 24, 3], "max": [4, 16, 24, 3]}
    assert about["model"]["outputs"] == "decoded"
    assert [head["task"] for head in about["parity"]["heads"]] == ["segmentation", "normals", "age"]
    assert about["parity"]["passed"]


@every_version
def test_every_head_is_compared_and_the_outcome_printed_and_stored(tmp_path: Path, version: str) -> None:
    made = write(tmp_path, size_hw=(32, 48))

    with simulate(version):
        report = build_engine(made.path, timing_cache=None, report=tmp_path / "report.json")

    text = report.text()
    for head in ("segmentation", "normals", "age"):
        assert any(line.split()[0] == head and "equal" in line for line in text.splitlines() if line.split()), head
    assert "mIoU" in text
    assert "mean_angle" in text
    assert "MAE" in text
    about, told = (
        json.loads((tmp_path / "model.trt.json").read_text()),
        json.loads((tmp_path / "report.json").read_text()),
    )
    assert about["parity"] == told["parity"] == json.loads(json.dumps(report.parity.to_dict()))
    assert set(about["parity"]["heads"][1]["metrics"]) >= {"mean_angle", "within_11.25"}


@every_version
@pytest.mark.parametrize("outputs", ["raw", "decoded"])
def test_heads_that_are_swapped_are_caught_and_both_are_named(
    tmp_path: Path, version: str, outputs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write(tmp_path)
    if outputs == "decoded":  # their shapes and types differ once decoded, so swap what they are decoded of

        def swapped(graph: onnx.GraphProto) -> None:
            for node in graph.node:
                for place, name in enumerate(node.input):
                    if name.endswith(".weight") and not name.startswith("age"):
                        node.input[place] = {"s": "normals.weight", "n": "segmentation.weight"}[name[0]]

        fill = Network.fill

        def wrong(self: Network, model: onnx.ModelProto, types: dict[str, int]) -> None:
            swapped(model.graph)
            fill(self, model, types)

        monkeypatch.setattr(Network, "fill", wrong)
    else:
        subjects.swap_heads(monkeypatch)

    with simulate(version), pytest.raises(ParityError, match=r"segmentation.*normals") as caught:
        build_engine(made.path, outputs=outputs, timing_cache=None, report=tmp_path / "report.json")

    assert "age: " not in str(caught.value)
    assert caught.value.exit_status == 1
    assert set(pair(tmp_path / "model.trt")) == {"model.onnx", "report.json"}
    told = json.loads((tmp_path / "report.json").read_text())
    assert [head["passed"] for head in told["parity"]["heads"]] == [False, False, True]


@pytest.mark.parametrize("wrong_batch", [1, 2, 4])
def test_the_ends_of_the_profile_are_compared_too(
    tmp_path: Path, wrong_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, run = write(tmp_path, dynamic=("batch",)), Engine.run

    def wrong(self: Engine, inputs: dict[str, Any]) -> dict[str, Any]:
        found = run(self, inputs)
        return {**found, "age": found["age"] + 1} if len(inputs["images"]) == wrong_batch else found

    monkeypatch.setattr(Engine, "run", wrong)

    with simulate("10.13"), pytest.raises(ParityError, match="age"):
        build_engine(made.path, batch=(1, 2, 4), timing_cache=None)


FAILURES: dict[str, tuple[Callable[[pytest.MonkeyPatch], Any], type[BaseException], str]] = {
    "no plan": (subjects.no_plan, UnsupportedError, "Could not find any implementation for node age.conv"),
    "parser": (subjects.refuse_pooling, ModelFileError, "GlobalAveragePool node 'age.globalaveragepool'"),
    "ctrl-c": (subjects.press_ctrl_c, KeyboardInterrupt, "^$"),
    "ctrl-c while comparing": (subjects.press_ctrl_c_while_comparing, KeyboardInterrupt, "^$"),
    "parity": (subjects.swap_heads, ParityError, "does not agree with ONNX Runtime"),
}


@every_version
@pytest.mark.parametrize("failure", FAILURES)
def test_a_build_that_fails_leaves_an_older_pair_as_it_was(
    tmp_path: Path, version: str, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write(tmp_path)
    with simulate(version):
        old = build_engine(made.path, precision="fp32", outputs="raw", timing_cache=None).path
    before = pair(old)
    fail, error, words = FAILURES[failure]
    fail(monkeypatch)

    with simulate(version) as machine:
        with pytest.raises(error, match=words):
            build_engine(made.path, outputs="raw", timing_cache=None)
        assert machine.world.contexts == 0

    assert pair(old) == before
    monkeypatch.undo()
    with simulate(version), open_engine(old) as engine:
        assert engine.precision == "fp32"


@every_version
def test_ctrl_c_ends_a_build_at_its_next_step(tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, steps = write(tmp_path), subjects.press_ctrl_c(monkeypatch)

    with simulate(version), pytest.raises(KeyboardInterrupt):
        build_engine(made.path, timing_cache=None)

    assert len(steps) < 200  # of a thousand, 10 ms each: within two seconds


DISK: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "no room for the plan": lambda patch: subjects.fill_the_disk(patch, ".trt"),
    "no room for the manifest": lambda patch: subjects.fill_the_disk(patch, ".json"),
    "the plan cannot take its place": lambda patch: subjects.break_the_disk_at_the_end(patch, ".trt"),
    "the manifest cannot take its place": lambda patch: subjects.break_the_disk_at_the_end(patch, ".json"),
}


@pytest.mark.parametrize("failure", DISK)
def test_a_disk_that_fails_is_a_sentence_and_leaves_an_older_pair_as_it_was(
    tmp_path: Path, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write(tmp_path)
    with simulate():
        old = build_engine(made.path, precision="fp32", timing_cache=None).path
    before = pair(old)
    DISK[failure](monkeypatch)

    with simulate():
        try:
            build_engine(made.path, timing_cache=None)
        except (NddrError, OSError) as error:
            found: Exception = error
        else:
            pytest.fail("nothing was said")

    assert pair(old) == before
    assert isinstance(found, OutputError)


@pytest.mark.parametrize("option", ["output", "report"])
def test_a_folder_that_is_not_there_is_found_before_minutes_are_spent(tmp_path: Path, option: str) -> None:
    made = write(tmp_path)
    target = tmp_path / "none" / ("model.trt" if option == "output" else "report.json")

    with simulate() as machine:
        with pytest.raises(NddrError, match="none does not exist"):
            build_engine(made.path, timing_cache=None, **{option: target})  # type: ignore[arg-type]
        assert machine.world.builds == []


@pytest.mark.parametrize(
    "option",
    [
        "report",
        "timing_cache",
    ],
)
def test_nothing_is_written_over_the_model(tmp_path: Path, option: str) -> None:
    made = write(tmp_path)
    before = made.path.read_bytes()

    with simulate(), pytest.raises(NddrError, match=r"model\.onnx"):
        build_engine(made.path, **{"timing_cache": None, option: made.path})

    assert made.path.read_bytes() == before


@pytest.mark.parametrize("name", ["model.trt", "model.trt.json"])
def test_a_report_that_would_be_lost_is_refused(tmp_path: Path, name: str) -> None:
    with simulate(), pytest.raises(NddrError, match="report"):
        build_engine(write(tmp_path).path, timing_cache=None, report=tmp_path / name)


@every_version
def test_a_build_in_a_process_that_built_before_tells_nothing_of_the_earlier_one(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write(tmp_path)
    with simulate(version):
        with monkeypatch.context() as patch:
            subjects.refuse_pooling(patch)
            with pytest.raises(ModelFileError):
                build_engine(made.path, timing_cache=None)
        with monkeypatch.context() as patch:
            subjects.no_plan(patch)
            with pytest.raises(UnsupportedError) as caught:
                build_engine(made.path, timing_cache=None)

    assert "GlobalAveragePool" not in str(caught.value)


@every_version
def test_the_users_own_pictures_are_compared_on(tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    made, run, seen = write(tmp_path), Engine.run, []

    def spied(self: Engine, inputs: dict[str, Any]) -> dict[str, Any]:
        seen.extend(int(image.mean()) for image in inputs["images"])
        return run(self, inputs)

    monkeypatch.setattr(Engine, "run", spied)
    (tmp_path / "photos").mkdir()
    for grey in (40, 90, 200):
        cv2.imwrite(str(tmp_path / "photos" / f"{grey}.png"), np.full((16, 24, 3), grey, np.uint8))

    with simulate(version):
        report = build_engine(made.path, images=str(tmp_path / "photos"), timing_cache=None)

    assert {40, 90, 200} <= set(seen)
    assert str(tmp_path / "photos") in report.text()


def test_an_older_manifest_never_stands_beside_a_newer_plan(tmp_path: Path) -> None:
    """A second build replaces both."""
    made = write(tmp_path)

    with simulate():
        first = build_engine(made.path, precision="fp32", timing_cache=None)
        second = build_engine(made.path, precision="fp16", timing_cache=None)
        with open_engine(second.path) as engine:
            assert engine.precision == "fp16"

    assert first.path == second.path
    assert manifest_of(graph_of(second.path), source="").outputs == "decoded"


@pytest.mark.parametrize("name", ["a\nb.onnx", "a\x1b[2J.onnx"])
def test_a_name_that_no_manifest_holds_is_refused_before_minutes_are_spent(tmp_path: Path, name: str) -> None:
    made = write(tmp_path)
    made.path.rename(tmp_path / name)

    with simulate() as machine:
        with pytest.raises(ConfigError, match=r"onnx: 'a\\.* cannot be kept in the manifest .*Rename it"):
            build_engine(tmp_path / name, tmp_path / "model.trt", timing_cache=None)
        assert machine.world.builds == []


def test_a_quantised_file_whose_types_are_written_down_is_built_and_held_to_what_it_says(tmp_path: Path) -> None:
    made = write(tmp_path / "source", subjects.quantise)
    write_graph(made.path, tmp_path / "model.onnx", precision="int8", outputs="raw")

    with simulate("10.13"):
        report = build_engine(tmp_path / "model.onnx", precision="int8", timing_cache=None)

    assert report.realised.to_dict("int8")["counts"] == {"int8": 3}
    assert report.parity.passed  # ONNX Runtime, optimising, would refuse the file
