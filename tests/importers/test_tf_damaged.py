"""Damaged and hostile TensorFlow checkpoints: one sentence, nothing large allocated, never other values."""

from __future__ import annotations

from pathlib import Path

import pytest
from tf_variables import SOME, equal, read_all, refused
from tf_writer import entry, header, masked_crc32c, part, table, table_of_blocks, varint
from tf_writer import write_tf_checkpoint as write

from nddr_deploy.errors import ModelFileError

NAME = "model.ckpt-1"
DATA = bytes(64)
ZEROS = entry((3,), size=12, crc=masked_crc32c(bytes(12)))


def index_of(value: bytes, name: bytes = b"fc/biases") -> bytes:
    """A table with one variable."""
    return table([(b"", header(1)), (name, value)])


def write_index(folder: Path, index: bytes) -> Path:
    (folder / f"{NAME}.data-00000-of-00001").write_bytes(DATA)
    (folder / f"{NAME}.index").write_bytes(index)
    return folder / f"{NAME}.index"


def test_a_changed_byte_of_the_index_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / NAME, SOME, shards=2, block_bytes=60)
    file = tmp_path / f"{NAME}.index"
    whole = file.read_bytes()
    harmless = set()
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        try:
            assert equal(read_all(file), SOME)
            harmless.add(at)
        except ModelFileError:
            pass

    assert min(harmless) >= len(whole) - 48  # the padding of the footer, which has no checksum


def test_a_changed_byte_of_the_data_is_refused(tmp_path: Path) -> None:
    write(tmp_path / NAME, SOME)
    file = tmp_path / f"{NAME}.data-00000-of-00001"
    whole = file.read_bytes()
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        with pytest.raises(ModelFileError, match=rf"{file.name} is damaged.* the checksum of '\S+' is wrong"):
            read_all(tmp_path)


def test_a_truncated_index_is_refused(tmp_path: Path) -> None:
    write(tmp_path / NAME, SOME, block_bytes=60)
    file = tmp_path / f"{NAME}.index"
    whole = file.read_bytes()
    for length in range(0, len(whole), 3):
        file.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match=f"{file.name} is no TensorFlow index, or a damaged one"):
            read_all(file)


def test_truncated_data_is_refused(tmp_path: Path) -> None:
    write(tmp_path / NAME, SOME)
    file = tmp_path / f"{NAME}.data-00000-of-00001"
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match=rf"{file.name} has {length} bytes, but '\S+' is .*truncated"):
            read_all(tmp_path)


def test_the_data_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    write(tmp_path / NAME, SOME)
    write(tmp_path / "other", {name: values + 1 for name, values in SOME.items()})
    (tmp_path / "other.data-00000-of-00001").replace(tmp_path / f"{NAME}.data-00000-of-00001")

    refused(tmp_path / NAME, "belongs to another index", "'conv/weights'")


def test_the_entries_below_are_right_but_for_what_is_changed(tmp_path: Path) -> None:
    assert read_all(write_index(tmp_path, index_of(ZEROS)))["fc/biases"].tolist() == [0, 0, 0]


def test_a_compressed_block_is_refused(tmp_path: Path) -> None:
    index = table([(b"", header(1)), (b"fc/biases", ZEROS)], compression=1)

    refused(write_index(tmp_path, index), "is compressed (type 1)")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (entry((3,), size=16), "shape (3,) of float32 is not the 16 bytes"),
        (entry((1 << 40,), size=1 << 42), f"holds more than the {1 << 31} bytes"),
        (entry((0, 1 << 62), size=0), f"holds more than the {1 << 31} bytes"),
        (entry(((1 << 64) - 1,), size=(1 << 64) - 4), f"holds more than the {1 << 31} bytes"),  # -1
        (entry([1] * 33, size=4), "33 dimensions"),
        (entry((1 << 28,), size=1 << 30), "has 64 bytes"),
        (entry((3,), size=12, offset=53), "has 64 bytes, but 'fc/biases' is 12 bytes from 53 on"),
        (entry((3,), size=12, offset=(1 << 64) - 1), "has 64 bytes"),
        (entry((3,), size=12, shard=1), "data file 1 of 1"),
        (entry((3,), size=12, crc=1), "checksum of 'fc/biases'"),
        (entry((3,), size=12, dtype=14), "bfloat16"),
        (entry((3,), size=12, dtype=77), "type 77"),
        (b"", "type 0"),
        (ZEROS[:-1], "are left"),
        (ZEROS + varint(7 << 3 | 3), "unknown kind 3"),
        (ZEROS + b"\x38" + b"\xff" * 10, "more than 64 bits"),
        (ZEROS + b"\x38" + b"\xff" * 9 + b"\x02", "more than 64 bits"),
        (ZEROS + varint(7 << 3 | 2) + varint(1 << 60), "are announced"),
        (ZEROS + part(7, b""), "partitioned"),
    ],
)
def test_an_entry_with_right_checksums_but_wrong_numbers_is_refused(tmp_path: Path, value: bytes, words: str) -> None:
    refused(write_index(tmp_path, index_of(value)), "fc/biases", words)


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (header(0), "no data file"),
        (header(1 << 40), "00000-of-1099511627776 is missing"),
        (header(1, big_endian=1), "big-endian"),
        (header(1, reader_version=2), "version 2"),
        (b"\x0f", "unknown kind 7"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path: Path, first: bytes, words: str) -> None:
    refused(write_index(tmp_path, table([(b"", first), (b"fc/biases", ZEROS)])), words)


