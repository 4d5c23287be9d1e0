"""Writing a graph anew with some of its nodes in FP16: every tensor is had in the type that its reader wants."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy.graph.flat import keep_weights, replace_nodes
from nddr_deploy.graph.roles import Flow

FLOAT, HALF = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)
_SUFFIX = {FLOAT: "fp32", HALF: "fp16"}
_TYPED_BY_ATTRIBUTE = {"EyeLike", "RandomNormalLike", "RandomUniformLike", "Bernoulli"}


def rewrite(
    source: onnx.ModelProto, flow: Flow, types: Mapping[str, int], opset: int, half: Collection[int]
) -> onnx.ModelProto:
    """A copy of `source` in which the nodes with the numbers `half` compute in FP16, with casts where types change.

    Args:
        flow, types, opset: of `source`.
        half: nodes with `has_half_form`.
    """
    return _Rewrite(source, flow, types, opset, half).result()


def has_half_form(node: onnx.NodeProto, types: Mapping[str, int], opset: int) -> bool:
    """Whether the operator is defined for FP16: its first input and output, that is. Others may be float32 always."""
    if node.op_type in _TYPED_BY_ATTRIBUTE or node.domain not in ("", "ai.onnx"):
        return False
    reads = not node.input or types.get(node.input[0]) != FLOAT or _may_change(node, 0, True, opset)
    return reads and (types.get(node.output[0]) != FLOAT or _may_change(node, 0, False, opset))


def _may_change(node: onnx.NodeProto, place: int, is_input: bool, opset: int) -> bool:
    """Whether this input or output may be FP16 by the operator's definition, and should be."""
    if node.op_type == "Resize" and is_input and place > 0:
        return False  # scales and a region are float32
    allowed = _allowed(node.op_type, opset, is_input)
    return len(allowed) > 0 and "tensor(float16)" in allowed[min(place, len(allowed) - 1)]


@cache
def _allowed(operation: str, opset: int, of_inputs: bool) -> Sequence[Collection[str]]:
    """Per input or output, the types that it may have; the last one goes on for all further ones."""
    try:
        schema = onnx.defs.get_schema(operation, opset, "")
    except onnx.defs.SchemaError:
        return ()
    variables = {entry.type_param_str: frozenset(entry.allowed_type_strs) for entry in schema.type_constraints}
    formal = schema.inputs if of_inputs else schema.outputs
    return [variables.get(entry.type_str, frozenset([entry.type_str])) for entry in formal]


