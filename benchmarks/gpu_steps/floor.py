"""What this GPU can do at most: its fastest matrix products and its copies, by PyTorch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gpu_steps.work import Work
from nddr_deploy.benchmark.floor import Rate, best
from nddr_deploy.benchmark.gpu_floor import GpuKernels
from nddr_deploy.engines.cuda import describe_gpu

SIZES = (2048, 4096, 8192, 16384)
TIMES = 3
REPEATS = 5


def run(work: Work) -> tuple[dict[str, Any], list[Path]]:
    """The best of several measurements: a floor is what was seen to be possible."""
    gpu = describe_gpu()
    kernels = GpuKernels(sizes=SIZES)
    rates: list[Rate] = []
    copies: dict[str, float] = {}
    for _ in range(TIMES):
        found, moved = kernels.measure()
        rates += found + tf32("cuda", SIZES)
        copies = {name: max(rate, copies.get(name, 0.0)) for name, rate in moved.items()}
    return {
        "gpu": asdict(gpu),
        "torch": torch.__version__,
        "rates": {precision: asdict(rate) for precision, rate in best(rates).items()},
        "copies": copies,
        "not_run": kernels.not_run,
    }, []


def tf32(device: str, sizes: Sequence[int]) -> list[Rate]:
    """What FP32 engines that allow TF32 could reach. Ours do not; peers by default do."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = True
    try:
        return [_product(device, size) for size in sizes]
    finally:
        matmul.allow_tf32 = before


def _product(device: str, size: int) -> Rate:
    left, right = (torch.randn(size, size, device=device) for _ in range(2))
    wait = torch.cuda.synchronize if device == "cuda" else torch.cpu.synchronize
    torch.mm(left, right)
    seconds = []
    for _ in range(REPEATS):
        wait()
        begun = time.perf_counter()
        torch.mm(left, right)
        wait()
        seconds.append(time.perf_counter() - begun)
    return Rate("torch-cuda", "tf32", f"matrix {size}x{size}x{size}", 2 * size**3 / min(seconds))
