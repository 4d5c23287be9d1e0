"""What a budget lets a metric change by, as people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nddr_deploy.page.figures import change_text

if TYPE_CHECKING:
    from nddr_deploy.card.schema import HeadMetric


def allowed_text(head: HeadMetric) -> str:
    """What the budget lets the metric change by, `−0.50 points`; its own words where the number is not known."""
    if head.allowed is None:
        return head.budget or ""
    return change_text(-head.allowed if head.higher_is_better else head.allowed, head.unit)
