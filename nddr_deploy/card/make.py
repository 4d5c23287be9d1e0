"""A card from what was measured, and its two files."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from nddr_deploy.card.card_file import card_path, find_card, page_path, read_card
from nddr_deploy.card.content import content_of
from nddr_deploy.card.html import render
from nddr_deploy.card.layers import layers_of
from nddr_deploy.card.measured import Choice, Latency, Parity
from nddr_deploy.card.page_pictures import read_pictures
from nddr_deploy.card.probes import take_probes
from nddr_deploy.card.schema import (
    Calibration,
    Card,
    Equalisation,
    Evaluation,
    HeadMetric,
    Link,
    ModelFile,
    Search,
    finite,
)
from nddr_deploy.engines.base import Engine
from nddr_deploy.engines.onnx_file import OnnxFile
from nddr_deploy.errors import ConfigError, ModelFileError
from nddr_deploy.evaluate.parity import ParityReport
from nddr_deploy.files import finished_files, sha256
from nddr_deploy.graph.fp16_limits import Kept
from nddr_deploy.graph.metadata import read_model

if TYPE_CHECKING:
    from nddr_deploy.card.pictures import Picture
    from nddr_deploy.evaluate.budget import Budget
    from nddr_deploy.evaluate.sample_scores import Change
    from nddr_deploy.graph.equalise import EqualisedLayer


def make_card(
    model: str | os.PathLike[str],
    engine: Engine,
    *,
    reference: Engine | None = None,
    name: str | None = None,
    target: Literal["cpu", "tensorrt", "tensorrt8"] | None = None,
    chain: Iterable[Link] = (),
    calibration: Calibration | None = None,
    kept: Collection[Kept] = (),
    equalisation: Iterable[EqualisedLayer] = (),
    evaluation: Evaluation | None = None,
    changes: Sequence[Change] = (),
    budgets: Sequence[Budget] = (),
    sure: bool = False,
    parity: Mapping[str, ParityReport] | None = None,
    latency: Latency | None = None,
    search: Search | None = None,
    choice: Choice | None = None,
    notes: Iterable[str] = (),
) -> Card:
    """What is known about a model file, with what can be read from the file itself: hashes, layers, probes.

    >>> with open_engine("model.int8.onnx", "onnxruntime") as engine:       # doctest: +SKIP
    ...     card = make_card("model.int8.onnx", engine, evaluation=..., changes=changes, budgets=budgets)
    >>> write_card(card, pictures, "model.int8.onnx")                       # doctest: +SKIP

    Args:
        model: the ONNX file, whole; under whatever name it lies at the moment.
        engine: open on it, in the backend that it is meant for: it runs the probe images.
        reference: open on the FP32 model; what it returns for the probe images is kept, so that how far the two are
            apart can be measured again without it.
        name: that the file will have; None is the one it has.
        target: that it was quantised for.
        chain: names of files that its manifest has hashes of, and others that it was made from; the manifest's order
            comes first.
        kept: nodes that stayed in higher precision, with the reasons.
        changes: every metric of every head before and after, as `sample_scores.compare` returns them.
        budgets: what was promised; each is held against the change of its task and metric.
        sure: a budget must hold at the worse end of the interval, too.
        parity: hop -> report, as in {"fp32 to int8": ...}.
        equalisation: what `graph.equalise` reports.
        calibration, evaluation, latency, search, choice, notes: see `Card`.

    Raises:
        ModelFileError: the model is damaged, or not ours.
        ConfigError: a budget without its change, or something that a card cannot hold.
        InputError: the model returns NaN or infinity for the probe images.
    """
    path = Path(model)
    file = OnnxFile.read(path)
    graph = read_model(path)
    manifest = file.manifest
    links = {link.role: link for link in chain}
    named = {role: Link(role=role, sha256=value) for role, value in manifest.hashes.items()}
    try:
        return Card(
            model=ModelFile.model_validate(
                {
                    "name": name or path.name,
                    "bytes": path.stat().st_size,
                    "sha256": sha256(path),
                    "content": content_of(graph, source=str(path)),
                    "precision": file.precision,
                    "target": target,
                    "network": manifest.network,
                    "tasks": tuple(task.name for task in manifest.tasks),
                    "outputs": manifest.outputs,
                    "size_hw": manifest.size_hw,
                }
            ),
            chain=tuple({**named, **links}.values()),
            calibration=calibration,
            layers=layers_of(graph, kept),
            equalisation=tuple(map(Equalisation.of, equalisation)),
            evaluation=evaluation,
            heads=_heads(changes, budgets, {task.name: (task.kind, task.headline) for task in manifest.tasks}, sure),
            parity=tuple(Parity.of(hop, report) for hop, report in (parity or {}).items()),
            probes=take_probes(engine, reference),
            latency=latency,
            search=search,
            choice=choice,
            notes=tuple(notes),
            versions={**manifest.versions, "nddr-deploy": version("nddr-deploy")},
            created=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: its card cannot hold {where} ({first['msg']}). Rename it.") from error


def write_card(card: Card, pictures: Sequence[Picture], model: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write the card and its page beside the model: both, or neither.

    Args:
        pictures: for the page.
        model: the file that the card is of.

    Returns:
        The JSON's and the page's path.

    Raises:
        InputError, OutputError: they cannot be written.
    """
    json_path, html_path = card_path(model), page_path(model)
    with finished_files(json_path, html_path) as (json_file, html_file):
        json_file.write_text(card.to_json(), encoding="utf-8")
        html_file.write_text(render(card, pictures), encoding="utf-8")
    return json_path, html_path


