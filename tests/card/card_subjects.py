"""A tiny model in FP32 and INT8, and a whole card of it, for the tests of cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import handmade_model
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy.card.fields import Value
from nddr_deploy.card.make import make_card
from nddr_deploy.card.measured import Choice, Latency, LatencyCase, MachineFacts
from nddr_deploy.card.schema import (
    Calibration,
    Card,
    DataSet,
    Evaluation,
    HeadMetric,
    Link,
    Search,
)
from nddr_deploy.data.base import Sample
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.machine import describe_machine
from nddr_deploy.evaluate.budget import parse_budgets
from nddr_deploy.evaluate.parity import check_parity
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.evaluate.sample_scores import EvaluationSet, compare
from nddr_deploy.files import sha256
from nddr_deploy.graph.equalise import EqualisedLayer
from nddr_deploy.graph.fp16_limits import Kept
from nddr_deploy.graph.metadata import read_model, write_manifest

QUANTISED = ("segmentation", "normals")
WHY = "its result is an output of the model, and what little time it takes is not worth the rounding of a whole head"
KEPT = (Kept("age.conv", WHY),)
CHECKPOINT = "c0" * 32


def write_models(folder: Path) -> tuple[Path, Path]:
    """`model.onnx`, and `model.int8.onnx` with two of its three convolutions between Q/DQ nodes."""
    fp32 = handmade_model.write(folder)
    model = read_model(fp32.path)
    for node in model.graph.node:
        node.name = f"{node.output[0].removesuffix('.map')}.{node.op_type.lower()}"
    hashes = {"checkpoint": CHECKPOINT}
    write_manifest(model, fp32.manifest.model_copy(update={"hashes": hashes}))
    onnx.save(model, fp32.path)
    _quantise(model)
    write_manifest(model, fp32.manifest.model_copy(update={"hashes": {**hashes, "onnx": sha256(fp32.path)}}))
    onnx.save(model, folder / "model.int8.onnx")
    return fp32.path, folder / "model.int8.onnx"


def _quantise(model: onnx.ModelProto) -> None:
    """U8 activations of scale 1/255, S8 weights of scale 3/127: exact for the pixels, coarse for the weights."""
    graph = model.graph
    nodes, weights = list(graph.node), {weight.name: weight for weight in graph.initializer}
    added = [
        ("x.scale", np.float32(1 / 255)),
        ("x.zero", np.uint8(0)),
        ("w.scale", np.float32(3 / 127)),
        ("w.zero", np.int8(0)),
    ]
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in added)
    made = [
        helper.make_node("QuantizeLinear", ["scaled", "x.scale", "x.zero"], ["x.q"], name="x.q"),
        helper.make_node("DequantizeLinear", ["x.q", "x.scale", "x.zero"], ["x.dq"], name="x.dq"),
    ]
    for node in nodes:
        if node.op_type == "Conv" and node.output[0] in QUANTISED:
            name = node.input[1]
            steps = np.rint(numpy_helper.to_array(weights[name]) / np.float32(3 / 127)).astype(np.int8)
            weights[name].CopyFrom(numpy_helper.from_array(steps, name))
            made.append(
                helper.make_node("DequantizeLinear", [name, "w.scale", "w.zero"], [f"{name}.dq"], name=f"{name}.dq")
            )
            node.input[0], node.input[1] = "x.dq", f"{name}.dq"
    place = next(index for index, node in enumerate(nodes) if node.output[0] == "scaled") + 1
    del graph.node[:]
    graph.node.extend([*nodes[:place], *made, *nodes[place:]])


def change_weight(path: Path, name: str = "segmentation.weight", steps: int = 1) -> None:
    """Move one weight of a model file by some steps."""
    model = onnx.load(path)
    weight = next(weight for weight in model.graph.initializer if weight.name == name)
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] -= steps
    weight.CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(model, path)


def save_again(path: Path) -> None:
    """The same content in other bytes: weights packed otherwise, names of nodes and a comment added."""
    model = onnx.load(path)
    for weight in model.graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(weight)
            weight.ClearField("raw_data")
            weight.float_data.extend(values.reshape(-1).tolist())
    model.producer_name = "somebody"
    model.graph.doc_string = "saved again"
    for number, node in enumerate(model.graph.node):
        node.name = f"node_{number}"
    onnx.save(model, path)


class Tiny:
    """Ten labelled noise pictures, for `open_dataset("tiny", ...)`."""

    tasks = handmade_model.TASKS

    def __init__(self, split: str, *, count: int = 10, size_hw: tuple[int, int] = (16, 24)) -> None:
        self.split, self.count, self.size_hw = split, count, tuple(size_hw)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([index, len(self.split)])
        image = rng.integers(0, 256, (*self.size_hw, 3), dtype=np.uint8)
        normals = rng.normal(size=(*self.size_hw, 3)).astype(np.float32)
        normals /= np.linalg.norm(normals, axis=2, keepdims=True)
        targets: dict[str, Any] = {
            "segmentation": image.argmax(axis=2).astype(np.uint8),
            "normals": normals,
            "age": np.float32(index % 4),
        }
        return Sample(f"tiny-{index}", image, targets)


def head(task: str, metric: str, unit: str, before: float, after: float, **more: Any) -> HeadMetric:
    """One metric's row; its interval is a tenth of the change to either side."""
    margin = abs(after - before) / 10
    values: dict[str, Any] = {
        "kind": task,
        "higher_is_better": unit == "share",
        "headline": True,
        "low": after - before - margin,
        "high": after - before + margin,
        **more,
    }
    return HeadMetric(task=task, metric=metric, unit=unit, before=before, after=after, **values)


