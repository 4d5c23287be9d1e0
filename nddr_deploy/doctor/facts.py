"""What was found on a machine, before anything is made of it: plain values, so that a test can make up any machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nddr_deploy.doctor.ask import Answer

NOT_INSTALLED = Answer(missing=True)


@dataclass(frozen=True)
class Need:
    """A requirement of nddr-deploy: `extra` brings package `name`, from version `floor`; extra "" is always needed."""

    name: str
    floor: str
    extra: str = ""


@dataclass(frozen=True)
class Python:
    """The interpreter: its version, whether in a virtual environment, and one that sees the system's packages."""

    version: tuple[int, int, int] = (3, 11, 0)
    environment: bool = True
    sees_system: bool = False


@dataclass(frozen=True)
class Camera:
    """A video device: its path and name, whether this user may open it, and what it says of itself."""

    path: str
    name: str
    allowed: bool
    answer: Answer = field(default_factory=Answer)


@dataclass(frozen=True)
class System:
    """What the operating system shows.

    Attributes:
        container: this runs inside one.
        wsl: Linux inside Windows, where the driver is Windows' own.
        tegra: the first line of /etc/nv_tegra_release; "" where this is no Jetson.
        nvidia_on_bus: NVIDIA display devices on the PCI bus.
        kernel_driver: version of the NVIDIA kernel module, "" where none is loaded.
        nvidia_devices: device files /dev/nvidia0, ...
        hidden_by: the value of CUDA_VISIBLE_DEVICES, None where it is not set.
        free_bytes: on the disk of the current folder; None where unknown.
        shm_bytes: of /dev/shm; None where there is none.
        tensorrt_in: versions of Python, such as "3.10", whose system folder holds a TensorRT.
    """

    container: bool = False
    wsl: bool = False
    tegra: str = ""
    nvidia_on_bus: int = 0
    kernel_driver: str = ""
    nvidia_devices: int = 0
    hidden_by: str | None = None
    free_bytes: int | None = None
    shm_bytes: int | None = None
    tensorrt_in: tuple[str, ...] = ()


@dataclass(frozen=True)
class Provider:
    """An execution provider's library of ONNX Runtime: which libraries it needs, and where each was found.

    Attributes:
        needs: library name -> "loader" (found by its name), "wheel" (in a package beside it) or "" (not found).
        problem: why the library cannot be read.
    """

    needs: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    def lacking(self) -> list[str]:
        return [name for name, where in self.needs.items() if not where]

    def major(self, library: str) -> int | None:
        """The version that it wants of a library: 10 of "libnvinfer" where it needs libnvinfer.so.10."""
        for name in self.needs:
            stem, _, version = name.partition(".so.")
            if stem == library and version.split(".")[0].isdigit():
                return int(version.split(".")[0])
        return None


@dataclass(frozen=True)
class Facts:
    """Everything that the findings are made of.

    Attributes:
        packages: installed distributions, name in lower case with hyphens -> version.
        cuda_majors: of the installed TensorRT distributions: name -> the CUDA version that it is for.
        needs: what nddr-deploy asks for.
        machine: `engines.machine.Machine` as a dict.
        providers: "cuda" and "tensorrt", as far as the installed ONNX Runtime has their libraries.
        provider_extras: the installed ONNX Runtime offers its CUDA libraries as the extras [cuda,cudnn].
    """

    python: Python = field(default_factory=Python)
    system: System = field(default_factory=System)
    packages: Mapping[str, str] = field(default_factory=dict)
    cuda_majors: Mapping[str, int] = field(default_factory=dict)
    needs: tuple[Need, ...] = ()
    machine: Answer = field(default_factory=Answer)
    cuda: Answer = field(default_factory=Answer)
    tensorrt: Answer = NOT_INSTALLED
    onnxruntime: Answer = NOT_INSTALLED
    providers: Mapping[str, Provider] = field(default_factory=dict)
    provider_extras: bool = True
    cuda_bindings: Answer = NOT_INSTALLED
    openvino: Answer = NOT_INSTALLED
    torch: Answer = NOT_INSTALLED
    pyav: Answer = NOT_INSTALLED
    opencv: Answer = NOT_INSTALLED
    cameras: tuple[Camera, ...] = ()
