"""The deployment card: what was measured of one model file, as JSON that may come from a stranger."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, StringConstraints

from nddr_deploy.card.fields import (
    Count,
    Digest,
    Extent,
    FileName,
    Hash,
    Line,
    Number,
    Part,
    Precision,
    Text,
    Value,
)
from nddr_deploy.card.measured import Choice, Latency, Parity, Probes

if TYPE_CHECKING:
    from nddr_deploy.evaluate.sample_scores import EvaluationSet
    from nddr_deploy.graph.equalise import EqualisedLayer
    from nddr_deploy.inference.image_set import ImageSet


class Content(Part):
    """What a model file holds, whatever its bytes: see `card.content.content_of`.

    Attributes:
        graph: of the nodes, how they are connected, and the opset.
        manifest: of what the file says about itself.
        weights: tensor -> of its type, shape and values.
    """

    graph: Hash
    manifest: Hash
    weights: dict[Line, Digest] = Field(max_length=200_000)


class ModelFile(Part):
    """The file that the card is of.

    Attributes:
        name, bytes, sha256: of the file.
        precision: that it is written for.
        target: of its quantisation: "cpu", "tensorrt" or "tensorrt8"; None where it has none.
        network: one line for people.
        tasks: in the order of the outputs.
        outputs: "raw" or "decoded".
        size_hw: of the images.
    """

    name: FileName
    bytes: Count
    sha256: Hash
    content: Content
    precision: Precision
    target: Literal["cpu", "tensorrt", "tensorrt8"] | None = None
    network: Text = ""
    tasks: Annotated[tuple[Line, ...], Field(min_length=1, max_length=64)]
    outputs: Literal["raw", "decoded"]
    size_hw: tuple[Extent, Extent]


class Link(Part):
    """A file that this one was made from: the checkpoint, the FP32 model.

    Attributes:
        role: under which the model's manifest names it: "checkpoint", "onnx", ...
        file: its name; empty where only its hash is known.
    """

    role: Line
    file: FileName | None = None
    sha256: Hash


class Calibration(Part):
    """The images whose ranges the quantisation holds.

    Attributes:
        source: one line for people.
        images: how many.
        sha256: over them all.
        method: "minmax", "percentile" or "entropy".
        parameters: of the method.
    """

    source: Text
    images: Count
    sha256: Hash
    method: Line
    parameters: dict[Line, Value] = Field(default={}, max_length=100)

    @classmethod
    def of(cls, images: ImageSet, method: str, **parameters: Value) -> Calibration:
        """`Calibration.of(images, "percentile", percentile=99.99)`"""
        return cls(
            source=images.about, images=len(images), sha256=images.fingerprint, method=method, parameters=parameters
        )


class Layer(Part):
    """One node with weights.

    Attributes:
        node, op: its name and type in the graph.
        precision: of its arithmetic.
        reason: why it stayed in higher precision than the file; empty where it did not, or nobody said.
    """

    node: Text
    op: Line
    precision: Precision
    reason: Text = ""


class Factors(Part):
    """By what one stream's channels were multiplied."""

    least: Number
    median: Number
    most: Number


class Equalisation(Part):
    """One NDDR layer's streams, brought to one range or not: `graph.equalise.EqualisedLayer`.

    Attributes:
        layer: its name.
        applied: whether they were.
        reason: why, or why not.
        factors: stream -> what it was multiplied by.
        ratio_before, ratio_after: the widest stream's range over the narrowest one's.
    """

    layer: Line
    applied: bool
    reason: Text = ""
    factors: dict[Line, Factors] = Field(default={}, max_length=64)
    ratio_before: Number | None = None
    ratio_after: Number | None = None

    @classmethod
    def of(cls, layer: EqualisedLayer) -> Equalisation:
        """What `graph.equalise` reports, with each stream's factors summed up."""
        return cls(
            layer=layer.name,
            applied=layer.applied,
            reason=layer.reason,
            factors={
                stream: Factors(least=values.min(), median=np.median(values), most=values.max())
                for stream, values in layer.factors.items()
            },
            ratio_before=finite(layer.ratio_before),
            ratio_after=finite(layer.ratio_after),
        )


