"""The page: everything of the card is on it, nothing of it runs or is fetched."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from card_subjects import WHY

from nddr_deploy.card.html import render
from nddr_deploy.card.page_pictures import pictures_of
from nddr_deploy.card.pictures import Picture
from nddr_deploy.card.schema import Card
from nddr_deploy.page.figures import change_text, interval_text, size_text, value_text
from nddr_deploy.page.markup import Html, tag
from nddr_deploy.page.panels import panel

VOID = {"img", "meta", "br", "line", "rect", "circle"}


class Page(HTMLParser):
    """A page taken apart: texts of cells and headings, attributes of every element; fails on what is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.headings: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")
        elif tag in ("h1", "h2", "h3"):
            self.headings.append("")

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        assert tag in VOID
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if {"th", "td"} & set(self._open) and "title" not in self._open:
            self.tables[-1][-1][-1] += data
        if {"h1", "h2", "h3"} & set(self._open):
            self.headings[-1] += data

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]

    def table(self, first: str) -> list[list[str]]:
        return next(table for table in self.tables if table[0][0] == first)


def picture(task: str = "segmentation", name: str = "tiny-3") -> Picture:
    colours = np.zeros((6, 9, 3), dtype=np.uint8)
    return Picture(task, name, "worse here", (panel(colours, "image", "the image"), panel(colours, "FP32", "result")))


def test_every_heads_figures_stand_in_the_table_with_units(card: Card) -> None:
    rows = Page(render(card)).table("Head")

    assert rows[1:] == [
        ["segmentation", "mIoU", "75.34 %", "75.13 %", "−0.21 points−0.23 to −0.19", "", "−0.50 points", "met"],
        ["segmentation", "PAcc", "88.32 %", "88.29 %", "−0.03 points−0.03 to −0.03", "", "", ""],
        ["normals", "mean_angle", "16.20°", "16.50°", "+0.30°+0.27 to +0.33", "", "+0.15°", "missed"],
        ["age", "MAE", "4.25 years", "4.25 years", "0.00 years0.00 to 0.00", "", "", ""],
    ]


def test_a_head_that_the_data_has_no_truth_for_is_named(card: Card) -> None:
    sentence = "The data has no truth for age: nothing is known of what was lost there."
    others = tuple(head for head in card.heads if head.task != "age")

    assert sentence in Page(render(card.model_copy(update={"heads": others}))).text
    assert "no truth for" not in Page(render(card)).text
    assert "no truth for" not in Page(render(card.model_copy(update={"heads": ()}))).text


def test_the_verdict_comes_first(card: Card) -> None:
    met = tuple(head for head in card.heads if head.met is not False)

    assert Page(render(card)).headings[:2] == ["model.int8.onnx", "1 of 2 budgets missed"]
    assert Page(render(card.model_copy(update={"heads": met}))).headings[1] == "The budget is met"
    assert Page(render(card.model_copy(update={"heads": ()}))).headings[1] == "No budget was set"


def test_layers_streams_speed_parity_and_hashes_are_on_the_page(card: Card) -> None:
    page = Page(render(card, [picture()]))

    assert page.table("Left in higher precision")[1] == ["age.conv", "Conv", "FP32", WHY]
    assert [row[0] for row in page.table("Layer")[1:]] == ["segmentation.conv", "normals.conv", "age.conv"]
    assert page.table("NDDR layer")[1][:5] == ["fusions.0", "equalised", "30.2 : 1", "1.01 : 1", "segmentation × 1"]
    assert page.table("NDDR layer")[2][1:5] == ["left", "12 : 1", "–", ""]
    assert page.table("Case")[2][:5] == ["INT8", "CPU", "3.10", "2.79 to 3.41", "4.00×"]
    assert {row[1] for row in page.table("Hop")[1:]} == {"segmentation", "normals", "age"}
    assert page.table("Role")[-1] == ["this model", "model.int8.onnx", card.model.sha256]
    assert "--data tiny --split val --option count=10" in page.text
    assert "percentile 99.99" in page.text
    assert "nddr-verify model.int8.onnx" in page.text


def test_a_card_of_almost_nothing_still_makes_a_page(card: Card) -> None:
    bare = Card(model=card.model, probes=card.probes, created=card.created)

    page = Page(render(bare))

    assert page.headings == ["model.int8.onnx", "No budget was set", "Files and versions"]


def test_pictures_are_inside_the_page_with_texts_for_those_who_cannot_see_them(card: Card) -> None:
    page = Page(render(card, [picture("segmentation", "tiny-3"), picture("normals", "tiny-4")]))

    images = page.named("img")
    assert len(images) == 4
    assert all((image["src"] or "").startswith("data:image/png;base64,") and image["alt"] for image in images)
    assert {"segmentation", "normals"} <= set(page.headings)


def test_the_page_asks_nobody_for_anything(card: Card) -> None:
    text = render(card, [picture()])
    page = Page(text)

    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {name for name, _ in page.elements}
    for name, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on")], name
        for key in ("src", "href", "srcset", "action", "xlink:href"):
            assert (attributes.get(key) or "data:").startswith("data:")
    assert not re.search(r"url\(|@import|@font-face|https?:", text)
    policy = next(meta["content"] for meta in page.named("meta") if meta.get("http-equiv"))
    assert "default-src 'none'" in (policy or "")


