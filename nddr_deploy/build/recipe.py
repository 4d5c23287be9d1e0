"""The steps from an exported model to a TensorRT engine."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
from pydantic import ValidationError

from nddr_deploy.build.checks import check_plan, parity_batches
from nddr_deploy.build.images import build_images, in_batches
from nddr_deploy.build.progress import Shown
from nddr_deploy.build.report import BuildReport
from nddr_deploy.build.request import Request, check_numbers, check_places, plan
from nddr_deploy.build.typed import TypedGraph, typed_graph
from nddr_deploy.engines.plan_file import PlanFile, PlanManifest, manifest_path
from nddr_deploy.engines.plan_options import PlanOptions
from nddr_deploy.engines.timing_cache import default_path
from nddr_deploy.engines.trt_build import BuildOptions, build_plan
from nddr_deploy.engines.trt_inspect import check_realised, read_inspector
from nddr_deploy.engines.trt_library import TensorRT
from nddr_deploy.errors import ConfigError, ParityError
from nddr_deploy.files import check_place, finished_file, finished_files, sha256
from nddr_deploy.graph.metadata import manifest_of
from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import Image

LEAST_SHARE = 0.8


def build_engine(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    precision: str = "fp16",
    size: Sequence[tuple[int, int]] | None = None,
    batch: Sequence[int] | None = None,
    outputs: str = "decoded",
    images: str | None = None,
    keep: Sequence[str] = (),
    workspace_gib: float | None = None,
    timing_cache: str | os.PathLike[str] | None = "default",
    opt_level: int | None = None,
    aux_streams: int | None = None,
    version_compatible: bool = False,
    hardware_compatible: bool = False,
    least_share: float = LEAST_SHARE,
    differing: float | None = None,
    report: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> BuildReport:
    """Build a TensorRT engine of an exported model, for this machine's GPU.

    Two files appear, `model.trt` (a pure plan, which trtexec and Triton load) and `model.trt.json`, and only after the
    plan's own account showed that it runs in the precision asked for, and every head agreed with ONNX Runtime's.

    Args:
        model: what `nddr-export` wrote (`.onnx`).
        output: the plan; None is the model's path with `.trt`.
        precision: "fp32" (without TF32), "fp16", or "int8" where the file holds Q/DQ nodes; int8's other layers are
            fp16.
        size: (height, width) of the images, one, or three: smallest, usual, largest; None is the model's own.
        batch: images per pass, one number, or three; None is the model's own.
        outputs: "decoded", full-size results in the task's unit, made on the GPU; or "raw".
        images: the user's pictures (a folder, a pattern, a list, a video) for number ranges and parity; None makes
            some up.
        keep: names of nodes that are to stay in fp32.
        workspace_gib: scratch memory that a layer may use; None is the whole GPU.
        timing_cache: a file; "default" is one per TensorRT version and GPU in the user's cache folder; None uses none.
        opt_level: 0 to 5; None is TensorRT's own choice.
        aux_streams: streams that a pass may use beside its own; None is TensorRT's own choice.
        version_compatible: also runs with later releases of this major version.
        hardware_compatible: also runs on other GPUs from Ampere on.
        least_share: of the layers that the graph asks to be in the precision, how many must be.
        differing: share of a head's values that may differ from ONNX Runtime's by more than rounding; None is 0.001 for
            fp32, 0.02 for fp16, 0.1 for int8. 1 refuses nothing but a head that holds NaN or has another shape.
        report: a JSON file for the outcome; written also when parity fails.
        progress: show a progress bar on stderr, if that is a terminal.

    Raises:
        ConfigError: an option is wrong.
        ModelFileError: the model, or its graph, cannot be used.
        UnsupportedError: no GPU, no such precision, or one that was not realised.
        MissingPackageError: TensorRT or another package is not installed.
        ParityError: a head does not agree with ONNX Runtime; no plan is written.
    """
    source = Path(model)
    path = Path(output) if output is not None else source.with_suffix(".trt")
    if path.suffix != ".trt":
        raise ConfigError(f"output: {path} should end in .trt, by which engines know what they open.")
    if not 0 < least_share <= 1:
        raise ConfigError(f"least-share: got {least_share}; expected a share above 0, at most 1.")
    if differing is not None and not 0 <= differing <= 1:
        raise ConfigError(f"differing: got {differing}; expected a share from 0 to 1.")
    request = plan(source, precision=precision, size=size, batch=batch, outputs=outputs)
    check_places(source, path, manifest_path(path), *([Path(report)] if report is not None else []))
    options = BuildOptions(
        request.precision,
        request.profile,
        workspace_gib=workspace_gib,
        opt_level=opt_level,
        aux_streams=aux_streams,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
    )
    check_numbers(options)
    library = TensorRT()
    cache = _cache_file(timing_cache, library)
    with Shown(progress) as shown:
        shown.say("measuring number ranges")
        pictures = build_images(images, request.profile.opt[1:3], request.file.manifest.preprocess)
        typed = _typed(request, library.major, pictures, keep)
        about = _about(request, typed, library, _named(options, size, batch, outputs, keep))
        shown.say("building")
        begun = time.perf_counter()
        options = replace(options, kept_fp32=typed.kept_fp32, timing_cache=cache)
        built = build_plan(typed.model, options, library, shown.build)
        seconds = time.perf_counter() - begun
        realised = read_inspector(built.layers)
        check_realised(realised, asked=precision, graph_share=typed.share, least=least_share, source=str(path))
        plan_hash = hashlib.sha256(built.content).hexdigest()
        about = about.model_copy(update={"plan": plan_hash, "realised": realised.to_dict(precision)})
        shown.say("comparing with ONNX Runtime")
        with finished_files(path, manifest_path(path)) as (plan_path, about_path):
            plan_path.write_bytes(built.content)
            batches = parity_batches(pictures, request.profile)
            parity = check_plan(PlanFile(plan_path, about), request.file, batches, differing=differing)
            about = about.model_copy(update={"parity": parity.to_dict()})
            about_path.write_text(about.to_json())
            seen = images or "made-up pictures"
            done = BuildReport(path, about, len(built.content), seconds, realised, parity, seen, cache, built.layers)
            if report is not None:
                with finished_file(report) as json_file:
                    json_file.write_text(json.dumps(done.to_dict(), indent=1) + "\n")
            if not parity.passed:
                raise ParityError(
                    f"{path} was not written: it does not agree with ONNX Runtime. {parity.problems()}. "
                    "Give pictures of your own (--images), keep layers in fp32 (--keep), allow more (--differing), or "
                    "build with --precision fp32."
                )
    return done


def _cache_file(asked: str | os.PathLike[str] | None, library: TensorRT) -> Path | None:
    if asked is None:
        return None
    if asked == "default":
        return default_path(library.version, library.gpu)
    if not Path(asked).exists():
        check_place(asked)
    return Path(asked)


def _about(request: Request, typed: TypedGraph, library: TensorRT, options: dict[str, Any]) -> PlanManifest:
    """What is known before the build, and whether it can be written down: better found now than after minutes.

    Raises:
        ConfigError: a name that no manifest holds.
    """
    try:
        return PlanManifest(
            model=_manifest(request, typed),
            plan="",
            onnx=request.file.path.name,
            tensorrt=library.version,
            gpu=library.gpu.name,
            compute_capability=library.gpu.compute_capability,
            precision=request.precision,
            realised={},
            kept_fp32=typed.reasons,
            profile=request.profile,
            options=PlanOptions(**options),
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"{'.'.join(map(str, first['loc']))}: {first['input']!a} cannot be kept in the manifest "
            f"({first['msg']}). Rename it."
        ) from error


def _typed(request: Request, major: int, pictures: Image, keep: Sequence[str]) -> TypedGraph:
    batches = in_batches(pictures, request.profile.opt[0])
    source = str(request.file.path)
    return typed_graph(request.graph, request.precision, major, batches, keep=keep, source=source)


def _manifest(request: Request, typed: TypedGraph) -> Manifest:
    """Of what the plan takes and returns, with what it was made from."""
    manifest = manifest_of(typed.model, source=str(request.file.path))
    versions = {"nddr-deploy": version("nddr-deploy"), **manifest.versions}
    return manifest.model_copy(
        update={
            "batch": request.profile.min[0],
            "hashes": {**manifest.hashes, "onnx": sha256(request.file.path)},
            "versions": versions,
        }
    )


def _named(
    options: BuildOptions,
    size: Sequence[tuple[int, int]] | None,
    batch: Sequence[int] | None,
    outputs: str,
    keep: Sequence[str],
) -> dict[str, Any]:
    """For the sentence that says how to build it again."""
    return {
        "size": ",".join(f"{height}x{width}" for height, width in size) if size else None,
        "batch": ",".join(map(str, batch)) if batch else None,
        "outputs": "raw" if outputs == "raw" else None,
        "keep": tuple(keep),
        "workspace": options.workspace_gib,
        "opt_level": options.opt_level,
        "aux_streams": options.aux_streams,
        "version_compatible": options.version_compatible,
        "hardware_compatible": options.hardware_compatible,
    }


def write_graph(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    precision: str = "fp16",
    major: int = 10,
    size: Sequence[tuple[int, int]] | None = None,
    batch: Sequence[int] | None = None,
    outputs: str = "decoded",
    images: str | None = None,
    keep: Sequence[str] = (),
) -> TypedGraph:
    """Write the graph that TensorRT would be given, as ONNX. It needs no GPU.

    Args:
        output: the ONNX file. An fp16 graph for TensorRT 10 or later also runs in ONNX Runtime on CUDA.
        major: of the TensorRT that it is for: 8, 10 or 11.
        model, precision, size, batch, outputs, images, keep: as for `build_engine`.

    Raises:
        ConfigError, ModelFileError, UnsupportedError: as `build_engine`.
    """
    if major not in (8, 10, 11):
        raise ConfigError(f"tensorrt: got {major}; expected the major version 8, 10 or 11.")
    if Path(output).suffix != ".onnx":
        raise ConfigError(f"graph: {output} should end in .onnx.")
    request = plan(Path(model), precision=precision, size=size, batch=batch, outputs=outputs)
    check_places(Path(model), Path(output))
    pictures = build_images(images, request.profile.opt[1:3], request.file.manifest.preprocess)
    typed = _typed(request, major, pictures, keep)
    with finished_file(output) as temporary:
        onnx.save_model(typed.model, temporary)
    return typed
