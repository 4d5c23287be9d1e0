"""Ranges are the largest absolute values that a plain run sees, and cost hardly more memory than it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graph_subjects import conv, exported, run, small
from onnx import TensorProto, helper

from nddr_deploy.errors import InputError, ModelFileError, UnsupportedError
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.graph.inference import tensor_types
from nddr_deploy.graph.ranges import scan_ranges, with_ranges


def picture(value: int, at_one_place: int = 0) -> Any:
    """uint8 (1, 8, 10, 3) of one value, but for one pixel."""
    images = np.full((1, 8, 10, 3), value, np.uint8)
    images[0, 3, 4] = at_one_place
    return images


def test_ranges_of_a_model_computed_by_hand(handmade: Callable[..., Any]) -> None:
    subject = handmade()
    images = np.zeros((1, *subject.manifest.size_hw, 3), np.uint8)
    images[0, 4, 8] = (255, 0, 51)  # red 1, green 0, blue 0.2 at a place that the stride of 4 meets

    ranges = scan_ranges(onnx.load(subject.path), run, [images])

    assert ranges["float"] == 255
    assert ranges["scaled"] == pytest.approx(1)
    assert ranges["segmentation"] == pytest.approx(1)  # 1 * red
    assert ranges["normals"] == pytest.approx(1)  # -1 * red: a magnitude
    assert ranges["age.map"] == pytest.approx(2)  # 2 * red
    assert ranges["age.pooled"] == pytest.approx(2 / 24)
    assert ranges["segmentation.weight"] == 3
    assert ranges["scale"] == pytest.approx(1 / 255)


def test_every_float_tensor_and_weight_of_a_network_has_the_range_that_a_plain_run_shows() -> None:
    model = exported("resnet 18")
    batches = [probe_images((65, 97), 3)[place : place + 1] for place in range(2)]

    ranges = scan_ranges(model, run, batches)

    floats = {name for name, kind in tensor_types(model).items() if kind == TensorProto.FLOAT}
    assert set(ranges) == floats
    shown = onnx.ModelProto.FromString(model.SerializeToString())
    made = [name for node in model.graph.node for name in node.output]
    del shown.graph.output[:]
    shown.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in made)
    plain = [run(shown)(images) for images in batches]
    for name in made:
        expected = max(np.abs(outputs[name]).max() for outputs in plain)
        assert ranges[name] == pytest.approx(expected, rel=1e-5)  # the same sums, maybe in another order


def test_the_largest_of_all_batches_counts() -> None:
    model = small([helper.make_node("Neg", ["float"], ["y"])], {})

    assert scan_ranges(model, run, [picture(3), picture(200), picture(7)])["y"] == 200
    assert scan_ranges(model, run, [picture(3, at_one_place=90)])["y"] == 90


def test_one_number_per_tensor_leaves_the_graph_and_the_argument_stays() -> None:
    model = exported("resnet 18")
    before = model.SerializeToString()

    measured = with_ranges(model)

    assert model.SerializeToString() == before
    onnx.checker.check_model(measured, full_check=True)
    assert all(output.name.startswith("range of ") for output in measured.graph.output)
    outputs = run(measured)(probe_images((65, 97), 1))
    assert {np.shape(value) for value in outputs.values()} == {()}


@pytest.mark.parametrize(
    ("node", "weights"),
    [
        (helper.make_node("Log", ["x"], ["bad"], name="head/Log"), {}),  # of 0: minus infinity
        (helper.make_node("Div", ["x", "x"], ["bad"], name="head/Div"), {}),  # 0 / 0
        (helper.make_node("Mul", ["float", "huge"], ["bad"], name="head/Mul"), {"huge": np.float32(3e38)}),
    ],
    ids=["infinity", "no number", "overflow"],
)
def test_what_is_no_finite_number_names_the_node_that_makes_it(node: onnx.NodeProto, weights: dict[str, Any]) -> None:
    # A single bad value, in the middle or everywhere else, and a maximum after it that hides it.
    model = small([node, helper.make_node("Relu", ["x"], ["y"])], weights)

    with pytest.raises(InputError, match=rf"{node.op_type} node '{node.name}' gives infinity .* on batch 1"):
        scan_ranges(model, run, [picture(1, 1), picture(9, 0)] if node.op_type != "Mul" else [picture(0), picture(5)])


def test_a_padding_with_infinity_has_the_range_of_what_is_padded() -> None:
    pads = {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "lowest": np.float32(-np.inf)}
    nodes = [
        helper.make_node("Pad", ["x", "pads", "lowest"], ["padded"]),
        helper.make_node("MaxPool", ["padded"], ["y"], kernel_shape=[3, 3]),
    ]

    ranges = scan_ranges(small(nodes, pads), run, [picture(51)])

    assert ranges["padded"] == pytest.approx(0.2)
    assert ranges["lowest"] == np.inf


def test_a_weight_that_is_no_number_is_refused_with_its_node() -> None:
    weight = np.full((1, 3, 1, 1), 0.5, np.float32)
    weight[0, 1] = np.nan

    with pytest.raises(
        ModelFileError, match=r"weight 'w', read by Conv node 'y', holds infinity or what is not a number"
    ):
        scan_ranges(small([conv("y", "x", "w")], {"w": weight}), run, [picture(5)])


def test_no_images_are_refused_and_so_are_branches() -> None:
    with pytest.raises(InputError, match="No images were given"):
        scan_ranges(exported(), run, [])

    inner = helper.make_graph([], "inner", [], [])
    branch = helper.make_node("If", ["condition"], ["y"], name="choice", then_branch=inner, else_branch=inner)
    with pytest.raises(UnsupportedError, match="If node 'choice' holds a graph of its own"):
        with_ranges(small([branch], {"condition": np.bool_(True)}))


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from /proc, which Linux has")
def test_measuring_keeps_no_tensor_longer_than_a_plain_run() -> None:
    """96 tensors of 4.2 MB in a row: all of them at once would be 400 MB."""
    script = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from onnx import helper
from graph_subjects import run, small
from nddr_deploy.graph.ranges import with_ranges
names = ["x", *(f"t{n}" for n in range(95)), "y"]
nodes = [
    helper.make_node("Sin" if n % 2 else "Abs", [before], [after])
    for n, (before, after) in enumerate(zip(names, names[1:]))
]
def peak():  # of this process since it began, in MB; getrusage would count its parent
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024
model = small(nodes, {}, images=(1, 592, 592, 3))
infer = run(with_ranges(model))
before = peak()
infer(np.zeros((1, 592, 592, 3), np.uint8))
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parent)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40  # MB; a plain run takes about 8, and the wrong order of nodes 216
