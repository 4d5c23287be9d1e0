"""PyTorch on a GPU: what a TensorRT engine of the same checkpoint is compared with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from nddr_deploy import optional
from nddr_deploy.checkpoint import Trained, load_checkpoint
from nddr_deploy.engines.base import Engine, PassTimes
from nddr_deploy.engines.cuda import require_gpu
from nddr_deploy.engines.eager import check_compiler, manifest_of
from nddr_deploy.engines.eager_decode import decode
from nddr_deploy.engines.machine import default_threads
from nddr_deploy.errors import UnsupportedError
from nddr_deploy.network.image_input import ImageInput
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
Outputs = tuple[torch.Tensor, ...]


class ReducedModel(nn.Module):
    """A network in one floating-point type throughout, with its pre-processing in float32 and float32 results.

    The weights themselves are of that type (no autocast: nothing is converted in between), and all maps lie channels
    last in memory, which is what tensor cores read.

    Shapes:
        uint8 (N, H, W, 3) RGB -> one output per task, in their order: raw (N, C, h, w) or (N, C) float32, or decoded.
    """

    def __init__(self, checkpoint: Trained, dtype: torch.dtype, *, decoded: bool = False) -> None:
        super().__init__()
        self.tasks = checkpoint.tasks
        self.convention = checkpoint.resize
        self.decoded = decoded
        self.input = ImageInput(checkpoint.preprocess)
        network: Any = checkpoint.build()
        self.network = network.to(dtype=dtype, memory_format=torch.channels_last)
        self.dtype = dtype

    def forward(self, images: torch.Tensor) -> Outputs:
        x = self.input(images).to(dtype=self.dtype, memory_format=torch.channels_last)
        outputs = self.network(x)
        raw = [outputs[task.name].float() for task in self.tasks]
        if not self.decoded:
            return tuple(raw)
        size_hw = (images.shape[1], images.shape[2])
        return tuple(decode(maps, task, size_hw, self.convention) for maps, task in zip(raw, self.tasks, strict=True))


class TorchCudaEngine(Engine):
    """Runs a checkpoint in PyTorch on the current CUDA device. It takes any batch and any size.

    Convolution algorithms are tried out at the first pass of each shape. TF32 is off, so fp32 is fp32. Images and
    results go through pinned memory.

    Args:
        source: a checkpoint file of `nddr-train`, `nddr-import` or `save_checkpoint`, or something trained.
        threads: of the host's part; None is `machine.default_threads()`.
        precision: "fp32", "fp16" or "bf16": weights and arithmetic, without autocast; outputs in float32.
        outputs: "raw", or "decoded" on the GPU, in float32, as an engine of nddr-build does.
        size_hw: the image size that the manifest names; None is the checkpoint's.
        compiled: run through `torch.compile` in its strongest mode, "max-autotune": kernels are chosen by measuring, as
            TensorRT does, and a pass is one CUDA graph. The first pass of each shape takes minutes.
        device: "cpu" is for tests: the same code, slowly.

    Raises:
        ModelFileError: the file is no checkpoint.
        UnsupportedError: no GPU; a PyTorch without CUDA; another precision; no C++ compiler for `compiled`.
        MissingPackageError: `compiled` without Triton.
    """

    backend = "torch-cuda"

    def __init__(
        self,
        source: Path | Trained,
        *,
        threads: int | None = None,
        precision: str | None = None,
        outputs: Literal["raw", "decoded"] = "raw",
        size_hw: tuple[int, int] | None = None,
        compiled: bool = False,
        device: str = "cuda",
    ) -> None:
        if precision not in (None, *TYPES):
            raise UnsupportedError(f"PyTorch on a GPU runs checkpoints in fp32, fp16 or bf16; asked for {precision}.")
        checkpoint = load_checkpoint(source) if isinstance(source, Path) else source
        self._device = torch.device(device)
        self._on_gpu = self._device.type == "cuda"
        self.device = check_device(precision or "fp32") if self._on_gpu else "CPU"
        if compiled:
            check_compiler()
            if self._on_gpu:
                optional.load("triton")
        self.manifest = manifest_of(checkpoint, size_hw).model_copy(update={"outputs": outputs})
        self.precision = precision or "fp32"
        self.threads = threads or default_threads()
        model = ReducedModel(checkpoint, TYPES[self.precision], decoded=outputs == "decoded").eval().to(self._device)
        self._model: Any = torch.compile(model, dynamic=False, mode="max-autotune") if compiled else model
        self._names = [task.name for task in checkpoint.tasks]
        self._host: dict[str, torch.Tensor] = {}

    def _run(self, images: Image) -> dict[str, Array]:
        return self._pass(images, marks=[])[0]

    def time_pass(self, images: Image) -> PassTimes:
        """One pass, split by four CUDA events in the current stream: copies, and the computation between them.

        All is started at once, without waiting in between, so the host starts the computation while images are
        copied; `enqueue_s` is its own time for that, by its clock.
        """
        self._check(images)
        marks: list[Any] = [torch.cuda.Event(enable_timing=True) for _ in range(4)]  # type: ignore[no-untyped-call]
        _, enqueue_s = self._pass(images, marks)
        h2d_s, compute_s, d2h_s = (before.elapsed_time(after) / 1000 for before, after in pairwise(marks))
        return PassTimes(h2d_s=h2d_s, enqueue_s=enqueue_s, compute_s=compute_s, d2h_s=d2h_s)

    def close(self) -> None:
        self._model = None
        self._host.clear()

    def _pass(self, images: Image, marks: list[Any]) -> tuple[dict[str, Array], float]:
        """Copy, compute, copy back. Returns the outputs and the host's seconds for starting the computation."""
        model = self._held(self._model)
        given = self._host_memory("images", images.shape, torch.uint8)
        given.copy_(torch.from_numpy(_writable(images)))
        with exact_float32(), torch.inference_mode():
            _mark(marks, 0)
            on_device = given.to(self._device, non_blocking=True)
            _mark(marks, 1)
            begun = time.perf_counter()
            outputs: Outputs = model(on_device)
            enqueue_s = time.perf_counter() - begun
            _mark(marks, 2)
            back = []
            for name, output in zip(self._names, outputs, strict=True):
                place = self._host_memory(name, tuple(output.shape), output.dtype)
                back.append(place.copy_(output, non_blocking=True))
            _mark(marks, 3)
        if self._on_gpu:
            torch.cuda.synchronize(self._device)
        return {name: place.numpy().copy() for name, place in zip(self._names, back, strict=True)}, enqueue_s

    def _host_memory(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Memory that the GPU copies from and to by itself, kept for the next pass of the same shape."""
        held = self._host.get(name)
        if held is None or held.shape != shape:
            held = self._host[name] = torch.empty(shape, dtype=dtype, pin_memory=self._on_gpu)
        return held


def check_device(precision: str) -> str:
    """The name of the current CUDA device.

    Raises:
        UnsupportedError: there is none, PyTorch cannot use it, or it does not calculate in that precision.
    """
    require_gpu()
    if not torch.cuda.is_available():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        raise UnsupportedError(
            f"The installed PyTorch {torch.__version__} is built {built} and cannot use this machine's GPU. Install a "
            "build for its driver (https://pytorch.org/get-started; nddr-doctor names the driver's CUDA)."
        )
    name = torch.cuda.get_device_name()
    if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UnsupportedError(f"The {name} does not calculate in bf16. Ask for fp16 or fp32.")
    return name


@contextmanager
def exact_float32() -> Iterator[None]:
    """PyTorch's settings for one pass: no TF32, and the fastest convolutions by measuring; then as they were."""
    with ExitStack() as stack:
        matmul = torch.backends.cuda.matmul
        stack.callback(setattr, matmul, "allow_tf32", matmul.allow_tf32)
        matmul.allow_tf32 = False
        stack.enter_context(
            torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=False)
        )
        yield


def _writable(images: Image) -> Image:
    """PyTorch wants arrays it could write to, though it only reads this one."""
    return images if images.flags.writeable else images.copy()


def _mark(marks: list[Any], index: int) -> None:
    if marks:
        marks[index].record()
