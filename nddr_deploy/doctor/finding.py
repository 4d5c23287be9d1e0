"""What one line of the doctor says."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

# "not here": this machine does not have it, and nothing is wrong with that, as a GPU driver where there is no GPU.
State = Literal["ok", "missing", "problem", "not here"]
OK: State = "ok"
MISSING: State = "missing"
PROBLEM: State = "problem"
NOT_HERE: State = "not here"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: under which heading it stands.
        what: was looked at; with the subject it names the finding, in every version of this program.
        state: "ok"; "missing": not installed, and something would need it; "problem": installed, but broken, or it
            contradicts something else; "not here".
        found: a sentence without its end.
        do: what would mend it: commands, or sentences that begin with a capital letter.
    """

    subject: str
    what: str
    state: State
    found: str
    do: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "do": list(self.do)}


def numbers(version: str) -> tuple[int, ...]:
    """`"10.13.3.post1"` -> (10, 13, 3): what versions are compared by."""
    parts = []
    for part in version.split("+")[0].split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)


def extra(name: str) -> str:
    """The command that installs an extra of nddr-deploy."""
    return f"pip install 'nddr-deploy[{name}]' -c constraints.txt"
