"""Processes, devices and precision, through accelerate: one process, torchrun or accelerate launch, on CPUs or GPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs

from nddr_deploy.errors import UnsupportedError, unknown_choice

Amp = Literal["none", "bf16", "fp16"]
# How long processes wait for one another, for example while the first one saves; then the training ends.
PATIENCE = timedelta(minutes=30)


def make_accelerator(device: Literal["auto", "cpu", "cuda"], amp: Amp) -> Accelerator:
    """The processes that train together.

    Raises:
        UnsupportedError: no GPU although one was asked for, or one (or a CPU) that cannot calculate in `amp`.
        ConfigError: an unknown device or precision.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise unknown_choice("device", device, ("auto", "cpu", "cuda"))
    if amp not in ("none", "bf16", "fp16"):
        raise unknown_choice("amp", amp, ("none", "bf16", "fp16"))
    if device == "cuda" and not torch.cuda.is_available():
        raise UnsupportedError(
            "device: cuda was asked for, but PyTorch finds no GPU. Choose device=cpu, or install its CUDA build."
        )
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    _check_amp(amp, on_cpu)
    # accelerate keeps one state per Python process; without this, a second training could not choose another precision.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        cpu=on_cpu,
        mixed_precision="no" if amp == "none" else amp,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )


def _check_amp(amp: Amp, on_cpu: bool) -> None:
    if amp == "fp16" and on_cpu:
        raise UnsupportedError("amp: fp16 needs a GPU, and this training runs on a CPU. Choose amp=none or amp=bf16.")
    if amp == "bf16":
        if on_cpu:
            able = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        else:
            able = torch.cuda.is_bf16_supported(including_emulation=False)
        if not able:
            what = "CPU" if on_cpu else torch.cuda.get_device_name()
            raise UnsupportedError(f"amp: this {what} does not calculate in bf16. Choose amp=none.")


@contextmanager
def numerics(*, deterministic: bool, threads: int | None) -> Iterator[None]:
    """PyTorch's settings for one training; what was set before comes back afterwards.

    Raises:
        UnsupportedError: fewer than one thread.
    """
    if threads is not None and threads < 1:
        raise UnsupportedError(f"threads: expected at least 1; got {threads}.")
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads(), torch.backends.cudnn.benchmark
    memory: Any = torch.utils.deterministic
    filling = memory.fill_uninitialized_memory
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS wants it before its first call
    torch.use_deterministic_algorithms(deterministic)
    memory.fill_uninitialized_memory = False  # every operation here writes all of its output
    torch.backends.cudnn.benchmark = not deterministic
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.set_num_threads(before[1])
        torch.backends.cudnn.benchmark = before[2]
        memory.fill_uninitialized_memory = filling
