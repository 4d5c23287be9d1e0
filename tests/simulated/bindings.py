"""The real Python modules of TensorRT and CUDA, installed for what they say about themselves, on any machine.

A bindings wheel of TensorRT is about 1 MB and holds every class, method and number of its API, but wants NVIDIA's
libraries when it is loaded. Libraries that define the same names and do nothing satisfy the loader. So each version
gets a folder of its own, which no other Python process sees:

    .venv/tensorrt/11.4.0.106/tensorrt_bindings/     the module
    .venv/tensorrt/11.4.0.106/libraries/             the stand-ins

`python tests/simulated/bindings.py --install` does it once (`make test` calls it); tests install nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(sys.prefix) / "tensorrt"
INSTALL = "python tests/simulated/bindings.py --install"


@dataclass(frozen=True)
class Wheels:
    """One version of a library.

    Attributes:
        version: of the library.
        requirements: what pip is asked for, nothing else comes along.
        pythons: the first and the last one there is a wheel for.
        module: that is imported.
    """

    version: str
    requirements: tuple[str, ...]
    pythons: tuple[tuple[int, int], tuple[int, int]]
    module: str


TENSORRT = (
    Wheels("8.6.1", ("tensorrt-bindings==8.6.1",), ((3, 10), (3, 11)), "tensorrt_bindings"),
    Wheels("10.0.1", ("tensorrt-cu12-bindings==10.0.1",), ((3, 10), (3, 12)), "tensorrt_bindings"),
    Wheels("10.13.3.9", ("tensorrt-cu12-bindings==10.13.3.9",), ((3, 10), (3, 13)), "tensorrt_bindings"),
    Wheels("11.4.0.106", ("tensorrt-cu13-bindings==11.4.0.106",), ((3, 10), (3, 14)), "tensorrt_bindings"),
)
CUDA = (
    Wheels(
        "12.9.10",
        ("cuda-bindings==12.9.10", "cuda-pathfinder==1.8.3"),
        ((3, 10), (3, 14)),
        "cuda.bindings.runtime",
    ),
    Wheels(
        "13.5.0",
        ("cuda-bindings==13.5.0", "cuda-pathfinder==1.8.3"),
        ((3, 11), (3, 14)),
        "cuda.bindings.runtime",
    ),
)
VERSIONS = tuple(wheels.version for wheels in TENSORRT)
CUDA_VERSIONS = tuple(wheels.version for wheels in CUDA)


def find(version: str) -> Wheels:
    """The wheels of a version: `"11.4.0.106"`, or any beginning of it that names one only, as `"11"`."""
    found = [wheels for wheels in (*TENSORRT, *CUDA) if f"{wheels.version}.".startswith(f"{version}.")]
    if len(found) != 1:
        raise ValueError(f"{version!r} names {len(found)} of the versions {', '.join((*VERSIONS, *CUDA_VERSIONS))}")
    return found[0]


def folder(version: str) -> Path:
    return ROOT / find(version).version


def why_absent(version: str) -> str | None:
    """Why a version cannot be asked on this machine, in a sentence for a skipped test; None where it can."""
    wheels = find(version)
    if _complete(wheels):
        return None
    return _never(wheels) or f"the module of {wheels.requirements[0]} is not installed: {INSTALL}"


def environment(version: str) -> dict[str, str]:
    """The variables under which a Python process finds the module and its stand-ins."""
    place = folder(version)
    libraries = [str(place / "libraries"), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {**os.environ, "PYTHONPATH": str(place), "LD_LIBRARY_PATH": os.pathsep.join(libraries)}


def ask(version: str, program: str, *arguments: str) -> str:
    """What a Python program, run with the real module, prints.

    Raises:
        RuntimeError: the program failed; with what it said.
    """
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=environment(version), capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{version}: exit status {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def install(version: str) -> str | None:
    """Install one version, or say why there can be none; quick where it is installed already.

    Raises:
        subprocess.CalledProcessError: pip or gcc failed.
    """
    wheels, place = find(version), folder(version)
    if _complete(wheels):
        return None
    if reason := _never(wheels):
        return reason
    shutil.rmtree(place, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--only-binary=:all:", "--target", str(place), *wheels.requirements], check=True)
    for module in place.glob("tensorrt_bindings/tensorrt*.so"):
        make_stand_ins(module, place / "libraries")
    ask(version, f"import {wheels.module}")
    (place / "complete").write_text(" ".join(wheels.requirements))
    return None


def make_stand_ins(module: Path, target: Path) -> list[str]:
    """Make libraries for the loader: of the names that a module wants, with all functions that no other library has.

    Libraries of the system give their functions versions (`memcpy@GLIBC_2.14`), TensorRT's have none.

    Returns:
        names of the functions, which return a null pointer.
    """
    target.mkdir(parents=True, exist_ok=True)
    symbols = _run("readelf", "--wide", "--dyn-syms", str(module)).splitlines()
    rows = [line.split() for line in symbols]
    functions = [row[7] for row in rows if row[3:4] == ["FUNC"] and row[6] == "UND" and "@" not in row[7]]
    source = target / "stand_in.c"  # the label is the function's name to the linker; C could not spell C++'s own
    source.write_text(
        "".join(
            f'void *f{count}(void) __asm__("{name}");\nvoid *f{count}(void) {{ return 0; }}\n'
            for count, name in enumerate(functions)
        )
    )
    for name in re.findall(r"\(NEEDED\).*\[(libnv[^]]*)\]", _run("readelf", "--wide", "--dynamic", str(module))):
        _run("gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(target / name), str(source))
    return functions


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _complete(wheels: Wheels) -> bool:
    """Whether just these wheels are installed."""
    mark = folder(wheels.version) / "complete"
    return mark.is_file() and mark.read_text() == " ".join(wheels.requirements)


def _never(wheels: Wheels) -> str | None:
    """Why this machine cannot have a version."""
    python, (oldest, newest) = sys.version_info[:2], wheels.pythons
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return f"{wheels.requirements[0]} is asked on Linux x86_64 only; this is {platform.platform()}"
    if not oldest <= python <= newest:
        first, last, here = (".".join(map(str, version)) for version in (oldest, newest, python))
        return f"{wheels.requirements[0]} has wheels for Python {first} to {last}; this is {here}"
    missing = [tool for tool in ("gcc", "readelf") if shutil.which(tool) is None]
    return f"{' and '.join(missing)} not found: apt install gcc binutils" if missing else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--install", action="store_true", help="install what this Python can have; else list")
    options = parser.parse_args()
    for wheels in (*TENSORRT, *CUDA):
        try:
            reason = install(wheels.version) if options.install else why_absent(wheels.version)
        except subprocess.CalledProcessError as error:
            print(f"{wheels.requirements[0]}: could not be installed ({error}).", file=sys.stderr)
            return 1
        print(f"{wheels.requirements[0]}: {reason or folder(wheels.version)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
