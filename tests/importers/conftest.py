from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Narrow networks on a shared machine: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_search_for_the_smallest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tested elsewhere, and takes a third of the time."""
    monkeypatch.setattr("nddr_deploy.network.build.smallest_side", lambda stages: 1)
