"""Files that are no checkpoint of PyTorch's, or no whole one: one sentence."""

from __future__ import annotations

import contextlib
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from hostile_files import call, dictionary, name, refused, saved, text, zip_file

from nddr_deploy.errors import ModelFileError
from nddr_deploy.importers.torch_file import read_foreign_file


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_a_program_is_refused(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.ReLU()).save(str(tmp_path / "a.pt"))

    refused(tmp_path / "a.pt", "is a TorchScript archive, a program rather than weights")


@pytest.mark.parametrize("record", ["archive/constants.pkl", "archive/code/__torch__.py"])
def test_parts_of_a_program_beside_weights_are_refused(tmp_path: Path, record: str) -> None:
    refused(zip_file(tmp_path / "a.pt", dictionary("a", b"N"), records={record: b""}), "TorchScript")


def test_a_tar_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pickle").write_bytes(call(name("posix", "system"), text("true")) + b".")
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
