"""Shared by the tests of quantising. Imports stay inside: collecting them needs no runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a labelled data set that tests may open by it."""
    from nddr_deploy.data import DATASETS

    monkeypatch.setitem(DATASETS, "colours", "colour_network:Colours")
    return "colours"


@pytest.fixture
def quantise(tmp_path: Path, colours: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`quantise(spoiled=[...], target="tensorrt")`: write a colour network as model.onnx and quantise it.

    Speed is measured for an instant only.
    """
    from functools import partial

    from colour_network import network, save

    from nddr_deploy.card.latency import time_engines
    from nddr_deploy.quantize.recipe import quantize_model

    monkeypatch.setattr("nddr_deploy.quantize.write.time_engines", partial(time_engines, rounds=1, seconds=0.01))

    def run(network_options: dict[str, Any] | None = None, **options: Any) -> Any:
        model = save(network(**network_options or {}), tmp_path / "model.onnx")
        given = {"calibration": colours, "data": colours, **options}
        return quantize_model(model, **given)

    return run
