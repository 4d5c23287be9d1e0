"""What precision a built TensorRT plan runs in, from the JSON of TensorRT's engine inspector: text in, values out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor
from typing import Any

from nddr_deploy.engines import trt_layers as words
from nddr_deploy.engines.trt_layers import BITS, INTEGER, UNKNOWN
from nddr_deploy.errors import ModelFileError, UnsupportedError

_LISTED = 10
_CHOICES = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class LayerPrecision:
    """One layer of a plan.

    Attributes:
        name, type: as TensorRT has them.
        precision: of its arithmetic, "fp32", "fp16", "bf16", "int8", ...; "integer" where it touches neither floats nor
            int8; "unknown" where it is not told, or in words that are not known here. TF32 is fp32, the type of the
            tensors.
        opaque: a fused region or a generated kernel, judged only by the types of its tensors.
        multiplies: it holds a convolution or a matrix product.
        nodes: how many such ONNX nodes it holds; 1 where this is not told.
    """

    name: str
    type: str
    precision: str
    opaque: bool
    multiplies: bool
    nodes: int = 1


@dataclass(frozen=True)
class Realised:
    """The layers of a plan. Counts and shares are of the ONNX nodes that multiply; the others follow these."""

    layers: tuple[LayerPrecision, ...]

    @cached_property
    def multiplying(self) -> tuple[LayerPrecision, ...]:
        return tuple(layer for layer in self.layers if layer.multiplies)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Precision -> nodes that multiply, the most frequent first."""
        counts: Counter[str] = Counter()
        for layer in self.multiplying:
            counts[layer.precision] += layer.nodes
        return dict(counts.most_common())

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def main(self) -> str:
        """The precision that most of what multiplies has; "unknown" where nothing multiplies."""
        return next(iter(self.counts), UNKNOWN)

    def share(self, precision: str) -> float:
        """From 0 to 1; 0 where nothing multiplies."""
        return self.counts.get(precision, 0) / max(1, self.total)

    def others(self, precision: str) -> tuple[LayerPrecision, ...]:
        """What multiplies in another precision."""
        return tuple(layer for layer in self.multiplying if layer.precision != precision)

    def to_dict(self, asked: str | None = None) -> dict[str, Any]:
        """For the manifest: JSON types only. `asked`: a precision; `main` where none is given."""
        asked = self.main if asked is None else asked
        return {
            "asked": asked,
            "share": round(self.share(asked), 4),
            "counts": dict(self.counts),
            "others": [{"name": layer.name, "precision": layer.precision} for layer in self.others(asked)],
            "opaque": [
                {"name": layer.name, "precision": layer.precision} for layer in self.multiplying if layer.opaque
            ],
        }

    def text(self) -> str:
        """A few lines for people."""
        shares = [f"{count} in {precision} ({self.share(precision):.0%})" for precision, count in self.counts.items()]
        lines = [f"{self.total} convolutions and matrix products: {', '.join(shares) or 'none is known'}."]
        opaque = [layer for layer in self.multiplying if layer.opaque]
        if opaque:
            lines.append(f"Fused by TensorRT, so judged only by the types of their tensors: {_list(opaque)}.")
        lines.append("How long each takes is not known from this.")
        return "\n".join(lines)


def read_inspector(text: str) -> Realised:
    """The layers of a plan that was built with ProfilingVerbosity.DETAILED.

    Args:
        text: `EngineInspector.get_engine_information(LayerInformationFormat.JSON)` of TensorRT 8.6, 10 or 11.

    Raises:
        ModelFileError: not the JSON that TensorRT writes.
        UnsupportedError: the plan was built with less than detailed verbosity.
    """
    records = _records(text)
    products = [
        record
        for record in records
        if words.kind(record) == "product" or (words.kind(record) == "generated" and words.kernel_multiplies(record))
    ]
    claimed = {node for record in products for node in words.multiplying_nodes(record)}
    return Realised(tuple(_judge(record, claimed) for record in records))


def check_realised(realised: Realised, *, asked: str, graph_share: float, least: float, source: str) -> None:
    """Refuse a plan that does not have the precision that was asked for.

    Args:
        asked: "fp32", where no layer at all may be narrower; "fp16" or "int8", where a share is enough.
        graph_share: the share of what multiplies that the graph asks to be in `asked`, 0 to 1; the rest was kept in
            another precision on purpose.
        least: the share of that share which is enough, 0 to 1.
        source: the model, for the message.

    Raises:
        UnsupportedError: too little is in `asked`; the message lists the layers.
    """
    narrower = [layer for layer in realised.layers if BITS.get(layer.precision, 32) < 32]
    if asked == "fp32" and narrower:
        raise UnsupportedError(
            f"{source}: asked for fp32, but TensorRT built {len(narrower)} of {len(realised.layers)} layers narrower: "
            f"{_list(narrower)}. Expected none: build from the FP32 graph, without FP16 casts or Q/DQ."
        )
    total, found = realised.total, realised.counts.get(asked, 0)
    if total == 0 and least * graph_share > 0:
        types = ", ".join(sorted({layer.type for layer in realised.layers}))
        raise UnsupportedError(
            f"{source}: asked for {asked}, but none of TensorRT's {len(realised.layers)} layers ({types}) is known to "
            "multiply, so the precision cannot be checked. Expected convolutions or matrix products: report this with "
            "the version of TensorRT."
        )
    wanted = ceil(least * graph_share * total - 1e-9)  # 0.5 * (1 - 3 / 9) * 9 is a little more than 3
    if found >= wanted:
        return
    others = realised.others(asked)
    opaque = [layer for layer in others if layer.opaque]
    notes = ""
    if found + sum(layer.nodes for layer in opaque) >= wanted:
        notes += f" Of these, fused regions decide, which only the types of their tensors tell of: {_list(opaque)}."
    if UNKNOWN in realised.counts:
        notes += " TensorRT does not tell what is unknown; of fixed shapes it tells more than of open ones."
    enough = floor(100 * found / (graph_share * total)) / 100
    remedies = [f"ask for --precision {realised.main}"] if realised.main in {*_CHOICES} - {asked} else []
    remedies += [f"accept this plan with --least-share {enough:.2f}"] if enough else []
    remedy = " or ".join(remedies) or "build with fixed shapes or another version of TensorRT"
    raise UnsupportedError(
        f"{source}: asked for {asked}, but of {total} convolutions and matrix products TensorRT built "
        f"{', '.join(f'{count} in {precision}' for precision, count in realised.counts.items())}; expected at least "
        f"{wanted} in {asked}. Not in {asked}: {_list(others)}.{notes} "
        f"{remedy[0].upper()}{remedy[1:]}."
    )


