"""What is asked of a library in a process of its own, for asking may crash or hang: `python probes.py NAME [WORDS]`.

The answer is one line of JSON on standard output: {"values": ...}, {"missing": module} or {"problem": sentence}.
Imports nothing of this project, so that what a library does to the process is all that can go wrong.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

# CUdevice_attribute, from cuda.h
COMPUTE_MAJOR, COMPUTE_MINOR = 75, 76
# ioctl and capability bits, from videodev2.h
VIDIOC_QUERYCAP, DEVICE_CAPS = 0x80685600, 0x80000000
VIDEO_CAPTURE, VIDEO_CAPTURE_MPLANE = 0x1, 0x1000


def cuda() -> dict[str, Any]:
    """The NVIDIA driver, asked by itself; "init" is the CUDA error of cuInit, None where there is no driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return {"init": None, "error": str(error), "driver_cuda": None, "gpus": []}
    version, count = ctypes.c_int(0), ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(version))
    init = driver.cuInit(0)
    if init == 0:
        driver.cuDeviceGetCount(ctypes.byref(count))
    return {
        "init": init,
        "error": "",
        "driver_cuda": [version.value // 1000, version.value % 1000 // 10],
        "gpus": [_gpu(driver, index) for index in range(count.value)],
    }


def _gpu(driver: Any, index: int) -> dict[str, Any]:
    device, memory = ctypes.c_int(0), ctypes.c_size_t(0)
    name = ctypes.create_string_buffer(256)
    major, minor = ctypes.c_int(0), ctypes.c_int(0)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), COMPUTE_MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), COMPUTE_MINOR, device)
    return {
        "name": name.value.decode(errors="replace"),
        "compute": [major.value, minor.value],
        "memory_bytes": memory.value,
    }


def libraries(*names: str) -> dict[str, Any]:
    """Which shared libraries the loader finds by their names alone, and loads."""
    found = {}
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            found[name] = False
        else:
            found[name] = True
    return found


def tensorrt() -> dict[str, Any]:
    """TensorRT's version, and that of the libnvinfer that was loaded with it; None where it does not say."""
    trt = import_module("tensorrt")
    version = str(trt.__version__)
    try:
        library = ctypes.CDLL(f"libnvinfer.so.{version.split('.')[0]}").getInferLibVersion()
    except (OSError, AttributeError):
        library = None
    return {"version": version, "library": library}


def onnxruntime() -> dict[str, Any]:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # from 1.29 on it would report and write to the home folder
    ort = import_module("onnxruntime")
    return {"version": str(ort.__version__), "providers": list(ort.get_available_providers())}


def cuda_bindings() -> dict[str, Any]:
    bindings, runtime = import_module("cuda.bindings"), import_module("cuda.bindings.runtime")
    error, count = runtime.cudaGetDeviceCount()
    return {"version": str(bindings.__version__), "error": error.name, "gpus": int(count) if int(error) == 0 else 0}


def openvino() -> dict[str, Any]:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it would report and write to the home folder
    ov = import_module("openvino")
    core = ov.Core()
    names = {device: str(core.get_property(device, "FULL_DEVICE_NAME")) for device in core.available_devices}
    return {"version": str(ov.__version__), "devices": names}


def torch() -> dict[str, Any]:
    module = import_module("torch")
    built = module.version.cuda
    usable = bool(module.cuda.is_available())
    # an own kernel on the GPU: wheels leave old and brand-new GPUs out, which is_available() does not notice
    ran = float((module.ones(2, device="cuda") + 1).sum()) == 4.0 if usable else False
    return {"version": str(module.__version__), "cuda": built, "usable": usable and ran}


def pyav() -> dict[str, Any]:
    av = import_module("av")

    def has(name: str, mode: str) -> bool:
        try:
            av.codec.Codec(name, mode)
        except Exception:  # an error class that moved between PyAV's versions
            return False
        return True

    return {
        "version": str(av.__version__),
        "decode": {name: has(name, "r") for name in ("h264", "hevc", "mjpeg", "vp9", "av1")},
        "encode": {name: has(name, "w") for name in ("libx264", "aac")},
    }


def opencv() -> dict[str, Any]:
    return {"version": str(import_module("cv2").__version__)}


def camera(path: str) -> dict[str, Any]:
    """Whether a video device gives pictures; many a camera has a second device that gives only notes about them."""
    from fcntl import ioctl

    device = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    answer = bytearray(104)
    ioctl(device, VIDIOC_QUERYCAP, answer)
    name = bytes(answer[16:48]).split(b"\0")[0].decode(errors="replace")
    whole, own = struct.unpack_from("<II", answer, 84)
    bits = own if whole & DEVICE_CAPS else whole
    return {"name": name, "captures": bool(bits & (VIDEO_CAPTURE | VIDEO_CAPTURE_MPLANE))}


PROBES: dict[str, Callable[..., dict[str, Any]]] = {
    probe.__name__: probe
    for probe in (cuda, libraries, tensorrt, onnxruntime, cuda_bindings, openvino, torch, pyav, opencv, camera)
}


def answer(probe: Callable[..., dict[str, Any]], *words: str) -> dict[str, Any]:
    """What a probe says, or why it says nothing."""
    try:
        return {"values": probe(*words)}
    except ModuleNotFoundError as error:
        wanted = {"cuda_bindings": "cuda", "pyav": "av", "opencv": "cv2"}.get(probe.__name__, probe.__name__)
        if (error.name or "").split(".")[0] == wanted:
            return {"missing": error.name}
        return {"problem": f"its own dependency {error.name} is not installed"}
    except BaseException as error:
        return {"problem": f"{type(error).__name__}: {error}"}


def main() -> None:
    replies = os.dup(1)
    os.dup2(2, 1)  # what a library prints is not the answer
    found = answer(PROBES[sys.argv[1]], *sys.argv[2:])
    os.write(replies, json.dumps(found).encode())
    os._exit(0)  # without the libraries' own clean-up, which is nobody's question


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder, where our files would stand before the libraries
    main()
