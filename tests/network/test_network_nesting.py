"""How deep and how large pickled values are, from their operations."""

from __future__ import annotations

import pickle
import pickletools
from collections import OrderedDict
from typing import Any

import pytest

from nddr_deploy.network.nesting import DEEPEST, Extent, largest_extent


def extent(value: Any, protocol: int, most: int = 10**6) -> Extent:
    return largest_extent(pickletools.genops(pickle.dumps(value, protocol=protocol)), most)


def nested(levels: int) -> Any:
    value: Any = ()
    for _ in range(levels):
        value = (value,)
    return value


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_depth_counts_levels_and_not_items(protocol: int) -> None:
    flat = extent({f"key {n}": [n, float(n)] for n in range(5000)}, protocol)
    deep = extent({"a": nested(50)}, protocol)

    assert flat.depth < 10
    assert 50 <= deep.depth < 60


@pytest.mark.parametrize("protocol", [2, 4])
def test_values_that_are_shared_count_each_time(protocol: int) -> None:
    shared = list(range(100))

    once = extent([shared], protocol).size
    often = extent([shared] * 50, protocol).size

    assert 40 < often / once < 60


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_state_dict_of_a_large_network_is_neither_deep_nor_large(protocol: int) -> None:
    weights = OrderedDict((f"layer{n}.weight", (n, (64, 64, 3, 3), (576, 9, 3, 1))) for n in range(2000))
    written = pickle.dumps({"model": weights, "optimizer": {"state": {n: {"step": n} for n in range(2000)}}}, protocol)

    found = largest_extent(pickletools.genops(written), most=len(written))

    assert found.depth < 12
    assert found.size < len(written)


def test_what_is_too_deep_or_too_large_ends_the_count() -> None:
    tuples = b"\x80\x02)" + b"\x85" * 10 * DEEPEST + b"."

    assert largest_extent(pickletools.genops(tuples), 10**6).depth == DEEPEST + 1
    assert extent([[0] * 100] * 100, 2, most=50).size > 50


@pytest.mark.parametrize(
    "operations", [b".", b"t.", b"h\x05.", b"N\x86."], ids=["stop", "no mark", "no memo", "one of two"]
)
def test_operations_that_take_what_is_not_there_are_errors(operations: bytes) -> None:
    with pytest.raises((IndexError, KeyError)):
        largest_extent(pickletools.genops(operations), 100)
