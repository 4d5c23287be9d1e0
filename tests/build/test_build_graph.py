"""The graph that TensorRT is given, as `nddr-build --graph` writes it, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import build_subjects
import numpy as np
import onnx
import pytest

from nddr_deploy.build.recipe import write_graph
from nddr_deploy.build.typed import asked_share
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.onnx_file import OnnxFile
from nddr_deploy.engines.run_bytes import run_bytes
from nddr_deploy.errors import ConfigError, ModelFileError, UnsupportedError
from nddr_deploy.evaluate.decode import decode_batch


def expected_of(subject: Any, images: Any) -> dict[str, Any]:
    with open_engine(subject.path, threads=1) as engine:
        return decode_batch(engine.infer(images), subject.manifest, subject.manifest.size_hw)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("major", [8, 10, 11])
def test_the_graph_returns_what_the_cpu_decodes(
    handmade: Callable[..., Any], tmp_path: Path, precision: str, major: int
) -> None:
    subject = handmade(batch=2)
    images = subject.images(2)

    write_graph(subject.path, tmp_path / "typed.onnx", precision=precision, major=major)
    outputs = run_bytes((tmp_path / "typed.onnx").read_bytes())(images)

    expected = expected_of(subject, images)
    assert outputs["segmentation"].dtype == np.uint8
    assert (outputs["segmentation"] == expected["segmentation"]).mean() > 0.99  # three classes, near ties in noise
    for name in ("normals", "age"):
        assert outputs[name].dtype == np.float32
        assert np.abs(outputs[name] - expected[name]).max() < 1e-2 * np.ptp(expected[name])


def test_version_8_is_given_an_fp32_graph_and_the_later_ones_half_precision_weights(
    handmade: Callable[..., Any], tmp_path: Path
) -> None:
    for major in (8, 10, 11):
        write_graph(handmade().path, tmp_path / f"{major}.onnx", major=major)

    kinds = {major: OnnxFile.read(tmp_path / f"{major}.onnx").precision for major in (8, 10, 11)}
    assert kinds == {8: "fp32", 10: "fp16", 11: "fp16"}


def test_a_node_that_is_to_stay_in_fp32_stays_there_and_is_named(handmade: Callable[..., Any], tmp_path: Path) -> None:
    subject = handmade()
    model = onnx.load(subject.path)
    for node in model.graph.node:
        node.name = node.output[0]
    onnx.save(model, tmp_path / "named.onnx")

    kept = write_graph(tmp_path / "named.onnx", tmp_path / "typed.onnx", keep=["normals"])
    flagged = write_graph(tmp_path / "named.onnx", tmp_path / "flagged.onnx", keep=["normals"], major=8)

    assert any(reason.startswith("normals: ") for reason in kept.reasons)
    assert kept.kept_fp32 == ()  # the graph says it
    assert "normals" in flagged.kept_fp32
    weights = {weight.name: weight.data_type for weight in onnx.load(tmp_path / "typed.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT in [kind for name, kind in weights.items() if name.startswith("normals.weight")]
    assert kept.share == pytest.approx(2 / 3)  # of three convolutions
    with pytest.raises(ConfigError, match="keep: 'normal' is unknown"):
        write_graph(tmp_path / "named.onnx", tmp_path / "typed.onnx", keep=["normal"])


def test_int8_is_refused_for_a_graph_that_is_not_quantised(handmade: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no QuantizeLinear/DequantizeLinear pair"):
        write_graph(handmade().path, tmp_path / "typed.onnx", precision="int8")

    assert not (tmp_path / "typed.onnx").exists()


def test_the_user_s_own_pictures_are_taken(handmade: Callable[..., Any], tmp_path: Path) -> None:
    import cv2

    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "one.png"), np.full((30, 20, 3), 200, np.uint8))

    write_graph(handmade().path, tmp_path / "typed.onnx", images=str(folder))

    assert (tmp_path / "typed.onnx").exists()
    with pytest.raises(ConfigError, match="camera:0 is live"):
        write_graph(handmade().path, tmp_path / "typed.onnx", images="camera:0")


def test_the_share_of_layers_asked_for_counts_what_is_quantised_and_what_is_kept(handmade: Callable[..., Any]) -> None:
    model = onnx.load(handmade().path)
    for node in model.graph.node:
        node.name = node.output[0]

    assert asked_share(model, "fp16", ()) == 1
    assert asked_share(model, "fp16", ("normals",)) == pytest.approx(2 / 3)
    assert asked_share(model, "int8", ()) == 0


def test_a_quantised_file_whose_types_are_written_down_is_taken_as_it_is(tmp_path: Path) -> None:
    made = build_subjects.write(tmp_path, build_subjects.quantise)
    typed = write_graph(made.path, tmp_path / "typed.onnx", precision="int8", outputs="raw")
    assert OnnxFile.read(tmp_path / "typed.onnx").halves

    again = write_graph(tmp_path / "typed.onnx", tmp_path / "again.onnx", precision="int8", outputs="raw")

    assert again.model.graph == typed.model.graph
    assert again.share == typed.share == 1
    with pytest.raises(ConfigError, match=r"types written down.*keep the layer in float there"):
        write_graph(tmp_path / "typed.onnx", tmp_path / "again.onnx", precision="int8", keep=["age.conv"])
    with pytest.raises(UnsupportedError, match="opset 19; TensorRT 8 reads"):
        write_graph(tmp_path / "typed.onnx", tmp_path / "again.onnx", precision="int8", major=8)
