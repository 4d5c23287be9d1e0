"""`.npz` files of variables: read one at a time, and refused where anything is wrong."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tf_variables import SOME, equal, read_all, refused

from nddr_deploy.errors import ModelFileError
from nddr_deploy.importers.npz_file import open_npz


def npy(values: np.ndarray) -> bytes:  # type: ignore[type-arg]
    file = io.BytesIO()
    np.lib.format.write_array(file, values)
    return file.getvalue()


def write_zip(path: Path, *entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in entries:
            file.writestr(name, content)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_variables_come_back_as_they_were_written(tmp_path: Path, save: object) -> None:
    save(tmp_path / "v.npz", **SOME)  # type: ignore[operator]

    found = read_all(tmp_path / "v.npz")

    assert list(found) == list(SOME)
    assert equal(found, SOME)


def test_arrays_in_columns_come_back_in_rows(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez(tmp_path / "v.npz", a=np.asfortranarray(values))

    found = read_all(tmp_path / "v.npz")["a"]

    assert found.flags.c_contiguous
    assert np.array_equal(found, values)


@pytest.mark.parametrize("dtype", ["float64", "int64", ">f4", "<U3"])
def test_another_type_is_listed_but_not_read(tmp_path: Path, dtype: str) -> None:
    np.savez(tmp_path / "v.npz", a=np.zeros((2, 3), dtype))

    variables = open_npz(tmp_path / "v.npz")

    assert variables.shapes == {"a": (2, 3)}
    with pytest.raises(ModelFileError, match=r"'a' is .*; expected float32"):
        variables.read("a")


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", good=np.zeros(3, np.float32), bad=np.array([{}, open], object))

    refused(tmp_path / "v.npz", "'bad.npy' holds pickled Python objects")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nddr_deploy.importers.npz_file.MOST_BYTES", 32 << 20)
    np.savez_compressed(tmp_path / "v.npz", a=np.zeros(5 << 20, np.float32), b=np.zeros(5 << 20, np.float32))

    assert (tmp_path / "v.npz").stat().st_size < 1 << 20
    refused(tmp_path / "v.npz", "unpacks to 41943", "33554432")


def test_a_zip_that_understates_its_size_is_refused(tmp_path: Path) -> None:
    content = npy(np.zeros(8 << 20, np.float32))
    file = write_zip(tmp_path / "v.npz", ("a.npy", content))
    whole = file.read_bytes()
    size, small = len(content).to_bytes(4, "little"), (20_000).to_bytes(4, "little")
    assert whole.count(size) == 2  # in front of the entry and in the directory
    file.write_bytes(whole.replace(size, small))

    refused(file, "'a.npy' is announced as (8388608,) of float32, which its size does not fit")


@pytest.mark.parametrize("shape", ["(5,)", "(1099511627776,)", "(-2, -2)", "(9**9**9,)", "(" * 2000, "4"])
def test_a_header_that_does_not_fit_is_refused(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    content = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + bytes(16)

    refused(write_zip(tmp_path / "v.npz", ("a.npy", content)), "is no .npz file of arrays")


@pytest.mark.parametrize("start", [b"", b"\x93NUMPY\x09\0", b"\x93NUMPY\2\0" + (1 << 31).to_bytes(4, "little")])
def test_a_header_that_has_no_end_is_refused(tmp_path: Path, start: bytes) -> None:
    content = start + bytes(8 << 20)

    refused(write_zip(tmp_path / "v.npz", ("a.npy", content)), "is no .npz file of arrays")


def test_entries_that_numpy_does_not_write_are_refused(tmp_path: Path) -> None:
    good = npy(np.zeros(3, np.float32))

    refused(write_zip(tmp_path / "1.npz", ("a.txt", good)), "'a.txt'")
    refused(write_zip(tmp_path / "2.npz", ("a.npy", good), method=zipfile.ZIP_LZMA), "'a.npy'")
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = write_zip(tmp_path / "3.npz", ("a.npy", good), ("a.npy", good))
    refused(twice, "there twice")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.npz").write_bytes(npy(np.zeros(3, np.float32)))

    refused(tmp_path / "v.npz", "v.npz is no .npz file of arrays")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_changed_byte_is_refused_or_changes_nothing(tmp_path: Path, save: object) -> None:
    expected = {"conv/weights": SOME["conv/weights"], "scalar": SOME["scalar"]}
    save(tmp_path / "v.npz", **expected)  # type: ignore[operator]
    file = tmp_path / "v.npz"
    whole = file.read_bytes()
    refusals = 0
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ (0x01, 0xFF)[at % 2]]) + whole[at + 1 :])
        try:
            assert equal(read_all(file), expected)
        except ModelFileError:
            refusals += 1

    assert refusals > len(whole) / 2  # the rest are dates, attributes and the like


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", **SOME)
    file = tmp_path / "v.npz"
    whole = file.read_bytes()
    for length in range(0, len(whole), 11):
        file.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match=r"v\.npz is "):
            read_all(file)
