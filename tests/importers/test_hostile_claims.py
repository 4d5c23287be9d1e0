"""PyTorch files that claim more than they hold: one sentence, and no memory for what is not there.

Each is read twice: for its sentence, and with all others in one process whose memory is measured.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from foreign_files import cfg_node, save
from hostile_files import (
    CONFIG,
    CONTAINERS,
    FOUR,
    Write,
    call,
    dictionary,
    integer,
    legacy_file,
    name,
    refused,
    saved,
    storage,
    tensor,
    text,
    zip_file,
)


def zip_bomb(path: Path) -> Path:
    return zip_file(path, dictionary("a", tensor(storage(2**26), (2**26,), (1,))), bytes(2**28), compress=True)


def pickle_bomb(path: Path) -> Path:
    return zip_file(path, b"]" * 2**23 + b"0" * (2**23 - 1))


def lying_sizes(path: Path) -> Path:
    """One record that says it spans the rest of the file, as overlapping ones do."""
    zip_file(path, dictionary("a", tensor(storage(4), (4,), (1,))), FOUR, {"archive/data/1": bytes(2**16)})
    whole = bytearray(path.read_bytes())
    entry = whole.index(b"PK\x01\x02", whole.index(b"PK\x01\x02") + 1)
    whole[entry + 20 : entry + 28] = struct.pack("<2L", 2**16, 2**16)
    path.write_bytes(bytes(whole))
    return path


def two_lists_of_records(path: Path) -> Path:
    """Where Python looks there are harmless records, where PyTorch looks there are others."""
    harmless = zip_file(path, dictionary("a", b"N")).read_bytes()
    other = zip_file(path, dictionary("a", b"N"), bytes(2**24), compress=True).read_bytes()
    path.write_bytes(other + harmless)
    return path


def doubled_key(path: Path) -> Path:
    """One record under two names, which only PyTorch takes for one."""
    views = (tensor(storage(4, key), (4,), (1,)) for key in ("a", "A"))
    return zip_file(path, b"(" + b"".join(views) + b"l", FOUR, {"archive/data/a": FOUR, "archive/data/A": FOUR})


def hex_of_hex(path: Path) -> Path:
    value = text("a" * 1000)
    for _ in range(30):
        value = call(name("_codecs", "encode"), value, text("hex"))
    return zip_file(path, value)


def copies(path: Path, function: bytes) -> Path:
    """One long list, copied by every few bytes of the file."""
    items = b"(" + b"".join(text(f"{number:04}") for number in range(5000)) + b"l" + b"q\x00"
    return zip_file(path, b"(" + items + (function + b"h\x00\x85R") * 5000 + b"l")


def grown_tensor(path: Path, write: Write = legacy_file) -> Path:
    """A tensor that takes a larger shape as its state, for which PyTorch would make its storage larger."""
    state = b"(" + storage(4, legacy=write is legacy_file) + integer(0) + b"(" + integer(2**33) + b"t(K\x01tt"
    return write(path, tensor(storage(4, legacy=write is legacy_file), (4,), (1,)) + state + b"b")


BOMBS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "zip bomb": (zip_bomb, "is compressed"),
    "pickle bomb": (pickle_bomb, "bytes of its pickle are no tensors"),
    "lying sizes": (lying_sizes, "claim more bytes than the file has"),
    "two lists": (two_lists_of_records, "list of records is not at its end"),
    "doubled key": (doubled_key, "two of its records have one name"),
    "storage zip": (lambda path: zip_file(path, storage(2**50), FOUR), "its storage '0' claims 4503599627370496 bytes"),
    "storage legacy": (lambda path: legacy_file(path, storage(2**50, legacy=True)), "but the file has"),
    "large storage zip": (lambda path: zip_file(path, storage(2**31), FOUR), "its storage '0' claims"),
    "large storage legacy": (
        lambda path: legacy_file(path, storage(2**31, legacy=True), FOUR, ("0",)),
        "storages claim",
    ),
    "longer storage": (lambda path: zip_file(path, tensor(storage(5), (5,), (1,)), FOUR), "claims 20 bytes"),
    "two sizes": (lambda path: zip_file(path, b"(" + storage(4) + storage(5) + b"l", FOUR), "has two sizes"),
    "negative storage": (lambda path: zip_file(path, storage(-4), FOUR), "no size"),
    "grown tensor legacy": (grown_tensor, "takes another shape"),
    "grown tensor zip": (lambda path: grown_tensor(path, zip_file), "takes another shape"),
    "long memo": (lambda path: zip_file(path, b"Nr" + struct.pack("<I", 2**31)), "memo has the index"),
    "long text": (lambda path: zip_file(path, b"\x8d" + struct.pack("<Q", 2**40)), "cannot be read"),
    "long bytes": (lambda path: zip_file(path, b"\x96" + struct.pack("<Q", 2**36)), "cannot be read"),
    "hex of hex": (hex_of_hex, "copies its values"),
    "copied sets": (lambda path: copies(path, name("builtins", "set")), "its values again and again"),
    "copied dicts": (lambda path: copies(path, name("collections", "OrderedDict")), "its values again and again"),
    "deep lists": (lambda path: zip_file(path, b"]" * 100000 + b"a" * 99999), "nested deeper than 100"),
    "deep dicts": (lambda path: zip_file(path, (b"}" + text("a")) * 9999 + b"N" + b"s" * 9999), "nested deeper"),
    "deep tuples": (lambda path: zip_file(path, b")" + b"\x85" * 100000), "nested deeper than 100"),
    "deep key": (lambda path: zip_file(path, b"})" + b"\x85" * 3_000_000 + b"Ns"), "nested deeper than 1000"),
    "deep key of OrderedDict": (
        lambda path: zip_file(path, call(name("collections", "OrderedDict")) + b")" + b"\x85" * 3_000_000 + b"Ns"),
        "nested deeper than 1000",
    ),
    "deep item of a set": (
        lambda path: zip_file(path, call(name("builtins", "set"), b"](" + b")" + b"\x85" * 3_000_000 + b"e")),
        "nested deeper than 1000",
    ),
    "pair of pairs": (lambda path: zip_file(path, b"}N\x85" + b"2\x86" * 60 + b"Ns"), "repeats its values"),
    "expanded plain": (lambda path: zip_file(path, tensor(storage(4), (2**40,), (0,)), FOUR), "holds fewer values"),
    "expanded twice": (lambda path: zip_file(path, tensor(storage(4), (2**9, 4), (0, 1)), FOUR), "holds fewer values"),
}


@pytest.mark.parametrize(("bomb", "found"), BOMBS.values(), ids=BOMBS)
def test_a_claim_of_more_than_the_file_holds_is_refused(
    tmp_path: Path, bomb: Callable[[Path], Path], found: str
) -> None:
    assert found in refused(bomb(tmp_path / "a.pth"))


READ_ALL = """
import sys
from nddr_deploy.benchmark.memory import peak_bytes
from nddr_deploy.errors import ModelFileError
from nddr_deploy.importers.torch_file import read_foreign_file
before = 0
for file in sys.argv[1:]:
    try:
        read_foreign_file(file)
        before = before or peak_bytes()  # the first file is a small one, whose reading imports what is needed
    except ModelFileError:
        print("refused")
