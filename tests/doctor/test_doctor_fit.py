"""TensorRT, ONNX Runtime, cuda-bindings and PyTorch against the driver and against each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
from doctor_machines import H200, cpu_machine, finding, gpu_machine, provider

from nddr_deploy.doctor.ask import Answer
from nddr_deploy.doctor.diagnosis import judge
from nddr_deploy.doctor.trt import _library_version


def trt(version: str, library: int | None = None) -> Answer:
    return Answer({"version": version, "library": library})


def test_tensorrt_for_cuda_13_does_not_fit_a_driver_of_cuda_12() -> None:
    diagnosis = judge(gpu_machine(driver="535.104.05", driver_cuda=(12, 2)))

    found = finding(diagnosis, "TensorRT", "fit with the driver")

    assert found.state == "problem"
    assert (
        found.found == "it is built for CUDA 13, which needs driver 580 or newer; this is driver 535.104.05 (CUDA 12.2)"
    )
    assert found.do[0] == "Install an NVIDIA driver from 580: https://www.nvidia.com/drivers"
    assert found.do[-1] == "pip install 'tensorrt-cu12==10.16.1.11'"
    infer = next(command for command in diagnosis.commands if command.name == "nddr-infer")
    assert infer.stopped["tensorrt"] == "TensorRT does not fit the driver"


def test_a_driver_runs_every_minor_version_of_its_cuda_and_all_older_ones() -> None:
    facts = gpu_machine(driver="525.60.13", driver_cuda=(12, 0))

    assert judge(replace(facts, cuda_majors={"tensorrt-cu12": 12}, providers={})).ok
    assert judge(replace(facts, cuda_majors={"tensorrt": 11}, providers={})).ok


def test_cuda_compat_counts_not_the_kernels_driver() -> None:
    """With NVIDIA's forward compatibility libraries an old kernel module runs a new CUDA, and libcuda says so."""
    assert judge(gpu_machine(driver="535.104.05", driver_cuda=(13, 0))).ok


def test_onnx_runtime_that_is_linked_with_another_tensorrt_is_a_problem() -> None:
    facts = gpu_machine(
        tensorrt=trt("11.4.0.106", 110400),
        providers={
            "cuda": provider("libcudart.so.13"),
            "tensorrt": provider("libcudart.so.13", lacking=("libnvinfer.so.10", "libnvonnxparser.so.10")),
        },
    )

    diagnosis = judge(facts)

    found = finding(diagnosis, "ONNX Runtime", "TensorRT provider")
    assert found.state == "problem"
    assert found.found == "it is linked with TensorRT 10; TensorRT 11.4.0.106 is installed"
    assert found.do == ("pip install 'tensorrt==10.*'",)
    infer = next(command for command in diagnosis.commands if command.name == "nddr-infer")
    assert "tensorrt" in infer.ways
    assert infer.stopped["onnxruntime-tensorrt"] == "its provider lacks libnvinfer.so.10"


def test_a_second_tensorrt_from_the_system_may_serve_onnx_runtime() -> None:
    assert judge(gpu_machine(tensorrt=trt("11.4.0.106", 110400))).ok


def test_libraries_of_cuda_that_onnx_runtime_lacks_are_missing_with_the_command_that_brings_them() -> None:
    lacking = provider("libcudart.so.13", lacking=("libcublasLt.so.13", "libcublas.so.13", "libcudnn.so.9"))
    facts = gpu_machine(providers={**gpu_machine().providers, "cuda": lacking})

    with_extras = finding(judge(facts), "ONNX Runtime", "CUDA provider")
    without = finding(judge(replace(facts, provider_extras=False)), "ONNX Runtime", "CUDA provider")

    assert with_extras.state == "missing"
    assert with_extras.found == "it needs libcublasLt.so.13, libcublas.so.13, libcudnn.so.9, not found"
    assert with_extras.do == ("pip install 'onnxruntime-gpu[cuda,cudnn]==1.31.1'",)
    assert without.do == ("pip install nvidia-cublas 'nvidia-cudnn-cu13==9.*'",)


