"""What a run did, how long each stage took, and which one the others waited for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

STAGES = ("read", "infer", "write")


@dataclass
class RunReport:
    """Figures of one run, or of several inputs together.

    Attributes:
        frames: results written.
        dropped: frames of a live source that were too old when there was time for them.
        wall_s: from the first frame's reading to the last output's end.
        stages: "read", "infer", "write" -> seconds in which the stage worked (not waited).
        parts: what stages consist of -> seconds: "source" and "fit"; "engine" and "decode"; "draw" and "encode"
            where the sink tells.
        paths: what was written: files, or folders of files.
        notes, problems: sentences; see `base.Remarks`. Any problem makes the exit status 1.
        gaps: (start, length) in seconds of a live source's lost connections.
        stopped: the user ended a live source by Ctrl-C.
    """

    frames: int = 0
    dropped: int = 0
    wall_s: float = 0.0
    stages: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    parts: dict[str, float] = field(default_factory=dict)
    paths: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    gaps: list[tuple[float, float]] = field(default_factory=list)
    stopped: bool = False

    @property
    def fps(self) -> float:
        """Frames per second of the whole run, its start included."""
        return self.frames / self.wall_s if self.wall_s > 0 else 0.0

    @property
    def bottleneck(self) -> str:
        """The stage that worked longest: making another one faster changes nothing."""
        return max(self.stages, key=lambda stage: self.stages[stage])

    def add(self, other: RunReport) -> None:
        """Count another input's run in."""
        self.frames += other.frames
        self.dropped += other.dropped
        self.wall_s += other.wall_s
        for mine, its in ((self.stages, other.stages), (self.parts, other.parts)):
            for name, seconds in its.items():
                mine[name] = mine.get(name, 0.0) + seconds
        self.paths += [path for path in other.paths if path not in self.paths]
        self.notes += other.notes
        self.problems += other.problems
        self.gaps += other.gaps
        self.stopped |= other.stopped

    def to_dict(self) -> dict[str, Any]:
        """JSON values, with `fps` and `bottleneck`."""
        paths = [str(path) for path in self.paths]
        return {**asdict(self), "paths": paths, "fps": self.fps, "bottleneck": self.bottleneck}

    def text(self) -> str:
        """A few lines for people."""
        lines = [f"{self.frames} frames in {self.wall_s:.1f} s: {self.fps:.1f} frames per second"]
        if self.dropped:
            lines[0] += f"; {self.dropped} frames dropped to stay live"
        if self.frames:
            width = max(len(stage) for stage in self.stages)
            for stage, seconds in self.stages.items():
                parts = ", ".join(
                    f"{name} {1000 * self.parts[name] / self.frames:.1f}" for name in PARTS[stage] if name in self.parts
                )
                mark = "   <- the bottleneck" if stage == self.bottleneck else ""
                text = f"  {stage:{width}} {1000 * seconds / self.frames:7.1f} ms a frame"
                lines.append(text + (f" ({parts})" if parts else "") + mark)
        lines += [f"  connection lost at {start:.1f} s for {length:.1f} s" for start, length in self.gaps]
        lines += [f"wrote {path}" for path in self.paths]
        return "\n".join(lines)


PARTS = {"read": ("source", "fit"), "infer": ("engine", "decode"), "write": ("draw", "encode")}
