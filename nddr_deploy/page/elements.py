"""Pieces that the sections of a page are made of."""

from __future__ import annotations

from nddr_deploy.page.markup import Html, tag


def section(title: str, about: str | None, *children: str | None, class_: str | None = None) -> Html:
    """A part of the page with its heading and, where it needs one, an explanation."""
    explained = None if about is None else tag("p", about, class_="soft")
    return tag("section", tag("h2", title), explained, *children, class_=class_)


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
