"""What is refused before minutes of work, not after them."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from nddr_deploy.data import DATASETS
from nddr_deploy.errors import ConfigError, UnsupportedError, unknown_choice
from nddr_deploy.evaluate.budget import Budget
from nddr_deploy.files import check_place
from nddr_deploy.graph.calibration import METHODS
from nddr_deploy.graph.lint_rule import TARGETS, Target
from nddr_deploy.graph.quantize import left_in_float, quantisable
from nddr_deploy.quantize.judging import Judging
from nddr_deploy.quantize.streams import FORMS
from nddr_deploy.quantize.trials import Trials


def checked_target(name: str) -> Target:
    for target in TARGETS:
        if target == name:
            return target
    raise unknown_choice("target", name, TARGETS)


def check_options(
    *,
    calibration: str | None,
    target: str = "cpu",
    method: str = "minmax",
    streams: str = "auto",
    data: str | None = None,
    images: str | None = None,
    options: Mapping[str, Any] | None = None,
    calibration_options: Mapping[str, Any] | None = None,
    percentile: float | None = None,
    calibration_limit: int = 1,
    limit: int = 1,
    search_limit: int = 1,
    max_trials: int | None = None,
    **others: Any,
) -> None:
    """Refuse what can be refused without any file: arguments of `quantize_model`; others are not looked at.

    Raises:
        ConfigError: an unknown choice, no calibration, or options that contradict each other.
    """
    checked_target(target)
    for what, found, choices in (("method", method, METHODS), ("streams", streams, FORMS)):
        if found not in choices:
            raise unknown_choice(what, found, choices)
    if calibration is None:
        raise ConfigError(
            "Quantising needs pictures to measure ranges on. Give --calibration: a folder, a video, or a data set "
            f"({', '.join(DATASETS)})."
        )
    if data is not None and data not in DATASETS:
        raise unknown_choice("data", data, DATASETS)
    if data is not None and images is not None:
        raise ConfigError("--data and --images both name what is judged on. Give one of them.")
    if data is None and images not in DATASETS and options:
        raise ConfigError(f"The options {', '.join(options)} are of a data set to judge on, and none was given.")
    if calibration not in DATASETS and calibration_options:
        raise ConfigError(
            f"The calibration options {', '.join(calibration_options)} are of a data set; {calibration} is none. Leave "
            "them out."
        )
    if percentile is not None and method != "percentile":
        raise ConfigError(
            f"percentile: {percentile:g} is of the method percentile, not of {method}. Choose that, or leave it out."
        )
    counts = {"calibration_limit": calibration_limit, "limit": limit, "search_limit": search_limit}
    for name, count in {**counts, "max_trials": max_trials}.items():
        if count is not None and count < 1:
            raise ConfigError(f"{name}: got {count}; expected a whole number from 1.")


def check_places(
    source: Path,
    final: Path,
    sensitivity: str | os.PathLike[str] | None,
    report: str | os.PathLike[str] | None,
) -> None:
    """Refuse before minutes of work what could not be used after them."""
    if final.suffix != ".onnx":
        raise ConfigError(f"output: {final} should end in .onnx, by which engines know what they open.")
    if final.resolve() == source.resolve():
        raise ConfigError(f"output: {final} is the float model itself. Choose another name.")
    check_place(final)
    for path in (sensitivity and f"{sensitivity}.csv", report):
        if path:
            check_place(path)


def check_layers(graph: onnx.ModelProto, target: Target, keep: Collection[str], streams: str) -> None:
    """Refuse a graph that cannot be quantised, or nothing of it, and names of layers that it does not have.

    Raises:
        ConfigError: a name in `keep` that is none of a layer.
        ModelFileError, UnsupportedError: see `graph.quantize.quantisable`; or no layer is left to quantise.
    """
    able, floats = quantisable(graph, target), left_in_float(graph, target)
    names = [*able, *(each.node for each in floats)]
    for name in keep:
        if name not in names and streams != "split":  # which makes layers of other names
            raise unknown_choice("keep", name, names)
    if not set(able) - set(keep):
        why = f"{floats[0].node}, for one: {floats[0].reason}" if floats else "it has no layer with weights"
        why = "every layer that can be is to stay in higher precision" if able else why
        raise UnsupportedError(f"Nothing of this model can be quantised for {target} ({why}). Use it as it is.")


def check_measured(budgets: Sequence[Budget], trials: Trials) -> None:
    """Refuse a budget of a metric that the data has no truth for.

    Raises:
        ConfigError: names it.
    """
    if not budgets:
        return  # and the float model need not be judged yet
    found = trials.baseline().result()
    for budget in budgets:
        if math.isnan(found[budget.task][budget.metric]):
            raise ConfigError(
                f"budget {budget.text!r}: on {trials.evaluation.about} the {budget.metric} of the float model is no "
                "number. Judge on other data, or leave it out."
            )


def check_scored(budgets: Sequence[Budget], judging: Judging) -> None:
    """Refuse a budget of a task that the data has no truth for.

    Raises:
        ConfigError: names it.
    """
    scored = [task.name for task in judging.evaluation.tasks]
    for budget in budgets:
        if budget.task not in scored:
            raise ConfigError(
                f"budget {budget.text!r}: {judging.evaluation.about} can judge {', '.join(scored)} only. Judge on "
                "other data, or leave it out."
            )
