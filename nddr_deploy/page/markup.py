"""HTML from strings that nobody vouches for: whatever is not markup of ours is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


class Html(str):
    """Markup that `tag` and `together` made; any other string is text."""

    __slots__ = ()


def tag(element: str, /, *children: str | None, **attributes: str | float | bool | None) -> Html:
    """`tag("td", "3 < 4", class_="number")` -> `<td class="number">3 &lt; 4</td>`.

    Args:
        element: its name.
        children: markup as it is, text escaped; None is left out.
        attributes: a final `_` falls away and other ones become dashes; True is an attribute without a value, None and
            False none at all.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    inside = together(children)
    return Html(f"<{element}{written}/>" if element in _EMPTY else f"<{element}{written}>{inside}</{element}>")


def together(children: Iterable[str | None]) -> Html:
    """Markup and text, one after the other."""
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children if child is not None))


def table(
    label: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Sequence[int] = (),
    sentences: Sequence[int] = (),
    caption: str | None = None,
    tall: bool = False,
) -> Html:
    """A table that scrolls by itself where the page is too narrow; the first column names its rows.

    Args:
        label: what it is about, for those who cannot see it.
        head: names of the columns.
        rows: cells as text or markup.
        numbers: columns that hold figures, which are aligned to the right.
        sentences: columns that hold text of several words, which keep room for it.
        caption: one line above it.
        tall: whether it scrolls up and down, too.
    """

    def kind(column: int) -> str | None:
        return "number" if column in numbers else "sentence" if column in sentences else None

    header = tag("tr", *(tag("th", name, scope="col", class_=kind(column)) for column, name in enumerate(head)))
    body = [
        tag(
            "tr",
            *(
                tag("td" if column else "th", cell, class_=kind(column), scope=None if column else "row")
                for column, cell in enumerate(row)
            ),
        )
        for row in rows
    ]
    whole = tag(
        "table",
        None if caption is None else tag("caption", caption),
        tag("thead", header),
        tag("tbody", *body),
    )
    return tag("div", whole, class_="scroll tall" if tall else "scroll", role="region", aria_label=label, tabindex="0")


# Written with a slash, which SVG needs and HTML passes over.
_EMPTY = {"img", "meta", "br", "line", "rect", "circle", "polyline"}


def _attribute(key: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    name = "viewBox" if name == "viewbox" else name
    if value is True:
        return f" {name}"
    return f' {name}="{escape(f"{value:g}" if isinstance(value, float) else str(value))}"'
