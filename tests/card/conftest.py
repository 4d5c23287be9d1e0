"""Shared by the tests of cards. Imports stay inside: collecting them needs no runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    """`model.onnx` and `model.int8.onnx`, fresh: a test may change them."""
    import card_subjects

    return card_subjects.write_models(tmp_path)


@pytest.fixture(scope="session")
def card(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A card with every part."""
    import card_subjects

    return card_subjects.whole_card(*card_subjects.write_models(tmp_path_factory.mktemp("card")))


@pytest.fixture
def carded(models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The two models with a measured card beside the second, and the data set `tiny` to open again."""
    import card_subjects

    from nddr_deploy.card.card_file import card_path
    from nddr_deploy.data import DATASETS

    monkeypatch.setattr("nddr_deploy.card.verify.SECONDS", 0.05)
    monkeypatch.setitem(DATASETS, "tiny", "card_subjects:Tiny")
    card_path(models[1]).write_text(card_subjects.measured_card(*models).to_json())
    return models
