"""What the GPU can do at best, measured with PyTorch: its fastest matrix products, and its copies."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from nddr_deploy.benchmark.floor import Rate
from nddr_deploy.engines.eager_gpu import check_device, exact_float32

SIZES = (4096, 8192)  # of square matrices: large enough for every multiplier of a GPU
COPIED_BYTES = 1 << 28
REPEATS = 5
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "int8": torch.int8}
COPIES = ("h2d", "d2h", "d2d")


class GpuKernels:
    """Square matrix products in every precision, and copies of a quarter of a gigabyte, on the current device.

    Args:
        device: "cpu" is for tests.
        sizes: of the matrices.
        copied_bytes: by each copy.

    Attributes:
        not_run: "precision" -> why it is not measured here.

    Raises:
        UnsupportedError: PyTorch cannot use the GPU.
    """

    def __init__(
        self, *, device: str = "cuda", sizes: tuple[int, ...] = SIZES, copied_bytes: int = COPIED_BYTES
    ) -> None:
        self._device = torch.device(device)
        on_gpu = self._device.type == "cuda"
        if on_gpu:
            check_device("fp32")
        self.not_run: dict[str, str] = {}
        self._products: list[tuple[str, int, Callable[[], Any]]] = []
        for precision, dtype in TYPES.items():
            try:
                for size in sizes:
                    run = self._product(size, dtype)
                    with exact_float32():
                        run()
                    self._products.append((precision, size, run))
            except RuntimeError as error:  # a GPU without the type
                self.not_run[precision] = next(iter(str(error).splitlines()), "PyTorch refuses it")
        host = torch.empty(copied_bytes, dtype=torch.uint8, pin_memory=on_gpu)
        here, there = (torch.empty(copied_bytes, dtype=torch.uint8, device=self._device) for _ in range(2))
        self._copied_bytes = copied_bytes
        self._copies = dict(
            zip(COPIES, (_copy(here, host), _copy(host, here), _copy(there, here)), strict=True),
        )

    def measure(self) -> tuple[list[Rate], dict[str, float]]:
        """The rate of each product, and the bytes per second of each copy (a copy within the GPU counts once), at the
        fastest of a few runs."""
        with exact_float32():
            rates = [
                Rate("torch-cuda", precision, f"matrix {size}x{size}x{size}", 2 * size**3 / self._fastest_s(run))
                for precision, size, run in self._products
            ]
        return rates, {name: self._copied_bytes / self._fastest_s(run) for name, run in self._copies.items()}

    def _product(self, size: int, dtype: torch.dtype) -> Callable[[], Any]:
        if dtype == torch.int8:
            left, right = (torch.randint(-9, 9, (size, size), dtype=dtype, device=self._device) for _ in range(2))
            return lambda: torch._int_mm(left, right.t())
        a, b = (torch.randn(size, size, device=self._device).to(dtype) for _ in range(2))
        return lambda: torch.mm(a, b)

    def _fastest_s(self, run: Callable[[], Any]) -> float:
        run()
        return min(self._seconds(run) for _ in range(REPEATS))

    def _seconds(self, run: Callable[[], Any]) -> float:
        self._wait()
        begun = time.perf_counter()
        run()
        self._wait()
        return time.perf_counter() - begun

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _copy(target: torch.Tensor, source: torch.Tensor) -> Callable[[], Any]:
    return lambda: target.copy_(source, non_blocking=True)
