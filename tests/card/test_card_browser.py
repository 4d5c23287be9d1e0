"""The page in a real browser, where one is installed: tables and pictures are laid out, nothing is fetched."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import cv2
import numpy as np
import pytest

from nddr_deploy.card.html import render
from nddr_deploy.card.pictures import Picture
from nddr_deploy.card.schema import Card
from nddr_deploy.page.panels import panel

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed (apt-get install chromium)")
RED = (200, 30, 40)
# What the browser made of the page, written into it by the browser itself: the page under test has no script.
MEASURE = """<script>addEventListener("load", () => {
  const box = element => {
    const place = element.getBoundingClientRect();
    return [place.left, place.top, place.width, place.height].map(Math.round);
  };
  const found = {
    width: document.documentElement.scrollWidth,
    tables: [...document.querySelectorAll("table")].filter(t => !t.closest("details")).map(box),
    pictures: [...document.images].map(i => [i.complete && i.naturalWidth, ...box(i)]),
    rows: [...document.querySelectorAll("tbody tr")].map(row => Math.round(row.getBoundingClientRect().height)),
    drawings: [...document.querySelectorAll("svg circle, svg .bar")].map(box),
    colour: getComputedStyle(document.querySelector("h1")).color,
    font: parseFloat(getComputedStyle(document.querySelector("td")).fontSize),
    requests: performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:")).length,
  };
  document.body.append(Object.assign(document.createElement("pre"), {id: "found", textContent: JSON.stringify(found)}));
});</script></html>"""


def browse(page: Path, folder: Path, *options: str) -> str:
    command = [
        str(BROWSER),
        *(
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
        ),
        *("--disable-sync", "--no-first-run", "--hide-scrollbars", f"--user-data-dir={folder / 'profile'}"),
        *options,
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def pictures() -> list[Picture]:
    plain = np.full((60, 80, 3), RED, dtype=np.uint8)
    return [Picture("normals", "tiny-1", "worse", tuple(panel(plain, f"panel {n}", "a red picture") for n in range(5)))]


@pytest.mark.parametrize("width", [1200, 500])
def test_tables_and_pictures_are_laid_out_at_any_width(card: Card, tmp_path: Path, width: int) -> None:
    page = tmp_path / "page.html"
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    page.write_text(policy.sub("", render(card, pictures())).replace("</html>", MEASURE))

    dom = browse(page, tmp_path, f"--window-size={width},2000", "--dump-dom")

    found = json.loads(unescape(dom.partition('<pre id="found">')[2].partition("</pre>")[0]))
    assert found["requests"] == 0
    assert found["width"] <= width  # the page itself never scrolls sideways; wide tables do
    assert len(found["tables"]) == 6
    assert all(left >= 0 and across > 250 and down > 40 for left, _, across, down in found["tables"])
    assert [natural for natural, *_ in found["pictures"]] == [80] * 5
    assert all(across > 100 and abs(across / down - 4 / 3) < 0.05 for _, _, _, across, down in found["pictures"])
    assert len(found["drawings"]) == 2 * len(card.heads) + 2  # an interval and a dot each; two bars of speed
    assert all(across > 0 and down > 0 for _, _, across, down in found["drawings"])
    assert max(found["rows"]) < 150  # no column is squeezed until its words stand below each other
    assert found["font"] >= 14


@pytest.mark.parametrize("dark", [False, True])
def test_what_is_seen_has_text_pictures_and_the_verdicts_colour(card: Card, tmp_path: Path, dark: bool) -> None:
    page, shot = tmp_path / "page.html", tmp_path / "page.png"
    page.write_text(render(card, pictures()))
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []

    browse(page, tmp_path, "--window-size=1200,3000", f"--screenshot={shot}", *scheme)

    seen = cv2.imread(str(shot))[..., ::-1].astype(int)
    background = seen[5, 5]
    assert (background.max() < 60) if dark else (background.min() > 230)
    different = np.abs(seen - background).max(axis=2) > 40
    assert 0.05 < different.mean() < 0.9
    reds = np.abs(seen - np.array(RED)).max(axis=2) < 12
    assert reds.sum() > 5 * 100 * 75  # five pictures of at least 100 x 75 pixels each
    verdict = seen[:400, 60:1100].reshape(-1, 3)
    assert (verdict[:, 0] > verdict[:, 1:].max(axis=1) + 15).mean() > 0.1  # one budget is missed: red