def test_onnx_runtime_for_cuda_13_does_not_fit_a_driver_of_cuda_12() -> None:
    found = finding(judge(gpu_machine(driver="535.104.05", driver_cuda=(12, 2))), "ONNX Runtime", "CUDA provider")

    assert found.state == "problem"
    assert found.do[-1] == "pip install 'onnxruntime-gpu<1.27'"


def test_cuda_bindings_newer_than_the_driver_are_a_problem() -> None:
    facts = gpu_machine(
        driver="535.104.05",
        driver_cuda=(12, 2),
        cuda_majors={"tensorrt-cu12": 12},
        providers={},
        cuda_bindings=Answer({"version": "13.5.0", "error": "cudaErrorInsufficientDriver", "gpus": 0}),
    )

    found = finding(judge(facts), "TensorRT", "cuda-bindings")

    assert found.state == "problem"
    assert found.do == ("pip install 'cuda-bindings<13'",)


def test_python_part_and_library_of_tensorrt_must_be_of_one_version() -> None:
    found = finding(judge(gpu_machine(tensorrt=trt("10.16.1.11", 100900))), "TensorRT", "TensorRT")

    assert found.state == "problem"
    assert "10.9.0" in found.found


@pytest.mark.parametrize(
    ("number", "version"), [(8601, (8, 6, 1)), (101303, (10, 13, 3)), (110400, (11, 4, 0)), (None, None), (0, None)]
)
def test_the_library_writes_its_version_as_one_number(number: int | None, version: tuple[int, ...] | None) -> None:
    assert _library_version(number) == version


@pytest.mark.parametrize(
    ("version", "compute", "state"),
    [
        ("8.6.1", [9, 0], None),
        ("8.6.1", [12, 0], "problem"),  # Blackwell came after it
        ("10.4.0", [7, 0], None),
        ("10.5.0", [7, 0], "problem"),  # Volta went
        ("11.4.0.106", [7, 5], None),
        ("11.4.0.106", [6, 1], "problem"),
    ],
)
def test_a_tensorrt_must_have_code_for_the_gpu(version: str, compute: list[int], state: str | None) -> None:
    gpu = {**H200, "compute": compute}
    facts = gpu_machine(
        cuda=Answer({"init": 0, "error": "", "driver_cuda": [13, 0], "gpus": [gpu]}),
        tensorrt=trt(version),
        cuda_majors={"tensorrt": 12},
        providers={},
    )

    found = [one.state for one in judge(facts).findings if one.what == "fit with the GPU"]

    assert found == ([state] if state else [])


@pytest.mark.parametrize("version", ["8.5.2", "9.3.0", "12.0.0"])
def test_a_tensorrt_that_nddr_deploy_does_not_know_is_a_problem(version: str) -> None:
    assert finding(judge(gpu_machine(tensorrt=trt(version))), "TensorRT", "TensorRT").state == "problem"


def test_on_an_old_driver_the_packages_that_are_missing_are_those_that_it_runs() -> None:
    cpu = cpu_machine()
    facts = gpu_machine(
        driver="535.104.05", driver_cuda=(12, 2), packages={**cpu.packages}, cuda_majors={}, providers={},
        onnxruntime=cpu.onnxruntime, tensorrt=Answer(missing=True), cuda_bindings=Answer(missing=True),
    )  # fmt: skip

    found = finding(judge(facts), "TensorRT", "TensorRT")

    assert found.do[-2:] == (
        "pip uninstall --yes onnxruntime",
        "pip install 'onnxruntime-gpu[cuda,cudnn]<1.27' 'tensorrt-cu12==10.*' 'cuda-bindings<13'",
    )


def test_pytorch_for_cpus_beside_a_gpu_is_missing_and_one_that_fails_on_it_is_a_problem() -> None:
    plain = judge(gpu_machine(torch=Answer({"version": "2.13.0+cpu", "cuda": None, "usable": False})))
    newer = Answer({"version": "2.13.0", "cuda": "13.0", "usable": False})
    broken = judge(gpu_machine(torch=newer, driver="535.104.05", driver_cuda=(12, 2)))

    assert finding(plain, "PyTorch", "GPU").state == "missing"
    assert finding(broken, "PyTorch", "GPU").state == "problem"
    assert "PyTorch is built for CUDA 13.0" in finding(broken, "PyTorch", "GPU").found
