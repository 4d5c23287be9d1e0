"""What a check of a model against its card found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

PARTS = {
    "file": "the file and what it was made from",
    "function": "results on probe images: how far from the card's, as a share of each output's range",
    "parity": "distance to FP32 on probe images, as a share of each output's range",
    "metrics": "metrics",
    "latency": "latency, told and not judged",
}
Verdict = Literal["same", "changed", "note", "skipped"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        part: key of `PARTS`.
        what: as in "segmentation mIoU".
        then, now: by the card, and here.
        verdict: "same" within what two runs may differ by; "changed"; "note" for what is told and never judged;
            "skipped", for the reason in `detail`.
        detail: one line, may be empty.
    """

    part: str
    what: str
    then: str
    now: str
    verdict: Verdict
    detail: str = ""


@dataclass(frozen=True)
class Verification:
    """Everything that was looked at.

    Attributes:
        model, card: the two files.
        runs_on: backend, precision, threads and machine.
        checks: in the order of the work.
        summary: one or two sentences.
    """

    model: Path
    card: Path
    runs_on: str
    checks: tuple[Check, ...]
    summary: str

    @property
    def changed(self) -> bool:
        return any(check.verdict == "changed" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """JSON values; files by their names."""
        return {
            "format": "nddr-verification/1",
            "model": self.model.name,
            "card": self.card.name,
            "runs_on": self.runs_on,
            "changed": self.changed,
            "summary": self.summary,
            "checks": [asdict(check) for check in self.checks],
        }
