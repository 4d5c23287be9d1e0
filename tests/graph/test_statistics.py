"""Figures of tensors are those that numpy makes of the tensors themselves, and nothing large leaves the graph."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from graph_subjects import conv, exported, run, small
from onnx import TensorProto, helper

from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.graph.calibration import channel_power, channel_ranges
from nddr_deploy.graph.statistics import measure, with_statistics
from nddr_deploy.tasks.base import Array

PICTURES = [probe_images((65, 97), 3)[place : place + 1] for place in range(3)]


def shown(model: onnx.ModelProto, names: list[str]) -> list[dict[str, Array]]:
    """The tensors themselves, of each picture."""
    opened = onnx.ModelProto.FromString(model.SerializeToString())
    del opened.graph.output[:]
    opened.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    infer = run(opened)
    return [infer(images) for images in PICTURES]


@pytest.mark.parametrize("opset", [17, 18])
def test_figures_over_all_pictures_are_numpys(opset: int) -> None:
    model = exported("resnet 18", opset=opset)
    names = [node.output[0] for node in model.graph.node if node.op_type in ("Conv", "Concat")][:9]
    plain = shown(model, names)

    found = measure(model, names, ("low", "high", "power"), PICTURES, run)

    for name in names:
        together = np.stack([outputs[name] for outputs in plain]).astype(np.float64)
        assert found[name]["low"] == together.min()
        assert found[name]["high"] == together.max()
        assert found[name]["power"] == pytest.approx(np.square(together).mean(), rel=1e-5)  # summed in float32


@pytest.mark.parametrize("opset", [17, 18])
def test_figures_per_channel_are_numpys(opset: int) -> None:
    model = exported("resnet 18", opset=opset)
    names = [node.output[0] for node in model.graph.node if node.op_type == "Concat"][:2]
    plain = shown(model, names)

    ranges = channel_ranges(model, names, PICTURES, run)
    power = channel_power(model, names, PICTURES, run)

    for name in names:
        together = np.concatenate([outputs[name] for outputs in plain]).astype(np.float64)
        np.testing.assert_array_equal(ranges[name][0], together.min(axis=(0, 2, 3)))
        np.testing.assert_array_equal(ranges[name][1], together.max(axis=(0, 2, 3)))
        np.testing.assert_allclose(power[name], np.square(together).mean(axis=(0, 2, 3)), rtol=1e-5)


def test_one_number_a_figure_leaves_the_graph() -> None:
    model = exported("resnet 18")
    names = [node.output[0] for node in model.graph.node if node.op_type == "Relu"]

    outputs = run(with_statistics(model, names, ("low", "high")))(PICTURES[0])

    assert list(outputs) == [f"{figure} of {name}" for name in names for figure in ("low", "high")]
    assert all(value.size == 1 for value in outputs.values())


def test_tensors_are_measured_as_soon_as_they_are_there(tmp_path: Path) -> None:
    """Otherwise all of them wait in memory for the end of the pass: 3 GiB of Deeplab-VGG-16 at 480x640."""
    model = exported("vgg")
    names = [node.output[0] for node in model.graph.node if node.op_type == "Relu"]  # no head is among them
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "pass")
    options.intra_op_num_threads = 1
    content = with_statistics(model, names, ("low", "high")).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    session.run(None, {"images": PICTURES[0]})

    events = json.loads(Path(session.end_profiling()).read_text())
    done = [event["name"] for event in events if event["name"].endswith("_kernel_time")]
    measured = [place for place, name in enumerate(done) if name.startswith(("low of", "high of"))]
    computed = [place for place in range(len(done)) if place not in measured]
    assert len(measured) == 2 * len(names)
    middle = measured[len(names)]
    assert sum(place > middle for place in computed) > len(computed) / 3  # a third is computed after half is measured


def test_the_model_is_left_as_it_was() -> None:
    model = exported("resnet 18")
    before = model.SerializeToString()

    with_statistics(model, ["images/Mul"], ("power",))

    assert model.SerializeToString() == before


def test_what_is_no_number_is_told_by_the_node_that_makes_it() -> None:
    weights = {"w": np.eye(3, dtype=np.float32)[..., None, None]}
    model = small([conv("c", "x", "w"), helper.make_node("Log", ["c"], ["y"], name="log")], weights)
    black = np.zeros((1, 8, 10, 3), np.uint8)

    with pytest.raises(InputError, match=r"Log node 'log' gives infinity or what is not a number in 'y' on picture 2"):
        measure(model, ["c", "y"], ("low",), [black + 1, black], run)


def test_an_unknown_tensor_and_no_picture_are_refused() -> None:
    model = exported("resnet 18")

    with pytest.raises(ConfigError, match="no tensor 'nobody'"):
        measure(model, ["nobody"], ("low",), PICTURES, run)
    with pytest.raises(InputError, match="No images were given"):
        measure(model, ["images/Mul"], ("low",), [], run)
