"""The NVIDIA driver, its GPUs, and Jetsons."""

from __future__ import annotations

import re

from nddr_deploy.doctor.facts import Facts
from nddr_deploy.doctor.finding import MISSING, NOT_HERE, OK, PROBLEM, Finding, numbers

SUBJECT = "NVIDIA GPU"
DRIVERS = "https://www.nvidia.com/drivers"
# The oldest driver per CUDA version, from NVIDIA's page on minor version compatibility.
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
FIRST_JETSON_LINUX = 36  # JetPack 6: TensorRT 8.6 and Python 3.10
# What cuInit answers, and what it means for a person.
INIT_ERRORS = {
    34: ("libcuda.so.1 is the stub of the CUDA toolkit, not the driver", "Remove .../stubs from LD_LIBRARY_PATH."),
    100: ("the driver sees no GPU", "nvidia-smi"),
    802: ("the GPUs are not ready; NVSwitch machines need its service", "sudo systemctl start nvidia-fabricmanager"),
    803: ("the driver's library and its kernel module are of different versions, as after an update", "sudo reboot"),
    804: ("the installed cuda-compat libraries do not support this GPU", "sudo apt-get remove 'cuda-compat-*'"),
    999: ("the driver failed, as after a laptop woke up", "sudo rmmod nvidia_uvm && sudo modprobe nvidia_uvm"),
}  # fmt: skip


def examine(facts: Facts) -> list[Finding]:
    return [*_jetson(facts), _driver(facts), *_gpus(facts)]


def expects_gpu(facts: Facts) -> bool:
    """Whether this machine has an NVIDIA GPU, working or not."""
    system = facts.system
    return bool(
        gpu_count(facts) or system.nvidia_on_bus or system.kernel_driver or system.nvidia_devices or system.tegra
    )


def gpu_count(facts: Facts) -> int:
    """GPUs that programs can use."""
    return len(facts.cuda.get("gpus") or ())


def driver_cuda(facts: Facts) -> tuple[int, int] | None:
    """The newest CUDA that the driver runs, as (12, 8)."""
    found = facts.cuda.get("driver_cuda")
    return (int(found[0]), int(found[1])) if found and found[0] else None


def driver_runs(facts: Facts, cuda_major: int) -> bool | None:
    """Whether the driver runs programs of a CUDA version; None where neither is known.

    A driver runs every minor version of its own CUDA, and all older ones.
    """
    cuda = driver_cuda(facts)
    if cuda is not None:
        return cuda[0] >= cuda_major
    driver, oldest = numbers(facts.system.kernel_driver), OLDEST_DRIVER.get(cuda_major)
    return driver[0] >= oldest if driver and oldest else None


def driver_name(facts: Facts) -> str:
    """`driver 535.104.05 (CUDA 12.2)`, as far as known."""
    cuda, version = driver_cuda(facts), facts.system.kernel_driver
    newest = f"CUDA {cuda[0]}.{cuda[1]}" if cuda else ""
    if version:
        return f"driver {version} ({newest})" if newest else f"driver {version}"
    return f"a driver for {newest}" if newest else "a driver of unknown version"


def needs_driver(cuda_major: int) -> str:
    """`CUDA 13, which needs driver 580 or newer`."""
    oldest = OLDEST_DRIVER.get(cuda_major)
    return f"CUDA {cuda_major}" + (f", which needs driver {oldest} or newer" if oldest else "")


def update_driver(facts: Facts, cuda_major: int) -> str:
    if facts.system.tegra:
        return "Update JetPack, which brings the driver of a Jetson."
    oldest = OLDEST_DRIVER.get(cuda_major)
    return f"Install an NVIDIA driver{f' from {oldest}' if oldest else ''}: {DRIVERS}"


def _driver(facts: Facts) -> Finding:
    system, cuda = facts.system, facts.cuda
    if not cuda.ok:
        return Finding(SUBJECT, "driver", PROBLEM, f"libcuda.so.1 {cuda.problem}", ("sudo reboot",))
    if cuda.get("init") is None:
        return _no_library(facts)
    if cuda.get("init") == 0:
        return Finding(SUBJECT, "driver", OK, _version(facts))
    if not system.nvidia_devices and not system.tegra and not system.wsl:
        return _no_devices(facts)
    found, do = INIT_ERRORS.get(cuda.get("init"), ("the driver does not start", "nvidia-smi"))
    if cuda.get("init") == 100 and system.hidden_by is not None:
        return Finding(SUBJECT, "driver", OK, _version(facts))
    return Finding(SUBJECT, "driver", PROBLEM, f"{found} (CUDA error {cuda.get('init')})", (do,))


