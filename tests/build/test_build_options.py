"""What of a build's options reaches the builder, and what precision it makes, in three versions of TensorRT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import build_subjects as subjects
import numpy as np
import onnx
import pytest
from build_subjects import CONVOLUTIONS, graph_of, networks, pair, write
from onnx import TensorProto
from simulated import trt_builder
from simulated.simulate import VERSIONS, simulate
from simulated.trt_config import BuilderConfig

from nddr_deploy.build.recipe import build_engine
from nddr_deploy.engines import open_engine
from nddr_deploy.errors import ConfigError, ModelFileError, UnsupportedError

every_version = pytest.mark.parametrize("version", VERSIONS)


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
