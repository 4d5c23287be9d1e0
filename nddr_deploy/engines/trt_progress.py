"""How far a build is, where TensorRT tells it (10 and later)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import Any

Told = Callable[[str, int, int], None]  # phase, step, steps


@dataclass
class BuildProgress:
    """What a build tells, and how it is told to stop.

    Attributes:
        told: called with the phase's name, the step that is done, and how many there are; from TensorRT's threads.
        stopped: set it, and the build ends at its next step.
    """

    told: Told = lambda phase, step, steps: None
    stopped: Event = field(default_factory=Event)


def open_monitor(trt: Any, progress: BuildProgress) -> Any:
    """TensorRT's interface for it. Made here, because its base class is only known once TensorRT is loaded."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps
            progress.told(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress.told(phase_name, step + 1, self.steps.get(phase_name, step + 1))
            return not progress.stopped.is_set()

        def phase_finish(self, phase_name: str) -> None:
            steps = self.steps.pop(phase_name, 0)
            progress.told(phase_name, steps, steps)

    return Monitor()
