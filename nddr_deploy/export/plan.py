"""What is asked of an export, checked before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Literal, cast

from nddr_deploy.checkpoint import Trained
from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.export.to_onnx import EXPORTER, check_opset
from nddr_deploy.manifest import Manifest
from nddr_deploy.tasks.base import Task

Outputs = Literal["raw", "decoded"]
DYNAMIC: tuple[Literal["batch", "size"], ...] = ("batch", "size")


def plan(
    checkpoint: Trained,
    checkpoint_hash: str,
    *,
    size_hw: tuple[int, int] | None,
    batch: int | None,
    dynamic: Sequence[str],
    outputs: str,
    tasks: Sequence[str] | None,
    opset: int,
) -> Manifest:
    """The manifest of the file to be written; the arguments are those of `export_checkpoint`.

    Raises:
        ConfigError: something was asked for that cannot be.
    """
    check_opset(opset)
    for name in dynamic:
        if name not in DYNAMIC:
            raise unknown_choice("dynamic", name, DYNAMIC)
    if outputs not in ("raw", "decoded"):
        raise unknown_choice("outputs", outputs, ("raw", "decoded"))
    if batch is not None and "batch" in dynamic:
        raise ConfigError(
            f"batch: {batch} was asked for, and a batch that stays open. Give --batch or --dynamic batch."
        )
    if batch is not None and batch < 1:
        raise ConfigError(f"batch: got {batch}; expected a whole number from 1.")
    if size_hw is not None and min(size_hw) < 1:
        raise ConfigError(f"size: got {size_hw[0]}x{size_hw[1]}; expected positive numbers of pixels.")
    return Manifest(
        tasks=choose_tasks(checkpoint.tasks, tasks),
        outputs=cast("Outputs", outputs),
        preprocess=checkpoint.preprocess,
        size_hw=size_hw or checkpoint.size_hw,
        batch=batch or 1,
        dynamic=tuple(name for name in DYNAMIC if name in dynamic),
        resize=checkpoint.resize,
        network=checkpoint.description,
        opset=opset,
        hashes={"checkpoint": checkpoint_hash},
        versions={
            "nddr-deploy": version("nddr-deploy"),
            "torch": version("torch"),
            "onnx": version("onnx"),
            "exporter": EXPORTER,
        },
        notes=checkpoint.notes,
    )


def choose_tasks(tasks: Sequence[Task], names: Sequence[str] | None) -> tuple[Task, ...]:
    """The named tasks in the order asked for; all of them where no names are given."""
    if names is None:
        return tuple(tasks)
    known = {task.name: task for task in tasks}
    if not names:
        raise ConfigError(f"tasks: none were named. Choose from: {', '.join(known)}; or leave the option out.")
    for name in names:
        if name not in known:
            raise unknown_choice("tasks", name, known)
        if list(names).count(name) > 1:
            raise ConfigError(f"tasks: {name!r} was named twice. Name each task once.")
    return tuple(known[name] for name in names)
