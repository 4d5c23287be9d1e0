"""Reading the manifest back from an ONNX file, and refusing files that have none."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from nddr_deploy.errors import ModelFileError
from nddr_deploy.graph.metadata import read_manifest, write_manifest
from nddr_deploy.manifest import METADATA_KEY, Manifest
from nddr_deploy.tasks import Depth, Segmentation

MANIFEST = Manifest(
    tasks=(Segmentation(classes=("wall", "floor")), Depth(max_m=8)), size_hw=(48, 64), notes=("a note",)
)


def foreign() -> onnx.ModelProto:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "foreign", [value], [result])
    return helper.make_model(graph)


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    model = foreign()
    model.metadata_props.add(key="trace", value="/somewhere/model.py")

    write_manifest(model, MANIFEST)
    onnx.save(model, tmp_path / "model.onnx")

    assert read_manifest(tmp_path / "model.onnx") == MANIFEST
    assert [entry.key for entry in model.metadata_props] == [METADATA_KEY]


def test_an_onnx_file_of_someone_else_is_refused(tmp_path: Path) -> None:
    onnx.save(foreign(), tmp_path / "model.onnx")

    with pytest.raises(ModelFileError, match=r"is an ONNX file without a manifest.* Use a file written by nddr-export"):
        read_manifest(tmp_path / "model.onnx")


def test_a_damaged_manifest_is_refused(tmp_path: Path) -> None:
    model = foreign()
    model.metadata_props.add(key=METADATA_KEY, value='{"tasks": 3}')
    onnx.save(model, tmp_path / "model.onnx")

    with pytest.raises(ModelFileError, match="its manifest cannot be read"):
        read_manifest(tmp_path / "model.onnx")


@pytest.mark.parametrize("content", [b"", b"\x00" * 40, b"just some text, no protobuf", b"\xff" * 100])
def test_what_is_no_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)

    with pytest.raises(ModelFileError, match="is no ONNX file"):
        read_manifest(tmp_path / "model.onnx")


def test_a_truncated_file_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    model = foreign()
    write_manifest(model, MANIFEST)
    whole = model.SerializeToString()
    (tmp_path / "half.onnx").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(ModelFileError, match="only a part of one"):
        read_manifest(tmp_path / "half.onnx")
    with pytest.raises(ModelFileError, match="does not exist or is no file"):
        read_manifest(tmp_path / "missing.onnx")
    with pytest.raises(ModelFileError, match="does not exist or is no file"):
        read_manifest(tmp_path)
