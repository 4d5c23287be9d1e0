"""What is done where NDDR joins streams of different range: measured, not assumed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx

from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.evaluate.change import Change
from nddr_deploy.graph.calibration import Range
from nddr_deploy.graph.equalise import EqualisedLayer, equalise_streams
from nddr_deploy.graph.fusion_layers import FusionLayer, fusion_layers
from nddr_deploy.graph.split_fusion import split_fusion

FORMS = ("auto", "plain", "equalised", "split", "float")
# Of the disagreement of the form before it, what another one must come down to in order to be taken. Plain and
# equalised cost the same at run time; what splits adds nodes, and what leaves whole layers in float adds their time: it
# has to be worth that.
WORTH = {"plain": 0.9, "split": 0.75, "float": 0.5}
LEAST_GAIN = 0.02  # in the same units: what is less is noise
# What counts as one, of each metric's unit.
UNITS = {"share": 0.01, "degrees": 0.5, "metres": 0.01, "years": 0.5, "ratio": 0.01}

Calibrate = Callable[[onnx.ModelProto, Sequence[str]], Mapping[str, Range]]
Disagreement = Callable[[onnx.ModelProto, Collection[str]], float]


@dataclass(frozen=True)
class Form:
    """One way of treating the streams.

    Attributes:
        name: one of `FORMS`, but not "auto".
        model: the float graph in that form.
        layers: what became of each NDDR layer, where streams were equalised.
        keep: the NDDR layers' convolutions, where those stay in float.
        disagreement: with the float model where everything else is quantised; None where it was not measured.
    """

    name: str
    model: onnx.ModelProto
    layers: tuple[EqualisedLayer, ...] = ()
    keep: tuple[str, ...] = ()
    disagreement: float | None = None


def choose_form(
    model: onnx.ModelProto,
    asked: str,
    calibrate: Calibrate,
    disagreement: Disagreement,
    keep: Collection[str] = (),
    *,
    searched: bool = False,
) -> tuple[Form, tuple[Form, ...]]:
    """The form that was asked for; with "auto", equalised where it can be and another is not clearly better.

    Args:
        model: flat, float32.
        asked: one of `FORMS`.
        calibrate: ranges of tensors of a graph.
        disagreement: of a graph, everything in it quantised but layers of these names, with the float model; infinite
            where nothing is left to quantise.
        keep: names of nodes that stay in float.
        searched: a search for the fewest layers in float follows, which "auto" then leaves NDDR layers to, too.

    Returns:
        The form, and all that were looked at.

    Raises:
        ConfigError: an unknown form, or one of streams that are not joined.
        UnsupportedError: "split" was asked for, and something stands between a layer's Concat and its convolutions.
    """
    if asked not in FORMS:
        raise unknown_choice("streams", asked, FORMS)
    layers = fusion_layers(model)
    if not layers and asked in ("equalised", "split", "float"):
        raise ConfigError(f"streams: {asked!r} was asked for, but nothing joins streams in this model. Leave it out.")
    if asked != "auto":
        form = _form(asked, model, layers, calibrate)
        return form, (form,)
    wanted = ["equalised", "plain"] if layers else ["plain"]
    named = any(name in keep for layer in layers for name in layer.convolutions.values())
    if layers and not named and not any(layer.between for layer in layers):
        wanted.append("split")  # after which nodes that were named would be others
    if layers and not searched:
        wanted.append("float")
    forms = [_form(name, model, layers, calibrate) for name in wanted]
    if forms[0].name == "equalised" and not any(layer.applied for layer in forms[0].layers):
        forms = forms[1:]  # it would be the plain form
    if len(forms) == 1:
        return forms[0], tuple(forms)
    measured = [replace(form, disagreement=disagreement(form.model, form.keep)) for form in forms]
    measured = [form for form in measured if form.disagreement != math.inf]  # nothing would be quantised
    best = measured[0]
    for form in measured[1:]:
        before, after = best.disagreement or 0.0, form.disagreement or 0.0
        if after < before * WORTH[form.name] and before - after > LEAST_GAIN:
            best = form
    return best, tuple(measured)


def joining(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the convolutions of NDDR layers, in the graph's order."""
    return tuple(name for layer in fusion_layers(model) for name in layer.convolutions.values())


def disagreement_of(changes: Sequence[Change]) -> float:
    """One number for how far a variant is from the float model, whose own results were the truth.

    The mean over the tasks of the mean over their metrics, each in units of `UNITS`: a percentage point, half a degree,
    a centimetre, half a year. Metrics of which nothing was measured do not count.
    """
    tasks: dict[str, list[float]] = {}
    for change in changes:
        if not math.isnan(change.loss):
            tasks.setdefault(change.task, []).append(max(change.loss, 0.0) / UNITS[change.form.unit])
    means = [sum(losses) / len(losses) for losses in tasks.values()]
    return sum(means) / max(1, len(means))


def _form(name: str, model: onnx.ModelProto, layers: Sequence[FusionLayer], calibrate: Calibrate) -> Form:
    if name == "split":
        return Form(name, split_fusion(model))
    if name == "plain":
        return Form(name, model)
    if name == "float":
        return Form(name, model, keep=joining(model))
    ranges = calibrate(model, [stream.tensor for layer in layers for stream in layer.streams])
    equalised = equalise_streams(model, ranges)
    return Form(name, equalised.model, equalised.layers)
