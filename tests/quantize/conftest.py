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
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of few resamples, and no speed: what takes most of the time on a tiny network."""
    from functools import partial

    from nddr_deploy.evaluate.sample_scores import compare

    monkeypatch.setattr("nddr_deploy.quantize.write.compare", partial(compare, resamples=50))
    monkeypatch.setattr("nddr_deploy.quantize.write._latency", lambda *_, **__: None)


@pytest.fixture
def quantise(tmp_path: Path, colours: str, quick: None) -> Callable[..., Any]:
    """`quantise({"spoiled": [...]}, target="tensorrt")`: write a colour network as model.onnx and quantise it."""
    from colour_network import network, save

    from nddr_deploy.quantize.recipe import quantize_model

    def run(network_options: dict[str, Any] | None = None, **options: Any) -> Any:
        model = save(network(**network_options or {}), tmp_path / "model.onnx")
        given = {"calibration": colours, "data": colours, **options}
        return quantize_model(model, **given)

    return run
