"""Machines that are made up: facts as `look` would find them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nddr_deploy.doctor.ask import Answer
from nddr_deploy.doctor.diagnosis import Diagnosis
from nddr_deploy.doctor.facts import Facts, Need, Provider, System
from nddr_deploy.doctor.finding import Finding

GIB = 2**30
NEEDS = (
    Need("av", "14"),
    Need("numpy", "1.26"),
    Need("opencv-python-headless", "4.9"),
    Need("onnxruntime", "1.17", "cpu"),
    Need("openvino", "2024.1", "cpu"),
    Need("onnxruntime-gpu", "1.17", "gpu"),
    Need("tensorrt", "8.6", "gpu"),
    Need("cuda-bindings", "12.6", "gpu"),
    Need("torch", "2.5", "train"),
)
MACHINE = {
    "cpu": "A processor",
    "cores": 8,
    "memory_bytes": 32 * GIB,
    "flags": ["avx2"],
    "system": "Linux x86_64",
    "python": "3.11.0",
}
CODECS = {
    "version": "18.1.0",
    "decode": dict.fromkeys(("h264", "hevc", "mjpeg", "vp9", "av1"), True),
    "encode": {"libx264": True, "aac": True},
}
H200 = {"name": "NVIDIA H200", "compute": [9, 0], "memory_bytes": 140 * GIB}
BARE = {"nddr-deploy": "0.1.0", "av": "18.1.0", "numpy": "2.4.6", "opencv-python-headless": "5.0.0.93"}


def cpu_machine(**changes: Any) -> Facts:
    """A laptop without a GPU, with [cpu] installed."""
    facts = Facts(
        system=System(free_bytes=100 * GIB, shm_bytes=16 * GIB),
        packages={**BARE, "onnxruntime": "1.32.0", "openvino": "2026.4.1"},
        needs=NEEDS,
        machine=Answer(MACHINE),
        cuda=Answer({"init": None, "error": "libcuda.so.1: not found", "driver_cuda": None, "gpus": []}),
        onnxruntime=Answer({"version": "1.32.0", "providers": ["CPUExecutionProvider"]}),
        openvino=Answer({"version": "2026.4.1-22982", "devices": {"CPU": "A processor"}}),
        pyav=Answer(CODECS),
        opencv=Answer({"version": "5.0.0"}),
    )
    return replace(facts, **changes)


def gpu_machine(*, driver: str = "580.65.06", driver_cuda: tuple[int, int] = (13, 0), **changes: Any) -> Facts:
    """A server with an H200 and [gpu] installed: TensorRT 10 and ONNX Runtime for CUDA 13, which fit together."""
    trt = ("tensorrt", "tensorrt-cu13", "tensorrt-cu13-bindings", "tensorrt-cu13-libs")
    facts = cpu_machine(
        system=System(
            free_bytes=100 * GIB, shm_bytes=16 * GIB, nvidia_on_bus=1, kernel_driver=driver, nvidia_devices=1
        ),
        packages={
            **BARE,
            **dict.fromkeys(trt, "10.16.1.11"),
            "onnxruntime-gpu": "1.31.1",
            "cuda-bindings": "12.9.4",
        },
        cuda_majors=dict.fromkeys(trt, 13),
        cuda=Answer({"init": 0, "error": "", "driver_cuda": list(driver_cuda), "gpus": [H200]}),
        tensorrt=Answer({"version": "10.16.1.11", "library": 101601}),
        onnxruntime=Answer(
            {
                "version": "1.31.1",
                "providers": ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
            }
        ),
        providers={
            "cuda": provider("libcudart.so.13", "libcublas.so.13", "libcudnn.so.9"),
            "tensorrt": provider("libcudart.so.13", "libnvinfer.so.10", "libnvonnxparser.so.10"),
        },
        cuda_bindings=Answer({"version": "12.9.4", "error": "cudaSuccess", "gpus": 1}),
        openvino=Answer(missing=True),
    )
    return replace(facts, **changes)


def provider(*found: str, lacking: tuple[str, ...] = ()) -> Provider:
    return Provider({**dict.fromkeys(found, "wheel"), **dict.fromkeys(lacking, "")})


def finding(diagnosis: Diagnosis, subject: str, what: str) -> Finding:
    """The one finding of that name; fails where there is none, or more."""
    [found] = [one for one in diagnosis.findings if (one.subject, one.what) == (subject, what)]
    return found