def test_a_table_without_header_or_entries_is_refused(tmp_path: Path) -> None:
    refused(write_index(tmp_path, table([(b"fc/biases", ZEROS)])), "no header")
    refused(write_index(tmp_path, table_of_blocks([])), "empty")


def whole_block(content: bytes, *restarts: int) -> bytes:
    return content + b"".join(number.to_bytes(4, "little") for number in (*restarts, len(restarts)))


FIRST = varint(0) + varint(0) + varint(len(header(1))) + header(1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "a block of 0 bytes"),
        (b"\1\0\0", "a block of 3 bytes"),
        (whole_block(FIRST), "announces 0 restarts"),
        (FIRST + b"\xff\xff\xff\xff", f"announces {(1 << 32) - 1} restarts"),
        (whole_block(FIRST, 1), "first restart"),
        (whole_block(FIRST, 0, 1), "restart at byte 1"),
        (whole_block(FIRST, 0, len(FIRST)), f"restart at byte {len(FIRST)}"),
        (whole_block(FIRST + b"\1\1\0a", 0), "1 + 1 bytes is announced after one of 0"),
        (whole_block(FIRST + b"\0\1\0a" + b"\1\1\0b", 0, len(FIRST) + 4), "1 + 1 bytes is announced after one of 0"),
        (whole_block(FIRST + b"\0\x81\x08\0" + b"a" * 1025, 0), "0 + 1025 bytes"),
        (whole_block(FIRST + b"\0\2\0a", 0), "2 bytes are announced where 1 are left"),
        (whole_block(FIRST + b"\0\1" + varint(1 << 40) + b"a", 0), f"{1 << 40} bytes are announced"),
        (whole_block(FIRST + b"\xff" * 11, 0), "more than 64 bits"),
    ],
)
def test_a_block_with_a_right_checksum_but_wrong_numbers_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    refused(write_index(tmp_path, table_of_blocks([(b"z", content)])), words)


@pytest.mark.parametrize("second", [b"a", b"b"])
def test_names_out_of_order_or_twice_are_refused(tmp_path: Path, second: bytes) -> None:
    refused(write_index(tmp_path, table([(b"", header(1)), (b"b", ZEROS), (second, ZEROS)], 1)), f"{second!r}")


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    refused(write_index(tmp_path, index_of(ZEROS, b"\xff\xfe")), "can't decode")


def test_a_footer_that_points_outside_is_refused(tmp_path: Path) -> None:
    whole = table([(b"", header(1))])
    handles = varint(1 << 62) + varint(1) + varint(0) + varint(1)

    refused(
        write_index(tmp_path, whole[:-48] + handles.ljust(40, b"\0") + whole[-8:]),
        f"a block of 1 bytes is announced at byte {1 << 62} of {len(whole)}",
    )


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    refused(write_index(tmp_path, b"PK\3\4" * 100), "instead of 0xdb4775248b80fb57")
    refused(write_index(tmp_path, b""), "0 bytes")


def test_a_huge_index_is_not_read(tmp_path: Path) -> None:
    file = write_index(tmp_path, b"")
    with open(file, "r+b") as sparse:
        sparse.truncate(1 << 40)

    refused(file, "more than 4194304 bytes")


def test_very_many_names_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nddr_deploy.importers.tf_table.MOST_KEYS", 100)
    names = (b"a" * 1000 + f"{number:03}".encode() for number in range(100))  # shared, so that the file is small

    index = table([(b"", header(1)), *((name, ZEROS) for name in names)])

    refused(write_index(tmp_path, index), "more than 100 keys")
