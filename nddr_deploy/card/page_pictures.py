"""The pictures of a page written before: a card's JSON has none, so a page that is written anew takes them over.

They are read as values and drawn again, so nothing else of an old page, whoever wrote it, gets into a new one.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from nddr_deploy.card.pictures import Picture
from nddr_deploy.page.panels import Panel
from nddr_deploy.tasks.palette import Colour

LARGEST_BYTES = 64 * 2**20  # of a page: twenty times what a card of many heads makes
_COLOUR = re.compile(r"background: rgb\((\d{1,3}), (\d{1,3}), (\d{1,3})\)")
_DATA = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/]+={0,2}")


def read_pictures(page: Path) -> tuple[Picture, ...]:
    """Those of a card's page; none where there is no page, or none that could be read."""
    if not page.is_file() or page.stat().st_size > LARGEST_BYTES:
        return ()
    return pictures_of(page.read_text(encoding="utf-8", errors="replace"))


def pictures_of(page: str) -> tuple[Picture, ...]:
    """What `html.render` was given, from what it made."""
    parser = _Parser()
    parser.feed(page)
    parser.close()
    return tuple(parser.pictures)


class _Parser(HTMLParser):
    """Follows `results_html.worst`: a heading per task, its legend, and a figure per image."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[Picture] = []
        self._inside = False  # of the section
        self._collected = ""  # text since the element that it belongs to began
        self._task = self._name = self._caption = ""
        self._legend: list[tuple[str, Colour]] = []
        self._colour: Colour = (0, 0, 0)
        self._image: dict[str, str] | None = None
        self._panels: list[Panel] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {key: value or "" for key, value in attrs}
        if tag == "section":
            self._inside = attributes.get("class") == "pictures"
        if not self._inside:
            return
        if tag == "h3":
            self._legend = []
        elif tag == "figure":
            self._panels = []
        elif tag == "img":
            self._image = attributes
        elif tag == "span" and (found := _COLOUR.fullmatch(attributes.get("style", ""))):
            self._colour = (int(found[1]), int(found[2]), int(found[3]))
        if tag in ("h3", "li", "strong", "div"):
            self._collected = ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img" and self._inside:
            self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        self._collected += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self._inside = False
        if not self._inside:
            return
        text = self._collected
        if tag == "h3":
            self._task = text
        elif tag == "li":
            self._legend.append((text, self._colour))
        elif tag == "strong":
            self._name, self._collected = text, ""
        elif tag == "figcaption":
            self._caption = text.removeprefix(": ")
        elif tag == "div" and self._image is not None:
            self._add_panel(self._image, text)
            self._image = None
        elif tag == "figure":
            panels, legend = tuple(self._panels), tuple(self._legend)
            self.pictures.append(Picture(self._task, self._name, self._caption, panels, legend))

    def _add_panel(self, image: dict[str, str], title: str) -> None:
        width, height = image.get("width", ""), image.get("height", "")
        if _DATA.fullmatch(image.get("src", "")) and width.isdecimal() and height.isdecimal():
            self._panels.append(Panel(title, image.get("alt", ""), image["src"], int(width), int(height)))
