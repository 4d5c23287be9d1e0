"""The precision of every layer, read from graphs as `graph.quantize` writes them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from card_subjects import write_models

sys.path.append(str(Path(__file__).parents[1] / "graph"))

from graph_subjects import exported, run

from nddr_deploy.card.layers import layers_of
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.graph.calibration import calibrate
from nddr_deploy.graph.quantize import Target, observed, quantisable, quantize


@pytest.mark.parametrize("target", ["cpu", "tensorrt", "tensorrt8"])
def test_what_was_quantised_is_int8_and_the_rest_says_why_not(target: Target) -> None:
    model = exported("resnet 18")
    kept = quantisable(model, target)[2]
    batches = list(probe_images((65, 97), 2)[:, None])
    ranges = calibrate(model, observed(model, target), batches, run)

    quantised = quantize(model, ranges, target, keep=[kept])

    layers = layers_of(quantised.model, quantised.kept)
    assert tuple(layer.node for layer in layers if layer.precision == "int8") == quantised.layers
    others = {layer.node: layer for layer in layers if layer.precision != "int8"}
    assert kept in others
    assert all(layer.reason for layer in others.values())
    assert len(layers) == len(layers_of(model))


def test_weights_alone_in_int8_do_not_make_an_int8_layer(tmp_path: Path) -> None:
    _, int8 = write_models(tmp_path)
    model = onnx.load(int8)
    convolution = next(node for node in model.graph.node if node.output[0] == "normals")
    convolution.input[0] = "scaled"  # the pixels in float: no runtime can compute this in integers

    precisions = {layer.node: layer.precision for layer in layers_of(model)}

    assert precisions == {"segmentation.conv": "int8", "normals.conv": "fp32", "age.conv": "fp32"}


def test_an_fp32_file_has_fp32_layers_alone() -> None:
    layers = layers_of(exported("resnet 18"))

    assert {layer.precision for layer in layers} == {"fp32"}
    assert {layer.op for layer in layers} == {"Conv"}
    assert np.unique([layer.node for layer in layers]).size == len(layers)
