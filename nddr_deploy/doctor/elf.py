"""Which shared libraries a shared library needs, read from the file: nothing is loaded."""

from __future__ import annotations

import struct
from pathlib import Path

# From elf.h
PT_LOAD, PT_DYNAMIC = 1, 2
DT_NULL, DT_NEEDED, DT_STRTAB = 0, 1, 5
MOST_ENTRIES = 4096  # of the dynamic section; more is no library


def needed(path: Path) -> tuple[str, ...]:
    """The DT_NEEDED names of a 64-bit little-endian ELF file, as ("libcudart.so.13", ...).

    Raises:
        ValueError: it is no such file, or damaged.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        header = file.read(64)
        if len(header) < 64 or header[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{path.name} is no 64-bit ELF library")
        try:
            start, size, count = (
                struct.unpack_from("<Q", header, 32)[0],
                struct.unpack_from("<H", header, 54)[0],
                struct.unpack_from("<H", header, 56)[0],
            )
            file.seek(start)
            table = file.read(size * count)
            # type, flags, offset, address, physical address, size in the file, ...
            segments = [struct.unpack_from("<IIQQQQ", table, index * size) for index in range(count)]
            dynamic = next(segment for segment in segments if segment[0] == PT_DYNAMIC)
            file.seek(dynamic[2])
            entries = _entries(file.read(min(dynamic[5], 16 * MOST_ENTRIES)))
            address = next(value for tag, value in entries if tag == DT_STRTAB)
            home = next(
                segment
                for segment in segments
                if segment[0] == PT_LOAD and segment[3] <= address < segment[3] + segment[5]
            )
            strings = home[2] + address - home[3]
            names = []
            for tag, value in entries:
                if tag == DT_NEEDED:
                    file.seek(strings + value)
                    names.append(file.read(256).split(b"\0")[0].decode())
        except (struct.error, StopIteration, UnicodeDecodeError) as error:
            raise ValueError(f"{path.name} is damaged") from error
    return tuple(names)


def _entries(section: bytes) -> list[tuple[int, int]]:
    found = []
    for offset in range(0, len(section) - 15, 16):
        tag, value = struct.unpack_from("<qQ", section, offset)
        if tag == DT_NULL:
            break
        found.append((tag, value))
    return found
