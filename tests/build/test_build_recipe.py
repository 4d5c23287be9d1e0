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
from build_subjects import CONVOLUTIONS, pair, write
from onnx import TensorProto
from simulated import trt_builder
from simulated.plan import read
from simulated.simulate import VERSIONS, simulate
from simulated.trt_builder import Builder
from simulated.trt_config import BuilderConfig
from simulated.trt_engine import Engine
from simulated.trt_network import Network

from nddr_deploy.build.recipe import build_engine
from nddr_deploy.engines import open_engine
from nddr_deploy.errors import ConfigError, ModelFileError, NddrError, OutputError, ParityError, UnsupportedError
from nddr_deploy.files import sha256
from nddr_deploy.graph.metadata import manifest_of, write_manifest

every_version = pytest.mark.parametrize("version", VERSIONS)


def graph_of(plan: Path) -> onnx.ModelProto:
    """What the simulated TensorRT was given."""
    found = read(plan.read_bytes())
    assert found is not None
    return onnx.load_model_from_string(found[1])


def networks(patch: pytest.MonkeyPatch) -> list[Network]:
    """Those that are made from now on."""
    made: list[Network] = []
    create = Builder.create_network

    def spied(self: Builder, flags: int = 0) -> Network:
        made.append(create(self, flags))
        return made[-1]

    patch.setattr(Builder, "create_network", spied)
    return made


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


@every_version
def test_fp32_is_fp32_without_tf32(tmp_path: Path, version: str) -> None:
    with simulate(version) as machine:
        report = build_engine(write(tmp_path).path, precision="fp32", timing_cache=None)
        (build,) = machine.world.builds

    assert build.flags == frozenset()
    assert build.strongly_typed is (not version.startswith("8"))
    assert report.about.realised["counts"] == {"fp32": 3}
    kinds = {weight.data_type for weight in graph_of(report.path).graph.initializer}
    assert TensorProto.FLOAT16 not in kinds


@pytest.mark.parametrize(
    ("version", "precision"),
    [*((version, "fp16") for version in VERSIONS), ("8.6", "int8")],  # int8 of the others: the next test
)
def test_a_narrower_precision_is_in_the_graph_or_in_flags_as_the_version_wants_it(
    tmp_path: Path, version: str, precision: str
) -> None:
    made = write(tmp_path, subjects.quantise if precision == "int8" else lambda graph: None)

    with simulate(version) as machine:
        report = build_engine(made.path, precision=precision, timing_cache=None)
        (build,) = machine.world.builds

    weights = {weight.name: weight.data_type for weight in graph_of(report.path).graph.initializer}
    convolved = {kind for name, kind in weights.items() if name.split(".")[0] in ("segmentation", "normals")}
    narrow = build.flags & trt_builder.NARROW
    if version.startswith("8"):
        assert narrow == ({"FP16"} if precision == "fp16" else {"FP16", "INT8"})
        assert not build.strongly_typed
        assert TensorProto.FLOAT16 not in convolved
    else:
        assert narrow == set()
        assert build.strongly_typed
        assert TensorProto.FLOAT16 in convolved
    assert report.about.realised["counts"] == {precision: 3}
    assert report.about.realised["asked"] == precision


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_int8_is_strongly_typed_with_scales_in_half_precision(tmp_path: Path, version: str) -> None:
    made = write(tmp_path, subjects.quantise)
    model = onnx.load(made.path)
    model.opset_import[0].version = 19
    onnx.save(model, made.path)

    with simulate(version) as machine:
        report = build_engine(made.path, precision="int8", timing_cache=None)
        (build,) = machine.world.builds

    assert (build.strongly_typed, build.flags & trt_builder.NARROW) == (True, set())
    assert report.about.realised["counts"] == {"int8": 3}
    scales = [weight.data_type for weight in graph_of(report.path).graph.initializer if ".scale" in weight.name]
    assert scales
    assert set(scales) == {TensorProto.FLOAT16}


@every_version
def test_a_graph_that_is_not_quantised_is_not_built_as_int8(tmp_path: Path, version: str) -> None:
    with simulate(version) as machine:
        with pytest.raises(ModelFileError, match="QuantizeLinear"):
            build_engine(write(tmp_path).path, precision="int8", timing_cache=None)
        assert machine.world.builds == []

    assert set(pair(tmp_path / "model.trt")) == {"model.onnx"}


