"""Budgets: how much of which metric a smaller precision may cost."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.evaluate.change import Change
from nddr_deploy.tasks.base import MetricForm, Task

NUMBER = re.compile(r"([+-]?)(\d+(?:\.\d*)?|\.\d+)(%?)")
EXAMPLE = "segmentation.mIoU=-0.5"
ROUNDING = 1e-12  # a loss that equals the limit in decimals holds it, whatever its last bits


@dataclass(frozen=True)
class Budget:
    """How much one metric may lose.

    Attributes:
        task, metric: their names.
        allowed: the loss, 0 or more: in the metric's own unit, or as a share of its value before where `relative`.
        text: as it was asked for.
        relative: whether `allowed` is a share of the value before.
    """

    task: str
    metric: str
    allowed: float
    text: str
    relative: bool = False

    def limit(self, before: float) -> float:
        """The loss that is allowed, in the metric's own unit."""
        return self.allowed * abs(before) if self.relative else self.allowed

    def holds(self, change: Change, *, sure: bool = False) -> bool:
        """Whether a change stays within the budget.

        Args:
            change: of the budget's own task and metric.
            sure: at the worse end of the change's interval, too.
        """
        return self.excess(change, sure=sure) == 0

    def excess(self, change: Change, *, sure: bool = False) -> float:
        """By how much more the metric lost than is allowed, in its own unit; 0 where the budget holds.

        Infinite where nothing was measured: a budget is no promise about what nobody saw.

        Args:
            change, sure: as for `holds`.
        """
        losses = (change.loss, change.surest_loss) if sure else (change.loss,)
        if any(map(math.isnan, losses)):
            return math.inf
        over = max(losses) - self.limit(change.before)
        return over if over > ROUNDING else 0.0


def parse_budgets(texts: Sequence[str], tasks: Sequence[Task], *, labelled: bool = True) -> tuple[Budget, ...]:
    """Budgets from texts such as "segmentation.mIoU=-0.5".

    The number is a change to the worse: below 0 for a metric whose larger values are better, else above, or 0. Its
    unit is the metric's own, as in "normals.mean_angle=+0.3" (degrees), but percentage points where that is a share.
    With a % it is a part of the value before, as in "depth.AbsRel=+1%". Without a metric, as in "normals=+0.3", it is
    the task's headline metric.

    Args:
        texts: TASK.METRIC=CHANGE.
        tasks: that are scored.
        labelled: whether the truth comes with the data; against a reference its errors are 0, of which no part can be
            allowed.

    Raises:
        ConfigError: another form, an unknown task or metric, the wrong sign, one metric twice, or a part of 0.
    """
    budgets: dict[tuple[str, str], Budget] = {}
    for text in texts:
        budget = _parse(text, tasks, labelled)
        if other := budgets.get((budget.task, budget.metric)):
            raise ConfigError(
                f"budget: {other.text!r} and {text!r} are of the same metric, {budget.task}.{budget.metric}. Give one."
            )
        budgets[budget.task, budget.metric] = budget
    return tuple(budgets.values())


def _parse(text: str, tasks: Sequence[Task], labelled: bool) -> Budget:
    name, equals, number = text.partition("=")
    name, dot, metric = name.strip().partition(".")  # a metric may have dots of its own: within_11.25
    found = NUMBER.fullmatch(number.strip())
    if not equals or not name or (dot and not metric) or not found:
        raise ConfigError(f"budget: expected TASK.METRIC=CHANGE, as in {EXAMPLE}; got {text!r}.")
    task = {task.name: task for task in tasks}.get(name)
    if task is None:
        raise unknown_choice(f"budget {text!r}: task", name, [task.name for task in tasks])
    metric = metric or task.headline
    if metric not in task.metrics:
        raise unknown_choice(f"budget {text!r}: metric of {name}", metric, task.metrics)
    form = task.metrics[metric]
    sign, size, percent = found[1], float(found[2]), bool(found[3])
    _check_sign(text, form, sign, size)
    if percent and not labelled and not form.higher_is_better:
        raise ConfigError(
            f"budget {text!r}: without labels the float model's own results are the truth, so its {metric} is 0 and "
            "a part of it nothing. Give the change itself, without %."
        )
    return Budget(name, metric, size / 100 if percent or form.unit == "share" else size, text, percent)


def _check_sign(text: str, form: MetricForm, sign: str, size: float) -> None:
    worse, direction = ("-", "higher") if form.higher_is_better else ("+", "lower")
    if size and sign != worse:
        number = text.partition("=")[2].strip().lstrip("+-")
        raise ConfigError(
            f"budget {text!r}: {direction} is better, so what may be lost is written {worse}{number}. "
            "Give a change to the worse, or 0."
        )
