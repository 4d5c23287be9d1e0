"""Rules for where Q/DQ pairs stand: around additions, between convolution and ReLU, and what is better left out."""

from __future__ import annotations

from nddr_deploy.graph.lint_rule import TARGETS, TENSORRT, Found, Rule, Target
from nddr_deploy.graph.quantised_flow import QuantisedFlow

FEWEST_CHANNELS = 16  # a convolution of fewer gains nothing from int8
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_AFFINE = ("Mul", "Add", "Sub", "Div")
_ACTIVATIONS = ("Relu", "Clip")


def residual_add(graph: QuantisedFlow, target: Target) -> Found:
    if target == "cpu":
        yield from _integer_add(graph)
        return
    for number, branches in _residuals(graph):
        dequantised = [name for name in graph.node(number).input if graph.dequantiser(name) is not None]
        if len(dequantised) == len(graph.node(number).input):
            layer = next(branch for branch in branches if branch is not None)
            yield (
                number,
                f"{graph.named(number)} adds two branches that are both quantised; TensorRT adds within the "
                "convolution where only the identity branch goes through Q/DQ. Remove the pair between "
                f"{graph.named(layer)} and the addition.",
            )


def residual_identity(graph: QuantisedFlow, target: Target) -> Found:
    for number, _ in _residuals(graph):
        if all(graph.dequantiser(name) is None for name in graph.node(number).input):
            yield (
                number,
                f"{graph.named(number)} adds two branches of which none is quantised; the convolution then returns "
                "float, and the identity is read in float. Put a Q/DQ pair on the identity branch.",
            )


def _integer_add(graph: QuantisedFlow) -> Found:
    for number in graph.moving(("Add", "Sum")):
        node = graph.node(number)
        if not all(map(graph.is_activation, node.input)) or not _is_quantised_after(graph, number):
            continue
        rest = [name for name in node.input if graph.dequantiser(name) is None]
        # a layer in int8 has a rule of its own, and one that was left in float has no use for a pair behind it
        strange = [name for name in rest if graph.flow.makers.get(name) not in graph.flow.weighted]
        if strange and len(rest) < len(node.input):
            yield (
                number,
                f"{graph.named(number)} adds {strange[0]!r} in float to a quantised branch; ONNX Runtime adds integers "
                "only where both branches and the sum are quantised. Put a Q/DQ pair on that branch, too.",
            )


def _is_quantised_after(graph: QuantisedFlow, number: int) -> bool:
    reader = graph.only_reader(number)
    if reader is not None and graph.operation(reader) in _ACTIVATIONS:
        number = reader
    return bool(graph.quantisers(graph.node(number).output[0]))


def _residuals(graph: QuantisedFlow) -> list[tuple[int, list[int | None]]]:
    """Additions of two activations of which a quantised convolution makes one: its number, or None, per branch."""
    layers = {layer.number for layer in graph.layers if graph.operation(layer.number) in _CONVOLUTIONS}
    found = []
    for number in graph.moving(("Add",)):
        names = graph.node(number).input
        if all(map(graph.is_activation, names)):
            makers = [graph.flow.makers.get(graph.before_pair(name)) for name in names]
            branches = [maker if maker in layers else None for maker in makers]
            if any(branch is not None for branch in branches):
                found.append((number, branches))
    return found


def nothing_between(graph: QuantisedFlow, target: Target) -> Found:
    for layer in graph.layers:
        if graph.operation(layer.number) not in _CONVOLUTIONS:
            continue
        number = graph.only_reader(layer.number)
        passed: list[int] = []
        while number is not None and _may_be_between(graph, number):
            passed.append(number)
            number = graph.only_reader(number)
        folds = next((other for other in passed if graph.operation(other) == "BatchNormalization"), None)
        activation = number if number is not None and graph.operation(number) in _ACTIVATIONS else None
        if folds is None and (activation is None or not passed):
            continue
        between = passed[0] if folds is None else folds
        if graph.operation(between) == "QuantizeLinear":
            do = "Quantise behind the activation instead"
        else:
            do = "Fold it into the convolution before quantising (nddr-export does)"
        reader = "what reads it" if activation is None else f"its {graph.named(activation)}"
        yield (
            layer.number,
            f"{graph.named(between)} comes between {graph.named(layer.number)} and {reader}; they are one kernel only "
            f"where nothing does. {do}.",
        )


def _may_be_between(graph: QuantisedFlow, number: int) -> bool:
    node = graph.node(number)
    if node.op_type in _AFFINE:
        return sum(map(graph.is_activation, node.input)) == 1
    return node.op_type in ("QuantizeLinear", "DequantizeLinear", "BatchNormalization")


def weights_alone(graph: QuantisedFlow, target: Target) -> Found:
    for number in graph.weighted:
        values, weights = (graph.dequantiser(name) for name in graph.node(number).input[:2])
        if weights is not None and values is None:
            yield (
                number,
                f"{graph.named(number)} has quantised weights, but what it reads is in float "
                f"({graph.node(number).input[0]!r}), so it computes in float with coarser weights. Put a Q/DQ pair "
                "directly before it, or leave its weights in float.",
            )


def last_layers(graph: QuantisedFlow, target: Target) -> Found:
    leads_on: set[int] = set()  # nodes that a weighted node follows
    for number in range(len(graph.flow.nodes) - 1, -1, -1):
        if any(other in leads_on or other in graph.flow.weighted for other in graph.flow.following(number)):
            leads_on.add(number)
    layers = {layer.number for layer in graph.layers}
    for number in graph.weighted:
        if number in leads_on:
            continue
        output = graph.node(number).output[0]
        if number in layers:
            found = "is quantised"
        elif graph.quantisers(output):
            found = "has its result quantised"
        else:
            continue
        yield (
            number,
            f"{graph.named(number)} is the last layer of a head and {found}; it costs little time and its "
            "rounding goes straight into the result. Leave it in float.",
        )


def few_channels(graph: QuantisedFlow, target: Target) -> Found:
    for layer in graph.layers:
        stored = graph.integers(layer.weights)
        if graph.operation(layer.number) not in _CONVOLUTIONS or stored is None or stored.ndim < 2:
            continue
        groups = next((a.i for a in graph.node(layer.number).attribute if a.name == "group"), 1)
        turned = graph.operation(layer.number) == "ConvTranspose"  # (in, out / groups), else (out, in / groups)
        channels = (stored.shape[0], stored.shape[1] * groups)
        into, out = channels if turned else channels[::-1]
        if min(into, out) < FEWEST_CHANNELS:
            yield (
                layer.number,
                f"{graph.named(layer.number)} has {into} channels in and {out} out; below {FEWEST_CHANNELS} int8 gains "
                "no time and costs accuracy. Leave it in float.",
            )


PLACES = (
    Rule(
        "residual-add",
        "error",
        TARGETS,
        "tensorrt: of a residual sum's branches only the identity is quantised; cpu: all are, where the sum is",
        residual_add,
    ),
    Rule("conv-relu", "error", TARGETS, "nothing comes between a convolution and its ReLU", nothing_between),
    Rule("weights-alone", "error", TARGETS, "a layer with quantised weights reads quantised values", weights_alone),
)
HINTS = (
    Rule(
        "residual-identity",
        "warning",
        TENSORRT,
        "the identity branch of a residual sum is quantised",
        residual_identity,
    ),
    Rule("last-layer", "warning", TARGETS, "the last layer of a head stays in float", last_layers),
    Rule("few-channels", "warning", TARGETS, "convolutions of fewer than 16 channels stay in float", few_channels),
)
