"""What is done where NDDR joins streams of different range: measured, not assumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx

from nddr_deploy.errors import unknown_choice
from nddr_deploy.evaluate.budget import Budget
from nddr_deploy.evaluate.change import Change
from nddr_deploy.graph.calibration import Range
from nddr_deploy.graph.equalise import EqualisedLayer, equalise_streams
from nddr_deploy.graph.fusion_layers import fusion_layers
from nddr_deploy.graph.split_fusion import split_fusion
from nddr_deploy.quantize.trials import Trials

FORMS = ("auto", "plain", "equalised", "split")
CLEARLY = 0.8  # of another form's loss, and
BY_MORE_THAN_NOISE = 0.1  # of what is allowed: what a form of more nodes must be better by, to be worth them
LEAST_LOSS = {"share": 1e-3, "degrees": 0.02, "metres": 1e-3, "years": 0.02, "ratio": 1e-3}  # noise below that

Calibrate = Callable[[onnx.ModelProto, Sequence[str]], Mapping[str, Range]]
MakeTrials = Callable[[onnx.ModelProto], Trials]


@dataclass(frozen=True)
class Form:
    """One way of treating the streams.

    Attributes:
        name: one of `FORMS`, but not "auto".
        trials: of the graph in that form, in which nothing has to stay in float.
        layers: what became of each NDDR layer, where streams were equalised.
        loss: of everything quantised, see `loss_of`; NaN where it was not measured.
    """

    name: str
    trials: Trials
    layers: tuple[EqualisedLayer, ...] = ()
    loss: float = float("nan")


def choose_form(
    model: onnx.ModelProto,
    asked: str,
    calibrate: Calibrate,
    make: MakeTrials,
    budgets: Sequence[Budget],
) -> tuple[Form, tuple[Form, ...]]:
    """The form that was asked for; with "auto", that of the least loss on the samples of the trials.

    Equalising costs nothing at run time, so it is taken unless plain is better. Splitting costs nodes, so it has to be
    clearly better than both.

    Args:
        model: flat, float32.
        asked: one of `FORMS`.
        calibrate: ranges of tensors of a graph.
        make: trials of a graph.
        budgets: what losses are weighed by.

    Returns:
        The form, and all that were measured.

    Raises:
        ConfigError: an unknown form.
    """
    if asked not in FORMS:
        raise unknown_choice("streams", asked, FORMS)
    layers = fusion_layers(model)
    if not layers and asked == "auto":
        asked = "plain"  # nothing is joined
    wanted = ("equalised", "plain", "split") if asked == "auto" else (asked,)
    forms: list[Form] = []
    for name in wanted:
        graph = model
        report: tuple[EqualisedLayer, ...] = ()
        if name == "equalised":
            ranges = calibrate(model, [stream.tensor for layer in layers for stream in layer.streams])
            equalised = equalise_streams(model, ranges)
            graph, report = equalised.model, equalised.layers
            if asked == "auto" and not any(layer.applied for layer in report):
                continue  # it would be the plain form
        elif name == "split":
            graph = split_fusion(model)
        trials = make(graph)
        forms.append(Form(name, trials, report))
    if len(forms) == 1:
        return forms[0], tuple(forms)
    measured = [replace(form, loss=loss_of(form.trials.changes(()), form.trials, budgets)) for form in forms]
    best = measured[0]
    for form in measured[1:]:
        clearly = form.loss < best.loss * CLEARLY and form.loss < best.loss - BY_MORE_THAN_NOISE
        if clearly or (form.name == "plain" and form.loss < best.loss):
            best = form
    return best, tuple(measured)


def loss_of(changes: Sequence[Change], trials: Trials, budgets: Sequence[Budget]) -> float:
    """The sum over the budgets' metrics (without any, the tasks' headline metrics) of each loss in its own measure.

    That is what its budget allows, or 1 % of the float value, or what is noise, whichever is largest. What became
    better counts as no loss.
    """
    allowed = {(budget.task, budget.metric): budget for budget in budgets}
    headlines = {(task.name, task.headline) for task in trials.evaluation.tasks}
    total = 0.0
    for change in changes:
        place = (change.task, change.metric)
        if place not in (allowed or headlines):
            continue
        limit = allowed[place].limit(change.before) if place in allowed else 0.01 * abs(change.before)
        total += max(change.loss, 0.0) / max(limit, LEAST_LOSS[change.form.unit])
    return total
