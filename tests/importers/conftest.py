from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Narrow networks on a shared machine: more threads only wait for each other. Full-width ones may have all."""
    before = torch.get_num_threads()
    if request.node.get_closest_marker("slow") is None:
        torch.set_num_threads(1)
        for engine in ("eager", "ort"):
            monkeypatch.setattr(f"nddr_deploy.engines.{engine}.default_threads", lambda: 1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_search_for_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which sizes a network takes is found by trying, at every build. The refusals test it."""
    monkeypatch.setattr("nddr_deploy.network.build.image_sides", lambda stages, maps: (193, 224) if maps else (1, None))