class DataSet(Part):
    """Labelled data as `data.open_dataset` takes it, so that it can be opened again."""

    name: Line
    split: Line
    options: dict[Line, Value | list[Value]] = Field(default={}, max_length=100)
    fit: Literal["letterbox", "stretch"] = "letterbox"


class Evaluation(Part):
    """What the metrics were taken on.

    Attributes:
        source: one line for people.
        samples: how many.
        sha256: over their images and truths.
        labelled: by people (or a renderer); False where FP32's own results are the truth.
        dataset: None where it is no data set by name.
    """

    source: Text
    samples: Count
    sha256: Hash
    labelled: bool
    dataset: DataSet | None = None

    @classmethod
    def of(cls, evaluation: EvaluationSet, dataset: DataSet | None = None) -> Evaluation:
        """What variants were judged on. Reads all of it once, for the hash."""
        return cls(
            source=evaluation.about,
            samples=len(evaluation),
            sha256=evaluation.fingerprint,
            labelled=evaluation.labelled,
            dataset=dataset,
        )


class HeadMetric(Part):
    """One metric of one head, of FP32 and of this model.

    Attributes:
        unit: "share" (0 .. 1), "degrees", "metres", "years", "ratio".
        headline: whether it is the task's main one.
        before, after: of FP32 and of this model; None where nothing valid was seen.
        low, high: the 95 % interval of after - before, by a paired bootstrap over the samples.
        budget: as it was asked for; None without one.
        allowed: what it lets the metric lose, in the metric's own unit.
        met: whether the budget holds; None without one.
    """

    task: Line
    kind: Line
    metric: Line
    unit: Line
    higher_is_better: bool
    headline: bool
    before: Number | None
    after: Number | None
    low: Number | None
    high: Number | None
    budget: Line | None = None
    allowed: Number | None = None
    met: bool | None = None

    @property
    def change(self) -> float | None:
        """after - before."""
        return None if self.before is None or self.after is None else self.after - self.before


class Search(Part):
    """How it was decided which layers stay in higher precision.

    Attributes:
        kept: layers that were left out of the quantisation, in the graph's order.
        trials: variants that were judged.
        met: whether the budgets then held.
        about: one line for people.
    """

    kept: tuple[Text, ...] = Field(max_length=100_000)
    trials: Count
    met: bool
    about: Text = ""


class Card(Part):
    """Everything that was measured of one model file.

    Attributes:
        chain: from the checkpoint on; the model itself is not in it.
        layers: every node with weights, in the graph's order.
        heads: every metric of every head.
        parity: every hop that was compared.
        notes: things worth knowing.
        created: UTC, as in "2026-01-31T12:00:00Z".
    """

    format: Literal["nddr-card/1"] = "nddr-card/1"
    model: ModelFile
    chain: tuple[Link, ...] = Field(default=(), max_length=32)
    calibration: Calibration | None = None
    layers: tuple[Layer, ...] = Field(default=(), max_length=100_000)
    equalisation: tuple[Equalisation, ...] = Field(default=(), max_length=1000)
    evaluation: Evaluation | None = None
    heads: tuple[HeadMetric, ...] = Field(default=(), max_length=1000)
    parity: tuple[Parity, ...] = Field(default=(), max_length=32)
    probes: Probes
    latency: Latency | None = None
    search: Search | None = None
    choice: Choice | None = None
    notes: tuple[Text, ...] = Field(default=(), max_length=1000)
    versions: dict[Line, Line] = Field(default={}, max_length=100)
    created: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]

    @property
    def met(self) -> bool | None:
        """Whether every budget holds; None where none was set."""
        verdicts = [head.met for head in self.heads if head.budget is not None]
        return all(verdicts) if verdicts else None

    @property
    def unjudged(self) -> tuple[str, ...]:
        """Tasks of the model that no metric tells anything of, although others are judged."""
        judged = {head.task for head in self.heads}
        return tuple(task for task in self.model.tasks if task not in judged) if judged else ()

    def to_json(self) -> str:
        return self.model_dump_json(indent=1) + "\n"


def finite(value: float) -> float | None:
    """The number; None where it is none."""
    return float(value) if math.isfinite(value) else None
