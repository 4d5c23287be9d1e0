"""The page's sections on what was measured: every head, the worst images, speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nddr_deploy.card.allowed import allowed_text
from nddr_deploy.card.bars import interval_bar, length_bar
from nddr_deploy.card.elements import PRECISIONS, mark
from nddr_deploy.card.measured import Latency
from nddr_deploy.card.schema import Card, HeadMetric
from nddr_deploy.page.elements import count, section
from nddr_deploy.page.figures import change_text, interval_text, times_text, value_text
from nddr_deploy.page.markup import Html, table, tag, together
from nddr_deploy.page.panels import beside, legend

if TYPE_CHECKING:
    from nddr_deploy.card.pictures import Picture


def heads(card: Card) -> Html | None:
    if not card.heads:
        return None
    rows = [
        (
            head.task,
            tag("strong", head.metric) if head.headline else head.metric,
            value_text(head.before, head.unit),
            value_text(head.after, head.unit),
            _change(head),
            interval_bar(head),
            allowed_text(head),
            mark(head.met) if head.budget is not None else "",
        )
        for head in card.heads
    ]
    truth = (
        ""
        if card.evaluation is None or card.evaluation.labelled
        else (
            " There are no labels: FP32's own results are the truth here, so FP32 is perfect, and the change is how "
            "far this model disagrees with it."
        )
    )
    if card.unjudged:
        truth += f" The data has no truth for {', '.join(card.unjudged)}: nothing is known of what was lost there."
    return section(
        "Every head, before and after",
        f"FP32 and this model on the same images, with the 95 % interval of the change (paired bootstrap over images). "
        f"In the drawings worse is left of the line and better is right; what a budget forbids is shaded.{truth}",
        table(
            "Metrics of every head",
            (
                "Head",
                "Metric",
                "FP32",
                "This model",
                "Change and interval",
                "Worse | better",
                "May change by",
                "Verdict",
            ),
            rows,
            numbers=(2, 3, 4, 6),
        ),
    )


def _change(head: HeadMetric) -> Html:
    interval = interval_text(head.low, head.high, head.unit)
    return together((change_text(head.change, head.unit), tag("small", interval)))


def worst(pictures: Sequence[Picture]) -> Html | None:
    if not pictures:
        return None
    parts: list[Html] = []
    for task in dict.fromkeys(picture.task for picture in pictures):
        own = [picture for picture in pictures if picture.task == task]
        parts.append(tag("h3", task))
        parts.append(legend(own[0].legend))
        for picture in own:
            caption = tag("figcaption", tag("strong", picture.name), f": {picture.caption}")
            parts.append(tag("figure", caption, beside(picture.panels), class_="worst"))
    about = "Those on which each head lost most against FP32."
    return section("The worst images", about, *parts, class_="pictures")  # read again by `page_pictures`


def speed(card: Card) -> Html | None:
    parts = [_latency(card.latency)] if card.latency is not None else []
    if card.choice is not None:
        choice = card.choice
        chosen = (
            f"{choice.file} with {choice.backend} in {PRECISIONS[choice.precision]} on "
            f"{count(choice.threads, 'thread')}: {choice.median_ms:.2f} ms a pass on {choice.machine.cpu}. {choice.why}"
        )
        parts.append(tag("p", tag("strong", "Chosen: "), chosen))
    return section("Speed", None, *parts) if parts else None


def _latency(latency: Latency) -> Html:
    fastest = max((case.speedup for case in latency.cases), default=1.0)
    rows = [
        (
            case.label,
            case.device,
            f"{case.median_ms:.2f}",
            f"{case.low_ms:.2f} to {case.high_ms:.2f}",
            times_text(case.speedup),
            f"{case.speedup_low:.2f} to {case.speedup_high:.2f}",
            length_bar(case.speedup, fastest),
        )
        for case in latency.cases
    ]
    about = (
        f"On {latency.machine.cpu} ({count(latency.machine.cores, 'core')}), {_about_clock(latency)}. "
        "Other machines differ: nddr-verify measures yours."
    )
    head = ("Case", "Runs on", "ms a pass", "over rounds", "Speed-up", "over rounds", "Speed-up, drawn")
    return together((tag("p", about, class_="soft"), table("Time of a pass", head, rows, numbers=(2, 3, 4, 5))))


def _about_clock(latency: Latency) -> str:
    clock = "time of the processor" if latency.clock == "processor" else "time by the clock"
    images, height, width, _ = latency.images
    return (
        f"{count(latency.threads, 'thread')}, {count(images, 'image')} of {width} × {height} px a pass; {clock}, the "
        f"cases taking turns in {count(latency.rounds, 'round')}"
    )
