"""What of a model file counts as its content."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from card_subjects import change_weight, save_again

from nddr_deploy.card.content import changed_weights, content_of
from nddr_deploy.card.schema import Content
from nddr_deploy.errors import ModelFileError
from nddr_deploy.files import sha256
from nddr_deploy.graph.metadata import manifest_of, write_manifest


def read(path: Path) -> Content:
    return content_of(onnx.load(path), source="model")


def test_a_file_saved_again_has_other_bytes_and_the_same_content(models: tuple[Path, Path]) -> None:
    for path in models:
        bytes_before, before = sha256(path), read(path)

        save_again(path)

        assert sha256(path) != bytes_before
        assert read(path) == before


@pytest.mark.parametrize("which", [0, 1])
def test_one_weight_moved_by_one_step_is_found_by_its_name(models: tuple[Path, Path], which: int) -> None:
    before = read(models[which])

    change_weight(models[which], "normals.weight")

    after = read(models[which])
    assert changed_weights(before, after) == ("normals.weight",)
    assert (before.graph, before.manifest) == (after.graph, after.manifest)


def test_a_stride_or_an_edge_changes_the_graph(models: tuple[Path, Path]) -> None:
    before = read(models[0])
    stride, edge = onnx.load(models[0]), onnx.load(models[0])
    convolution = next(node for node in stride.graph.node if node.op_type == "Conv")
    convolution.attribute[0].ints[0] = 2
    convolution = next(node for node in edge.graph.node if node.op_type == "Conv")
    convolution.input[1] = "normals.weight"

    for changed in (stride, edge):
        assert content_of(changed, source="model").graph != before.graph


def test_another_meaning_of_the_outputs_changes_the_manifest(models: tuple[Path, Path]) -> None:
    model = onnx.load(models[0])
    before = content_of(model, source="model")
    write_manifest(model, manifest_of(model, source="model").model_copy(update={"resize": "align_corners"}))

    after = content_of(model, source="model")

    assert after.manifest != before.manifest
    assert after.graph == before.graph


def test_a_weight_that_was_taken_away_differs_too(models: tuple[Path, Path]) -> None:
    before = read(models[0])
    fewer = before.model_copy(
        update={"weights": {name: value for name, value in before.weights.items() if name != "scale"}}
    )

    assert changed_weights(before, fewer) == changed_weights(fewer, before) == ("scale",)


def test_weights_in_another_file_are_not_looked_for(models: tuple[Path, Path]) -> None:
    model = onnx.load(models[0])
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")

    with pytest.raises(ModelFileError, match="keeps weights in another file"):
        content_of(model, source="model")
