"""What tests of several packages share. Imports stay inside: most tests need none of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def handmade(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Write a model small enough to compute by hand: `handmade(dynamic=("batch", "size"), batch=1)`."""
    import handmade_model

    return lambda **options: handmade_model.write(tmp_path_factory.mktemp("handmade"), **options)
