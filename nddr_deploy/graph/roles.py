"""Which part of a model a node belongs to: pre-processing, the network itself, or what is made of its raw outputs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

import onnx

Role = Literal["sizes", "preprocessing", "network", "decoding"]
WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "GRU", "LSTM", "RNN", "Attention", "DeformConv"}
QUANTISING = {"QuantizeLinear", "DequantizeLinear"}
_MOVING = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}


class Flow:
    """A flat graph as its nodes by number, who makes which tensor and who reads it, and each node's role.

    A *weighted* node multiplies by weights, or two tensors with each other; the expected value over a softmax's
    classes does not count. *Pre-processing* comes before the first one, *decoding* leads from the last ones to outputs
    alone, the *network* is what lies between; *sizes* depend on no value of the images, only on their shape, or on
    weights alone. A quantisation belongs to the weighted node that it leads to.

    Attributes:
        nodes: in the file's order.
        constants: weights by name.
        makers: tensor -> number of its node.
        readers: tensor -> numbers of the nodes that read it.
        weighted: numbers of the weighted nodes.
        roles: by number.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes: Sequence[onnx.NodeProto] = list(model.graph.node)
        self.constants = {weight.name: weight for weight in model.graph.initializer}
        self.makers = {name: number for number, node in enumerate(self.nodes) for name in node.output if name}
        self.readers: dict[str, list[int]] = defaultdict(list)
        for number, node in enumerate(self.nodes):
            for name in dict.fromkeys(node.input):
                if name:
                    self.readers[name].append(number)
        images = [value.name for value in model.graph.input if value.name not in self.constants]
        self.reached = self._reached(images)
        candidates = [
            number for number, node in enumerate(self.nodes) if node.op_type in WEIGHTED and number in self.reached
        ]
        self.weighted = {number for number in candidates if not self._is_expectation(number, candidates)}
        after = self._after(self.weighted)
        before = self._before(self.weighted)
        self.roles: list[Role] = [
            self._role(number, number in before, number in after) for number in range(len(self.nodes))
        ]

    def following(self, number: int) -> Iterable[int]:
        """The nodes that read what this one makes."""
        return (reader for name in self.nodes[number].output for reader in self.readers.get(name, ()))

    def preceding(self, number: int) -> Iterable[int]:
        """The nodes that make what this one reads."""
        return (self.makers[name] for name in self.nodes[number].input if name in self.makers)

    def _role(self, number: int, before: bool, after: bool) -> Role:
        """`before` and `after` a weighted node, or one itself."""
        if self.nodes[number].op_type in QUANTISING and before:
            return "network"
        if number not in self.reached:
            return "sizes"
        if before and after:
            return "network"
        return "decoding" if after else "preprocessing"

    def _reached(self, images: Iterable[str]) -> set[int]:
        """The nodes whose results depend on the images' values."""
        values = set(images)
        reached = set()
        for number, node in enumerate(self.nodes):
            if node.op_type not in ("Shape", "Size") and values.intersection(node.input):
                reached.add(number)
                values.update(node.output)
        return reached

    def _is_expectation(self, number: int, candidates: Sequence[int]) -> bool:
        """softmax @ values, one number per image or pixel, on the way to an output: decoding, no layer."""
        node = self.nodes[number]
        if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in self.constants:
            return False
        source = self.makers.get(node.input[0])
        while source is not None and self.nodes[source].op_type in _MOVING:
            source = self.makers.get(self.nodes[source].input[0])
        if source is None or self.nodes[source].op_type != "Softmax":
            return False
        return self._after({number}).isdisjoint(set(candidates) - {number})

    def _after(self, starts: Iterable[int]) -> set[int]:
        found, waiting = set(), list(starts)
        while waiting:
            number = waiting.pop()
            if number not in found:
                found.add(number)
                waiting.extend(self.following(number))
        return found

    def _before(self, starts: Iterable[int]) -> set[int]:
        found, waiting = set(), list(starts)
        while waiting:
            number = waiting.pop()
            if number not in found:
                found.add(number)
                waiting.extend(self.preceding(number))
        return found
