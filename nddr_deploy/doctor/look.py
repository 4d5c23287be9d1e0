"""Looking at this machine. Nothing is changed, and nothing that can be found or not makes it raise."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, distributions, requires
from importlib.util import find_spec
from pathlib import Path

from nddr_deploy.doctor.ask import Answer, ask, tidy
from nddr_deploy.doctor.elf import needed
from nddr_deploy.doctor.facts import Camera, Facts, Need, Provider, Python, System

LIBRARIES = ("cuda", "tensorrt", "onnxruntime", "cuda_bindings", "openvino", "torch", "pyav", "opencv")
# Folders of packages from which engines/ort_provider.py loads what the system does not have.
WHEEL_FOLDERS = ("nvidia/*/lib", "tensorrt_libs", "tensorrt")
# Every Linux has these; a provider's other needs are worth a word.
ALWAYS_THERE = re.compile(r"ld-linux.*|lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|cuda)\.so.*")
DISPLAY, NVIDIA = "0x03", "0x10de"  # PCI class and vendor


def look(probe: Callable[..., Answer] = ask) -> Facts:
    """All facts of this machine, in as long as the slowest library takes to import."""
    with ThreadPoolExecutor(max_workers=len(LIBRARIES) + 2) as pool:
        asked = {name: pool.submit(probe, name) for name in LIBRARIES}
        providers = pool.submit(_providers, probe)
        cameras = pool.submit(_cameras, probe)
        packages = _packages()
        return Facts(
            python=_python(),
            system=look_at_system(),
            packages=packages,
            cuda_majors=_cuda_majors(packages),
            needs=_needs(),
            machine=_machine(),
            providers=providers.result(),
            provider_extras=_offers("onnxruntime-gpu", "cudnn"),
            cameras=cameras.result(),
            **{name: answer.result() for name, answer in asked.items()},
        )


def look_at_system(root: Path = Path("/")) -> System:
    """What the files of the operating system show.

    Args:
        root: where they lie; another folder in tests.
    """
    release = _text(root / "proc/sys/kernel/osrelease")
    return System(
        container=any((root / name).exists() for name in (".dockerenv", "run/.containerenv"))
        or bool(re.search(r"docker|kubepods|containerd|lxc", _text(root / "proc/1/cgroup"))),
        wsl="microsoft" in release.lower(),
        tegra=_text(root / "etc/nv_tegra_release").split("\n")[0],
        nvidia_on_bus=sum(
            _text(device / "vendor").strip() == NVIDIA and _text(device / "class").startswith(DISPLAY)
            for device in _sorted(root, "sys/bus/pci/devices/*")
        ),
        kernel_driver=driver_version(_text(root / "proc/driver/nvidia/version"))
        or _text(root / "sys/module/nvidia/version").strip(),
        nvidia_devices=sum(path.name[6:].isdigit() for path in _sorted(root, "dev/nvidia*")),
        hidden_by=os.environ.get("CUDA_VISIBLE_DEVICES"),
        free_bytes=_disk(Path.cwd(), free=True),
        shm_bytes=_disk(root / "dev/shm", free=False),
        tensorrt_in=_tensorrt_in(root),
    )


def driver_version(text: str) -> str:
    """`NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat ...` -> "535.104.05"; "" where it says none."""
    found = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\d+(?:\.\d+)+)", text)
    return found.group(1) if found else ""


def parse_need(requirement: str) -> Need | None:
    """`onnxruntime>=1.17; extra == "cpu"` -> Need("onnxruntime", "1.17", "cpu"); None for what is none of ours."""
    what, _, condition = requirement.partition(";")
    found = re.match(r"\s*([\w.-]+)\s*(?:\[[^]]*\])?\s*\(?\s*(?:>=\s*([\w.]+))?", what)
    if found is None:
        return None
    extra = re.search(r"""extra\s*==\s*['"]([\w-]+)['"]""", condition)
    return Need(plain_name(found.group(1)), found.group(2) or "", extra.group(1) if extra else "")


