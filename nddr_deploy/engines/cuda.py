"""NVIDIA GPUs, asked through the driver itself: nothing needs to be installed for the question."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from nddr_deploy.errors import UnsupportedError

DRIVER = "libcuda.so.1"
# CUdevice_attribute, from cuda.h
COMPUTE_MAJOR, COMPUTE_MINOR = 75, 76


@dataclass(frozen=True)
class Gpu:
    """The device that this process uses: the first that CUDA_VISIBLE_DEVICES leaves.

    Attributes:
        name: as the driver says it: "NVIDIA H200".
        compute_capability: "9.0".
        memory_bytes: of the whole device.
        driver_cuda: the newest CUDA version that the driver runs: "12.8".
    """

    name: str
    compute_capability: str
    memory_bytes: int
    driver_cuda: str

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.compute_capability})"


def count_gpus() -> int:
    """GPUs that CUDA programs may use here; 0 without a driver.

    TensorRT has to be kept from being touched where there is none: its runtime crashes the process.
    """
    driver = _driver()
    count = ctypes.c_int(0)
    if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def require_gpu() -> None:
    """Raise UnsupportedError unless there is a GPU."""
    if count_gpus() == 0:
        raise UnsupportedError(
            "No NVIDIA GPU can be used here: its driver is not installed, or it shows no device. Run this on a "
            "machine with one (nddr-doctor says what is missing), or run the .onnx file with onnxruntime or openvino."
        )


def describe_gpu() -> Gpu:
    """The GPU of this process.

    Raises:
        UnsupportedError: there is none.
    """
    require_gpu()
    driver = _driver()
    if driver is None:
        raise UnsupportedError(f"The NVIDIA driver ({DRIVER}) went away. Restart this program.")
    device, version = ctypes.c_int(0), ctypes.c_int(0)
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t(0)
    major, minor = ctypes.c_int(0), ctypes.c_int(0)
    asked = (
        driver.cuDeviceGet(ctypes.byref(device), 0),
        driver.cuDeviceGetName(name, len(name), device),
        driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device),
        driver.cuDeviceGetAttribute(ctypes.byref(major), COMPUTE_MAJOR, device),
        driver.cuDeviceGetAttribute(ctypes.byref(minor), COMPUTE_MINOR, device),
        driver.cuDriverGetVersion(ctypes.byref(version)),
    )
    if any(asked):
        raise UnsupportedError(f"The NVIDIA driver does not describe its GPU (CUDA errors {asked}). See nddr-doctor.")
    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{major.value}.{minor.value}",
        memory_bytes=memory.value,
        driver_cuda=f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


def _driver() -> ctypes.CDLL | None:
    """The driver's library, ready to be asked; None where there is none, or no device."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return None
    return driver if driver.cuInit(0) == 0 else None
