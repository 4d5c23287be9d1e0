"""Pieces that several sections of a card's page are made of."""

from __future__ import annotations

from nddr_deploy.page.markup import Html, tag

PRECISIONS = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16", "int8": "INT8", "int8+bf16": "INT8 + BF16"}


def mark(good: bool | None, yes: str = "met", no: str = "missed") -> Html:
    """A word on a green or a red ground."""
    return tag("span", yes if good else no, class_=f"mark {'met' if good else 'missed'}")


def hash_text(value: str) -> Html:
    return tag("span", value, class_="hash")