print((peak_bytes() - before) / 2**20)
"""


def read_all(folder: Path, files: list[Path]) -> tuple[float, int]:
    """Read files in a process of their own: MiB at its peak, above what it held before, and how many were refused."""
    small = folder / "small.pt"
    small.write_bytes(saved({"a": torch.ones(2)}))
    command = [sys.executable, "-c", READ_ALL, *map(str, [small, *files])]
    *refusals, grown = subprocess.check_output(command, text=True, timeout=120).split()
    return float(grown), len(refusals)


def test_no_claim_takes_memory(tmp_path: Path) -> None:
    files = [bomb(tmp_path / f"{label}.pth") for label, (bomb, _) in BOMBS.items()]

    grown, refusals = read_all(tmp_path, files)

    assert refusals == len(files)
    assert grown < 64  # MiB; measured: 10


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_file_takes_its_size_in_memory(tmp_path: Path, legacy: bool) -> None:
    weights = {f"{layer}.weight": torch.ones(2**21) for layer in range(8)}
    content = {"cfg": cfg_node({"SEED": 1}), "model": weights, "twins": dict(weights)}
    file = save(tmp_path / "a.pth", content, legacy=legacy)

    grown, _ = read_all(tmp_path, [file])

    assert 60 < grown < 1.2 * 64  # MiB; the file has 64


@CONTAINERS
@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((2**40,), (0,), 0),
        ((2**20, 4), (0, 1), 0),
        ((5,), (1,), 0),
        ((4,), (1,), 1),
        ((2,), (4,), 0),
        ((2,), (-1,), 1),
        ((-2,), (1,), 0),
        ((2,), (1,), -1),
        ((2, 2), (1,), 0),
        ((2**62, 4), (1, 1), 0),
    ],
)
@pytest.mark.parametrize("beside", [b"N", CONFIG], ids=["plain", "with a config"])
def test_a_tensor_outside_its_storage_is_refused(
    tmp_path: Path, write: Write, size: tuple[int, ...], stride: tuple[int, ...], offset: int, beside: bytes
) -> None:
    legacy = write is legacy_file
    stored = struct.pack("<q", 4) + FOUR if legacy else FOUR
    content = dictionary("beside", beside) + text("a") + tensor(storage(4, legacy=legacy), size, stride, offset) + b"s"
    file = write(tmp_path / "a.pth", content, stored, **({"keys": ("0",)} if legacy else {}))

    refused(file)
