"""A float32 graph -> the same graph in FP16, typed explicitly, as strongly typed runtimes want it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from nddr_deploy.errors import ConfigError, UnsupportedError
from nddr_deploy.graph.flat import check_flat, constants_as_weights
from nddr_deploy.graph.fp16_limits import Kept, beyond_fp16, limits, lost, stand_between
from nddr_deploy.graph.fp16_rewrite import FLOAT, HALF, has_half_form, rewrite
from nddr_deploy.graph.inference import tensor_types
from nddr_deploy.graph.metadata import manifest_of, write_manifest
from nddr_deploy.graph.roles import QUANTISING, Flow
from nddr_deploy.manifest import METADATA_KEY

__all__ = ["Fp16Graph", "Kept", "beyond_fp16", "to_fp16"]

QUANTISE_OPSET = 19  # QuantizeLinear takes FP16 from here on


@dataclass(frozen=True)
class Fp16Graph:
    """What `to_fp16` made.

    Attributes:
        model: the FP16 graph.
        kept: the network's nodes that are left in FP32, with reasons; pre-processing and decoding, which always are,
            are not listed.
    """

    model: onnx.ModelProto
    kept: tuple[Kept, ...]


def to_fp16(model: onnx.ModelProto, ranges: Mapping[str, float], *, keep: Collection[str] = ()) -> Fp16Graph:
    """A copy that computes in FP16 between the first and the last weighted layers.

    Inputs and outputs keep their types. Pre-processing, decoding and what leads from the last weighted layers to
    outputs alone stay in FP32, as do the nodes that `beyond_fp16` names. A tensor is cast where its maker's type is
    not its reader's, once per direction. Weights that FP16 nodes read become FP16.

    Q/DQ pairs stay where they are, with FP16 scales; integers stay integers. A DequantizeLinear has the type in which
    its reader computes (two copies of it, where readers differ), so nothing comes between the pairs and what runtimes
    fuse them with. A scale that FP16 cannot hold keeps its readers in FP32. Such a graph has opset 19 or later
    afterwards.

    Args:
        model: float32, one flat graph; left as it was.
        ranges: from `scan_ranges` of this model, or of one with the same tensors.
        keep: names of further nodes to leave in FP32.

    Raises:
        ConfigError: an unknown name in `keep`, or a tensor without a range.
        UnsupportedError: a graph that holds FP16, BF16 or FP64 already, one that is not flat, or one with Q/DQ that
            cannot be brought to opset 19.
    """
    check_flat(model)
    types = tensor_types(model)
    other = next((name for name, kind in types.items() if kind in (HALF, TensorProto.BFLOAT16, TensorProto.DOUBLE)), "")
    if other:
        kind = TensorProto.DataType.Name(types[other])
        raise UnsupportedError(
            f"{other!r} is {kind}; expected a float32 graph. Convert the one that nddr-export wrote."
        )
    source = constants_as_weights(_with_quantise_opset(model))
    flow = Flow(source)
    chosen = _numbers_of(keep, flow)
    opset = next(entry.version for entry in source.opset_import if entry.domain in ("", "ai.onnx"))
    types = tensor_types(source)

    reasons = {number: text for number, text in limits(source, flow, ranges).items() if _may_be_half(flow, number)}
    reasons.update(_scale_limits(source, flow))
    reasons.update(dict.fromkeys(chosen, "it was asked to stay in FP32"))
    candidates = {
        number
        for number, node in enumerate(flow.nodes)
        if _may_be_half(flow, number) and any(types.get(name) == FLOAT for name in (*node.input, *node.output))
    }
    for number in candidates - reasons.keys():
        if not has_half_form(flow.nodes[number], types, opset):
            reasons[number] = f"{flow.nodes[number].op_type} has no FP16 form"
    _follow_readers(flow, reasons)
    stand_between(flow, reasons, candidates)

    result = rewrite(source, flow, types, opset, candidates - reasons.keys())
    kept = tuple(Kept(flow.nodes[number].name, reasons[number]) for number in sorted(reasons.keys() & candidates))
    try:
        onnx.checker.check_model(result, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())
        raise UnsupportedError(
            f"The graph has no valid form in FP16 ({reason}). Keep the node that it names in FP32, or export again."
        ) from error
    return Fp16Graph(result, kept)


def _with_quantise_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, or a copy in opset 19 where it has Q/DQ and an older one."""
    opset = next((entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
    quantised = any(node.op_type in QUANTISING for node in model.graph.node)
    if opset is None or not quantised or opset.version >= QUANTISE_OPSET:
        return model
    try:
        converted = onnx.version_converter.convert_version(model, QUANTISE_OPSET)
        onnx.checker.check_model(converted, full_check=True)
    except Exception as error:  # the converter's exceptions share no base class
        reason = str(error).strip().splitlines()[-1]
        raise UnsupportedError(
            f"QuantizeLinear takes FP16 from opset {QUANTISE_OPSET} on, and this graph of opset {opset.version} cannot "
            f"be converted ({reason}). Export with --opset {QUANTISE_OPSET} and quantise again."
        ) from error
    converted.ir_version = max(model.ir_version, 9)  # the first that goes with opset 19
    if any(entry.key == METADATA_KEY for entry in converted.metadata_props):
        manifest = manifest_of(converted, source="the model")
        write_manifest(converted, manifest.model_copy(update={"opset": QUANTISE_OPSET}))
    return converted


def _numbers_of(keep: Collection[str], flow: Flow) -> list[int]:
    numbers = {node.name: number for number, node in enumerate(flow.nodes)}
    for name in keep:
        if name not in numbers:
            near = get_close_matches(name, numbers, n=3, cutoff=0.4)
            hint = f"Near are: {', '.join(near)}." if near else "Names are those in the ONNX file."
            raise ConfigError(f"keep: {name!r} is no node of this graph. {hint}")
    return [numbers[name] for name in keep]


def _may_be_half(flow: Flow, number: int) -> bool:
    """Part of the network. A DequantizeLinear has no type of its own: it follows its readers."""
    return flow.roles[number] == "network" and flow.nodes[number].op_type != "DequantizeLinear"


def _scale_limits(model: onnx.ModelProto, flow: Flow) -> dict[int, str]:
    """Nodes that read a scale which FP16 cannot hold: the QuantizeLinear, and the readers of the DequantizeLinear."""
    reasons: dict[int, str] = {}
    scales = {node.input[1] for node in flow.nodes if node.op_type in QUANTISING}
    for weight in model.graph.initializer:
        if weight.name not in scales:
            continue
        values = numpy_helper.to_array(weight)
        if np.any(values > np.finfo(np.float16).max):
            reason = f"the scale {weight.name!r} reaches {values.max():.3g}, more than FP16 holds"
        elif np.any((values > 0) & (values.astype(np.float16) == 0)):
            reason = f"the scale {weight.name!r} holds {values[values > 0].min():.2g}, which vanishes in FP16"
        elif text := lost(weight.name, values):
            reason = f"the scale {text}"
        else:
            continue
        for number in flow.readers[weight.name]:
            affected = [number]
            if flow.nodes[number].op_type == "DequantizeLinear":
                affected = [reader for reader in flow.following(number) if flow.roles[reader] == "network"]
            reasons.update(dict.fromkeys(affected, reason))
    return reasons


def _follow_readers(flow: Flow, reasons: dict[int, str]) -> None:
    """A QuantizeLinear stays in FP32, too, where everything behind it does."""
    for number, node in enumerate(flow.nodes):
        if node.op_type == "QuantizeLinear" and number not in reasons:
            behind = [reader for other in flow.following(number) for reader in flow.following(other)]
            if behind and all(reader in reasons or flow.roles[reader] != "network" for reader in behind):
                reasons[number] = "what it is read by stays in FP32"
