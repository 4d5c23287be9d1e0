"""The card as one page that needs nothing else: no script, no network, pictures inside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nddr_deploy.card import model_html, results_html
from nddr_deploy.card.allowed import allowed_text
from nddr_deploy.card.elements import PRECISIONS
from nddr_deploy.card.schema import Card, HeadMetric
from nddr_deploy.page.document import document
from nddr_deploy.page.elements import count
from nddr_deploy.page.figures import change_text, size_text, times_text, value_text
from nddr_deploy.page.markup import Html, tag, together

if TYPE_CHECKING:
    from nddr_deploy.card.pictures import Picture


def render(card: Card, pictures: Sequence[Picture] = ()) -> str:
    """The whole page.

    Args:
        card: anybody's: every string of it is escaped.
        pictures: as `card.pictures.worst_pictures` makes them.
    """
    sections = (
        _verdict(card),
        _facts(card),
        results_html.heads(card),
        results_html.speed(card),
        results_html.worst(pictures),
        model_html.layers(card),
        model_html.equalisation(card),
        model_html.data(card),
        model_html.parity(card),
        model_html.files(card),
    )
    return document(f"{card.model.name}: deployment card", _title(card), *sections, _footer(card))


def _title(card: Card) -> Html:
    model = card.model
    about = [part for part in (model.network, ", ".join(model.tasks)) if part]
    target = "" if model.target is None else f" for {_target(model.target)}"
    return tag(
        "header",
        tag("p", "Deployment card", class_="over"),
        tag("h1", model.name),
        tag("p", f"{PRECISIONS[model.precision]}{target}. {'; '.join(about)}.", class_="soft"),
    )


def _target(target: str) -> str:
    return {"cpu": "CPUs", "tensorrt": "TensorRT 10 and later", "tensorrt8": "TensorRT 8.6"}[target]


def _verdict(card: Card) -> Html:
    promised = [head for head in card.heads if head.budget is not None]
    missed = [head for head in promised if not head.met]
    if not promised:
        title, kind = "No budget was set", "none"
    elif missed:
        title, kind = f"{len(missed)} of {count(len(promised), 'budget')} missed", "missed"
    else:
        title, kind = f"{'The' if len(promised) == 1 else 'All'} {count(len(promised), 'budget', True)} met", "met"
    shown = promised or [head for head in card.heads if head.headline]
    items = [tag("li", _in_words(head)) for head in shown]
    return tag("section", tag("h2", title), tag("ul", *items) if items else None, class_=f"verdict {kind}")


def _in_words(head: HeadMetric) -> Html:
    before, after = value_text(head.before, head.unit), value_text(head.after, head.unit)
    text = f" {head.metric} {before} → {after}: {change_text(head.change, head.unit)}"
    if head.budget is not None:
        text += f" ({allowed_text(head)} allowed{'' if head.met else ', missed'})"
    return together((tag("strong", head.task), text))


def _facts(card: Card) -> Html:
    model = card.model
    facts: list[tuple[str, str, str]] = [
        ("File", size_text(model.bytes), f"{model.size_hw[1]} × {model.size_hw[0]} px images")
    ]
    counts = Counter(layer.precision for layer in card.layers)
    if card.layers:
        main = counts.get(model.precision, 0)
        rest = ", ".join(f"{count} {PRECISIONS[name]}" for name, count in counts.items() if name != model.precision)
        facts.append((f"Layers in {PRECISIONS[model.precision]}", f"{main} of {len(card.layers)}", rest))
    own = [case for case in (card.latency.cases if card.latency else ()) if case.file == model.name]
    if card.latency is not None and own and own != list(card.latency.cases):
        fastest = max(own, key=lambda case: case.speedup)
        facts.append(("Speed", times_text(fastest.speedup), f"{fastest.label}, over {card.latency.cases[0].label}"))
    if card.evaluation is not None:
        against = "with labels" if card.evaluation.labelled else "against FP32's results"
        facts.append(("Judged on", f"{card.evaluation.samples} images", against))
    items = [
        tag("div", tag("dt", name), tag("dd", value, tag("small", more) if more else None))
        for name, value, more in facts
    ]
    return tag("dl", *items, class_="facts")


def _footer(card: Card) -> Html:
    return tag(
        "footer",
        f"Made {card.created.replace('T', ' ').replace('Z', ' UTC')}. Check it on your machine: ",
        tag("code", f"nddr-verify {card.model.name}"),
    )
