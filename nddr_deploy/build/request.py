"""What is asked of a build, checked before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import onnx

from nddr_deploy.engines.onnx_file import OnnxFile
from nddr_deploy.engines.plan_file import Precision, Profile
from nddr_deploy.engines.trt_build import BuildOptions
from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.files import check_place
from nddr_deploy.graph.decode_graph import append_decoders
from nddr_deploy.graph.metadata import read_model
from nddr_deploy.graph.static import fix_input
from nddr_deploy.manifest import Manifest

PRECISIONS = ("fp32", "fp16", "int8")
MOST = 65536  # images of a pass, rows, columns
MOST_GIB, MOST_STREAMS = 1024, 64  # beyond any GPU


@dataclass(frozen=True)
class Request:
    """A build that can be begun.

    Attributes:
        file: the ONNX file.
        graph: it, with its open extents fixed where one value was asked for, and with decoders where asked for.
        profile: the shapes of `images`.
        precision: "fp32", "fp16" or "int8".
    """

    file: OnnxFile
    graph: onnx.ModelProto
    profile: Profile
    precision: Precision


def check_numbers(options: BuildOptions) -> None:
    """Raise ConfigError for numbers that no build can have."""
    if options.workspace_gib is not None and not 0 < options.workspace_gib <= MOST_GIB:
        raise ConfigError(f"workspace: got {options.workspace_gib}; expected GiB above 0, at most {MOST_GIB}.")
    if options.opt_level is not None and not 0 <= options.opt_level <= 5:
        raise ConfigError(f"opt-level: got {options.opt_level}; expected 0 to 5.")
    if options.aux_streams is not None and not 0 <= options.aux_streams <= MOST_STREAMS:
        raise ConfigError(f"aux-streams: got {options.aux_streams}; expected a number from 0 to {MOST_STREAMS}.")


def check_places(model: Path, *outputs: Path) -> None:
    """Refuse, before minutes of work, outputs that cannot be written, that are the model, or that are each other.

    Raises:
        InputError, ConfigError: one of them.
    """
    for place, path in enumerate(outputs):
        check_place(path)
        if path.resolve() == model.resolve():
            raise ConfigError(f"The output {path} is the model {model}. Choose another output.")
        if path.resolve() in [other.resolve() for other in outputs[:place]]:
            raise ConfigError(f"The report {path} would be lost to the engine of that name. Choose another one.")


def plan(
    model: Path,
    *,
    precision: str,
    size: Sequence[tuple[int, int]] | None,
    batch: Sequence[int] | None,
    outputs: str,
) -> Request:
    """Read the file and settle what is built of it; the arguments are those of `build_engine`.

    Raises:
        ConfigError: something was asked for that cannot be.
        ModelFileError: the file cannot be used.
    """
    if precision not in PRECISIONS:
        raise unknown_choice("precision", precision, PRECISIONS)
    if outputs not in ("raw", "decoded"):
        raise unknown_choice("outputs", outputs, ("raw", "decoded"))
    file = OnnxFile.read(model)
    manifest = file.manifest
    sizes = _three("size", size, manifest.size_hw, open_="size" in manifest.dynamic, model=model)
    batches = _three("batch", batch, manifest.batch, open_="batch" in manifest.dynamic, model=model)
    for name, values in (("size", [extent for pair in sizes for extent in pair]), ("batch", batches)):
        for value in values:
            if not 1 <= value <= MOST:
                raise ConfigError(f"{name}: got {value}; expected numbers from 1 to {MOST}.")
    shapes = [(count, *hw, 3) for count, hw in zip(batches, sizes, strict=True)]
    _check_order(*shapes)
    profile = Profile(**dict(zip(("min", "opt", "max"), shapes, strict=True)))
    graph = fix_input(
        read_model(model),
        batch=profile.min[0] if profile.min[0] == profile.max[0] else None,
        size_hw=profile.min[1:3] if profile.min[1:3] == profile.max[1:3] else None,
    )
    return Request(file, _with_outputs(graph, manifest, outputs, model), profile, cast("Precision", precision))


def _three(what: str, asked: Any, own: Any, *, open_: bool, model: Path) -> list[Any]:
    """Smallest, usual and largest: of one value, of three, or the model's own."""
    if asked is None:
        return [own] * 3
    values = list(asked)
    if len(values) not in (1, 3):
        raise ConfigError(f"{what}: got {len(values)} values; expected one, or three: smallest, usual, largest.")
    if not open_ and any(value != own for value in values):
        shown = "x".join(map(str, own)) if isinstance(own, tuple) else own
        raise ConfigError(
            f"{what}: {model} takes {shown} only. Leave --{what} out, or export the checkpoint with --dynamic {what}."
        )
    return values * 3 if len(values) == 1 else values


def _check_order(*shapes: tuple[int, ...]) -> None:
    for axis, name in enumerate(("batch", "height", "width")):
        least, usual, most = (shape[axis] for shape in shapes)
        if not least <= usual <= most:
            raise ConfigError(
                f"The profile's {name} is {least}, {usual}, {most}; expected smallest, usual, largest in this order "
                f"(min {shapes[0]}, opt {shapes[1]}, max {shapes[2]})."
            )


def _with_outputs(graph: onnx.ModelProto, manifest: Manifest, outputs: str, model: Path) -> onnx.ModelProto:
    if outputs == manifest.outputs:
        return graph
    if outputs == "raw":
        raise ConfigError(f"outputs: {model} returns decoded results; raw ones are gone. Export with --outputs raw.")
    return append_decoders(graph)
