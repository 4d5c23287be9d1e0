"""Small drawings inside a table's cells, as SVG: no script, no picture file."""

from __future__ import annotations

from nddr_deploy.card.schema import HeadMetric
from nddr_deploy.page.figures import change_text, interval_text, times_text
from nddr_deploy.page.markup import Html, tag

WIDTH, HEIGHT = 150.0, 22.0
MIDDLE, REACH = WIDTH / 2, WIDTH / 2 - 6


def interval_bar(head: HeadMetric) -> Html:
    """The change of one metric: worse to the left of the middle line, better to the right, each row in its own scale.

    A bar is the interval, the dot the change, the shaded part what the budget forbids.
    """
    if head.change is None:
        return Html("")
    sign = 1.0 if head.higher_is_better else -1.0
    ends = sorted(sign * (head.change if end is None else end) for end in (head.low, head.high))
    change = sign * head.change
    allowed = head.allowed
    scale = max(abs(ends[0]), abs(ends[1]), abs(change), 1.2 * (allowed or 0)) or 1.0

    def place(gain: float) -> float:
        return round(MIDDLE + REACH * gain / scale, 1)

    parts = []
    if allowed is not None:
        border = place(-allowed)
        parts.append(tag("rect", x=0.0, y=1.0, width=border, height=HEIGHT - 2, class_="forbidden"))
        parts.append(tag("line", x1=border, x2=border, y1=1.0, y2=HEIGHT - 1, class_="border"))
    parts.append(tag("line", x1=MIDDLE, x2=MIDDLE, y1=1.0, y2=HEIGHT - 1, class_="zero"))
    verdict = {True: "met", False: "missed", None: "plain"}[head.met]
    left, right = place(ends[0]), place(ends[1])
    parts.append(tag("rect", x=left, y=8.0, width=max(right - left, 1.0), height=6.0, rx=3.0, class_=f"bar {verdict}"))
    parts.append(tag("circle", cx=place(change), cy=HEIGHT / 2, r=4.5, class_=f"dot {verdict}"))
    text = f"change {change_text(head.change, head.unit)}, interval {interval_text(head.low, head.high, head.unit)}"
    if allowed is not None:
        text += f", allowed {change_text(-sign * allowed, head.unit)}"
    return _drawing(text, *parts)


def length_bar(value: float, largest: float, *, label: str = "") -> Html:
    """A bar from the left, as long as the value is of the largest."""
    share = min(1.0, max(0.0, value / largest)) if largest > 0 else 0.0
    bar = tag("rect", x=0.0, y=6.0, width=max(2.0, round(WIDTH * share, 1)), height=10.0, rx=3.0, class_="bar plain")
    return _drawing(label or times_text(value), bar)


def _drawing(text: str, *parts: Html) -> Html:
    return tag(
        "svg",
        tag("title", text),
        *parts,
        viewbox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        width=WIDTH,
        height=HEIGHT,
        role="img",
        aria_label=text,
    )
