"""Images that are on the (simulated) GPU already: read where they are, once their owner has made them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from simulated.simulate import VERSIONS, Machine, simulate
from trt_subject import SEEDS, Subject, check

from nddr_deploy.engines.trt import TensorRTEngine
from nddr_deploy.errors import InputError


class OnDevice:
    """An array of another library on the simulated GPU, filled by a stream of its own.

    Attributes:
        dropped: nobody holds it any more.
    """

    def __init__(self, machine: Machine, images: Any, *, offset: int = 0) -> None:
        cudart = machine.cudart
        self._cudart, self._images = cudart, images
        self._memory = int(cudart.cudaMalloc(images.nbytes + offset)[1])
        self._stream = cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking)[1]
        self._staged = int(cudart.cudaHostAlloc(images.nbytes, 0)[1])
        ctypes.memmove(self._staged, images.ctypes.data, images.nbytes)
        self.__cuda_array_interface__ = {
            "version": 3,
            "shape": images.shape,
            "typestr": "|u1",
            "data": (self._memory + offset, False),
            "stream": int(self._stream),
        }
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        cudart.cudaMemcpyAsync(self._memory + offset, self._staged, images.nbytes, kind, self._stream)

    def free(self) -> None:
        self._cudart.cudaStreamDestroy(self._stream)
        self._cudart.cudaFree(self._memory)
        self._cudart.cudaFreeHost(self._staged)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
def test_images_on_the_gpu_are_read_there_once_their_own_stream_has_made_them(
    built: Callable[..., Subject], version: str, graph: bool, seed: int
) -> None:
    subject = built(version)

    with simulate(version, seed=seed) as machine, TensorRTEngine(subject.plan, graph=graph) as engine:
        arrays = [OnDevice(machine, subject.images(seed=number)) for number in range(5)]
        machine.gpu.done.clear()
        results = [engine.infer(arrays[0]), *engine.stream(arrays)]
        copies = [what for what in machine.gpu.done if what == "copy of 1152 bytes"]
        assert len(copies) == len(arrays)  # their own; none of ours
        again = engine.infer(subject.images(seed=7))  # from the host, after one from the GPU
        for array in arrays:
            array.free()

    for number, outputs in zip((0, 0, 1, 2, 3, 4), results, strict=True):
        check(outputs, subject.expected(subject.images(seed=number)))
    check(again, subject.expected(subject.images(seed=7)))


def test_images_on_the_gpu_wherever_they_begin_are_taken(built: Callable[..., Subject]) -> None:
    """TensorRT wants addresses of whole 256 bytes; a slice of a batch may begin anywhere."""
    subject = built("10.13")

    with simulate() as machine, TensorRTEngine(subject.plan) as engine:
        array = OnDevice(machine, subject.images(), offset=16 * 3)
        check(engine.infer(array), subject.expected(subject.images()))
        array.free()


def test_wrong_images_on_the_gpu_are_refused(built: Callable[..., Subject]) -> None:
    subject = built("10.13")

    with simulate() as machine, TensorRTEngine(subject.plan) as engine:
        array = OnDevice(machine, np.zeros((1, 16, 32, 3), np.uint8))
        with pytest.raises(InputError, match=r"got uint8 \(1, 16, 32, 3\)"):
            engine.infer(array)
        check(engine.infer(subject.images()), subject.expected(subject.images()))
        array.free()
