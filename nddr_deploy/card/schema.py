"""The deployment card: what was measured of one model file, as JSON that may come from a stranger."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from nddr_deploy.engines.machine import Machine
from nddr_deploy.engines.plan_file import PlanFile
from nddr_deploy.engines.plan_options import FileName, Line
from nddr_deploy.errors import ModelFileError, NddrError
from nddr_deploy.evaluate.parity import ParityReport

LARGEST_BYTES = 16 * 2**20  # of a card: a network of a thousand layers makes less than one


def _printable_lines(text: str) -> str:
    if not all(character.isprintable() for character in text):
        raise ValueError("not a line of plain text")
    return text


Text = Annotated[str, StringConstraints(max_length=2000), AfterValidator(_printable_lines)]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]  # the first 64 bits of a SHA-256
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Precision = Literal["fp32", "bf16", "fp16", "int8"]
Extent = Annotated[int, Field(ge=1, le=65536)]
Value = str | bool | int | Number | None


class Part(BaseModel):
    """A part of a card: not changed once made, and nothing in it that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
    """One NDDR layer's streams, brought to one range or not.

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


class HeadMetric(Part):
    """One metric of one head, of FP32 and of this model.

    Attributes:
        unit: "share" (0 .. 1), "degrees", "metres", "years", "ratio".
        headline: whether it is the task's main one.
        before, after: of FP32 and of this model; None where nothing valid was seen.
        low, high: the 95 % interval of after - before, by a paired bootstrap over the samples.
        budget: as it was asked for; None without one.
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
    met: bool | None = None


class ParityHead(Part):
    """`evaluate.parity.HeadParity`; None for what is not a number."""

    task: Line
    passed: bool
    problem: Text = ""
    max_abs: Number | None
    extent: Number | None
    relative: Number | None
    outside: Number | None
    metrics: dict[Line, Number | None] = Field(max_length=100)


class Parity(Part):
    """One hop: `evaluate.parity.ParityReport` of two forms of the model.

    Attributes:
        hop: which two, as in "fp32 to int8".
        images: shapes of the batches compared.
    """

    hop: Line
    passed: bool
    tolerance: Number
    images: tuple[tuple[int, ...], ...] = Field(max_length=10_000)
    heads: tuple[ParityHead, ...] = Field(max_length=64)

    @classmethod
    def of(cls, hop: str, report: ParityReport) -> Parity:
        return cls.model_validate({"hop": hop, **report.to_dict()})


class MachineFacts(Part):
    """`engines.machine.Machine`."""

    cpu: Text
    cores: Count
    memory_bytes: Count
    flags: tuple[Line, ...] = Field(max_length=100)
    system: Line
    python: Line

    @classmethod
    def of(cls, machine: Machine) -> MachineFacts:
        return cls(**machine.to_dict())


class Probe(Part):
    """Values of one output at positions that its shape and the seed decide, on `evaluate.probe_images`.

    Attributes:
        shape: of the output over all images.
        values: at the positions; labels are whole numbers.
        extent: the largest value of the output less its smallest.
    """

    shape: Annotated[tuple[Extent, ...], Field(min_length=1, max_length=6)]
    values: Annotated[tuple[Number, ...], Field(min_length=1, max_length=4096)]
    extent: Number


class Probes(Part):
    """What the model returned for pictures that every machine can make again.

    Attributes:
        seed: of the positions.
        images: how many pictures.
        sha256: of their pixels.
        size_hw: of the pictures.
        backend, precision, machine: that ran them.
        raw: task -> of the heads' outputs; empty where the model returns decoded ones.
        decoded: task -> of the results at the pictures' size.
    """

    seed: Count
    images: Annotated[int, Field(ge=1, le=64)]
    sha256: Hash
    size_hw: tuple[Extent, Extent]
    backend: Line
    precision: Precision
    machine: MachineFacts
    raw: dict[Line, Probe] = Field(max_length=64)
    decoded: dict[Line, Probe] = Field(max_length=64)


