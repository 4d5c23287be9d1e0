"""PyTorch files that want to run code or to fill the memory, and broken ones: one sentence, and nothing happens."""

from __future__ import annotations

import contextlib
import copyreg
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hostile_files import (
    call,
    dictionary,
    integer,
    legacy_file,
    name,
    saved,
    storage,
    tensor,
    text,
    zip_file,
)

from nddr_deploy.errors import ModelFileError
from nddr_deploy.importers import restricted_pickle
from nddr_deploy.importers.torch_file import read_foreign_file
from nddr_deploy.network.weights_file import read_torch_file

CONTAINERS = pytest.mark.parametrize("write", [zip_file, legacy_file])
Write = Callable[..., Path]
CONFIG = name("yacs.config", "CfgNode") + b")\x81"  # makes a file one that only the restricted pickle reads
FOUR = struct.pack("<4f", 1, 2, 3, 4)


def refused(file: Path, found: str = "") -> str:
    """Both readers refuse the file in one line that says `found`; the folder stays as it was."""
    before = sorted(file.parent.iterdir())
    messages = []
    for read in (read_torch_file, read_foreign_file):
        with pytest.raises(ModelFileError) as caught:
            read(file)
        messages.append(str(caught.value))
        assert file.name in messages[-1]
        assert "\n" not in messages[-1]
    assert found in messages[-1]
    assert sorted(file.parent.iterdir()) == before
    return messages[-1]


def command(folder: Path) -> bytes:
    """The opcode of a text that leaves a file behind where a shell runs it."""
    return text(f"touch {folder / 'ran'}")


# Names that could run code.

