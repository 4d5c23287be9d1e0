"""The steps from a checkpoint to an ONNX file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import onnx
import torch

from nddr_deploy.checkpoint import Trained
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.eager import TorchEngine
from nddr_deploy.engines.run_bytes import run_bytes
from nddr_deploy.errors import ConfigError, ModelFileError, ParityError, UnsupportedError
from nddr_deploy.evaluate.decode import decode_batch
from nddr_deploy.evaluate.image_batches import MadeUpImages
from nddr_deploy.evaluate.parity import ParityReport, check_parity
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.evaluate.prune import Pruned, prune
from nddr_deploy.export.equivalence import layer_differences
from nddr_deploy.export.fold import fold_batchnorm
from nddr_deploy.export.memory import give_back_memory
from nddr_deploy.export.model import ExportedModel
from nddr_deploy.export.plan import plan
from nddr_deploy.export.report import ExportReport
from nddr_deploy.export.to_onnx import to_onnx
from nddr_deploy.export.trace import trace
from nddr_deploy.files import finished_file, sha256
from nddr_deploy.graph.coupling import check_threshold
from nddr_deploy.graph.metadata import manifest_of, read_model
from nddr_deploy.importers import Choices, read_checkpoint
from nddr_deploy.importers.module import load_from_module
from nddr_deploy.inference.image_set import ImageSet, open_images
from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

# What is taken off a checkpoint's name: public code writes "x.pth.tar", and "model.ckpt-20000" has no suffix at all.
ENDINGS = (".tar", ".pth", ".pt", ".safetensors", ".npz", ".index", ".meta", ".data-00000-of-00001")
PRUNE_LIMIT = 64  # pictures


def export_checkpoint(
    checkpoint: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    size_hw: tuple[int, int] | None = None,
    batch: int | None = None,
    dynamic: Sequence[str] = (),
    outputs: str = "raw",
    tasks: Sequence[str] | None = None,
    opset: int = 17,
    format: str | None = None,
    assume: Mapping[str, str] | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    rename: Mapping[str, str] | None = None,
    from_module: str | None = None,
    prune_coupling: float | None = None,
    prune_images: str | None = None,
    report: str | os.PathLike[str] | None = None,
    verbose: bool = False,
) -> ExportReport:
    """Write a checkpoint as an ONNX file without BatchNorm that agrees with PyTorch.

    The file takes `images`, uint8 (N, H, W, 3) RGB, and returns every task's output by its name. It appears under its
    name only after ONNX Runtime, running it, agreed with the unfolded network on noise, gradients and shapes.

    Args:
        checkpoint: what `nddr-train` or `save_checkpoint` wrote, or a checkpoint of other code, see `importers`.
        output: the ONNX file; None is the checkpoint's path with `.onnx`.
        size_hw: height and width of the images in pixels; None is the size that the network was trained for.
        batch: images per pass; None is 1.
        dynamic: which of "batch" and "size" stay open.
        outputs: "raw", each head's output before resizing, or "decoded", full-size results in the task's unit.
        tasks: names of the tasks to keep, in the order of the outputs; None keeps all. What only others need is cut.
        opset: 17 to 20.
        format, assume, mean, std, rename: what a checkpoint of other code leaves open, see `import_checkpoint`.
        from_module: "package.module:function" of the user's own code that loads the checkpoint into a `StagedNetwork`.
        prune_coupling: cut what a task takes from a stream where that is less than this share of all it takes at a
            layer, see `graph.coupling`. Parity is then that of the file before the cut, and what the cut changes is
            measured for each task.
        prune_images: for both: a folder, a pattern, a list, a video, a data set; None makes some up.
        report: a JSON file for the outcome, parity above all; written also when parity fails.
        verbose: compare also layer by layer, for the report.

    Raises:
        ConfigError: an option is wrong.
        ModelFileError: the checkpoint cannot be used.
        InputError: the size is too small for the network.
        UnsupportedError: the network has a layer that cannot be exported.
        ParityError: the file's results are not PyTorch's; no file is written.
    """
    path = Path(output) if output is not None else default_output(Path(checkpoint))
    if path.suffix != ".onnx":
        raise ConfigError(f"output: {path} should end in .onnx, by which engines know what they open.")
    if prune_images is not None and prune_coupling is None:
        raise ConfigError(f"prune-images: {prune_images} is for --prune-coupling, which is missing.")
    if prune_coupling is not None:
        check_threshold(prune_coupling)
    load = partial(_load, checkpoint, Choices(format, assume or {}, mean, std, rename or {}, size_hw), from_module)
    trained, source, about = load()
    manifest = plan(
        trained,
        sha256(source),
        size_hw=size_hw,
        batch=batch,
        dynamic=dynamic,
        outputs=outputs,
        tasks=tasks,
        opset=opset,
    )
    pictures = None if prune_coupling is None else prune_pictures(prune_images, manifest)
    network = trained.build()
    del trained  # a copy of all weights
    network.check_size(manifest.size_hw)
    if network.maximum_side is not None and "size" in manifest.dynamic:
        raise UnsupportedError(
            f"dynamic: this network takes only sides of {network.minimum_side} to {network.maximum_side} pixels, which "
            "a graph of open size cannot check. Export one file per size."
        )
    images = probe_batches(manifest)
    example = [torch.from_numpy(images[0])]

    model = ExportedModel(network, manifest)
    folded, entries = fold_batchnorm(model, example)
    differences = layer_differences(trace(model, example), folded, entries, example) if verbose else None
    kept = tuple(str(entry) for entry in entries if entry.action == "kept as multiply-add")
    manifest = manifest.model_copy(update={"notes": (*manifest.notes, *kept)})

    with finished_file(path) as temporary:
        nodes = to_onnx(folded, manifest, temporary, example[0])
        del network, model, folded  # before two runtimes load the weights again
        give_back_memory()
        parity = parity_with_checkpoint(lambda: load()[0], temporary, manifest, images)
        pruned = None
        if prune_coupling is not None and pictures is not None and parity.passed:
            pruned = prune_file(temporary, prune_coupling, pictures)
            nodes, manifest = len(pruned.model.graph.node), manifest_of(pruned.model, source=str(path))
        done = ExportReport(
            source, about, path, manifest, temporary.stat().st_size, nodes, entries, parity, differences, pruned
        )
        if report is not None:
            with finished_file(report) as json_file:
                json_file.write_text(json.dumps(done.to_dict(), indent=1) + "\n")
        if not parity.passed:
            raise ParityError(f"{path} was not written: it does not agree with PyTorch. {parity.problems()}.")
    return done


def prune_file(onnx_file: Path, threshold: float, pictures: ImageSet | MadeUpImages) -> Pruned:
    """Cut a file's negligible blocks, in place."""
    pruned = prune(read_model(onnx_file), threshold, pictures, run_bytes, about=pictures.about)
    onnx.save_model(pruned.model, onnx_file)
    return pruned


