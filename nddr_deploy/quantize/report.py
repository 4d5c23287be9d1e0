"""What a quantisation did, for people and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nddr_deploy.card.schema import Card, HeadMetric
from nddr_deploy.evaluate.change import change_text
from nddr_deploy.graph.equalise import EqualisedLayer
from nddr_deploy.quantize.search import Outcome
from nddr_deploy.quantize.sensitivity import Sensitivity
from nddr_deploy.tasks.base import MetricForm

JOINING = "it joins streams, and in integers they lose more than its time is worth"
NEEDED = "the budgets need it"  # why a layer stayed in float, where nothing else keeps it there


@dataclass(frozen=True)
class QuantizeReport:
    """What was read, measured and written.

    Attributes:
        source, path: the files read and written; the card's two files lie beside the latter.
        card: everything that was measured.
        forms: what could be done to the streams -> how far the float model then is; None where it was not measured.
        form: the one chosen.
        equalised: what became of each NDDR layer, where streams were equalised.
        sensitivity: None where it was not measured.
        outcome: of the search; None where none was needed.
    """

    source: Path
    path: Path
    card: Card
    forms: Mapping[str, float | None]
    form: str
    equalised: tuple[EqualisedLayer, ...]
    sensitivity: Sensitivity | None
    outcome: Outcome | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values: the card, and how it came about."""
        return {
            "source": self.source.name,
            "file": self.path.name,
            "streams": {"chosen": self.form, "disagreement": dict(self.forms)},
            "card": self.card.model_dump(mode="json"),
        }

    def text(self) -> str:
        """Several lines: what was measured on, what stayed in float, every head's change, and where the files are."""
        card = self.card
        lines = [f"read     {self.source}: {card.model.network}; {', '.join(card.model.tasks)}"]
        if card.calibration is not None:
            lines.append(f"ranges   by {card.calibration.method} on {card.calibration.source}")
        if card.evaluation is not None:
            truth = "with labels" if card.evaluation.labelled else "the float model's results being the truth"
            lines.append(f"judged   on {card.evaluation.source}, {truth}")
        lines.append(f"streams  {self._streams()}")
        lines += [f"         {layer}" for layer in self.equalised]
        counts = Counter(layer.precision for layer in card.layers)
        lines.append("layers   " + ", ".join(f"{count} {precision}" for precision, count in counts.most_common()))
        lines += self._kept()
        if self.sensitivity is not None:
            lines += ["cost     of integers, by layer:", *_indented(self.sensitivity.text(count=3))]
        if card.search is not None:
            lines.append(f"search   {card.search.about}")
        lines += self._heads()
        if card.latency is not None:
            first, *others = card.latency.cases
            lines.append(f"speed    {first.label}: {first.median_ms:.2f} ms")
            lines += [
                f"         {case.label}: {case.median_ms:.2f} ms, {case.speedup:.2f} times as fast "
                f"({case.speedup_low:.2f} to {case.speedup_high:.2f})"
                for case in others
            ]
        lines.append(
            f"wrote    {self.path}: {card.model.bytes / 1e6:.1f} MB; {self.path.stem}.card.json and .card.html"
        )
        return "\n".join(lines)

    def _kept(self) -> list[str]:
        """Nodes that stayed in float: by reason, those that the budgets need first."""
        reasons: dict[str, list[str]] = {}
        for layer in self.card.layers:
            if layer.reason:
                reasons.setdefault(layer.reason, []).append(layer.node)
        ordered = sorted(reasons, key=lambda reason: reason != NEEDED)
        return [f"         float: {', '.join(reasons[reason])} ({reason})" for reason in ordered]

    def _streams(self) -> str:
        measured = {name: value for name, value in self.forms.items() if value is not None}
        if not measured:
            return self.form
        told = ", ".join(f"{name} {value:.3f}" for name, value in measured.items())
        return f"{self.form}; disagreement with float (1 is about a point, or half a degree): {told}"

    def _heads(self) -> list[str]:
        lines = []
        unlabelled = self.card.evaluation is not None and not self.card.evaluation.labelled
        for head in self.card.heads:
            agreement = unlabelled and head.metric == "PAcc"  # the share of pixels with the float model's label
            if not head.headline and head.budget is None and not agreement:
                continue
            verdict = "" if head.budget is None else f"; budget {head.budget} {'met' if head.met else 'MISSED'}"
            lines.append(f"head     {head.task}.{head.metric}: {head_text(head)}{verdict}")
        if self.card.unjudged:
            lines.append(f"         {', '.join(self.card.unjudged)}: not judged, the data has no truth for it")
        return lines


def head_text(head: HeadMetric) -> str:
    """`0.8906 -> 0.8803, -1.03 points (95 %: -1.42 points to -0.68 points)`."""
    if head.before is None or head.after is None or head.change is None:
        return "not measured"
    form = MetricForm(head.unit, head.higher_is_better)  # type: ignore[arg-type]
    text = f"{head.before:.4g} -> {head.after:.4g}, {change_text(head.change, form)}"
    if head.low is None or head.high is None:
        return text
    return f"{text} (95 %: {change_text(head.low, form)} to {change_text(head.high, form)})"


def _indented(text: str) -> list[str]:
    return [f"         {line}" for line in text.splitlines()]
