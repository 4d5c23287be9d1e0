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
def no_search_for_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which sizes a network takes is found by trying: most of the time of a test here. The refusals test it."""
    monkeypatch.setattr("nddr_deploy.network.build.image_sides", lambda stages, maps: (193, 224) if maps else (1, None))