def prune_pictures(spec: str | None, manifest: Manifest) -> ImageSet | MadeUpImages:
    """What the size of blocks, and the effect of their cut, are measured on."""
    return MadeUpImages(manifest.size_hw) if spec is None else open_images(spec, manifest, limit=PRUNE_LIMIT)


def _load(path: str | os.PathLike[str], choices: Choices, from_module: str | None) -> tuple[Trained, Path, list[str]]:
    """What to export, the file it is in, and lines about what was recognised."""
    if from_module is None:
        imported = read_checkpoint(path, choices)
        return imported.checkpoint, imported.path, imported.lines()
    if choices.settle:
        raise ConfigError(
            "from_module: the function says all about the network; leave format, assume, mean, std and rename out."
        )
    if not Path(path).is_file():
        raise ModelFileError(f"{path} is no file. Give the checkpoint that {from_module} is to load.")
    return load_from_module(from_module, path), Path(path), [f"found    {path}: loaded by {from_module}"]


def default_output(checkpoint: Path) -> Path:
    """The checkpoint's path with `.onnx`; inside the folder where a folder of TensorFlow checkpoints was given."""
    if checkpoint.is_dir():
        return checkpoint / "model.onnx"
    name = checkpoint.name
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return checkpoint.with_name(f"{name}.onnx")


def parity_with_checkpoint(
    load: Callable[[], Trained], onnx_file: Path, manifest: Manifest, images: Sequence[Image]
) -> ParityReport:
    """ONNX Runtime on the file against the trained network itself, not folded, in PyTorch: one after the other.

    Args:
        load: the network anew, so that nothing the export did can have touched it.
    """
    with TorchEngine(load(), precision="fp32") as trained:
        expected = iter([_reference(trained, batch, manifest) for batch in images])
    with open_engine(onnx_file, "onnxruntime") as exported:
        return check_parity(
            lambda batch: next(expected),
            exported.infer,
            images,
            manifest.tasks,
            outputs=manifest.outputs,
            resize=manifest.resize,
        )


def _reference(trained: TorchEngine, batch: Image, manifest: Manifest) -> dict[str, Array]:
    raw = trained.infer(batch)
    chosen = {task.name: raw[task.name] for task in manifest.tasks}
    if manifest.outputs == "raw":
        return chosen
    _, height, width, _ = batch.shape
    return decode_batch(chosen, manifest.model_copy(update={"outputs": "raw"}), (height, width))


def probe_batches(manifest: Manifest) -> list[Image]:
    """Three or more different images in batches that the model takes; also of another batch and size, where open."""
    count = 3 if "batch" in manifest.dynamic else manifest.batch
    images = probe_images(manifest.size_hw, max(3, -(-3 // count) * count))
    batches = [images[start : start + count] for start in range(0, len(images) - count + 1, count)]
    if "batch" in manifest.dynamic:
        batches.append(images[1:2])
    if "size" in manifest.dynamic:
        height, width = manifest.size_hw
        batches.append(probe_images((height + 17, width + 38), count))
    return batches
