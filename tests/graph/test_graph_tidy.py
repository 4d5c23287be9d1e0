"""Tidying: names, constants and identities change; what is computed does not."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy.graph.tidy import tidy


def untidy() -> onnx.ModelProto:
    """y = relu(identity(x * 2)) @ identity(w), z = identity(y)."""
    weight = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(3, 2), "head.fc.weight")
    two = numpy_helper.from_array(np.float32(2))
    nodes = [
        helper.make_node("Constant", [], ["/c"], name="/Constant", value=two, doc_string="/home/me/model.py(3)"),
        helper.make_node("Mul", ["x", "/c"], ["/a"], name="/Mul"),
        helper.make_node("Identity", ["/a"], ["/b"]),
        helper.make_node("Identity", ["head.fc.weight"], ["/w"]),
        helper.make_node("Relu", ["/b"], ["/r"], name="/Relu"),
        helper.make_node("MatMul", ["/r", "/w"], ["y"], name="/MatMul"),
        helper.make_node("Identity", ["y"], ["z"], name="/Identity_2"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("y", "z")]
    declared = helper.make_tensor_value_info("head.fc.weight", TensorProto.FLOAT, [3, 2])
    graph = helper.make_graph(nodes, "g", [x, declared], outputs, [weight], doc_string="seen in /home/me")
    graph.value_info.append(helper.make_tensor_value_info("/a", TensorProto.FLOAT, [1, 3]))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: list[np.ndarray] = session.run(None, {"x": np.array([[1, -2, 3]], dtype=np.float32)})
    return result


def test_tidying_keeps_every_output() -> None:
    before = untidy()
    after = untidy()

    tidy(after)

    onnx.checker.check_model(after, full_check=True)
    assert [output.name for output in after.graph.output] == ["y", "z"]
    for expected, found in zip(run(before), run(after), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_constants_become_weights_and_identities_go_unless_they_make_an_output() -> None:
    model = untidy()

    tidy(model)

    assert [node.op_type for node in model.graph.node] == ["Mul", "Relu", "MatMul", "Identity"]
    assert [weight.name for weight in model.graph.initializer] == ["head.fc.weight", "constant_0"]
    assert [value.name for value in model.graph.input] == ["x"]


def test_nodes_are_named_after_the_layer_that_they_belong_to_or_follow() -> None:
    model = untidy()

    tidy(model)

    assert [node.name for node in model.graph.node] == ["x/Mul", "x/Relu", "head.fc/MatMul", "head.fc/Identity"]
    assert list(model.graph.node[1].output) == ["x/Relu"]


def test_texts_about_the_exporters_machine_go() -> None:
    model = untidy()

    tidy(model)

    assert b"/home" not in model.SerializeToString()
    assert not model.graph.value_info
