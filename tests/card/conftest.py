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
