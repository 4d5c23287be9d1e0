"""The steps from a model file to what its parts do: coupling, costs, and what fewer tasks would save."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import onnx

from nddr_deploy.data import DATASETS
from nddr_deploy.engines.onnx_file import OnnxFile
from nddr_deploy.engines.run_bytes import run_bytes
from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.evaluate.image_batches import ImageBatches, MadeUpImages
from nddr_deploy.graph.costs import costs, subsets
from nddr_deploy.graph.coupling import measure_coupling
from nddr_deploy.graph.in_float import in_float
from nddr_deploy.graph.metadata import read_model
from nddr_deploy.inference.image_set import open_images
from nddr_deploy.inspect.report import InspectReport
from nddr_deploy.manifest import Manifest
from nddr_deploy.optional import load
from nddr_deploy.preprocess import Image

LIMIT = 32


class Images(Protocol):
    """Pictures of the model's size that can be read again and again."""

    @property
    def about(self) -> str: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Image]: ...


def inspect_model(
    model: str | os.PathLike[str],
    *,
    images: str | None = None,
    data: str | None = None,
    split: str = "val",
    options: Mapping[str, Any] | None = None,
    limit: int = LIMIT,
    size_hw: tuple[int, int] | None = None,
    format: str | None = None,
    assume: Mapping[str, str] | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    rename: Mapping[str, str] | None = None,
    progress: bool = False,
) -> InspectReport:
    """What a multi-task model's parts do: how far tasks share, where arithmetic and parameters are, who needs them.

    >>> print(inspect_model("model.onnx").text())       # doctest: +SKIP

    Args:
        model: an exported model (`.onnx`; quantised and FP16 ones are read as what they stand for), or a checkpoint of
            ours or of other public code, which is exported into a temporary folder first and needs PyTorch.
        images: the user's pictures (a folder, a pattern, a list, a video) to measure activations on.
        data: a data set to measure them on instead; neither makes some up.
        split, options: of the data set.
        limit: at most so many images.
        size_hw: of the images, for a checkpoint, or a model that leaves its size open; None is the model's own.
        format, assume, mean, std, rename: what a checkpoint of other code leaves open, see `import_checkpoint`.
        progress: show a progress bar on stderr, if that is a terminal.

    Raises:
        ConfigError: an option is wrong.
        ModelFileError: the model cannot be used.
        InputError: the images cannot be used, or make the network overflow.
        MissingPackageError: ONNX Runtime is not installed; for a checkpoint, PyTorch.
    """
    if images is not None and data is not None:
        raise ConfigError(f"images, data: got both, {images} and {data}. Give one of them.")
    if data is not None and data not in DATASETS:
        raise unknown_choice("data", data, DATASETS)
    if data is None and options:
        raise ConfigError(f"The options {', '.join(options)} are of a data set, and none was given. Add --data.")
    if limit < 1:
        raise ConfigError(f"limit: got {limit}; expected a whole number from 1.")
    path = Path(model)
    choices = {"format": format, "assume": assume, "mean": mean, "std": std, "rename": rename}
    with _as_onnx(path, size_hw, choices) as file:
        manifest = file.manifest
        if size_hw is not None and size_hw != manifest.size_hw:
            if "size" not in manifest.dynamic:
                raise ConfigError(
                    f"size: {path} takes images of {manifest.size_hw[0]}x{manifest.size_hw[1]} only. Leave --size out."
                )
            manifest = manifest.model_copy(update={"size_hw": size_hw})
        seen = _images(images or data, manifest, limit, split, dict(options or {}))
        return inspect_graph(read_model(file.path), manifest, seen, path, file.precision, progress=progress)


def inspect_graph(
    model: onnx.ModelProto,
    manifest: Manifest,
    images: Images,
    source: Path,
    precision: str = "fp32",
    *,
    progress: bool = False,
) -> InspectReport:
    """`inspect_model` of a graph that is loaded already.

    Args:
        images: of the manifest's size.
        source, precision: of the file it is from, for the report.
    """
    plain = in_float(model)
    found = costs(plain, manifest.size_hw, batch=manifest.batch)
    batches = ImageBatches.of(images, manifest)
    with _shown(batches, -(-len(images) // batches.count), progress) as shown:
        blocks = measure_coupling(plain, shown, run_bytes)
    tasks = tuple(task.name for task in manifest.tasks)
    return InspectReport(
        source=source,
        manifest=manifest,
        precision=precision,
        images=images.about,
        blocks=blocks,
        costs=found,
        subsets=subsets(found, tasks),
    )


@contextmanager
def _as_onnx(path: Path, size_hw: tuple[int, int] | None, choices: Mapping[str, Any]) -> Iterator[OnnxFile]:
    """The model itself, or what `nddr-export` makes of a checkpoint, in a temporary folder."""
    if path.suffix.lower() == ".onnx":
        given = [name for name, choice in choices.items() if choice]
        if given:
            raise ConfigError(f"{given[0]}: {path} is no checkpoint of other code, and leaves nothing open.")
        yield OnnxFile.read(path)
        return
    if path.suffix.lower() == ".trt":
        raise ConfigError(f"{path} is a TensorRT engine, whose weights cannot be read. Give the ONNX file it is from.")
    load("torch", extra="train")
    from nddr_deploy.export.recipe import export_checkpoint

    with TemporaryDirectory(prefix="nddr-inspect-") as folder:
        target = Path(folder) / "model.onnx"
        export_checkpoint(path, target, size_hw=size_hw, **choices)
        yield OnnxFile.read(target)


def _images(spec: str | None, manifest: Manifest, limit: int, split: str, options: Mapping[str, Any]) -> Images:
    if spec is None:
        return MadeUpImages(manifest.size_hw, min(limit, MadeUpImages.count))
    return open_images(spec, manifest, limit=limit, split=split, options=options)


@contextmanager
def _shown(batches: Iterable[Image], count: int, progress: bool) -> Iterator[Iterable[Image]]:
    """The batches, with a bar on stderr that moves with them; only on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not (progress and console.is_terminal), transient=True) as bar:
        yield bar.track(batches, total=count, description="measuring activations")
