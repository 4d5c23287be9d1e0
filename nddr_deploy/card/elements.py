"""Pieces that several sections of a card's page are made of."""

from __future__ import annotations

from nddr_deploy.card.markup import Html, tag

PRECISIONS = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16", "int8": "INT8", "int8+bf16": "INT8 + BF16"}


def section(title: str, about: str | None, *children: str | None, class_: str | None = None) -> Html:
    """A part of the page with its heading and, where it needs one, an explanation."""
    explained = None if about is None else tag("p", about, class_="soft")
    return tag("section", tag("h2", title), explained, *children, class_=class_)


def mark(good: bool | None, yes: str = "met", no: str = "missed") -> Html:
    """A word on a green or a red ground."""
    return tag("span", yes if good else no, class_=f"mark {'met' if good else 'missed'}")


def hash_text(value: str) -> Html:
    return tag("span", value, class_="hash")


def pairs(*pairs: tuple[str, str | None]) -> Html:
    items = [tag("dt", name) + tag("dd", value) for name, value in pairs if value]
    return tag("dl", *map(Html, items), class_="pairs") if items else Html("")


def count(number: int, what: str, verb: bool = False) -> str:
    """`1 budget is`, `4 budgets are`; the number left out where it goes without saying."""
    plural = number != 1
    words = f"{what}{'s' if plural else ''}"
    if not verb:
        return f"{number} {words}"
    return f"{number if plural else ''} {words} {'are' if plural else 'is'}".strip()
