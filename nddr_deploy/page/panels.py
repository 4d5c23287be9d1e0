"""Small pictures that a page holds inside, side by side, and what their colours mean."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nddr_deploy.page.markup import Html, tag
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.palette import Colour

WIDEST = 320  # pixels of a picture in the page: three heads' worst images stay well below a megabyte
JPEG_QUALITY = 88


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        title: below it.
        alt: for those who cannot see it.
        uri: `data:image/...`.
        width, height: in pixels.
    """

    title: str
    alt: str
    uri: str
    width: int
    height: int


def panel(picture: Image, title: str, alt: str, *, smooth: bool = True) -> Panel:
    """A picture for the page, at most `WIDEST` wide: PNG or JPEG, whichever is smaller.

    Args:
        picture: RGB uint8 (H, W, 3).
        title, alt: see `Panel`.
        smooth: whether neighbours may be averaged; colours that stand for something may not.
    """
    import cv2

    picture = narrowed(picture, smooth=smooth)
    turned = np.ascontiguousarray(picture[..., ::-1])  # cv2 writes BGR
    forms = {
        "png": cv2.imencode(".png", turned, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes(),
        "jpeg": cv2.imencode(".jpg", turned, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes(),
    }
    form = min(forms, key=lambda name: len(forms[name]))
    uri = f"data:image/{form};base64,{base64.b64encode(forms[form]).decode()}"
    return Panel(title, alt, uri, picture.shape[1], picture.shape[0])


def narrowed(picture: Image, *, smooth: bool = True) -> Image:
    """The picture, at most `WIDEST` wide.

    Args:
        smooth: see `panel`.
    """
    import cv2

    height, width = picture.shape[:2]
    if width <= WIDEST:
        return picture
    size = (WIDEST, max(1, round(height * WIDEST / width)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA if smooth else cv2.INTER_NEAREST))


def beside(panels: Iterable[Panel], *, class_: str = "panels") -> Html:
    """Pictures in rows, as many as there is room for, each with its title; those of other places are left out."""
    shown = [
        tag("div", tag("img", src=each.uri, alt=each.alt, width=str(each.width), height=str(each.height)), each.title)
        for each in panels
        if each.uri.startswith("data:image/")
    ]
    return tag("div", *shown, class_=class_)


def legend(rows: Sequence[tuple[str, Colour]]) -> Html:
    """The colours of a drawing and what they mean, as `Task.legend` gives them."""
    items = [
        tag("li", tag("span", style=f"background: rgb({red}, {green}, {blue})"), text)
        for text, (red, green, blue) in rows
    ]
    return tag("ul", *items, class_="legend") if items else Html("")
