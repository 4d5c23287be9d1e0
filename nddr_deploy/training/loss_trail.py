"""The losses of steps, on their way from the device to the record."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from nddr_deploy.errors import DivergedError


class LossTrail:
    """Looks at every loss, and stops the training at one that is not a finite number.

    On a CPU a loss is looked at before the step changes the weights. A GPU is never kept waiting for that: a step's
    losses are looked at while it computes the step after, so the weights in its memory may have taken that one step;
    but `take(everything=True)` comes before every validation and every checkpoint, so no file ever does.

    Args:
        tasks: whose losses come.
        device: where they are computed.
    """

    def __init__(self, tasks: Sequence[str], device: torch.device) -> None:
        self.names = ("loss", *tasks, "penalty")
        self._on_gpu = device.type == "cuda"
        self._under_way: deque[tuple[int, Tensor, torch.cuda.Event | None]] = deque()
        self._seen: list[tuple[int, dict[str, float]]] = []

    def add(self, step: int, total: Tensor, tasks: Tensor, penalty: Tensor) -> None:
        """Send a step's losses off: () , (T,) and (), of all processes together.

        Raises:
            DivergedError: a loss of this step (CPU) or of the one before (GPU) is not a finite number.
        """
        values, event = torch.cat([total[None], tasks, penalty[None]]), None
        if self._on_gpu:
            values = torch.empty_like(values, device="cpu", pin_memory=True).copy_(values, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self._under_way.append((step, values, event))
        self._look(keep=1 if self._on_gpu else 0)

    def take(self, *, everything: bool = False) -> list[tuple[int, dict[str, float]]]:
        """The steps, and their losses by name, that were looked at since the last call; `everything` waits for all."""
        if everything:
            self._look(keep=0)
        seen, self._seen = self._seen, []
        return seen

    def _look(self, *, keep: int) -> None:
        while len(self._under_way) > keep:
            step, values, event = self._under_way.popleft()
            if event is not None:
                event.synchronize()
            losses = dict(zip(self.names, values.tolist(), strict=True))
            for name in self.names[1:]:
                if not math.isfinite(losses[name]):
                    raise DivergedError(
                        f"The loss of {name} is {losses[name]} in step {step}. Lower optimiser.lr, raise "
                        "schedule.warmup_steps, or set optimiser.clip_norm; last.pt holds the last saved state."
                    )
            self._seen.append((step, losses))