def test_columns_of_figures_are_aligned_and_every_table_has_headers(card: Card) -> None:
    page = Page(render(card))

    assert all(header["scope"] in ("col", "row") for header in page.named("th"))
    assert sum(cell.get("class") == "number" for cell in page.named("td")) >= 5 * len(card.heads)
    regions = [div for div in page.named("div") if div.get("class") == "scroll"]
    assert len(regions) == len(page.tables)
    assert all(region["aria-label"] and region["tabindex"] == "0" for region in regions)
    assert page.named("html")[0]["lang"] == "en"


NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&lt;"


def replaced(values: Any) -> Any:
    """Every text of a card made nasty, except those of a fixed form."""
    if isinstance(values, dict):
        fixed = {"format", "sha256", "created", "precision", "outputs", "target", "clock", "fit", "backend", "content"}
        return {key: value if key in fixed else replaced(value) for key, value in values.items()}
    if isinstance(values, list):
        return [replaced(value) for value in values]
    return NASTY.replace("/", "") if isinstance(values, str) else values  # a file's name has no slash


def test_whatever_a_strangers_card_says_is_text(card: Card) -> None:
    nasty = Card.model_validate(replaced(card.model_dump(mode="json")))
    caption = Picture(
        NASTY, NASTY, NASTY, (panel(np.zeros((2, 2, 3), dtype=np.uint8), NASTY, NASTY),), ((NASTY, (1, 2, 3)),)
    )

    page = Page(render(nasty, [caption]))

    harmless = Page(render(card, [picture()]))
    assert {name for name, _ in page.elements} <= {name for name, _ in harmless.elements} | {"li", "ul"}
    assert all("onerror" not in attributes for _, attributes in page.elements)
    assert page.text.count("alert(1)") > 20


def test_pictures_are_read_back_from_a_page(card: Card) -> None:
    legend = (("wall & door", (1, 20, 255)), ("<floor>", (0, 0, 0)))
    pictures = [
        replace(picture("segmentation", "tiny-3"), legend=legend),
        replace(picture("segmentation", NASTY), legend=legend, caption=NASTY),
        picture("normals", "tiny-4"),
    ]

    assert list(pictures_of(render(card, pictures))) == pictures
    assert pictures_of(render(card)) == ()


def test_nothing_but_pictures_is_taken_over_from_an_old_page(card: Card) -> None:
    page = render(card, [picture()])
    worse = page.replace('src="data:image/png;base64,', 'onerror="alert(1)" src="https://example.com/', 1)

    taken = pictures_of(worse.replace("<figure", "<script>alert(1)</script><figure"))

    again = render(card, taken)
    assert "script" not in {name for name, _ in Page(again).elements}
    assert "example.com" not in again
    assert len(taken[0].panels) == 1


def test_a_picture_that_is_no_data_is_left_out(card: Card) -> None:
    good = picture()
    bad = replace(good, panels=(replace(good.panels[0], uri="https://example.com/pixel.png"),))

    assert Page(render(card, [bad])).named("img") == []


def test_text_is_escaped_and_markup_is_not() -> None:
    cell = tag("td", "3 < 4 & 5", tag("b", "x"), class_='a"b', hidden=True, title=None)

    assert cell == '<td class="a&quot;b" hidden>3 &lt; 4 &amp; 5<b>x</b></td>'
    assert isinstance(cell, Html)


@pytest.mark.parametrize(
    ("unit", "value", "change", "texts"),
    [
        ("share", 0.7534, -0.0021, ("75.34 %", "−0.21 points")),
        ("degrees", 16.2, 0.049, ("16.20°", "+0.05°")),
        ("metres", 0.3447, 0.0114, ("0.3447 m", "+0.0114 m")),
        ("years", 4.25, -0.001, ("4.25 years", "0.00 years")),
        ("ratio", 0.09439, 0.0017, ("0.0944", "+0.0017")),
        ("share", None, None, ("–", "–")),
    ],
)
def test_figures_carry_their_units(unit: str, value: float, change: float, texts: tuple[str, str]) -> None:
    assert (value_text(value, unit), change_text(change, unit)) == texts


def test_intervals_and_sizes_read_as_people_write_them() -> None:
    assert interval_text(-0.004, 0.0002, "share") == "−0.40 to +0.02"
    assert interval_text(None, 0.1, "share") == "–"
    assert [size_text(count) for count in (12, 4_600_000, 2_100_000_000)] == ["12 bytes", "4.6 MB", "2.1 GB"]


def test_a_change_for_the_worse_is_drawn_to_the_left_whatever_the_metric(card: Card) -> None:
    page = Page(render(card))
    dots = [float(circle["cx"] or "") for circle in page.named("circle")]

    assert dots[0] < 75  # mIoU fell
    assert dots[2] < 75  # the angle grew
    assert dots[3] == 75  # no change: on the line, in the middle of 150