@pytest.mark.parametrize(("precision", "capability"), [("fp16", (5, 2)), ("fp16", (6, 1)), ("int8", (6, 0))])
def test_a_gpu_that_is_slow_at_a_precision_is_not_built_for_with_flags(
    tmp_path: Path, precision: str, capability: tuple[int, int]
) -> None:
    made = write(tmp_path, subjects.quantise if precision == "int8" else lambda graph: None)

    with simulate("8.6", compute_capability=capability) as machine:
        with pytest.raises(UnsupportedError, match=f"no fast {precision} arithmetic"):
            build_engine(made.path, precision=precision, timing_cache=None)
        assert machine.world.builds == []


@every_version
def test_a_node_that_the_user_keeps_is_in_fp32(tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, found = write(tmp_path), networks(monkeypatch)

    with simulate(version) as machine:
        report = build_engine(made.path, keep=["normals.conv"], timing_cache=None)
        (build,) = machine.world.builds

    assert report.about.realised["counts"] == {"fp16": 2, "fp32": 1}
    if version.startswith("8"):
        layers = {layer.name: layer for layer in found[0].layers}
        assert layers["normals.conv"].precision == "FLOAT"
        assert layers["normals.conv"].output_types == {0: "FLOAT"}
        assert not layers["age.conv"].precision_is_set
        assert "OBEY_PRECISION_CONSTRAINTS" in build.flags


@pytest.mark.parametrize(
    "version",
    [
        "8.6",
        *VERSIONS[1:],
    ],
)
def test_a_node_that_the_user_keeps_is_named_in_text_and_manifest(tmp_path: Path, version: str) -> None:
    with simulate(version):
        report = build_engine(write(tmp_path).path, keep=["normals.conv"], timing_cache=None)

    about = json.loads((tmp_path / "model.trt.json").read_text())
    assert any("normals.conv" in line for line in about["kept_fp32"])
    assert any("normals.conv" in line for line in report.text().splitlines() if "fp32" in line)


@every_version
def test_a_node_beyond_half_precision_is_kept_in_fp32_and_named_with_the_reason(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, found = write(tmp_path, subjects.large), networks(monkeypatch)

    with simulate(version):
        report = build_engine(made.path, outputs="raw", timing_cache=None)

    (named, *_) = [line for line in report.about.kept_fp32 if line.startswith("age.conv")]
    assert named in report.text()
    assert len(named) > len("age.conv: ")
    assert report.about.realised["counts"] == {"fp16": 2, "fp32": 1}
    if version.startswith("8"):
        assert {layer.name: layer for layer in found[0].layers}["age.conv"].precision == "FLOAT"


@every_version
def test_every_option_reaches_the_builder(tmp_path: Path, version: str) -> None:
    made = write(tmp_path)

    with simulate(version) as machine:
        build_engine(
            made.path,
            workspace_gib=1.5,
            opt_level=4,
            aux_streams=0,
            version_compatible=True,
            hardware_compatible=True,
            timing_cache=None,
        )
        (build,) = machine.world.builds

    config = build.config
    assert config.pools == {"WORKSPACE": 3 << 29}
    assert (config.builder_optimization_level, config.max_aux_streams) == (4, 0)
    assert "VERSION_COMPATIBLE" in build.flags
    assert config.hardware_compatibility_level.name == "AMPERE_PLUS"
    assert config.profiling_verbosity.name == "DETAILED"
    about = json.loads((tmp_path / "model.trt.json").read_text())
    assert about["options"] == {
        "workspace": 1.5,
        "opt-level": 4,
        "aux-streams": 0,
        "version-compatible": True,
        "hardware-compatible": True,
    }


@every_version
def test_what_is_not_asked_for_is_left_to_tensorrt(tmp_path: Path, version: str) -> None:
    made = write(tmp_path)

    with simulate(version) as machine:
        build_engine(made.path, timing_cache=None)
        (build,) = machine.world.builds

    config = build.config
    assert config.pools == {}
    assert (config.builder_optimization_level, config.max_aux_streams) == (3, -1)
    assert "VERSION_COMPATIBLE" not in build.flags
    assert str(config.hardware_compatibility_level) == "NONE"
    assert build.profiles == []  # one shape only


@every_version
def test_an_open_extent_gets_a_profile(tmp_path: Path, version: str) -> None:
    made = write(tmp_path, dynamic=("batch", "size"))

    with simulate(version) as machine:
        report = build_engine(
            made.path, batch=(1, 2, 3), size=[(16, 24), (32, 24), (32, 48)], timing_cache=None, precision="fp32"
        )
        (build,) = machine.world.builds
        with open_engine(report.path) as engine:
            shapes = {n: engine.infer(np.zeros((n, 32, 24, 3), np.uint8))["segmentation"].shape for n in (1, 3)}

    assert build.profiles == [{"images": [(1, 16, 24, 3), (2, 32, 24, 3), (3, 32, 48, 3)]}]
    assert shapes == {1: (1, 32, 24), 3: (3, 32, 24)}


@every_version
def test_a_profile_that_tensorrt_refuses_is_told_with_its_three_shapes(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: BuilderConfig, profile: Any) -> int:
        self._world.say_error(self._logger, "opt lies outside of min and max")
        return -1

    made = write(tmp_path, dynamic=("batch",))
    monkeypatch.setattr(BuilderConfig, "add_optimization_profile", refuse)

    with simulate(version), pytest.raises(ConfigError) as caught:
        build_engine(made.path, batch=(1, 2, 4), timing_cache=None)

    for words in ("min (1, 16, 24, 3)", "opt (2, 16, 24, 3)", "max (4, 16, 24, 3)", "opt lies outside of min and max"):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "offending"),
    [({"batch": (4, 2, 8)}, (2, 16, 24, 3)), ({"size": [(32, 48), (48, 48), (40, 48)]}, (1, 40, 48, 3))],
)
def test_a_profile_in_the_wrong_order_names_all_three_shapes_before_anything_is_built(
    tmp_path: Path, asked: dict[str, Any], offending: tuple[int, ...]
) -> None:
    made = write(tmp_path, dynamic=("batch", "size"))

    with simulate() as machine:
        with pytest.raises(ConfigError) as caught:
            build_engine(made.path, **asked, timing_cache=None)
        assert machine.world.builds == []

    for words in ("min (", "opt (", "max (", str(offending)):
        assert words in str(caught.value)