def _list(layers: Collection[LayerPrecision]) -> str:
    named = [f"{_short(layer.name)} ({layer.precision})" for layer in list(layers)[:_LISTED]]
    more = len(layers) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _short(name: str) -> str:
    """Names of fused layers run to thousands of characters, with control characters between their nodes."""
    name = "".join(character if character.isprintable() else " " for character in name)
    return name if len(name) <= 80 else f"{name[:79]}…"


def _records(text: str) -> list[Mapping[str, Any]]:
    try:
        # Not strict: Metadata separates names by control characters, which not every version escapes.
        found = json.loads(text, strict=False)
    except ValueError as error:
        raise ModelFileError(
            f"TensorRT's list of layers is damaged JSON ({error}). Expected what its engine inspector writes; a "
            "quotation mark in the name of an ONNX node breaks it: rename such nodes."
        ) from error
    layers = found.get("Layers") if isinstance(found, dict) else found
    if not isinstance(layers, list) or not all(isinstance(layer, str | dict) for layer in layers):
        raise ModelFileError(
            "TensorRT's list of layers holds no list `Layers` of names or objects. Expected the JSON that its engine "
            "inspector writes; give that text unchanged."
        )
    detailed: list[Mapping[str, Any]] = [
        layer for layer in layers if isinstance(layer, dict) and isinstance(layer.get("LayerType"), str)
    ]
    if not layers or len(detailed) < len(layers):
        raise UnsupportedError(
            f"The plan has no details of {len(layers) - len(detailed)} of its {len(layers)} layers, so the precision "
            "it runs in is not known. Expected a plan built with ProfilingVerbosity.DETAILED: build it again with "
            "`nddr-build`, which does so."
        )
    return detailed


def _judge(record: Mapping[str, Any], claimed: Collection[str]) -> LayerPrecision:
    """`claimed`: the nodes that kernels which surely multiply stand for.

    The Metadata of a generated kernel also names products that it only prepares or finishes.
    """
    kind, nodes = words.kind(record), words.multiplying_nodes(record)
    multiplies, opaque = kind == "product", kind in ("region", "generated")
    if kind == "region":
        multiplies = words.region_may_multiply(record)
    elif kind == "generated":
        multiplies = words.kernel_multiplies(record) or any(node not in claimed for node in nodes)
        opaque = not (multiplies and words.kernel_type(record) != UNKNOWN)
    if not multiplies:
        precision = _narrowest([*words.tensor_types(record, "Inputs"), *words.tensor_types(record, "Outputs")])
    else:
        precision = _of_region(record) if opaque else _of_product(record)
    return LayerPrecision(
        str(record.get("Name", "")), record["LayerType"], precision, opaque, multiplies, max(1, len(nodes))
    )


def _of_product(record: Mapping[str, Any]) -> str:
    """The type of the weights and of what they multiply; where these differ or are not told, the kernel's name."""
    inputs = [told for told in words.tensor_types(record, "Inputs") if told != INTEGER]
    votes = [words.weights_type(record), *inputs[:1]]  # later inputs: a residual, a bias
    known = {vote for vote in votes if vote not in (None, UNKNOWN)}
    only = str(known.pop()) if len(known) == 1 else UNKNOWN
    if only != UNKNOWN and votes == [only, only]:
        return only
    kernel = words.kernel_type(record)
    return only if kernel == UNKNOWN else kernel


def _of_region(record: Mapping[str, Any]) -> str:
    """Int8 that goes in is multiplied as such; else the narrowest float that goes in or out."""
    inputs, outputs = words.tensor_types(record, "Inputs"), words.tensor_types(record, "Outputs")
    if UNKNOWN in (*inputs, *outputs):
        return UNKNOWN
    if "int8" in inputs:
        return "int8"
    floats = [told for told in (*inputs, *outputs) if told not in ("int8", INTEGER)]
    return _narrowest(floats) if floats else UNKNOWN


def _narrowest(types: list[str]) -> str:
    told = [type_ for type_ in types if type_ in BITS]
    if told:
        return min(told, key=lambda type_: BITS[type_])
    return UNKNOWN if UNKNOWN in types else INTEGER
