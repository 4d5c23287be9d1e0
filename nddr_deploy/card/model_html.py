"""The page's sections on how the model came to be: layers, streams, data, parity, files."""

from __future__ import annotations

from collections import Counter

from nddr_deploy.card.elements import PRECISIONS, hash_text, mark
from nddr_deploy.card.fields import Value
from nddr_deploy.card.schema import Card, Equalisation
from nddr_deploy.page.elements import count, pairs, section
from nddr_deploy.page.figures import short_number, value_text
from nddr_deploy.page.markup import Html, table, tag, together

MOST_ROWS = 16  # of layers; more scroll within their table


def layers(card: Card) -> Html | None:
    if not card.layers:
        return None
    counts = Counter(layer.precision for layer in card.layers)
    summary = ", ".join(f"{count} in {PRECISIONS[name]}" for name, count in counts.most_common())
    parts: list[Html | None] = []
    told = [layer for layer in card.layers if layer.reason]
    if told:
        parts.append(
            table(
                "Layers left in higher precision",
                ("Left in higher precision", "Type", "Precision", "Why"),
                [(layer.node, layer.op, PRECISIONS[layer.precision], layer.reason) for layer in told],
                sentences=(3,),
                tall=len(told) > MOST_ROWS,
            )
        )
    if card.search is not None:
        search = card.search
        names = ", ".join(search.kept)
        end = "and the budgets hold" if search.met else "and not every budget holds"
        text = f"The search judged {count(search.trials, 'variant')} and left {count(len(search.kept), 'layer')} out"
        parts.append(tag("p", f"{text}{f' ({names})' if names else ''}, {end}. {search.about}"))
    every = table(
        "Precision of every layer",
        ("Layer", "Type", "Precision", "Why"),
        [(layer.node, layer.op, PRECISIONS[layer.precision], layer.reason) for layer in card.layers],
        sentences=(3,),
        tall=len(card.layers) > MOST_ROWS,
    )
    every = tag("details", tag("summary", f"All {len(card.layers)} layers"), every)
    return section("Precision per layer", f"Layers with weights: {summary}.", *parts, every)


def equalisation(card: Card) -> Html | None:
    if not card.equalisation:
        return None
    rows = [
        (
            entry.layer,
            tag("span", "equalised" if entry.applied else "left", class_=f"mark {'met' if entry.applied else 'none'}"),
            _ratio(entry.ratio_before),
            _ratio(entry.ratio_after),
            _factors(entry),
            entry.reason,
        )
        for entry in card.equalisation
    ]
    return section(
        "Stream equalisation",
        "Where streams of different magnitude meet in one layer, they share one scale and the small one loses. They "
        "are brought to one range before, which changes nothing in FP32.",
        table(
            "Stream equalisation, layer by layer",
            ("NDDR layer", "Streams", "Ranges before", "Ranges after", "Factors (median)", "Why"),
            rows,
            numbers=(2, 3),
            sentences=(4, 5),
        ),
    )


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g} : 1"


def _factors(entry: Equalisation) -> str:
    return ", ".join(f"{stream} × {short_number(factors.median)}" for stream, factors in entry.factors.items())


def data(card: Card) -> Html | None:
    parts: list[Html] = []
    if card.calibration is not None:
        made = card.calibration
        settings = ", ".join(f"{key} {_setting(value)}" for key, value in made.parameters.items())
        parts.append(tag("h3", "Calibration"))
        parts.append(
            pairs(
                ("Source", made.source),
                ("Images", str(made.images)),
                ("Method", f"{made.method}{f' ({settings})' if settings else ''}"),
                ("SHA-256", hash_text(made.sha256)),
            )
        )
    if card.evaluation is not None:
        judged = card.evaluation
        data = judged.dataset
        opened = None
        if data is not None:
            options = "".join(f" --option {key}={value}" for key, value in data.options.items())
            opened = tag("code", f"--data {data.name} --split {data.split}{options}")
        parts.append(tag("h3", "Evaluation"))
        parts.append(
            pairs(
                ("Source", judged.source),
                ("Images", str(judged.samples)),
                ("Truth", "labels" if judged.labelled else "FP32's own results"),
                ("Opened with", opened),
                ("SHA-256", hash_text(judged.sha256)),
            )
        )
    return section("Data", None, *parts) if parts else None


def _setting(value: Value) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def parity(card: Card) -> Html | None:
    if not card.parity:
        return None
    rows = [
        (
            hop.hop,
            head.task,
            short_number(head.max_abs),
            value_text(head.relative, "share"),
            value_text(head.outside, "share"),
            ", ".join(f"{name} {short_number(value)}" for name, value in head.metrics.items() if value is not None),
            together((mark(head.passed, "agrees", "differs"), tag("small", head.problem) if head.problem else None)),
        )
        for hop in card.parity
        for head in hop.heads
    ]
    return section(
        "Parity",
        "Two forms of the model on the same images, value by value; the metrics take the first form's results as the "
        "truth.",
        table(
            "Parity of every hop and head",
            ("Hop", "Head", "Largest difference", "Of the range", "Beyond tolerance", "Metrics", "Verdict"),
            rows,
            numbers=(2, 3, 4),
            sentences=(5,),
        ),
    )


def files(card: Card) -> Html:
    rows = [(link.role, link.file or "–", hash_text(link.sha256)) for link in card.chain]
    rows.append(("this model", card.model.name, hash_text(card.model.sha256)))
    notes = [tag("li", note) for note in card.notes]
    return section(
        "Files and versions",
        None,
        table("Files from the checkpoint to this model", ("Role", "File", "SHA-256"), rows),
        tag("h3", "Versions") if card.versions else None,
        pairs(*((name, value) for name, value in card.versions.items())),
        tag("h3", "Notes") if notes else None,
        tag("ul", *notes) if notes else None,
    )
