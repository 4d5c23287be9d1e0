"""What one metric was before and after, and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nddr_deploy.tasks.base import MetricForm


@dataclass(frozen=True)
class Change:
    """What one metric was before and after, in its own unit.

    Attributes:
        task, metric: their names.
        form: the metric's unit, and which way is better.
        before, after: over all samples; NaN where nothing valid was seen.
        low, high: the paired bootstrap interval of after - before; NaN where there is none.
    """

    task: str
    metric: str
    form: MetricForm
    before: float
    after: float
    low: float
    high: float

    @property
    def change(self) -> float:
        """after - before; below 0 is better or worse, as `form` says."""
        return self.after - self.before

    @property
    def loss(self) -> float:
        """By how much it became worse; below 0 where it became better."""
        return -self.change if self.form.higher_is_better else self.change

    @property
    def surest_loss(self) -> float:
        """The loss at the worse end of the interval."""
        return -self.low if self.form.higher_is_better else self.high

    def text(self) -> str:
        """For people, as in "-0.31 points" or "+0.05 degrees"."""
        return change_text(self.change, self.form)


def change_text(change: float, form: MetricForm) -> str:
    """A change of a metric for people: shares in percentage points, others in their unit."""
    if math.isnan(change):
        return "not measured"
    if form.unit == "share":
        return f"{_signed(100 * change, 2)} points"
    if form.unit == "ratio":
        return _signed(change, 4)
    return f"{_signed(change, 3)} metres" if form.unit == "metres" else f"{_signed(change, 2)} {form.unit}"


def _signed(value: float, decimals: int) -> str:
    return f"{round(value, decimals) + 0.0:+.{decimals}f}"  # + 0.0: no "-0.00"