@every_version
def test_a_precision_that_was_not_realised_is_refused_with_its_layers(tmp_path: Path, version: str) -> None:
    made = write(tmp_path)

    with simulate(version, pretend="Float") as machine:
        with pytest.raises(UnsupportedError) as caught:
            build_engine(made.path, timing_cache=None)
        assert machine.world.contexts == 0

    for words in ("asked for fp16", "3 in fp32", *CONVOLUTIONS):
        assert words in str(caught.value)
    assert set(pair(tmp_path / "model.trt")) == {"model.onnx"}


@every_version
def test_fp32_that_became_narrower_is_refused(tmp_path: Path, version: str) -> None:
    with simulate(version, pretend="Half"), pytest.raises(UnsupportedError, match=r"asked for fp32.*age\.conv"):
        build_engine(write(tmp_path).path, precision="fp32", timing_cache=None)


@every_version
def test_the_share_that_is_enough_can_be_lowered_and_what_is_missing_is_stored(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe = trt_builder.describe_layers

    def one_in_fp32(*given: Any) -> list[dict[str, Any]]:
        records = describe(*given)
        for record in records:
            if record["name"] == "normals.conv":
                record.update(dict.fromkeys(("in", "out", "weights"), "Float"))
        return records

    monkeypatch.setattr(trt_builder, "describe_layers", one_in_fp32)
    made = write(tmp_path)

    with simulate(version):
        with pytest.raises(UnsupportedError, match=r"Not in fp16: normals\.conv \(fp32\).*--least-share 0\.66"):
            build_engine(made.path, timing_cache=None)
        report = build_engine(made.path, least_share=0.66, timing_cache=None)

    assert report.about.realised["others"] == [{"name": "normals.conv", "precision": "fp32"}]


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


def test_version_8_is_asked_for_fp32_decoders_and_told_to_keep_nodes(tmp_path: Path) -> None:
    for folder in ("wish", "order"):
        (tmp_path / folder).mkdir()
    with simulate("8.6") as machine:
        build_engine(write(tmp_path / "wish").path, timing_cache=None)
        build_engine(write(tmp_path / "order").path, keep=["normals.conv"], timing_cache=None)
        wish, order = machine.world.builds

    constraints = {"OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS"}
    assert constraints & set(wish.flags) == {"PREFER_PRECISION_CONSTRAINTS"}
    assert constraints & set(order.flags) == {"OBEY_PRECISION_CONSTRAINTS"}


@pytest.mark.parametrize("name", ["a\nb.onnx", "a\x1b[2J.onnx"])
def test_a_name_that_no_manifest_holds_is_refused_before_minutes_are_spent(tmp_path: Path, name: str) -> None:
    made = write(tmp_path)
    made.path.rename(tmp_path / name)

    with simulate() as machine:
        with pytest.raises(ConfigError, match=r"onnx: 'a\\.* cannot be kept in the manifest .*Rename it"):
            build_engine(tmp_path / name, tmp_path / "model.trt", timing_cache=None)
        assert machine.world.builds == []
