"""The simulated TensorRT refuses what the real one refuses: plans, profiles, graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest
from simulated.gpu import Kind
from simulated.simulate import simulate
from simulated.small_engine import build


@pytest.fixture(scope="module")
def model(handmade: Callable[..., Any]) -> onnx.ModelProto:
    return onnx.load(handmade().path)


def test_a_plan_is_loaded_only_by_its_version_on_its_kind_of_gpu_and_undamaged(model: onnx.ModelProto) -> None:
    with simulate("10.13") as machine:
        plan = build(machine, model)

    def loaded(content: bytes, version: str = "10.13", kind: Kind | None = None) -> str:
        with simulate(version, kind=kind) as machine:
            logger = machine.trt.Logger()
            engine = machine.trt.Runtime(logger).deserialize_cuda_engine(content)
            return "yes" if engine is not None else logger._inner.messages[-1][1]

    assert loaded(plan) == "yes"
    assert "Version tag does not match" in loaded(plan, "10.0")
    assert "compute 8.6, not 9.0" in loaded(plan, kind=Kind(compute_capability=(9, 0)))
    assert "damaged" in loaded(plan[:-1] + bytes([plan[-1] ^ 1]))


@pytest.mark.parametrize("version", ["8.6", "10.13", "11.4"])
def test_open_extents_want_a_profile_and_keep_to_it(handmade: Callable[..., Any], version: str) -> None:
    model = onnx.load(handmade(dynamic=("batch",)).path)
    with simulate(version) as machine:
        with pytest.raises(TypeError):  # no plan came of it
            build(machine, model)
        for wrong in ((1, 16, 24, 3), (2, 16, 24, 3), (4, 16, 32, 3)), ((2, 16, 24, 3), (1, 16, 24, 3), (4, 16, 24, 3)):
            with pytest.raises((TypeError, ValueError)):
                build(machine, model, images=wrong)
        plan = build(machine, model, images=((1, 16, 24, 3), (2, 16, 24, 3), (4, 16, 24, 3)))
        context = machine.trt.Runtime(machine.trt.Logger()).deserialize_cuda_engine(plan).create_execution_context()

        taken = [context.set_input_shape("images", (count, 16, 24, 3)) for count in (1, 3, 4, 5)]

        assert taken == [True, True, True, False]
        assert tuple(context.get_tensor_shape("age")) == (4, 4)


def test_a_graph_that_tensorrt_cannot_read_is_refused_with_the_node(model: onnx.ModelProto) -> None:
    def refused(change: Callable[[onnx.ModelProto], None], version: str = "8.6") -> list[tuple[str, int]]:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        change(changed)
        with simulate(version) as machine:
            trt = machine.trt
            parser = trt.OnnxParser(trt.Builder(trt.Logger()).create_network(1), trt.Logger())
            assert not parser.parse(changed.SerializeToString())
            errors = [parser.get_error(index) for index in range(parser.num_errors)]
            return [(error.desc(), error.node()) for error in errors]

    def uint8_transpose(changed: onnx.ModelProto) -> None:
        cast, transpose = changed.graph.node[:2]
        transpose.input[0], transpose.output[0], cast.input[0], cast.output[0] = "images", "t", "t", "channels_first"

    def newer(changed: onnx.ModelProto) -> None:
        changed.opset_import[0].version = 18

    def unknown(changed: onnx.ModelProto) -> None:
        changed.graph.node[2].op_type = "Unique"

    assert refused(uint8_transpose)[0] == ("Transpose cannot take the UINT8 tensor images", 1)
    assert refused(newer) == [("ONNX opset 18 is newer than 17", -1)]
    assert ("No importer registered for op: Unique", 2) in refused(unknown, "11.4")