ASKED = [
    ("posix", "system"),
    ("os", "system"),
    ("nt", "system"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("__builtin__", "eval"),
    ("builtins", "getattr"),
    ("builtins", "__import__"),
    ("builtins", "bytearray"),
    ("subprocess", "Popen"),
    ("functools", "partial"),
    ("operator", "attrgetter"),
    ("pickle", "loads"),
    ("runpy", "run_path"),
    ("webbrowser", "open"),
    ("torch", "load"),
    ("torch.hub", "load"),
    ("torch.jit", "load"),
    ("torch.storage", "_load_from_bytes"),
    ("torch._utils", "_import_dotted_name"),
    ("torch.utils.cpp_extension", "load"),
    ("torch.serialization", "os.system"),
    ("torch._utils", "_rebuild_tensor_v2.__globals__"),
    ("collections", "OrderedDict.fromkeys"),
    ("yacs.config", "CfgNode.update"),
    ("yacs.config", "_decode_cfg_value"),
    ("numpy", "load"),
    ("numpy.core.multiarray", "fromfile"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.dtype", "__class__"),
    ("nddr_deploy.importers.torch_file", "os.system"),
    ("copyreg", "add_extension"),
    ("module\nwith", "line ends"),
]


@CONTAINERS
@pytest.mark.parametrize("asked", ASKED, ids=".".join)
def test_a_name_outside_the_list_is_refused_by_name(tmp_path: Path, write: Write, asked: tuple[str, str]) -> None:
    by_stack = text(asked[0]) + text(asked[1]) + b"\x93"  # takes any text for a name, dots and line ends too
    file = write(tmp_path / "a.pth", dictionary("a", call(by_stack, command(tmp_path))))

    refused(file, f"asks for the Python object {'.'.join(asked)!r} when it is loaded, which could run code: refused")


@CONTAINERS
@pytest.mark.parametrize(
    "opcodes",
    [
        lambda run: call(name("posix", "system"), run),
        lambda run: b"(" + run + b"iposix\nsystem\n",
        lambda run: b"(" + name("posix", "system") + run + b"o",
        lambda run: name("posix", "system") + b"(" + run + b"t\x81",
        lambda run: CONFIG + call(name("posix", "system"), run) + b"b",
        lambda run: call(name("builtins", "set"), b"(" + call(name("posix", "system"), run) + b"l"),
        lambda run: call(
            name("collections", "OrderedDict"), b"((" + text("a") + call(name("os", "system"), run) + b"ll"
        ),
        lambda run: call(call(name("builtins", "getattr"), name("os", "path"), text("system")), run),
        lambda run: call(call(name("numpy", "dtype"), text("f8")), call(name("posix", "system"), run)),
        lambda run: b"(" + text("storage") + call(name("posix", "system"), run) + text("0") + text("cpu") + b"K\x04tQ",
    ],
    ids=["reduce", "inst", "obj", "newobj", "state", "in a set", "in a dict", "getattr", "called result", "storage"],
)
def test_a_call_is_refused_wherever_it_stands(tmp_path: Path, write: Write, opcodes: Callable[[bytes], bytes]) -> None:
    file = write(tmp_path / "a.pth", dictionary("cfg", CONFIG) + text("a") + opcodes(command(tmp_path)) + b"s")

    refused(file, "which could run code")


def test_a_name_in_any_pickle_of_a_legacy_file_is_refused(tmp_path: Path) -> None:
    run = b"\x80\x02" + call(name("posix", "system"), command(tmp_path)) + b"."
    whole = legacy_file(tmp_path / "a.pth", dictionary("a", b"N")).read_bytes()
    starts = [position for position in range(len(whole)) if whole[position : position + 2] == b"\x80\x02"]

    assert len(starts) == 5
    for start in starts:
        (tmp_path / "a.pth").write_bytes(whole[:start] + run + whole[start:])
        refused(tmp_path / "a.pth", "'posix.system'")


def test_a_pickle_without_a_container_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(call(name("posix", "system"), command(tmp_path)) + b".")

    refused(tmp_path / "a.pkl", "'posix.system'")


@CONTAINERS
def test_a_number_in_place_of_a_name_is_refused(tmp_path: Path, write: Write) -> None:
    copyreg.add_extension("posix", "system", 200)
    try:
        refused(write(tmp_path / "a.pth", dictionary("a", call(b"\x82\xc8", command(tmp_path)))), "200 of copyreg")
    finally:
        copyreg.remove_extension("posix", "system", 200)


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_a_pickle_inside_a_numpy_scalar_is_refused(tmp_path: Path, module: str) -> None:
    inner = (call(name("posix", "system"), command(tmp_path)) + b".").decode("latin1")
    kind = call(name("numpy", "dtype"), text("O8"), b"\x89", b"\x88")
    data = call(name("_codecs", "encode"), text(inner), text("latin1"))

    refused(zip_file(tmp_path / "a.pth", call(name(module, "scalar"), kind, data)), "'O8', which is no plain number")


@CONTAINERS
@pytest.mark.parametrize("renamed", [False, True])
def test_source_code_beside_a_class_is_refused(tmp_path: Path, write: Write, renamed: bool) -> None:
    """`torch.load` compares it with the code that it finds, and writes a file of the class's name about that."""
    attributes = b"}(" + text("dump_patches") + b"\x88" + text("__name__") + text(str(tmp_path / "ran")) + b"u"
    function = name("_codecs", "encode") + (b"N" + attributes + b"\x86b" if renamed else b"")
    persistent = b"(" + text("module") + function + text("a.py") + text("other code") + b"tQ"

    refused(write(tmp_path / "a.pth", dictionary("a", persistent)), "" if renamed else "kept with its source code")


@pytest.mark.parametrize("function", ["builtins.set", "_codecs.encode", "numpy.dtype", "yacs.config.CfgNode"])
def test_a_file_leaves_nothing_behind_in_what_it_may_call(tmp_path: Path, function: str) -> None:
    module, _, attribute = function.rpartition(".")
    change = name(module, attribute) + b"N}" + text("planted") + b"\x88s\x86b0"  # as if it were an object's state
    planted = zip_file(tmp_path / "a.pth", change + CONFIG)
    with contextlib.suppress(ModelFileError):
        read_foreign_file(planted)

    for value in [*vars(restricted_pickle).values(), *restricted_pickle._allowed().values(), set, dict]:
        assert not hasattr(value, "planted")


@pytest.mark.parametrize("encoding", ["hex", "zlib", "utf-32", "rot13"])
def test_bytes_in_an_encoding_that_no_pickle_uses_are_refused(tmp_path: Path, encoding: str) -> None:
    refused(zip_file(tmp_path / "a.pth", call(name("_codecs", "encode"), text("a"), text(encoding))), "latin1")


# Claims of more than the file holds. All of them are read once more in one process, whose memory is measured.


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
    "copied sets": (lambda path: copies(path, name("builtins", "set")), "copies its values again and again"),
    "copied dicts": (lambda path: copies(path, name("collections", "OrderedDict")), "copies its values"),
    "deep lists": (lambda path: zip_file(path, b"]" * 100000 + b"a" * 99999), "nested deeper than 100"),
    "deep dicts": (lambda path: zip_file(path, (b"}" + text("a")) * 9999 + b"N" + b"s" * 9999), "nested deeper"),
    "deep tuples": (lambda path: zip_file(path, b")" + b"\x85" * 100000), "nested deeper than 100"),
    "expanded plain": (lambda path: zip_file(path, tensor(storage(4), (2**40,), (0,)), FOUR), "holds fewer values"),
    "expanded twice": (lambda path: zip_file(path, tensor(storage(4), (2**9, 4), (0, 1)), FOUR), "holds fewer values"),
}


@pytest.mark.parametrize(("bomb", "found"), BOMBS.values(), ids=BOMBS)
def test_a_claim_of_more_than_the_file_holds_is_refused(
    tmp_path: Path, bomb: Callable[[Path], Path], found: str
) -> None:
    assert found in refused(bomb(tmp_path / "a.pth"))


READ_ALL = """
import resource, sys
from pathlib import Path
from nddr_deploy.errors import ModelFileError
from nddr_deploy.importers import restricted_pickle
from nddr_deploy.importers.torch_file import read_foreign_file
read_foreign_file(sys.argv[1] + "/good.pt")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for file in sorted(Path(sys.argv[1]).glob("*.pth")):
    try:
        read_foreign_file(file)
        print(file, "was read")
    except ModelFileError:
        pass
print("growth", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_no_claim_takes_memory(tmp_path: Path) -> None:
    for label, (bomb, _) in BOMBS.items():
        bomb(tmp_path / f"{label}.pth")
    (tmp_path / "good.pt").write_bytes(saved({"a": torch.ones(2)}))

    run = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(tmp_path)], capture_output=True, text=True, timeout=120, check=True
    )

    lines = run.stdout.splitlines()
    assert len(lines) == 1, lines
    assert int(lines[0].removeprefix("growth ")) < 64  # MiB; the smallest bomb that went off would take 256


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


# Other kinds of files, and broken ones.


def test_a_program_is_refused(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.ReLU()).save(str(tmp_path / "a.pt"))

    refused(tmp_path / "a.pt", "is a TorchScript archive, a program rather than weights")


@pytest.mark.parametrize("record", ["archive/constants.pkl", "archive/code/__torch__.py"])
def test_parts_of_a_program_beside_weights_are_refused(tmp_path: Path, record: str) -> None:
    refused(zip_file(tmp_path / "a.pt", dictionary("a", b"N"), records={record: b""}), "TorchScript")


def test_a_tar_archive_is_refused(tmp_path: Path) -> None:
    import tarfile

    (tmp_path / "pickle").write_bytes(call(name("posix", "system"), command(tmp_path)) + b".")
    with tarfile.open(tmp_path / "a.pth.tar", "w") as archive:
        archive.add(tmp_path / "pickle", "pickle")

    refused(tmp_path / "a.pth.tar", "is a tar archive, as PyTorch before 0.1.10 wrote them")


def test_a_zip_of_other_things_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("ckpt.pth", saved({"a": torch.ones(2)}))

    refused(tmp_path / "a.zip", "zip archive that PyTorch did not write")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"a text",
        b"\x1f\x8b\x08\x00" + bytes(40),
        b"\x89PNG\r\n\x1a\n" + bytes(99),
        bytes(9999),
        b"PK\x03\x04",
    ],
    ids=["empty", "line end", "text", "gzip", "png", "zeros", "zip's start"],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)

    refused(tmp_path / "a.pth")


def test_no_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pth", tmp_path):
        refused(path, "is no file")


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path, legacy: bool) -> None:
    whole = saved({f"layer{index}.weight": torch.randn(5, 5) for index in range(4)}, legacy)

    for end in [*range(1, len(whole), 41), len(whole) - 1]:
        (tmp_path / "a.pth").write_bytes(whole[:end])
        refused(tmp_path / "a.pth")


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_flipped_byte_gives_values_or_one_sentence(tmp_path: Path, legacy: bool) -> None:
    whole = saved({"a": torch.randn(5), "b": [1, 2.5, "text"]}, legacy)

    for position in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[position] ^= 0x55
        (tmp_path / "a.pth").write_bytes(bytes(flipped))
        with contextlib.suppress(ModelFileError):
            read_foreign_file(tmp_path / "a.pth")
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]
