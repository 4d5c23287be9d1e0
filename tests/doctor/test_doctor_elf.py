"""What a shared library needs, read without loading it."""

from __future__ import annotations

import struct
import sys
from contextlib import suppress
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from nddr_deploy.doctor.ask import Answer
from nddr_deploy.doctor.elf import needed
from nddr_deploy.doctor.look import _provider


def library(path: Path, *names: str) -> Path:
    """The smallest file that says what it needs: a header, two segments, the dynamic section and its names."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in names)
    dynamic_at, base = 64 + 2 * 56, 0x1000
    entries, offset = [], 1
    for name in names:
        entries.append((1, offset))  # DT_NEEDED
        offset += len(name) + 1
    size = 16 * (len(entries) + 2)
    entries += [(5, base + dynamic_at + size), (0, 0)]  # DT_STRTAB, DT_NULL
    dynamic = b"".join(struct.pack("<qQ", *entry) for entry in entries)
    whole = dynamic_at + size + len(strings)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, whole, whole, 4096)
    section = struct.pack("<IIQQQQQQ", 2, 6, dynamic_at, base + dynamic_at, base + dynamic_at, size, size, 8)
    path.write_bytes(header + load + section + dynamic + strings)
    return path


def test_the_needs_of_a_library_are_read_in_their_order(tmp_path: Path) -> None:
    path = library(tmp_path / "libx.so", "libnvinfer.so.10", "libcudart.so.13")

    assert needed(path) == ("libnvinfer.so.10", "libcudart.so.13")


@pytest.mark.skipif(sys.platform != "linux", reason="reads a Linux library")
def test_a_real_library_needs_the_c_library() -> None:
    import numpy

    [path, *_] = Path(numpy.__file__).parent.glob(f"_core/_multiarray_umath*{EXTENSION_SUFFIXES[0]}")

    assert any(name.startswith("libc.") for name in needed(path))


def test_every_shortened_library_is_refused_or_read_but_never_crashes(tmp_path: Path) -> None:
    whole = library(tmp_path / "libx.so", "libnvinfer.so.10").read_bytes()
    path = tmp_path / "short.so"

    for size in range(len(whole) - 1):  # without its last byte, the end of the last name, it can still be read
        path.write_bytes(whole[:size])
        with suppress(ValueError):
            assert needed(path) != ("libnvinfer.so.10",)


def test_a_providers_libraries_are_looked_for_at_the_loader_and_in_the_packages_beside_it(tmp_path: Path) -> None:
    capi = tmp_path / "onnxruntime/capi"
    capi.mkdir(parents=True)
    path = library(
        capi / "libonnxruntime_providers_tensorrt.so",
        "libc.so.6", "libcudart.so.13", "libcudnn.so.9", "libnvinfer.so.10", "libcublas.so.13",
    )  # fmt: skip
    for wheel in (
        "nvidia/cudnn/lib/libcudnn.so.9",
        "nvidia/cu13/lib/libcublas.so.13",
        "tensorrt_libs/libnvinfer.so.11",
    ):
        (tmp_path / wheel).parent.mkdir(parents=True)
        (tmp_path / wheel).touch()

    provider = _provider(path, lambda name, *libraries: Answer({lib: lib == "libcudart.so.13" for lib in libraries}))

    assert provider.needs == {
        "libcudart.so.13": "loader", "libcudnn.so.9": "wheel", "libnvinfer.so.10": "", "libcublas.so.13": "wheel",
    }  # fmt: skip
    assert provider.lacking() == ["libnvinfer.so.10"]
    assert provider.major("libnvinfer") == 10