def _version(facts: Facts) -> str:
    return driver_name(facts).removeprefix("driver ").removeprefix("a driver for ")


def _no_library(facts: Facts) -> Finding:
    system = facts.system
    if system.kernel_driver or system.nvidia_devices:
        if system.container:
            found = "the host has one, but this container was started without its GPUs"
            return Finding(SUBJECT, "driver", MISSING, found, _start_container())
        found = f"the kernel has driver {system.kernel_driver}, but its library libcuda.so.1 is not installed"
        major = numbers(system.kernel_driver)[:1]
        package = f"libnvidia-compute-{major[0]}" if major else "nvidia-driver"
        return Finding(SUBJECT, "driver", MISSING, found, (f"sudo apt-get install {package}",))
    if system.tegra:
        return Finding(
            SUBJECT, "driver", MISSING, "libcuda.so.1 is not found", ("sudo apt-get install nvidia-jetpack",)
        )
    if system.nvidia_on_bus:
        found = "there is an NVIDIA GPU, but no driver for it"
        if system.container:
            do: tuple[str, ...] = ("Install the driver on the host.", *_start_container())
        else:
            do = ("sudo ubuntu-drivers install", f"Elsewhere than on Ubuntu, install a driver from {DRIVERS}")
        return Finding(SUBJECT, "driver", MISSING, found, do)
    return Finding(SUBJECT, "driver", NOT_HERE, "this machine has no NVIDIA GPU and needs none")


def _no_devices(facts: Facts) -> Finding:
    """A driver's library that finds no device files."""
    system = facts.system
    if system.container:
        found = "its library is here, but this container was started without GPUs"
        state = MISSING if system.kernel_driver or system.nvidia_on_bus else NOT_HERE
        return Finding(SUBJECT, "driver", state, found, _start_container() if state == MISSING else ())
    if system.kernel_driver:
        found = f"kernel module {system.kernel_driver} is loaded, but has no devices (/dev/nvidia0)"
        return Finding(SUBJECT, "driver", PROBLEM, found, ("sudo nvidia-modprobe -c 0 -u",))
    if system.nvidia_on_bus:
        found = "it is installed, but its kernel module is not loaded"
        return Finding(SUBJECT, "driver", PROBLEM, found, ("sudo modprobe nvidia",))
    return Finding(SUBJECT, "driver", NOT_HERE, "its library is installed, but this machine has no NVIDIA GPU")


def _start_container() -> tuple[str, ...]:
    return (
        "Start it with docker run --gpus all, or podman run --device nvidia.com/gpu=all.",
        "That takes, on the host:",
        "sudo apt-get install nvidia-container-toolkit",
    )


def _gpus(facts: Facts) -> list[Finding]:
    gpus = facts.cuda.get("gpus") or ()
    hidden = facts.system.hidden_by
    if gpus:
        note = f" (of those that CUDA_VISIBLE_DEVICES={hidden} leaves)" if hidden is not None else ""
        return [
            Finding(
                SUBJECT, f"GPU {index}", OK,
                f"{gpu['name']}, compute capability {gpu['compute'][0]}.{gpu['compute'][1]}, "
                f"{gpu['memory_bytes'] / 2**30:.0f} GiB{note}",
            )
            for index, gpu in enumerate(gpus)
        ]  # fmt: skip
    if hidden is not None and facts.cuda.get("init") == 100:
        found = f"hidden by the environment variable CUDA_VISIBLE_DEVICES={hidden}"
        return [Finding(SUBJECT, "GPU", MISSING, found, ("unset CUDA_VISIBLE_DEVICES",))]
    return []


def _jetson(facts: Facts) -> list[Finding]:
    if not facts.system.tegra:
        return []
    release = re.search(r"R(\d+)\b.*?REVISION:\s*([\d.]+)", facts.system.tegra)
    if release is None:
        return [Finding(SUBJECT, "Jetson", OK, "Jetson Linux of an unknown release")]
    major = int(release.group(1))
    jetpack = {32: 4, 34: 5, 35: 5, 36: 6, 38: 7}.get(major)
    found = f"Jetson Linux {major}.{release.group(2)}" + (f" (JetPack {jetpack})" if jetpack else "")
    if major < FIRST_JETSON_LINUX:
        do = ("Flash JetPack 6 or newer with NVIDIA's SDK Manager.",)
        return [Finding(SUBJECT, "Jetson", MISSING, f"{found}, whose TensorRT is older than 8.6", do)]
    return [Finding(SUBJECT, "Jetson", OK, found)]
