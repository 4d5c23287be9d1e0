"""The table of steps: what each needs, which interpreter runs it, and how long it may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from gpu_steps.work import Work
from nddr_deploy.engines.cuda import require_gpu

NETWORKS = {"deeplab": "Deeplab-VGG-16 pair", "resnet18": "dilated ResNet-18 pair"}
MAIN = ("fp16", "int8", "fp32")
TRIED = ("fp16-aux0", "fp16-aux1", "fp16-aux2", "fp16-merged", "fp16-compare")
SIZES = ("size_hw", "width", "calibration", "evaluation")
HELPERS = {"export": ("networks", "pictures"), "quantise": ("agreement",), "passes": ("build",)}  # whose code counts
TURNS = ("rounds", "seconds", "python_torch", "python_trt")


@dataclass(frozen=True)
class Step:
    """One entry.

    Attributes:
        name: "build.deeplab.fp16".
        module, function: in this folder; called with the `Work` and `arguments`, returns a result and its files.
        python: "torch" or "trt", whose interpreter runs it.
        gpu: it needs one. Such a step may fail, and the rest goes on.
        seconds: that it may take on a GPU machine, roughly; decides whether it is begun before time is up.
        needs: steps without whose results it cannot run; `uses`: those whose results it takes where they are.
        settings: that it reads.
    """

    name: str
    module: str
    python: str
    seconds: int
    function: str = "run"
    gpu: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    @property
    def sources(self) -> list[Path]:
        return [Path(__file__).with_name(f"{name}.py") for name in (self.module, *HELPERS.get(self.module, ()))]

    def key(self, work: Work) -> str:
        return work.key(self.name, self.sources, self.settings, (*self.needs, *self.uses))

    def run(self, work: Work) -> tuple[dict[str, Any], list[Path]]:
        """Its result and the files that it wrote.

        Raises:
            UnsupportedError: it needs a GPU, and there is none.
        """
        if self.gpu:
            require_gpu()
        found: tuple[dict[str, Any], list[Path]] = getattr(import_module(f"gpu_steps.{self.module}"), self.function)(
            work, **self.arguments
        )
        return found


def steps(dry_run: bool) -> list[Step]:
    """In the order in which they are done: what the aims are about comes first. A dry run leaves the GPU's out."""
    found = [
        Step("floor", "floor", "torch", 60, gpu=True),
        Step("pictures", "pictures", "trt", 30, settings=SIZES),
    ]
    for network in NETWORKS:
        found += _main(network)
    found.append(
        Step("pictures.video", "pictures", "trt", 240, function="run_video", settings=("video", "video_frames", *SIZES))
    )
    for network in NETWORKS:
        found.append(_video(network, dry_run))
    for network in NETWORKS:
        found += _tried(network)
    return [step for step in found if not (dry_run and step.gpu)]


def _main(network: str) -> list[Step]:
    export, arguments = f"export.{network}", {"network": network}
    builds = tuple(f"build.{network}.{variant}" for variant in MAIN)
    return [
        Step(export, "export", "torch", 120, arguments=arguments, needs=("pictures",), settings=SIZES),
        Step(f"quantise.{network}", "quantise", "trt", 60, arguments=arguments, needs=(export,)),
        Step(f"typed.{network}", "typed", "trt", 60, arguments=arguments, needs=(export, f"quantise.{network}")),
        Step(f"merge.{network}", "merge", "trt", 20, arguments=arguments, needs=(export,)),
        *(_build(network, variant) for variant in MAIN),
        Step(
            f"compile.{network}", "passes", "torch", 240, function="run_compile", gpu=True, arguments=arguments,
            needs=(export,), settings=("python_torch",),
        ),
        Step(
            f"passes.{network}", "passes", "torch", 240, gpu=True, arguments=arguments, needs=(export,),
            uses=("floor", f"typed.{network}", f"compile.{network}", *builds), settings=TURNS,
        ),
        Step(
            f"agreement.{network}", "agreement", "trt", 30, gpu=True, arguments={**arguments, "variants": list(MAIN)},
            needs=(export,), uses=builds,
        ),
    ]  # fmt: skip


def _tried(network: str) -> list[Step]:
    builds = tuple(f"build.{network}.{variant}" for variant in ("fp16", *TRIED))
    return [
        *(_build(network, variant) for variant in TRIED),
        Step(
            f"variants.{network}", "passes", "torch", 120, function="run_variants", gpu=True,
            arguments={"network": network}, needs=(f"export.{network}", f"build.{network}.fp16"),
            uses=("floor", *builds), settings=TURNS,
        ),
    ]  # fmt: skip


def _build(network: str, variant: str) -> Step:
    made_by = {"int8": "quantise", "fp16-merged": "merge"}.get(variant, "export")
    needs = tuple(dict.fromkeys(("pictures", f"export.{network}", f"{made_by}.{network}")))
    arguments = {"network": network, "variant": variant}
    return Step(f"build.{network}.{variant}", "build", "trt", 150, gpu=True, arguments=arguments, needs=needs)


def _video(network: str, dry_run: bool) -> Step:
    needs = (f"export.{network}" if dry_run else f"build.{network}.fp16", "pictures.video")
    arguments = {"network": network, "variant": None if dry_run else "fp16"}
    settings = ("video", "video_frames")
    return Step(
        f"video.{network}", "video", "trt", 120, gpu=not dry_run, arguments=arguments, needs=needs, settings=settings
    )