HEADS = (
    head("segmentation", "mIoU", "share", 0.7534, 0.7513, budget="segmentation.mIoU=-0.5", allowed=0.005, met=True),
    head("segmentation", "PAcc", "share", 0.8832, 0.8829, headline=False),
    head("normals", "mean_angle", "degrees", 16.2, 16.5, budget="normals.mean_angle=+0.15", allowed=0.15, met=False),
    head("age", "MAE", "years", 4.25, 4.25),
)


def machine() -> MachineFacts:
    return MachineFacts.of(describe_machine())


def whole_card(fp32: Path, int8: Path, *, heads: tuple[HeadMetric, ...] = HEADS, **changed: Any) -> Card:
    """A card with every part; figures that take long to measure are made up."""
    parameters: dict[str, Value] = {"percentile": 99.99, "symmetric": False}
    with open_engine(fp32, threads=1) as reference, open_engine(int8, threads=1) as engine:
        batches = [image[None] for image in probe_images(engine.manifest.size_hw)]
        parity = check_parity(reference.infer, engine.infer, batches, engine.manifest.tasks, tolerance=0.05)
        card = make_card(
            int8,
            engine,
            reference=reference,
            target="cpu",
            chain=[Link(role="checkpoint", file="ckpt.pt", sha256=CHECKPOINT)],
            calibration=Calibration(
                source="tiny (train)", images=8, sha256="ca" * 32, method="percentile", parameters=parameters
            ),
            kept=KEPT,
            equalisation=[
                EqualisedLayer("fusions.0", {"segmentation": np.array([0.5, 1.0, 30.0])}, True, "", 30.2, 1.01),
                EqualisedLayer("fusions.1", {}, False, "a stream is read by a sigmoid", 12.0, float("inf")),
            ],
            evaluation=Evaluation(
                source="tiny (val)",
                samples=10,
                sha256="e0" * 32,
                labelled=True,
                dataset=DataSet(name="tiny", split="val", options={"count": 10}),
            ),
            parity={"fp32 to int8": parity},
            latency=_latency(),
            search=Search(kept=("age.conv",), trials=3, met=False, about="The best attempt."),
            choice=Choice(
                file="model.int8.onnx",
                backend="onnxruntime",
                precision="int8",
                threads=1,
                median_ms=3.1,
                machine=machine(),
                why="The fastest of two.",
            ),
            notes=["Normals are in camera axes."],
        )
    return card.model_copy(update={"heads": heads, **changed})


def measured_card(fp32: Path, int8: Path, budgets: tuple[str, ...] = ("segmentation=-5", "normals=+5")) -> Card:
    """A card whose metrics were really measured, on `Tiny`; without latency."""
    with open_engine(fp32, threads=1) as reference, open_engine(int8, threads=1) as engine:
        data = EvaluationSet.labelled_data(engine.manifest, Tiny("val"), about="tiny (val)")
        before, after = data.score(reference.infer), data.score(engine.infer)
        return make_card(
            int8,
            engine,
            reference=reference,
            target="cpu",
            kept=KEPT,
            evaluation=Evaluation.of(data, DataSet(name="tiny", split="val")),
            changes=compare(before, after, data.tasks, resamples=50),
            budgets=parse_budgets(budgets, data.tasks),
        )


def _latency() -> Latency:
    def case(label: str, file: str, precision: str, median_ms: float, speedup: float) -> LatencyCase:
        return LatencyCase.model_validate(
            {
                "label": label,
                "file": file,
                "backend": "onnxruntime",
                "precision": precision,
                "device": "CPU",
                "passes": 50,
                "median_ms": median_ms,
                "low_ms": 0.9 * median_ms,
                "high_ms": 1.1 * median_ms,
                "speedup": speedup,
                "speedup_low": 0.9 * speedup,
                "speedup_high": 1.1 * speedup,
            }
        )

    cases = (case("FP32", "model.onnx", "fp32", 12.4, 1.0), case("INT8", "model.int8.onnx", "int8", 3.1, 4.0))
    return Latency(machine=machine(), threads=1, clock="processor", rounds=5, images=(1, 16, 24, 3), cases=cases)
