"""The processes that train together: what one of them knows, all of them must act on at the same step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed
from accelerate import Accelerator
from torch import Tensor

from nddr_deploy.errors import NddrError, OtherProcessError
from nddr_deploy.training.device import PATIENCE


class Processes:
    """Sums, votes and errors of all processes of a training; each method is called by every process, or by none.

    Votes travel between CPUs, so no GPU is waited for.

    Attributes:
        count: how many there are.
        index: which one this is, from 0.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.count: int = accelerator.num_processes
        self.index: int = accelerator.process_index
        self._cpus = torch.distributed.new_group(backend="gloo", timeout=PATIENCE) if self.count > 1 else None

    def close(self) -> None:
        """Leave the others; this process is alone from here on.

        A thread of gloo may hold the last tensor that it sent until it gets Python's lock. If Python ends first, the
        process is aborted (SIGABRT), whatever it had done. So the last reference to the group goes here, which waits.
        """
        group, self._cpus = self._cpus, None
        if group is not None and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group(group)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes, on its device."""
        if self.count > 1:
            values = values.clone()
            torch.distributed.all_reduce(values, group=self._group_of(values))
        return values

    def copy_from_first(self, values: Tensor) -> None:
        """Give a tensor, in place, the values that it has in the first process."""
        if self.count > 1:
            torch.distributed.broadcast(values, 0, group=self._group_of(values))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in one process at least."""
        if self._cpus is None:
            return flag
        votes = torch.tensor(int(flag))
        torch.distributed.all_reduce(votes, group=self._cpus)
        return bool(votes.item())

    @contextmanager
    def together(self) -> Iterator[None]:
        """An error of ours that one process meets inside ends all processes here.

        Inside, no process may wait for another.

        Raises:
            NddrError: what this process met; where several met the same, only the first of them raises it.
            OtherProcessError: another process met an error, which it says.
        """
        met: NddrError | None = None
        try:
            yield
        except NddrError as error:
            if self._cpus is None:
                raise
            met = error
        if self.any(met is not None):
            sentences: list[str | None] = [None] * self.count
            torch.distributed.all_gather_object(sentences, met and str(met), group=self._cpus)
            first = sentences.index(str(met)) if met is not None else -1
            if met is not None and first == self.index:
                raise met
            raise OtherProcessError(next(sentence for sentence in sentences if sentence is not None))

    @contextmanager
    def same(self) -> Iterator[None]:
        """An error inside is met by every process alike: the first of them raises it, the others OtherProcessError."""
        try:
            yield
        except NddrError as error:
            if self.index > 0:
                raise OtherProcessError(str(error)) from error
            raise

    def _group_of(self, values: Tensor) -> torch.distributed.ProcessGroup | None:
        return self._cpus if values.device.type == "cpu" else None  # None: the one that accelerate has made
