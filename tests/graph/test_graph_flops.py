"""Arithmetic is counted as on paper: 2 per multiply-accumulate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy.errors import ModelFileError
from nddr_deploy.graph.flops import count_flops


def model_of(
    nodes: list[onnx.NodeProto], weights: dict[str, tuple[int, ...]], shape: list[Any], out: str = "y"
) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(np.zeros(dims, np.float32), name) for name, dims in weights.items()]
    graph = helper.make_graph(
        nodes,
        "counted",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, None)],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("node", "weight", "shape", "multiplications"),
    [
        # 8 filters of 3x3x3 at 10x12 positions
        (helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4), (8, 3, 3, 3), [1, 3, 10, 12], 8 * 27 * 120),
        # stride 2 leaves 5x6 positions, twice for two images
        (
            helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4, strides=[2, 2]),
            (8, 3, 3, 3),
            [2, 3, 10, 12],
            2 * 8 * 27 * 30,
        ),
        # in 4 groups, a filter sees one channel of four
        (helper.make_node("Conv", ["x", "w"], ["y"], group=4), (8, 1, 1, 1), [1, 4, 10, 12], 8 * 120),
        # every input value times every weight of its channel
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"]), (3, 8, 2, 2), [1, 3, 10, 12], 3 * 120 * 8 * 4),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), (7, 5), [2, 6, 7], 2 * 6 * 7 * 5),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), (5, 7), [6, 7], 6 * 7 * 5),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transA=1), (7, 5), [7, 6], 6 * 7 * 5),
    ],
)
def test_a_layer_counts_two_per_multiplication(
    node: onnx.NodeProto, weight: tuple[int, ...], shape: list[int], multiplications: int
) -> None:
    model = model_of([node], {"w": weight}, shape)

    assert count_flops(model, (1, 1)) == 2 * multiplications


def test_open_dimensions_are_those_that_are_asked_for(handmade: Callable[..., Any]) -> None:
    model = onnx.load(handmade(dynamic=("batch", "size")).path)
    before = model.SerializeToString()

    # 3 + 3 + 4 filters of three channels at every fourth pixel
    assert count_flops(model, (16, 24)) == 2 * 10 * 3 * (4 * 6)
    assert count_flops(model, (32, 24), batch=3) == 2 * 10 * 3 * (8 * 6) * 3
    assert model.SerializeToString() == before


def test_a_fixed_size_is_what_counts_whatever_is_asked_for(handmade: Callable[..., Any]) -> None:
    model = onnx.load(handmade().path)

    assert count_flops(model, (99, 99), batch=9) == 2 * 10 * 3 * (4 * 6)


def test_a_shape_that_depends_on_data_is_refused() -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("Cast", ["places"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["w", "numbers"], ["y"], name="product"),
    ]

    with pytest.raises(ModelFileError, match="shape of 'numbers' at MatMul node 'product' cannot be inferred"):
        count_flops(model_of(nodes, {"w": (5, 2)}, [4, 4]), (1, 1))


@pytest.mark.slow
def test_the_paper_s_network_at_full_width_has_206_gflop(tmp_path: Any) -> None:
    """Two Deeplab-VGG-16 streams, 40 classes and normals, at 321x321: raw outputs are 40x40."""
    import torch

    from nddr_deploy.checkpoint import Checkpoint, save_checkpoint
    from nddr_deploy.export.recipe import export_checkpoint
    from nddr_deploy.network import NetworkConfig, build_network
    from nddr_deploy.preprocess import Preprocess
    from nddr_deploy.tasks import Normals, Segmentation

    torch.manual_seed(0)
    config = NetworkConfig(backbone="vgg16_deeplab", fusion="nddr")
    tasks = (Segmentation(classes=tuple(f"class {index}" for index in range(40))), Normals())
    network = build_network(config, tasks)
    save_checkpoint(tmp_path / "ckpt.pt", Checkpoint(config, tasks, Preprocess(), (321, 321), network.state_dict()))
    export_checkpoint(tmp_path / "ckpt.pt", tmp_path / "model.onnx")

    def layer(kernel: int, before: int, after: int, side: int) -> int:
        return 2 * kernel**2 * before * after * side**2

    widths = [
        (3, 64, 2, 321, 160),
        (64, 128, 2, 160, 80),
        (128, 256, 3, 80, 40),
        (256, 512, 3, 40, 40),
        (512, 512, 3, 40, 40),
    ]
    expected = 0
    for before, width, layers, side, pooled in widths:
        stream = layer(3, before, width, side) + (layers - 1) * layer(3, width, width, side)
        expected += 2 * (stream + layer(1, 2 * width, width, pooled))  # with each task's own NDDR
    for channels in (40, 3):
        expected += layer(3, 512, 1024, 40) + layer(1, 1024, 1024, 40) + layer(1, 1024, channels, 40)
    assert count_flops(onnx.load(tmp_path / "model.onnx"), (321, 321)) == expected
    assert expected == pytest.approx(205.6e9, rel=1e-3)
