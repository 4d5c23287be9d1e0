"""Drivers, GPUs and Jetsons of every sort of machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from doctor_machines import GIB, H200, cpu_machine, finding, gpu_machine

from nddr_deploy.doctor.ask import Answer
from nddr_deploy.doctor.diagnosis import judge
from nddr_deploy.doctor.facts import Python, System
from nddr_deploy.doctor.look import driver_version, look_at_system

TEGRA = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64"


def cuda(init: int | None, driver: tuple[int, int] | None = (13, 0)) -> Answer:
    return Answer({"init": init, "error": "", "driver_cuda": list(driver) if driver else None, "gpus": []})


def test_a_machine_without_a_gpu_is_not_alarmed() -> None:
    diagnosis = judge(cpu_machine())

    assert finding(diagnosis, "NVIDIA GPU", "driver").state == "not here"
    assert {found.state for found in diagnosis.findings if found.subject == "TensorRT"} == {"not here"}


def test_a_gpu_is_described_by_its_driver() -> None:
    diagnosis = judge(gpu_machine())

    assert finding(diagnosis, "NVIDIA GPU", "driver").found == "580.65.06 (CUDA 13.0)"
    assert finding(diagnosis, "NVIDIA GPU", "GPU 0").found == "NVIDIA H200, compute capability 9.0, 140 GiB"


def test_a_gpu_without_a_driver_misses_one() -> None:
    found = finding(judge(cpu_machine(system=System(nvidia_on_bus=1))), "NVIDIA GPU", "driver")

    assert found.state == "missing"
    assert found.do[0] == "sudo ubuntu-drivers install"


def test_a_container_without_the_hosts_gpus_is_told_how_to_get_them() -> None:
    system = System(container=True, nvidia_on_bus=1, kernel_driver="580.65.06")

    found = finding(judge(cpu_machine(system=system)), "NVIDIA GPU", "driver")

    assert found.state == "missing"
    assert "this container was started without its GPUs" in found.found
    assert "docker run --gpus all" in found.do[0]


def test_a_kernel_module_without_devices_is_a_problem() -> None:
    system = System(kernel_driver="580.65.06", nvidia_on_bus=1)

    found = finding(judge(cpu_machine(system=system, cuda=cuda(100))), "NVIDIA GPU", "driver")

    assert found.state == "problem"
    assert "has no devices" in found.found


def test_a_driver_that_was_updated_without_a_restart_is_a_problem() -> None:
    facts = gpu_machine(cuda=cuda(803))

    found = finding(judge(facts), "NVIDIA GPU", "driver")

    assert found.state == "problem"
    assert "different versions" in found.found
    assert found.do == ("sudo reboot",)


def test_gpus_that_an_environment_variable_hides_are_missing_and_the_variable_is_named() -> None:
    facts = gpu_machine(cuda=cuda(100))
    facts = replace(facts, system=replace(facts.system, hidden_by=""))

    diagnosis = judge(facts)

    assert finding(diagnosis, "NVIDIA GPU", "GPU").do == ("unset CUDA_VISIBLE_DEVICES",)
    assert diagnosis.ok


def test_a_driver_whose_library_crashes_is_a_problem_and_nothing_counts_on_its_gpus() -> None:
    diagnosis = judge(gpu_machine(cuda=Answer(problem="crashed its process (SIGSEGV)")))

    assert finding(diagnosis, "NVIDIA GPU", "driver").state == "problem"
    infer = next(command for command in diagnosis.commands if command.name == "nddr-infer")
    assert "tensorrt" in infer.stopped


def test_tensorrt_of_jetpack_that_the_environment_does_not_see_is_told() -> None:
    facts = jetson(Python((3, 10, 12), environment=True))

    found = finding(judge(facts), "TensorRT", "TensorRT")

    assert found.state == "missing"
    assert found.do == ("python3.10 -m venv --system-site-packages .venv",)
    assert finding(judge(facts), "NVIDIA GPU", "Jetson").found == "Jetson Linux 36.4.3 (JetPack 6)"


def test_tensorrt_of_jetpack_for_another_python_asks_for_that_python() -> None:
    found = finding(judge(jetson(Python((3, 12, 1), environment=True))), "TensorRT", "TensorRT")

    assert found.found == "the system has one for Python 3.10, but this is Python 3.12"
    assert found.do == ("python3.10 -m venv --system-site-packages .venv",)


def test_a_jetson_is_never_told_to_install_the_wheels_of_servers() -> None:
    told = [step for found in judge(jetson(Python())).findings for step in found.do]

    assert not [step for step in told if "[gpu]" in step]


def jetson(python: Python):  # type: ignore[no-untyped-def]
    cpu = cpu_machine()
    return gpu_machine(
        python=python,
        system=System(tegra=TEGRA, tensorrt_in=("3.10",), free_bytes=64 * GIB, shm_bytes=4 * GIB),
        cuda=Answer({"init": 0, "driver_cuda": [12, 6], "gpus": [{**H200, "name": "Orin", "compute": [8, 7]}]}),
        packages=cpu.packages,
        onnxruntime=cpu.onnxruntime,
        cuda_majors={},
        providers={},
        tensorrt=Answer(missing=True),
        cuda_bindings=Answer(missing=True),
    )


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023", "535.104.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build", "580.65.06"),
        ("nonsense", ""),
    ],
)
def test_the_kernel_says_its_driver_in_two_ways(text: str, version: str) -> None:
    assert driver_version(text) == version


def test_the_system_is_read_from_its_files(tmp_path: Path) -> None:
    files = {
        "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat",
        "proc/sys/kernel/osrelease": "5.15.0-generic\n",
        "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
        "sys/bus/pci/devices/0000:01:00.0/class": "0x030200\n",
        "sys/bus/pci/devices/0000:01:00.1/vendor": "0x10de\n",
        "sys/bus/pci/devices/0000:01:00.1/class": "0x040300\n",  # its sound
        "sys/bus/pci/devices/0000:02:00.0/vendor": "0x8086\n",
        "sys/bus/pci/devices/0000:02:00.0/class": "0x030000\n",
        "dev/nvidia0": "",
        "dev/nvidiactl": "",
        "run/.containerenv": "",
        "usr/lib/python3.10/dist-packages/tensorrt/__init__.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    system = look_at_system(tmp_path)

    assert system.kernel_driver == "535.104.05"
    assert (system.nvidia_on_bus, system.nvidia_devices) == (1, 1)
    assert (system.container, system.wsl, system.tegra) == (True, False, "")
    assert system.tensorrt_in == ("3.10",)
    assert system.shm_bytes is None


def test_an_empty_system_is_no_error(tmp_path: Path) -> None:
    assert look_at_system(tmp_path).nvidia_on_bus == 0
