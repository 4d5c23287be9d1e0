"""Files of strangers: what public training code wrote is read; what could run code or fill the memory is refused."""

from __future__ import annotations

import copyreg
import os
import pickle
import re
import resource
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_files import cfg_node, save
from hostile_files import Call, Storage, pickled, tensor, write_legacy, write_zip

from nddr_deploy.errors import ModelFileError
from nddr_deploy.importers import restricted_pickle
from nddr_deploy.importers.torch_file import read_foreign_file
from nddr_deploy.network.weights_file import read_torch_file

CONTAINERS: dict[str, Callable[[Path, bytes], Path]] = {"zip": write_zip, "legacy": write_legacy}


def refused(path: Path, said: str) -> None:
    """The file is refused in one line, whatever was tried."""
    with pytest.raises(ModelFileError, match=re.escape(said)) as caught:
        read_foreign_file(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


# What public code writes.


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("old_numpy", [False, True])
def test_configs_scalars_and_tensors_come_as_plain_values(tmp_path: Path, legacy: bool, old_numpy: bool) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    content = {
        "cfg": cfg_node({"MODEL": {"SHORTCUT": True, "INIT": (0.9, 0.1)}, "SEED": 1}),
        "mIoU": np.float64(0.25),
        "steps": np.int64(-7),
        "flag": np.bool_(True),
        "loss": torch.tensor(1.5, requires_grad=True),
        "weights": OrderedDict(a=weight, b=weight.T, c=weight[1]),
    }

    read = read_foreign_file(save(tmp_path / "x.pth", content, legacy=legacy, cuda=True, old_numpy=old_numpy))

    assert read["cfg"] == {"MODEL": {"SHORTCUT": True, "INIT": (0.9, 0.1)}, "SEED": 1}
    assert (read["mIoU"], read["steps"], read["flag"]) == (0.25, -7, True)
    assert type(read["mIoU"]) is float
    assert not read["loss"].requires_grad
    for key, expected in content["weights"].items():
        assert torch.equal(read["weights"][key], expected)
        assert read["weights"][key].device.type == "cpu"
    assert read["weights"]["a"].untyped_storage().data_ptr() == read["weights"]["b"].untyped_storage().data_ptr()


def test_a_big_endian_scalar_is_read_in_its_own_order(tmp_path: Path) -> None:
    content = {"cfg": cfg_node({}), "mIoU": np.array(0.25, dtype=">f8")[()]}

    assert read_foreign_file(save(tmp_path / "x.pth", content))["mIoU"] == 0.25


def test_safetensors_are_read_too(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")

    assert torch.equal(read_foreign_file(tmp_path / "x.safetensors")["a"], torch.ones(2))


# What could run code.

GLOBALS = {
    "os.system": b"cos\nsystem\n",
    "posix.system": b"cposix\nsystem\n",
    "nt.system": b"cnt\nsystem\n",
    "builtins.eval": b"cbuiltins\neval\n",
    "__builtin__.exec": b"c__builtin__\nexec\n",
    "builtins.getattr": b"cbuiltins\ngetattr\n",
    "subprocess.Popen": b"csubprocess\nPopen\n",
    "torch.load": b"ctorch\nload\n",
    "torch.hub.load": b"ctorch.hub\nload\n",
    "torch._utils._rebuild_parameter": b"ctorch._utils\n_rebuild_parameter\n",
    "numpy.core.multiarray._reconstruct": b"cnumpy.core.multiarray\n_reconstruct\n",
    "_codecs.decode": b"c_codecs\ndecode\n",
    "collections.OrderedDict.fromkeys": b"\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93",
    "yacs.config._load_cfg_py_source": b"cyacs.config\n_load_cfg_py_source\n",
    "torch.storage.UntypedStorage": b"ctorch.storage\nUntypedStorage\n",
}
SETS = b"cbuiltins\nset\n)R0"  # a call of an allowed name, so that `weights_only` gives up and the other reader begins


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", GLOBALS)
def test_a_name_outside_the_list_is_refused_by_name(tmp_path: Path, name: str, container: str) -> None:
    stream = b"\x80\x04" + SETS + GLOBALS[name] + b"(Vx\ntR."

    path = CONTAINERS[container](tmp_path / "x.pth", stream)

    refused(path, f"asks for the Python object '{name}'")


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("depth", [1, 3])
def test_a_call_hidden_in_other_calls_does_not_run(tmp_path: Path, container: str, depth: int) -> None:
    content: Any = Call(os.system, f"touch {tmp_path / 'canary'}")
    for _ in range(depth):
        content = Call(set, [content])

    refused(CONTAINERS[container](tmp_path / "x.pth", pickled({"cfg": content})), "system")

    assert not (tmp_path / "canary").exists()


def test_the_legacy_containers_first_parts_are_restricted_too(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(pickle.dumps(Call(os.system, f"touch {tmp_path / 'canary'}")))

    refused(tmp_path / "x.pth", "system")

    assert not (tmp_path / "canary").exists()


def test_a_number_of_an_extension_registry_is_looked_up_in_the_list(tmp_path: Path) -> None:
    copyreg.add_extension("os", "system", 201)
    try:
        path = write_zip(tmp_path / "x.pth", b"\x80\x02" + SETS + b"\x82\xc9(Vx\ntR.")
        refused(path, "os.system")
    finally:
        copyreg.remove_extension("os", "system", 201)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (Call(np._core.multiarray.scalar, np.dtype("O"), pickle.dumps(1)), "numpy type 'O8'"),
        (Call(np._core.multiarray.scalar, np.dtype("V8"), b"12345678"), "numpy type 'V8'"),
        (Call(np._core.multiarray.scalar, np.dtype("f8"), b"123"), "another size than its type"),
        (Call(np._core.multiarray.scalar, 5, b"12345678"), "no plain number"),
    ],
    ids=["object", "void", "short", "no type"],
)
def test_a_numpy_scalar_that_is_no_number_is_refused(tmp_path: Path, content: Any, said: str) -> None:
    refused(write_zip(tmp_path / "x.pth", pickled([Call(set, [1]), content])), said)


def test_text_is_only_encoded_as_old_pickles_do(tmp_path: Path) -> None:
    import _codecs

    refused(write_zip(tmp_path / "x.pth", pickled([Call(set, [1]), Call(_codecs.encode, "x", "zlib")])), "latin1")


def test_a_file_leaves_nothing_behind_in_what_it_may_call(tmp_path: Path) -> None:
    before = dict(vars(restricted_pickle))
    stream = b"\x80\x02" + b"cbuiltins\nset\n}X\x04\x00\x00\x00evilK\x01sb0cyacs.config\nCfgNode\n)\x81}Vx\nK\x01sb."

    read = read_foreign_file(write_zip(tmp_path / "x.pth", stream))

    assert read == {}
    assert dict(vars(restricted_pickle)) == before
    assert not hasattr(set, "evil")


# What could fill the memory.

HUGE = 2**50


def bombs(folder: Path) -> dict[str, Path]:
    """Small files that claim to be large."""
    expanded = {"w": torch.ones(1).expand(2**20, 2**20), "cfg": cfg_node({})}
    plain = {"w": torch.ones(1).expand(2**20, 2**20)}
    one = {"archive": b"\0" * 16}
    huge = tensor(Storage(HUGE), (HUGE,), (1,))
    large = tensor(Storage(4), (2**40,), (0,))
    return {
        "deflated": write_zip(folder / "deflated.pth", pickled({}), {"data/0": b"\0" * 2**28}, zipfile.ZIP_DEFLATED),
        "expanded": save(folder / "expanded.pth", expanded),
        "expanded, plain": save(folder / "plain.pth", plain),
        "expanded, legacy": save(folder / "legacy.pth", expanded, legacy=True),
        "huge storage": write_zip(folder / "huge.pth", pickled([Call(set), huge]), {"data/0": b"\0" * 16}),
        "huge storage, plain": write_zip(folder / "huge-plain.pth", pickled({"w": huge}), {"data/0": b"\0" * 16}),
        "huge storage, legacy": write_legacy(folder / "huge-legacy.pth", pickled([Call(set), huge]), ["0"], b"\0" * 8),
        "stride 0": write_zip(folder / "stride.pth", pickled([Call(set), large]), {"data/0": b"\0" * 16}),
        "string length": write_zip(folder / "string.pth", b"\x80\x04\x8d" + (2**45).to_bytes(8, "little") + b"x", one),
        "frame": write_zip(folder / "frame.pth", b"\x80\x04\x95" + (2**45).to_bytes(8, "little") + b"]."),
        "memo": write_zip(folder / "memo.pth", b"\x80\x04]r" + (2**31 - 1).to_bytes(4, "little") + b"."),
    }


BOMBS = (
    "deflated",
    "expanded",
    "expanded, plain",
    "expanded, legacy",
    "huge storage",
    "huge storage, plain",
    "huge storage, legacy",
    "stride 0",
    "string length",
    "frame",
    "memo",
)


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_cannot_become_large(tmp_path: Path, name: str) -> None:
    path = bombs(tmp_path)[name]
    probe = f"""
        import resource, torch
        from nddr_deploy.errors import ModelFileError
        from nddr_deploy.importers.torch_file import read_foreign_file
        from nddr_deploy.network.weights_file import read_torch_file
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for read in (read_foreign_file, read_torch_file):
            try: read({str(path)!r})
            except ModelFileError as error: assert len(str(error).splitlines()) == 1, error
            else: raise SystemExit("was read")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    code = textwrap.dedent(probe)

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 64 * 1024  # KiB: the readers themselves


def test_records_that_overlap_are_refused(tmp_path: Path) -> None:
    """A thousand names for one record: each alone fits into the file."""
    path = write_zip(tmp_path / "x.pth", pickled({}), {"data/0": b"\0" * 4096})
    with zipfile.ZipFile(path, "a") as archive:
        record = archive.getinfo("archive/data/0")
        for number in range(1000):
            twin = zipfile.ZipInfo(f"archive/data/{number + 1}")
            twin.file_size = twin.compress_size = record.file_size
            twin.CRC, twin.header_offset = record.CRC, record.header_offset
            archive.filelist.append(twin)
        archive._didModify = True  # type: ignore[attr-defined]

    refused(path, "claim more bytes than the file has")


def test_lists_nested_very_deeply_are_no_checkpoint_and_no_crash(tmp_path: Path) -> None:
    depth = 100_000

    read = read_foreign_file(write_zip(tmp_path / "x.pth", b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."))

    assert isinstance(read, list)


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((5,), (1,), 0), ((2,), (1,), 3), ((2, 2), (2, 3), 0), ((-1,), (1,), 0), ((2,), (-1,), 3), ((2, 2), (1,), 0)],
)
def test_a_tensor_outside_its_storage_is_refused(
    tmp_path: Path, size: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> None:
    content = pickled([Call(set), tensor(Storage(4), size, stride, offset)])

    refused(write_zip(tmp_path / "x.pth", content, {"data/0": b"\0" * 16}), "cannot be read")


# Other kinds of files.


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path, legacy: bool) -> None:
    whole = save(tmp_path / "x.pth", {"w": torch.ones(64), "cfg": cfg_node({"A": 1})}, legacy=legacy).read_bytes()

    for length in range(0, len(whole) - 1, 37):
        (tmp_path / "x.pth").write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            read_foreign_file(tmp_path / "x.pth")


def test_a_program_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.pth", pickled({}), {"constants.pkl": pickled(()), "code/__torch__.py": b"class A: 1"})

    refused(path, "TorchScript")


def test_a_tar_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "storages").write_bytes(pickle.dumps(1))
    with tarfile.open(tmp_path / "x.pth", "w") as archive:
        archive.add(tmp_path / "storages", "storages")

    refused(tmp_path / "x.pth", "tar archive")


@pytest.mark.parametrize("name", ["nothing.pth", "."])
def test_no_file_is_said_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match="is no file"):
        read_foreign_file(tmp_path / name)


def test_our_own_checkpoints_are_read_with_the_same_care(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pt", {"w": torch.ones(1).expand(2**20, 2**20)})

    with pytest.raises(ModelFileError, match="the file holds fewer values"):
        read_torch_file(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2**31
