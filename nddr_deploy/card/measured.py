"""Parts of a card that were measured by running the model: parity, probes, latency."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nddr_deploy.card.fields import Count, Extent, FileName, Hash, Line, Number, Part, Precision, Text
from nddr_deploy.engines.machine import Machine
from nddr_deploy.evaluate.parity import ParityReport


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
        values: at the positions.
        extent: the largest value of the output less its smallest.
        labels: whether they are classes, of which none is nearer to another.
    """

    shape: Annotated[tuple[Extent, ...], Field(min_length=1, max_length=6)]
    values: Annotated[tuple[Number, ...], Field(min_length=1, max_length=4096)]
    extent: Number
    labels: bool = False


class Probes(Part):
    """What the model returned for pictures that every machine can make again.

    Attributes:
        seed: of the positions.
        images: how many pictures.
        sha256: of their pixels.
        size_hw: of the pictures.
        backend, precision, machine: that ran them.
        runtime: the backend's package and version; empty where it is not known.
        raw: task -> of the heads' outputs; empty where the model returns decoded ones.
        decoded: task -> of the results at the pictures' size.
        reference: the same of the FP32 model's outputs, raw or decoded as the model's are; empty without one.
    """

    seed: Count
    images: Annotated[int, Field(ge=1, le=64)]
    sha256: Hash
    size_hw: tuple[Extent, Extent]
    backend: Line
    precision: Precision
    machine: MachineFacts
    runtime: Text = ""
    raw: dict[Line, Probe] = Field(max_length=64)
    decoded: dict[Line, Probe] = Field(max_length=64)
    reference: dict[Line, Probe] = Field(default={}, max_length=64)

    @property
    def outputs(self) -> dict[str, Probe]:
        """What the model itself returns: raw where it does, else decoded."""
        return self.raw or self.decoded


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


class Choice(Part):
    """What `nddr-bench --pick` chose for a machine."""

    file: FileName
    backend: Line
    precision: Precision
    threads: Count
    median_ms: Number
    machine: MachineFacts
    why: Text
