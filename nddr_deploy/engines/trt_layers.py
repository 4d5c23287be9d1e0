"""The words in which TensorRT's engine inspector tells of one layer, for 8.6, 10 and 11. TensorRT itself is not needed.

- Tensors. 8.6 and 10 have `Format/Datatype`: "Row major linear FP16 format" to an inspector with an execution context,
  "Half" to one without, and "N/A due to dynamic shapes" where a shape is open. 11 has `Format` and `Datatype` apart.
- Kernels. A convolution tells the type of its weights (`Weights`: `Type`), and the name of most kernels (`TacticName`)
  the types of its arithmetic: in `..._f32f32_tf32f32_f32_...` the third, here TF32, is what is multiplied.
- Fused regions. 8.6 shows one layer `{ForeignNode[first...last]}`; 10 and 11 show the kernels inside: `gemm`,
  `correlation` (a convolution), `fusion` and `kgen`, which is generated and mostly does not multiply.
- `Metadata` names the ONNX nodes of a layer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import Any

UNKNOWN = "unknown"
INTEGER = "integer"  # labels, shapes, pictures: no precision of arithmetic
BITS = {"fp4": 4, "int4": 4, "int8": 8, "fp8": 8, "fp16": 16, "bf16": 16, "fp32": 32, "fp64": 64}

_WORDS = {
    **dict.fromkeys(("double", "float64", "fp64"), "fp64"),
    **dict.fromkeys(("float", "float32", "fp32"), "fp32"),
    **dict.fromkeys(("half", "float16", "fp16"), "fp16"),
    **dict.fromkeys(("bfloat16", "bf16"), "bf16"),
    **dict.fromkeys(("fp8", "e4m3", "e5m2"), "fp8"),
    **dict.fromkeys(("fp4", "e2m1"), "fp4"),
    **{word: word for word in ("int8", "int4")},
    **dict.fromkeys(("bool", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"), INTEGER),
}

_KERNEL_TYPES = {
    **dict.fromkeys(("f32", "tf32"), "fp32"),
    **dict.fromkeys(("e4m3", "e5m2"), "fp8"),
    **dict(
        zip(("f64", "f16", "bf16", "i8", "i4", "e2m1"), ("fp64", "fp16", "bf16", "int8", "int4", "fp4"), strict=True)
    ),
}
_T = "(tf32|bf16|f64|f32|f16|i32|i8|i4|e4m3|e5m2|e2m1)"
# Left operand and result, right operand and sum, scale: f16f16_f16f32_f32.
_KERNEL_ARITHMETIC = re.compile(f"(?:^|_){_T}{_T}_{_T}{_T}_{_T}(?=_|$)")
# Kernels with names of their own. The first match decides: an int8 kernel may also name the type of its result.
_KERNEL_WORDS = (
    ("int8", re.compile(r"imma|int8|i8816|i16832")),
    ("fp32", re.compile(r"tf32")),
    ("bf16", re.compile(r"(?:^|_)bf16")),  # not inside a hexadecimal hash
    ("fp16", re.compile(r"hmma|h884|h1688|h16816|hgemm|hcudnn|fp16")),
    ("fp32", re.compile(r"scudnn|sgemm|fp32")),
)

_MULTIPLYING_TYPE = re.compile(r"conv(?!ert)|correlation|gemm|matrix|matmul|fullyconnected|einsum|attention", re.I)
_MULTIPLYING_KERNEL = re.compile(r"gemm|fprop|dgrad|mha|[cC]onv(?!ert)|Fc")
_MULTIPLYING_NODE = re.compile(
    r"(?:^|_)(?:fused|qlinear)?(?:conv(?:transpose|olution|integer)?|deconv(?:olution)?|gemm|matmul(?:integer|nbits)?"
    r"|einsum|addmm)(?:\dd)?\d*(?=_|$)",
    re.I,
)
_OPERATOR = re.compile(r"[A-Z][A-Za-z]+$")
_NODE_IN_METADATA = re.compile(r"\[ONNX Layer: (.*?)\](?=$|[\x1e\x1f\[])", re.S)

_SMALL = 16  # elements; scalars and scales of whole tensors say nothing about what is multiplied


def kind(record: Mapping[str, Any]) -> str:
    """ "product", "region" (one layer for a whole fused graph), "generated" (a kernel inside one) or "other"."""
    type_, name = str(record["LayerType"]), str(record.get("Name", ""))
    if type_ in ("Myelin", "DLA") or name.startswith("{ForeignNode["):
        return "region"
    if type_.lower() in ("kgen", "fusion"):
        return "generated"
    told = (type_, str(record.get("ParameterType", "")))
    return "product" if any(_MULTIPLYING_TYPE.search(word) for word in told) else "other"


def tensor_types(record: Mapping[str, Any], side: str) -> list[str]:
    """The precisions of `Inputs` or `Outputs`, of those that hold more than a few numbers in two or more dimensions."""
    tensors = [tensor for tensor in record.get(side) or [] if isinstance(tensor, dict)]
    return [_tensor_type(tensor) for tensor in tensors if not _is_small(tensor.get("Dimensions"))]


def weights_type(record: Mapping[str, Any]) -> str | None:
    """None: the layer tells of no weights."""
    weights = record.get("Weights")
    if not isinstance(weights, dict) or weights.get("Count") == 0:
        return None
    return word_type(str(weights.get("Type", "")))


def word_type(text: str) -> str:
    """The first type that is named in `text`; "unknown" where none is."""
    words = (word.lower() for word in re.findall("[A-Za-z][A-Za-z0-9]*", text))
    return next((_WORDS[word] for word in words if word in _WORDS), UNKNOWN)


def kernel_type(record: Mapping[str, Any]) -> str:
    """What the kernel multiplies, by its name; "unknown" where the name does not tell."""
    name = str(record.get("TacticName", ""))
    arithmetic = _KERNEL_ARITHMETIC.search(name)
    if arithmetic:
        return _KERNEL_TYPES.get(arithmetic[3], UNKNOWN)
    return next((precision for precision, words in _KERNEL_WORDS if words.search(name.lower())), UNKNOWN)


def kernel_multiplies(record: Mapping[str, Any]) -> bool:
    return bool(_MULTIPLYING_KERNEL.search(str(record.get("TacticName", ""))))


def multiplying_nodes(record: Mapping[str, Any]) -> list[str]:
    """The ONNX nodes of a layer that are convolutions or matrix products, as far as their names tell."""
    return [node for node in _nodes(record) if _MULTIPLYING_NODE.search(_operator(node))]


def region_may_multiply(record: Mapping[str, Any]) -> bool:
    """A region whose nodes are not all told, or not by operator, may hold anything."""
    if multiplying_nodes(record):
        return True
    all_told = bool(record.get("Metadata")) or "..." not in str(record.get("Name", ""))
    return not all_told or not all(_OPERATOR.match(_operator(node)) for node in _nodes(record))


def _tensor_type(tensor: Mapping[str, Any]) -> str:
    told = (tensor.get(key) for key in ("Datatype", "DataType", "Format/Datatype", "Format"))
    return word_type(str(next((value for value in told if value), "")))


def _is_small(dimensions: object) -> bool:
    if not isinstance(dimensions, list) or not all(isinstance(extent, int) for extent in dimensions):
        return False
    return len(dimensions) < 2 or (min(dimensions) >= 0 and prod(dimensions) < _SMALL)  # -1: open


def _nodes(record: Mapping[str, Any]) -> list[str]:
    """By its Metadata, else by its name."""
    told = _NODE_IN_METADATA.findall(str(record.get("Metadata") or ""))
    if told:
        return list(dict.fromkeys(told))
    name = str(record.get("Name", "")).removeprefix("{ForeignNode[").removesuffix("]}")
    return re.split(r" \+ | \|\| |\.\.\.", name)


def _operator(node: str) -> str:
    """`heads.depth/Conv_2` -> `Conv`. Nodes are named after operators, with a number where it is not the first."""
    return re.split(r"[/.]", re.sub(r"[._]\d+$", "", node))[-1]