class _Rewrite:
    """The new graph, written node by node: every tensor is had in the type that its reader wants.

    Args:
        half: numbers of the nodes that compute in FP16.
    """

    def __init__(
        self, source: onnx.ModelProto, flow: Flow, types: Mapping[str, int], opset: int, half: Collection[int]
    ) -> None:
        self.source, self.flow, self.types, self.opset, self.half = source, flow, types, opset, half
        self.weights = {weight.name: weight for weight in source.graph.initializer}
        self.outputs = {value.name for value in source.graph.output}
        self.names = set(types) | {node.name for node in flow.nodes}
        self.nodes: list[onnx.NodeProto] = []
        self.new_weights: list[onnx.TensorProto] = []
        self.at_hand: dict[tuple[str, int], str] = {}  # (tensor, type) -> its name in that type
        self.made: dict[str, int] = {}  # tensor -> the type that its maker gives it

    def result(self) -> onnx.ModelProto:
        for number, node in enumerate(self.flow.nodes):
            if node.op_type != "DequantizeLinear":
                self._write(node, HALF if number in self.half else FLOAT)
        for name in self.outputs:
            if name in self.flow.makers:
                self._had(name, self.types[name])
        model = onnx.ModelProto()
        model.CopyFrom(self.source)
        graph = model.graph
        del graph.value_info[:]
        keep_weights(graph, {name for node in self.nodes for name in node.input} | self.outputs)
        own = {  # a weight that is read in FP16 alone keeps its name
            written: name
            for (name, kind), written in self.at_hand.items()
            if kind == HALF and name in self.weights and (name, FLOAT) not in self.at_hand and name not in self.outputs
        }
        for node in self.nodes:
            node.input[:] = [own.get(name, name) for name in node.input]
        for weight in self.new_weights:
            weight.name = own.get(weight.name, weight.name)
        replace_nodes(graph, self.nodes)
        graph.initializer.extend(self.new_weights)
        return model

    def _write(self, node: onnx.NodeProto, kind: int) -> None:
        written = onnx.NodeProto()
        written.CopyFrom(node)
        for place, name in enumerate(node.input):
            if node.op_type in ("Shape", "Size"):
                written.input[place] = self._had(name, self.made.get(name, self.types[name]))
            elif name and self.types.get(name) == FLOAT:
                changes = kind == HALF and _may_change(node, place, True, self.opset)
                written.input[place] = self._had(name, HALF if changes else FLOAT)
        exits = []
        for place, name in enumerate(node.output):
            if self.types.get(name) != FLOAT or kind != HALF or not _may_change(node, place, False, self.opset):
                self._note(name, self.types.get(name, 0), name)
                continue
            inside = self._free(f"{name}/fp16") if name in self.outputs else name
            written.output[place] = inside
            self._note(name, HALF, inside)
            exits += [name] * (name in self.outputs)
        if node.op_type == "Cast" and kind == HALF:
            for attribute in written.attribute:
                if attribute.name == "to" and attribute.i == FLOAT:
                    attribute.i = HALF
        self.nodes.append(written)
        for name in exits:
            self._had(name, FLOAT)

    def _note(self, name: str, kind: int, written: str) -> None:
        self.made[name] = kind
        self.at_hand[name, kind] = written

    def _had(self, name: str, kind: int) -> str:
        """The name of this tensor in that type, made now where it is not at hand."""
        if (name, kind) in self.at_hand:
            return self.at_hand[name, kind]
        maker = self.flow.makers.get(name)
        if name in self.weights:
            found = self._weight(name, kind)
        elif maker is not None and self.flow.nodes[maker].op_type == "DequantizeLinear":
            found = self._dequantised(self.flow.nodes[maker], kind)
        elif maker is None and self.types[name] == kind:
            found = name  # an input of the graph
        else:
            found = self._cast(name, kind)
        self.at_hand[name, kind] = found
        return found

    def _weight(self, name: str, kind: int) -> str:
        if self.types[name] == kind:
            return name
        values = numpy_helper.to_array(self.weights[name])
        most = np.finfo(np.float16).max
        finite = np.isfinite(values)
        rounded = np.where(finite, np.clip(values, -most, most), values).astype(np.float16)  # only a bound is larger
        written = self._free(f"{name}/fp16")
        self.new_weights.append(numpy_helper.from_array(rounded, written))
        return written

    def _dequantised(self, node: onnx.NodeProto, kind: int) -> str:
        written = onnx.NodeProto()
        written.CopyFrom(node)
        written.input[0] = self._had(node.input[0], self.types[node.input[0]])
        written.input[1] = self._had(node.input[1], kind)
        if (node.output[0], FLOAT if kind == HALF else HALF) in self.at_hand or (
            kind == HALF and node.output[0] in self.outputs
        ):
            written.name = self._free(f"{node.name}/{_SUFFIX[kind]}")
            written.output[0] = self._free(f"{node.output[0]}/{_SUFFIX[kind]}")
        self.nodes.append(written)
        return str(written.output[0])

    def _cast(self, name: str, kind: int) -> str:
        """A Cast from the type that the tensor was made in. A graph's output has its own name in float32."""
        source = self.at_hand[name, self.made[name]] if name in self.made else name
        exits = kind == FLOAT and name in self.outputs
        written = name if exits else self._free(f"{name}/{_SUFFIX[kind]}")
        label = self._free(f"{name}/Cast_to_{_SUFFIX[kind]}")
        self.nodes.append(helper.make_node("Cast", [source], [written], name=label, to=kind))
        return written

    def _free(self, wanted: str) -> str:
        name, number = wanted, 2
        while name in self.names:
            name, number = f"{wanted}_{number}", number + 1
        self.names.add(name)
        return name
