"""PyTorch files that want to run code: one sentence, and no code runs."""

from __future__ import annotations

import contextlib
import copyreg
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile_files import CONFIG, CONTAINERS, Write, call, dictionary, legacy_file, name, refused, text, zip_file

from nddr_deploy.errors import ModelFileError
from nddr_deploy.importers import restricted_pickle
from nddr_deploy.importers.torch_file import read_foreign_file


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
