"""TensorFlow's V2 checkpoint format without TensorFlow: blocks, restarts and shared prefixes as it writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

MAGIC = bytes.fromhex("57fb808b247547db")
RESTART_INTERVAL = 16
Entries = Iterable[tuple[bytes, bytes]]


def write_tf_checkpoint(
    prefix: Path, variables: Mapping[str, np.ndarray[Any, Any]], *, shards: int = 1, block_bytes: int = 2048
) -> None:
    """Write `PREFIX.index` and `PREFIX.data-*`; float32 variables by name, dealt out to the data files in turn.

    Args:
        block_bytes: about how large a block of the index becomes. TensorFlow's own are of 256 KiB.
    """
    data = [bytearray() for _ in range(shards)]
    entries = [(b"", header(shards))]
    for number, (name, values) in enumerate(sorted(variables.items(), key=lambda item: item[0].encode())):
        raw = np.ascontiguousarray(values, "<f4").tobytes()
        shard = number % shards
        place = {"shard": shard, "offset": len(data[shard]), "size": len(raw), "crc": masked_crc32c(raw)}
        entries.append((name.encode(), entry(values.shape, **place)))
        data[shard] += raw
    Path(f"{prefix}.index").write_bytes(table(entries, block_bytes))
    for shard, content in enumerate(data):
        Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}").write_bytes(content)


def table(entries: Entries, block_bytes: int = 2048, *, compression: int = 0) -> bytes:
    """A whole `.index` file."""
    groups: list[list[tuple[bytes, bytes]]] = [[]]
    for key, value in entries:
        if sum(len(key) + len(value) for key, value in groups[-1]) >= block_bytes:
            groups.append([])
        groups[-1].append((key, value))
    return table_of_blocks([(group[-1][0], block(group)) for group in groups], compression=compression)


def table_of_blocks(blocks: Iterable[tuple[bytes, bytes]], *, compression: int = 0) -> bytes:
    """A whole `.index` file of blocks as they are, each with its last key."""
    content = bytearray()

    def add(block: bytes) -> bytes:
        """Append a block, and return its handle."""
        handle = varint(len(content)) + varint(len(block))
        stored = block + bytes([compression])
        content.extend(stored + masked_crc32c(stored).to_bytes(4, "little"))
        return handle

    index = [(last, add(block)) for last, block in blocks]
    handles = add(block([])) + add(block(index, restart_interval=1))
    return bytes(content + handles.ljust(40, b"\0") + MAGIC)


def block(entries: Entries, *, restart_interval: int = RESTART_INTERVAL) -> bytes:
    content, last, restarts = bytearray(), b"", [0]
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % restart_interval:
            shared = next(
                (n for n, (a, b) in enumerate(zip(key, last, strict=False)) if a != b), min(len(key), len(last))
            )
        elif number:
            restarts.append(len(content))
        content += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return bytes(content) + b"".join(n.to_bytes(4, "little") for n in [*restarts, len(restarts)])


def header(shards: int, *, big_endian: int = 0, reader_version: int = 0) -> bytes:
    return numbers({1: shards, 2: big_endian}) + part(3, numbers({1: 1, 2: reader_version}))


def entry(
    shape: Sequence[int], *, shard: int = 0, offset: int = 0, size: int = 0, crc: int = 0, dtype: int = 1
) -> bytes:
    sides = b"".join(part(2, numbers({1: side})) for side in shape)
    checksum = varint(6 << 3 | 5) + crc.to_bytes(4, "little")
    return numbers({1: dtype}) + part(2, sides) + numbers({3: shard, 4: offset, 5: size}) + checksum


def numbers(fields: Mapping[int, int]) -> bytes:
    """Protobuf fields that are varints; those that are 0 are left out."""
    return b"".join(varint(field << 3) + varint(value) for field, value in fields.items() if value)


def part(field: int, content: bytes) -> bytes:
    """A protobuf field that is a message of its own."""
    return varint(field << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    low = []
    while number >= 0x80:
        low.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*low, number])


def masked_crc32c(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % (1 << 32)