def plain_name(distribution: str) -> str:
    """The spelling under which names of distributions are the same."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _python() -> Python:
    environment = sys.prefix != sys.base_prefix
    settings = _text(Path(sys.prefix) / "pyvenv.cfg").lower()
    sees = not environment or bool(re.search(r"include-system-site-packages\s*=\s*true", settings))
    major, minor, micro = sys.version_info[:3]
    return Python((major, minor, micro), environment, sees)


def _machine() -> Answer:
    try:
        from nddr_deploy.engines.machine import describe_machine

        return Answer(values=describe_machine().to_dict())
    except Exception as error:  # psutil is missing, or cannot read this system
        return Answer(problem=tidy(f"{type(error).__name__}: {error}"))


def _packages() -> dict[str, str]:
    found: dict[str, str] = {}
    for distribution in distributions():
        try:
            name, version = plain_name(distribution.metadata["Name"]), distribution.version
        except Exception:  # noqa: S112  a folder that an interrupted pip left
            continue
        found.setdefault(name, version)  # the first on the path is what gets imported
    return found


def _cuda_majors(packages: Mapping[str, str]) -> dict[str, int]:
    """TensorRT's distributions carry it in their names, as in tensorrt-cu13-libs; 8.6's in the names of their needs."""
    found = {}
    for name in packages:
        if not name.startswith("tensorrt"):
            continue
        texts = [name, *_requires(name)]
        majors = [int(major) for text in texts for major in re.findall(r"[-_]cu(\d\d)", text)]
        if majors:
            found[name] = majors[0]
    return found


def _needs() -> tuple[Need, ...]:
    needs = [parse_need(text) for text in _requires("nddr-deploy")]
    return tuple(need for need in needs if need is not None and need.extra != "dev")


def _requires(distribution: str) -> list[str]:
    try:
        return requires(distribution) or []
    except PackageNotFoundError:
        return []


def _offers(distribution: str, extra: str) -> bool:
    return any(f'extra == "{extra}"' in text or f"extra == '{extra}'" in text for text in _requires(distribution))


def _providers(probe: Callable[..., Answer]) -> dict[str, Provider]:
    """What ONNX Runtime's provider libraries need, and what of it is here."""
    try:
        spec = find_spec("onnxruntime")
        folder = Path(spec.origin or "").parent / "capi" if spec else Path("/nonexistent")
    except (ImportError, ValueError):
        return {}
    found = {}
    for name in ("cuda", "tensorrt"):
        library = folder / f"libonnxruntime_providers_{name}.so"
        if library.is_file():
            found[name] = _provider(library, probe)
    return found


def _provider(library: Path, probe: Callable[..., Answer]) -> Provider:
    try:
        names = [name for name in needed(library) if not ALWAYS_THERE.fullmatch(name)]
    except (OSError, ValueError) as error:
        return Provider(problem=str(error))
    loaded = probe("libraries", *names)
    packages = library.parent.parent.parent
    return Provider({name: "loader" if loaded.get(name) else _in_wheels(name, packages) for name in names})


def _in_wheels(library: str, packages: Path) -> str:
    return "wheel" if any(next(packages.glob(f"{folder}/{library}"), None) for folder in WHEEL_FOLDERS) else ""


def _cameras(probe: Callable[..., Answer]) -> tuple[Camera, ...]:
    found = []
    for path in sorted(_sorted(Path("/"), "dev/video*"), key=lambda path: (len(path.name), path.name)):
        allowed = os.access(path, os.R_OK | os.W_OK)
        name = _text(Path("/sys/class/video4linux") / path.name / "name").strip() or "unnamed"
        found.append(Camera(str(path), name, allowed, probe("camera", str(path)) if allowed else Answer()))
    return tuple(found)


def _tensorrt_in(root: Path) -> tuple[str, ...]:
    """Where apt puts TensorRT: /usr/lib/python3.10/dist-packages/tensorrt, on Debian also without the minor version."""
    found = {
        path.parent.parent.name.removeprefix("python")
        for pattern in ("usr/lib/python3*/dist-packages/tensorrt", "usr/local/lib/python3*/dist-packages/tensorrt")
        for path in _sorted(root, pattern)
    }
    return tuple(sorted(found))


def _sorted(root: Path, pattern: str) -> list[Path]:
    try:
        return sorted(root.glob(pattern))
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (OSError, ValueError):
        return ""


def _disk(folder: Path, *, free: bool) -> int | None:
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free if free else usage.total
