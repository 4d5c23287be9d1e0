"""A session of ONNX Runtime whose inputs and outputs stay on its device between the steps of a pass."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import Any

import numpy as np

from nddr_deploy.engines.base import PassTimes
from nddr_deploy.engines.cuda_runtime import Event, Stream
from nddr_deploy.engines.onnx_file import INPUT
from nddr_deploy.engines.silent_ort import onnxruntime
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

UNSYNCHRONISED = "disable_synchronize_execution_providers"


class BoundSession:
    """Upload, run, download: each step returns when it is done, so that each can be timed.

    Args:
        session: of a provider of that device, which computes in `stream`.
        names: of the outputs, in the order in which they are returned.
        stream: ours.
        device: "cuda"; "cpu" for tests.
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, names: list[str], stream: Stream, *, device: str = "cuda"
    ) -> None:
        self._session: Any = session
        self._names = names
        self._stream = stream
        self._device = device
        self._binding = session.io_binding()
        self._images: Any = None
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry(UNSYNCHRONISED, "1")
        self._opened = ExitStack()
        self._marks: list[Event] = []

    def infer(self, images: Image) -> dict[str, Array]:
        """All outputs of one pass, in host memory of their own."""
        self._upload(images)
        self._enqueue()
        self._stream.wait()
        return self._download()

    def time(self, images: Image) -> PassTimes:
        """`infer`, split; see `OrtGpuEngine.time_pass`."""
        if not self._marks:
            self._marks = [self._opened.enter_context(closing(Event(timed=True))) for _ in range(2)]
        before, after = self._marks
        begun = time.perf_counter()
        self._upload(images)
        uploaded = time.perf_counter()
        before.record(self._stream.handle)
        starting = time.perf_counter()
        self._enqueue()
        started = time.perf_counter()
        after.record(self._stream.handle)
        self._stream.wait()
        computed = time.perf_counter()
        self._download()
        downloaded = time.perf_counter()
        return PassTimes(
            h2d_s=uploaded - begun,
            enqueue_s=started - starting,
            compute_s=after.seconds_since(before),
            d2h_s=downloaded - computed,
        )

    def close(self) -> None:
        self._opened.close()
        self._binding = self._images = self._session = None

    def _upload(self, images: Image) -> None:
        if self._images is None or tuple(self._images.shape()) != images.shape:
            self._bind(images.shape)
        self._images.update_inplace(images)

    def _bind(self, shape: tuple[int, ...]) -> None:
        """Outputs are bound again, too: those of the pass before are used again where nothing is said."""
        self._images = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, self._device, 0)
        self._binding.bind_ortvalue_input(INPUT, self._images)
        for name in self._names:
            self._binding.bind_output(name, self._device, 0)

    def _enqueue(self) -> None:
        self._session.run_with_iobinding(self._binding, self._options)

    def _download(self) -> dict[str, Array]:
        outputs = self._binding.copy_outputs_to_cpu()
        return {name: np.asarray(output) for name, output in zip(self._names, outputs, strict=True)}
