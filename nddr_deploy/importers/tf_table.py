"""The table in a TensorFlow `.index` file, which is LevelDB's, and the protobuf messages that are its values.

Every number is checked against what the file holds before it is used. A ValueError says what is wrong, as the end of a
sentence; who knows the file's name makes the sentence.

Source: the documentation of LevelDB's table format, and of the protobuf wire format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from nddr_deploy import optional

FOOTER, MAGIC = 48, 0xDB4775248B80FB57
TRAILER = 5  # behind a block: how it is compressed (1 byte), checksum (4)
MOST_KEYS, LONGEST_KEY = 50_000, 1024  # keys share prefixes, so a small file could hold very many long ones


class Cursor:
    """Reads bytes from front to back."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def __bool__(self) -> bool:
        """Whether anything is left."""
        return self.at < len(self.data)

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise ValueError(f"{count} bytes are announced where {len(self.data) - self.at} are left")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        """An unsigned number of at most 64 bits, 7 to a byte, low ones first."""
        number = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80 and number < 1 << 64:
                return number
        raise ValueError("a number has more than 64 bits")


class Message:
    """A protobuf message: numbers and parts by field. What is absent is 0, as the format has it."""

    def __init__(self, data: bytes) -> None:
        self._numbers: dict[int, int] = {}
        self._parts: dict[int, list[bytes]] = {}
        cursor = Cursor(data)
        while cursor:
            field, kind = divmod(cursor.varint(), 8)
            if kind == 0:
                self._numbers[field] = cursor.varint()
            elif kind == 2:
                self._parts.setdefault(field, []).append(cursor.take(cursor.varint()))
            elif kind in (1, 5):
                self._numbers[field] = int.from_bytes(cursor.take(8 if kind == 1 else 4), "little")
            else:
                raise ValueError(f"a message has a field of the unknown kind {kind}")

    def number(self, field: int) -> int:
        return self._numbers.get(field, 0)

    def parts(self, field: int) -> list[Message]:
        return [Message(part) for part in self._parts.get(field, ())]


def masked_crc32c(data: Any) -> int:
    """The checksum that TensorFlow stores: CRC-32C, turned and shifted so that it may itself lie in checked data.

    Args:
        data: bytes, or a contiguous array that cannot be written to.
    """
    crc = optional.load("google_crc32c:value", extra="train")(data)
    return int((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def table_entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All keys and values of a table, by ascending key.

    Raises:
        ValueError: it is no table, or not a whole one. Only what has been read to the end is known to be whole.
    """
    if len(data) < FOOTER:
        raise ValueError(f"it has {len(data)} bytes, fewer than a footer's {FOOTER}")
    if (found := int.from_bytes(data[-8:], "little")) != MAGIC:
        raise ValueError(f"it ends with {found:#018x} instead of {MAGIC:#018x}")
    handles = Cursor(data[-FOOTER:-8])
    for _ in _block_entries(_block(data, handles)):  # what others store about a table: TensorFlow stores nothing
        pass
    last, count = None, 0
    for _, handle in _block_entries(_block(data, handles)):
        for key, value in _block_entries(_block(data, Cursor(handle))):
            if last is not None and key <= last:
                raise ValueError(f"its key {key!r} comes after {last!r}")
            if count == MOST_KEYS:
                raise ValueError(f"it has more than {MOST_KEYS} keys")
            last, count = key, count + 1
            yield key, value


def _block(data: bytes, handle: Cursor) -> bytes:
    """The block that a handle points to, without its trailer."""
    offset, size = handle.varint(), handle.varint()
    if offset + size + TRAILER > len(data) - FOOTER:
        raise ValueError(f"a block of {size} bytes is announced at byte {offset} of {len(data)}")
    end = offset + size
    if masked_crc32c(data[offset : end + 1]) != int.from_bytes(data[end + 1 : end + TRAILER], "little"):
        raise ValueError(f"the checksum of its block at byte {offset} is wrong")
    if data[end] != 0:
        raise ValueError(f"its block at byte {offset} is compressed (type {data[end]}), which TensorFlow's are not")
    return data[offset:end]


def _block_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Entries of one block. At its end are the restarts: where an entry is that shares nothing with the one before."""
    count = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (count + 1)
    if count == 0 or end < 0:
        raise ValueError(f"a block of {len(block)} bytes announces {count} restarts")
    restarts = (offset for (offset,) in struct.iter_unpack("<I", block[end:-4]))
    if next(restarts) != 0:
        raise ValueError("the first restart of a block is not its beginning")
    restart = next(restarts, None)
    cursor = Cursor(block[:end])
    key = b""
    while cursor:
        if cursor.at == restart:
            key, restart = b"", next(restarts, None)
        shared, fresh, size = cursor.varint(), cursor.varint(), cursor.varint()
        if shared > len(key) or shared + fresh > LONGEST_KEY:
            raise ValueError(f"a key of {shared} + {fresh} bytes is announced after one of {len(key)}")
        key = key[:shared] + cursor.take(fresh)
        yield key, cursor.take(size)
    if restart is not None:
        raise ValueError(f"a block has a restart at byte {restart}, where no entry begins")