class LatencyCase(Part):
    """One model file in one runtime.

    Attributes:
        label: for people, as in "int8, onnxruntime".
        file: the model's name.
        device: that it ran on.
        median_ms, low_ms, high_ms: of a pass: over all passes, and the smallest and largest median of a round.
        speedup, speedup_low, speedup_high: over the first case: the same of the ratios within each round.
    """

    label: Line
    file: FileName
    backend: Line
    precision: Precision
    device: Text
    passes: Count
    median_ms: Number
    low_ms: Number
    high_ms: Number
    speedup: Number
    speedup_low: Number
    speedup_high: Number


class Latency(Part):
    """Cases that took turns in one process.

    Attributes:
        clock: "wall", or "processor": time that the process used, which other work on the machine hardly changes.
        images: shape of a batch.
    """

    machine: MachineFacts
    threads: Count
    clock: Literal["wall", "processor"]
    rounds: Count
    images: tuple[Extent, Extent, Extent, Literal[3]]
    cases: Annotated[tuple[LatencyCase, ...], Field(max_length=64)]


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


class Choice(Part):
    """What `nddr-bench --pick` chose for a machine."""

    file: FileName
    backend: Line
    precision: Precision
    threads: Count
    median_ms: Number
    machine: MachineFacts
    why: Text


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

    def to_json(self) -> str:
        return self.model_dump_json(indent=1) + "\n"


def card_path(model: str | os.PathLike[str]) -> Path:
    """`model.int8.onnx` -> `model.int8.card.json`."""
    path = Path(model)
    return path.with_name(f"{path.stem}.card.json")


def page_path(model: str | os.PathLike[str]) -> Path:
    """`model.int8.onnx` -> `model.int8.card.html`."""
    path = Path(model)
    return path.with_name(f"{path.stem}.card.html")


def find_card(model: str | os.PathLike[str]) -> Path:
    """The card of an ONNX file or of a TensorRT plan: a plan has that of the ONNX file it was built from.

    Raises:
        ModelFileError: there is none, or the plan has no manifest.
    """
    path = Path(model)
    places = [card_path(path)]
    if path.suffix == ".trt":
        places.append(card_path(path.with_name(PlanFile.read(path).about.onnx)))
    for place in places:
        if place.is_file():
            return place
    names = " or ".join(dict.fromkeys(place.name for place in places))
    raise ModelFileError(f"{path} has no card ({names} beside it). Copy it along, or name it with --card.")


def read_card(path: str | os.PathLike[str]) -> Card:
    """Read a card that anybody may have written.

    Raises:
        ModelFileError: no file, too large, or not a card.
    """
    file = Path(path)
    try:
        if file.stat().st_size > LARGEST_BYTES:
            raise ModelFileError(
                f"{file} is no card: it has {file.stat().st_size / 1e6:.0f} MB, and a card at most "
                f"{LARGEST_BYTES / 1e6:.0f}."
            )
        content = file.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{file} cannot be read ({error.strerror}); expected a card (.card.json).") from error
    try:
        return Card.model_validate_json(content, strict=True)
    except (ValidationError, NddrError) as error:
        first = error.errors(include_input=False, include_url=False)[0] if isinstance(error, ValidationError) else None
        why = f"{'.'.join(map(str, first['loc'])) or 'the document'}: {first['msg']}" if first else str(error)
        why = why if why.isprintable() else ascii(why)
        raise ModelFileError(
            f"{file} is no card that can be used ({why}). Make it again with nddr-quantize."
        ) from error


def finite(value: float) -> float | None:
    """The number; None where it is none."""
    return float(value) if math.isfinite(value) else None


def parameters(values: dict[str, Any]) -> dict[str, Value]:
    """Settings as a card can hold them: numbers and words stay, anything else becomes words."""
    plain = (str, bool, int, float, type(None))
    return {key: value if isinstance(value, plain) else str(value) for key, value in values.items()}
