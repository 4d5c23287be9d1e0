"""PyTorch, the reference: runs checkpoints as they were trained, unfolded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from nddr_deploy.checkpoint import Trained, load_checkpoint
from nddr_deploy.engines.base import Engine
from nddr_deploy.engines.machine import default_threads
from nddr_deploy.errors import UnsupportedError
from nddr_deploy.manifest import Manifest
from nddr_deploy.network.image_input import ImageModel
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

Run = Callable[[torch.Tensor], dict[str, torch.Tensor]]  # uint8 (N, H, W, 3) -> raw outputs
COMPILERS = ("g++", "clang++")


class TorchEngine(Engine):
    """Runs a checkpoint in PyTorch on the CPU. It takes any batch and any size.

    Args:
        source: a checkpoint file of `nddr-train`, `nddr-import` or `save_checkpoint`, or something trained.
        threads: of one pass; None is `machine.default_threads()`. PyTorch has one setting per process: it is put in
            place around each pass and put back afterwards.
        precision: "fp32", or "bf16": autocast, outputs in float32.
        size_hw: the image size that the manifest names; None is the checkpoint's.
        compiled: run through `torch.compile` (the first pass of each shape compiles, for minutes).

    Raises:
        ModelFileError: the file is no checkpoint.
        UnsupportedError: another precision; no C++ compiler for `compiled`.
    """

    backend = "torch"
    device = "CPU"

    def __init__(
        self,
        source: Path | Trained,
        *,
        threads: int | None = None,
        precision: str | None = None,
        size_hw: tuple[int, int] | None = None,
        compiled: bool = False,
    ) -> None:
        if precision not in (None, "fp32", "bf16"):
            raise UnsupportedError(f"PyTorch on a CPU runs checkpoints in fp32 or bf16; asked for {precision}.")
        if compiled:
            check_compiler()
        checkpoint = load_checkpoint(source) if isinstance(source, Path) else source
        self.manifest = manifest_of(checkpoint, size_hw)
        self.precision = precision or "fp32"
        self.threads = threads or default_threads()
        model = ImageModel(checkpoint.build(), checkpoint.preprocess).eval()
        run: Run = torch.compile(model, dynamic=False) if compiled else model
        self._model: Run | None = run

    def _run(self, images: Image) -> dict[str, Array]:
        model = self._held(self._model)
        reduced = torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bf16")
        with _threads(self.threads), torch.inference_mode(), reduced:
            outputs = model(torch.tensor(images))
        return {task.name: outputs[task.name].float().numpy() for task in self.manifest.tasks}

    def close(self) -> None:
        self._model = None


def manifest_of(checkpoint: Trained, size_hw: tuple[int, int] | None) -> Manifest:
    """What a checkpoint takes and returns: any batch and any size; `size_hw` is the one to name."""
    return Manifest(
        tasks=checkpoint.tasks,
        preprocess=checkpoint.preprocess,
        size_hw=size_hw or checkpoint.size_hw,
        dynamic=("batch", "size"),
        resize=checkpoint.resize,
        notes=checkpoint.notes,
    )


def check_compiler() -> None:
    """`torch.compile` writes C++: all of the code for a CPU, what launches it for a GPU.

    Raises:
        UnsupportedError: there is no compiler for it.
    """
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else list(COMPILERS)
    if not any(shutil.which(name) for name in wanted):
        raise UnsupportedError(
            f"torch.compile needs a C++ compiler; found none of: {', '.join(wanted)}. Install g++, or leave it out."
        )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != count:
            torch.set_num_threads(before)