def own_card(model: str | os.PathLike[str]) -> Card:
    """The card beside a model, held against the file.

    Raises:
        ModelFileError: there is none, it cannot be used, or it is of another file.
    """
    card = read_card(find_card(model))
    if sha256(model) != card.model.sha256:
        raise ModelFileError(
            f"{card_path(model)} is not the card of {model}: the file was changed, or only one of the two was copied. "
            "Make the card again with nddr-quantize."
        )
    return card


def update_card(model: str | os.PathLike[str], **parts: Choice | Latency | None) -> Card:
    """Replace parts of a model's card, and write its page anew with the pictures that it has.

    >>> update_card("model.int8.onnx", choice=choice)       # doctest: +SKIP

    Args:
        model: an ONNX file with its card beside it.
        parts: `choice` or `latency`, or both.

    Raises:
        ModelFileError: there is no card, or it is of another file.
        InputError, OutputError: it cannot be written.
    """
    card = own_card(model)
    changed = Card.model_validate({**dict(card), **parts})
    write_card(changed, read_pictures(page_path(model)), model)
    return changed


def _heads(
    changes: Sequence[Change], budgets: Sequence[Budget], tasks: Mapping[str, tuple[str, str]], sure: bool
) -> tuple[HeadMetric, ...]:
    promised = {(budget.task, budget.metric): budget for budget in budgets}
    known = {(change.task, change.metric) for change in changes}
    for task, metric in promised:
        if (task, metric) not in known:
            raise ConfigError(f"budget: nothing was measured for {task}.{metric}, so nothing can be promised of it.")
    heads = []
    for change in changes:
        kind, headline = tasks[change.task]
        budget = promised.get((change.task, change.metric))
        heads.append(
            HeadMetric(
                task=change.task,
                kind=kind,
                metric=change.metric,
                unit=change.form.unit,
                higher_is_better=change.form.higher_is_better,
                headline=change.metric == headline,
                before=finite(change.before),
                after=finite(change.after),
                low=finite(change.low),
                high=finite(change.high),
                budget=None if budget is None else budget.text,
                allowed=None if budget is None else finite(budget.limit(change.before)),
                met=None if budget is None else budget.holds(change, sure=sure),
            )
        )
    return tuple(heads)
