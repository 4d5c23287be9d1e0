"""A model without the little that its tasks take from some streams, and what that changes for each task."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from nddr_deploy.errors import ParityError
from nddr_deploy.evaluate.change import Change, change_text
from nddr_deploy.evaluate.image_batches import ImageBatches
from nddr_deploy.evaluate.judged_samples import NamedImages
from nddr_deploy.evaluate.parity import check_parity
from nddr_deploy.evaluate.sample_scores import EvaluationSet, compare
from nddr_deploy.graph.costs import costs
from nddr_deploy.graph.coupling import Block, Place, measure_coupling, negligible_blocks
from nddr_deploy.graph.fusion_layers import fusion_layers
from nddr_deploy.graph.metadata import manifest_of, write_manifest
from nddr_deploy.graph.prune_coupling import prune_coupling
from nddr_deploy.graph.statistics import Run


@dataclass(frozen=True)
class Pruned:
    """A model whose negligible blocks were cut.

    Attributes:
        model: with notes of the cut in its manifest; the model itself where there was nothing to cut.
        threshold: blocks with a smaller share were cut.
        blocks: those, with their shares; `kept` is how many there are left.
        changes: every metric of every task, the uncut model's results being the truth, so that `before` is perfect.
            Empty where nothing was cut.
        images: what shares and changes were measured on.
        flops, parameters: before and after.
    """

    model: onnx.ModelProto
    threshold: float
    blocks: tuple[Block, ...]
    kept: int
    changes: tuple[Change, ...]
    images: str
    flops: tuple[int, int]
    parameters: tuple[int, int]

    def lines(self) -> list[str]:
        """For people: what was cut, what that saves, and what it changes."""
        total = len(self.blocks) + self.kept
        if not self.blocks:
            return [f"nothing: none of {total} blocks has a share below {self.threshold:g} on {self.images}"]
        saved = (
            f"{1 - self.flops[1] / self.flops[0]:.1%} of the arithmetic, "
            f"{1 - self.parameters[1] / self.parameters[0]:.1%} of the parameters"
        )
        return [
            f"{len(self.blocks)} of {total} blocks with a share below {self.threshold:g} on {self.images}: {saved}",
            *(f"{block.layer}: {block.task} from {block.stream} ({block.share:.2%})" for block in self.blocks),
            "what that changes, the uncut model's results being the truth:",
            *(f"{change.task} {change.metric} {change.text()}{_interval(change)}" for change in self._headlines()),
        ]

    def note(self) -> str:
        """One line for the manifest; empty where nothing was cut."""
        if not self.blocks:
            return ""
        cut = ", ".join(f"{block.layer} {block.task} from {block.stream}" for block in self.blocks)
        changes = "; ".join(f"{change.task} {change.metric} {change.text()}" for change in self._headlines())
        return f"pruned below a share of {self.threshold:g}: {cut}; against the uncut model on {self.images}: {changes}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "threshold": self.threshold,
            "images": self.images,
            "blocks": [
                {"layer": block.layer, "task": block.task, "stream": block.stream, "share": block.share}
                for block in self.blocks
            ],
            "blocks_kept": self.kept,
            "flops": list(self.flops),
            "parameters": list(self.parameters),
            "changes": [
                {
                    "task": change.task,
                    "metric": change.metric,
                    "before": _finite(change.before),
                    "after": _finite(change.after),
                    "low": _finite(change.low),
                    "high": _finite(change.high),
                }
                for change in self.changes
            ],
        }

    def _headlines(self) -> list[Change]:
        tasks = manifest_of(self.model, source="the pruned model").tasks
        headlines = {(task.name, task.headline) for task in tasks}
        return [change for change in self.changes if (change.task, change.metric) in headlines]


def prune(model: onnx.ModelProto, threshold: float, images: NamedImages, run: Run, *, about: str = "") -> Pruned:
    """Cut what tasks take from streams where that is less than `threshold` of all they take there.

    The result is compared with the model whose columns were set to zero, which it must equal, and scored against the
    model as it was.

    Args:
        model: float32, with a manifest; left as it was.
        threshold: a share, see `graph.coupling`.
        images: of the manifest's size; shares and changes are measured on them.
        run: loads a serialised model and returns what computes its outputs from images.
        about: what the images are, for people; empty is how many.

    Raises:
        ConfigError: a threshold that is no small share.
        InputError: no images.
        UnsupportedError: a layer whose columns cannot be cut.
        ParityError: the cut model does not compute what the one with columns of zeros does.
    """
    manifest = manifest_of(model, source="the model to prune")
    about = about or f"{len(images)} images"
    batches = ImageBatches.of(images, manifest)
    found = measure_coupling(model, batches, run)
    places = negligible_blocks(found, threshold)
    blocks = tuple(block for block in found if block.place in places)
    before = _totals(model)
    if not blocks:
        return Pruned(model, threshold, (), len(found), (), about, (before[0],) * 2, (before[1],) * 2)
    pruned = prune_coupling(model, places)
    infer = run(pruned.SerializeToString())
    parity = check_parity(
        run(_zeroed(model, places).SerializeToString()),
        infer,
        [next(iter(batches))],
        manifest.tasks,
        outputs=manifest.outputs,
        resize=manifest.resize,
    )
    if not parity.passed:
        raise ParityError(
            f"The pruned model does not compute what the network with columns of zeros does: {parity.problems()}. "
            "Export without --prune-coupling."
        )
    reference = run(model.SerializeToString())
    evaluation = EvaluationSet.against(manifest, reference, images, about=about)
    changes = compare(evaluation.score(reference), evaluation.score(infer), manifest.tasks)
    after = _totals(pruned)
    flops, parameters = (before[0], after[0]), (before[1], after[1])
    done = Pruned(pruned, threshold, blocks, len(found) - len(blocks), changes, about, flops, parameters)
    write_manifest(pruned, manifest.model_copy(update={"notes": (*manifest.notes, done.note())}))
    return done


def _zeroed(model: onnx.ModelProto, places: Collection[Place]) -> onnx.ModelProto:
    """The same graph with zeros in the blocks' columns."""
    zeroed = onnx.ModelProto()
    zeroed.CopyFrom(model)
    nodes = {node.name or node.output[0]: node for node in zeroed.graph.node}
    weights = {weight.name: weight for weight in zeroed.graph.initializer}
    for layer in fusion_layers(model):
        for task, convolution in layer.convolutions.items():
            name = nodes[convolution].input[1]
            columns = [stream.columns for stream in layer.streams if (layer.name, task, stream.task) in places]
            if columns:
                values = numpy_helper.to_array(weights[name]).copy()
                for part in columns:
                    values[:, part] = 0
                weights[name].CopyFrom(numpy_helper.from_array(values, name))
    return zeroed


def _totals(model: onnx.ModelProto) -> tuple[int, int]:
    """Arithmetic and parameters."""
    manifest = manifest_of(model, source="the model to prune")
    found = costs(model, manifest.size_hw, batch=manifest.batch)
    return sum(cost.flops for cost in found), sum(cost.parameters for cost in found)


def _interval(change: Change) -> str:
    """Of the change; empty where there is none, as with one image."""
    if not (np.isfinite(change.low) and np.isfinite(change.high)):
        return ""
    return f" (95 % interval {change_text(change.low, change.form)} to {change_text(change.high, change.form)})"


def _finite(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return value if np.isfinite(value) else None
