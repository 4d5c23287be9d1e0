"""Splits that anyone can compute again: a name alone decides in which part it lies, whatever else is there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def digits_of(name: str) -> str:
    """The SHA-256 of a name, in hexadecimal."""
    return hashlib.sha256(name.encode("utf-8")).hexdigest()


def split_of(name: str, shares: Mapping[str, float]) -> str:
    """The part that a name belongs to.

    The first 8 hexadecimal digits of the SHA-256 of the name (UTF-8), divided by 16^8, give a number from 0 to below 1.
    The shares lie one after the other on that line.

    Args:
        name: of a picture, or of a person whose pictures must stay together.
        shares: split -> its share of all names; the last one takes what is left.

    >>> split_of("26_0_0_20170113210604209", {"train": 0.8, "val": 0.1, "test": 0.1})
    'train'
    """
    place = int(digits_of(name)[:8], 16) / 16**8
    end = 0.0
    for split, share in shares.items():
        end += share
        if place < end:
            return split
    return split
