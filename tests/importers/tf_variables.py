"""Some variables, and what tests of files with variables share."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nddr_deploy.errors import ModelFileError
from nddr_deploy.importers.tf_checkpoint import find_tf_checkpoint, open_tf_variables

Array = np.ndarray[Any, Any]
SOME = {
    "conv/weights": np.arange(12, dtype=np.float32).reshape(1, 2, 3, 2),
    "conv/weights/Momentum": np.full((1, 2, 3, 2), 0.01, np.float32),
    "fc/biases": np.array([-1, 0.5, 3], np.float32),
    "none": np.zeros((0, 4), np.float32),
    "scalar": np.array(7, np.float32),
}


def read_all(path: Path) -> dict[str, Array]:
    found = find_tf_checkpoint(path)
    assert found is not None
    variables = open_tf_variables(found)
    values = {name: variables.read(name) for name in variables.shapes}
    assert {name: value.shape for name, value in values.items()} == variables.shapes
    return values


def equal(found: dict[str, Array], expected: dict[str, Array]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == np.float32 and found[name].shape == value.shape and np.array_equal(found[name], value)
        for name, value in expected.items()
    )


def refused(path: Path, *words: str) -> None:
    """One sentence or two with these words in it, in which nothing large was allocated."""
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError) as caught:
            read_all(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
