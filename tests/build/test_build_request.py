"""What may be asked of a build, and what is said to the rest, before a GPU is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nddr_deploy.build.recipe import build_engine, write_graph
from nddr_deploy.build.request import plan
from nddr_deploy.engines.onnx_file import OnnxFile
from nddr_deploy.errors import ConfigError, ModelFileError, UnsupportedError
from nddr_deploy.graph.metadata import manifest_of

ASKED: dict[str, Any] = {"precision": "fp16", "size": None, "batch": None, "outputs": "decoded"}


def test_a_fixed_model_has_one_shape_and_is_decoded_by_default(handmade: Callable[..., Any]) -> None:
    request = plan(handmade(batch=2).path, **ASKED)

    assert request.profile.min == request.profile.opt == request.profile.max == (2, 16, 24, 3)
    assert manifest_of(request.graph, source="the graph").outputs == "decoded"
    assert request.file.manifest.outputs == "raw"


def test_three_values_make_a_profile_and_one_value_closes_what_was_open(handmade: Callable[..., Any]) -> None:
    model = handmade(dynamic=("batch", "size")).path

    request = plan(model, **{**ASKED, "batch": (1, 4, 8), "size": [(32, 48)]})

    assert (request.profile.min, request.profile.opt, request.profile.max) == (
        (1, 32, 48, 3),
        (4, 32, 48, 3),
        (8, 32, 48, 3),
    )
    assert str(request.profile) == "(1 to 8, 32, 48, 3)"
    manifest = manifest_of(request.graph, source="the graph")
    assert (manifest.dynamic, manifest.size_hw) == (("batch",), (32, 48))
    extents = [dim.dim_value for dim in request.graph.graph.input[0].type.tensor_type.shape.dim]
    assert extents == [0, 32, 48, 3]  # 0: left open


def test_a_model_that_leaves_its_batch_open_is_built_for_one_image_where_nothing_is_said(
    handmade: Callable[..., Any],
) -> None:
    assert plan(handmade(dynamic=("batch",)).path, **ASKED).profile.static


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"precision": "fp61"}, "precision: 'fp61' is unknown. Choose one of: fp32, fp16, int8. Did you mean 'fp16'"),
        ({"outputs": "both"}, "outputs: 'both' is unknown"),
        ({"batch": (1, 2)}, "batch: got 2 values; expected one, or three"),
        ({"batch": (4, 2, 8)}, r"batch is 4, 2, 8; expected smallest, usual, largest .*min \(4, 16, 24, 3\)"),
        ({"batch": (0, 1, 2)}, "batch: got 0; expected numbers from 1 to 65536"),
        ({"size": [(32, 32), (64, 64), (48, 64)]}, "height is 32, 64, 48; expected smallest, usual, largest"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(
    handmade: Callable[..., Any], asked: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        plan(handmade(dynamic=("batch", "size")).path, **{**ASKED, **asked})


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"batch": (4,)}, "takes 1 only. Leave --batch out, or export the checkpoint with --dynamic batch"),
        ({"size": [(32, 48)]}, "takes 16x24 only. Leave --size out, or export the checkpoint with --dynamic size"),
    ],
)
def test_what_the_export_has_fixed_stays_fixed(
    handmade: Callable[..., Any], asked: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        plan(handmade().path, **{**ASKED, **asked})


def test_raw_outputs_of_a_decoded_model_are_refused(handmade: Callable[..., Any], tmp_path: Any) -> None:
    write_graph(handmade().path, tmp_path / "decoded.onnx", precision="fp32")
    assert OnnxFile.read(tmp_path / "decoded.onnx").manifest.outputs == "decoded"

    with pytest.raises(ConfigError, match="returns decoded results; raw ones are gone"):
        plan(tmp_path / "decoded.onnx", **{**ASKED, "outputs": "raw"})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"output": "model.engine"}, "model.engine should end in .trt"),
        ({"least_share": 0.0}, "least-share: got 0.0; expected a share above 0, at most 1"),
        ({"workspace_gib": 0.0}, "workspace: got 0.0; expected GiB above 0"),
        ({"opt_level": 6}, "opt-level: got 6; expected 0 to 5"),
        ({"aux_streams": -1}, "aux-streams: got -1; expected a number from 0"),
    ],
)
def test_wrong_options_are_refused_before_a_gpu_is_looked_for(
    handmade: Callable[..., Any], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build_engine(handmade().path, **options)


def test_without_a_gpu_a_build_is_one_sentence_and_leaves_nothing(
    handmade: Callable[..., Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nddr_deploy.engines.cuda.count_gpus", lambda: 0)

    with pytest.raises(UnsupportedError, match="No NVIDIA GPU can be used here"):
        build_engine(handmade().path, tmp_path / "model.trt")

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_export_is_refused(tmp_path: Any) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")

    with pytest.raises(ModelFileError, match="is no ONNX file"):
        build_engine(tmp_path / "model.onnx")
