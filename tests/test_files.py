"""Files are whole, or not there."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest

from nddr_deploy.errors import InputError, OutputError
from nddr_deploy.files import finished_file, finished_files, sha256


def test_a_finished_file_appears_under_its_name_and_leaves_nothing_else(tmp_path: Path) -> None:
    with finished_file(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"whole")
        assert not (tmp_path / "a.bin").exists()

    assert (tmp_path / "a.bin").read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_a_failed_run_keeps_the_good_file_and_removes_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"good")

    def write_half() -> None:
        with finished_file(tmp_path / "a.bin") as temporary:
            temporary.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()

    assert (tmp_path / "a.bin").read_bytes() == b"good"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_the_temporary_name_keeps_the_suffix_and_is_hidden(tmp_path: Path) -> None:
    with finished_file(tmp_path / "video.mp4") as temporary:
        temporary.write_bytes(b"x")

        assert temporary.suffix == ".mp4"
        assert temporary.name.startswith(".")


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"), finished_file(tmp_path / "no" / "a.bin"):
        pass


def test_a_folder_under_the_files_name_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.bin").mkdir()

    with pytest.raises(InputError, match="is a folder"), finished_file(tmp_path / "a.bin"):
        pass


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")

    assert sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_files_that_belong_together_take_their_places_together(tmp_path: Path) -> None:
    first, second = tmp_path / "a.bin", tmp_path / "b.bin"
    first.write_bytes(b"good a")
    second.write_bytes(b"good b")

    with finished_files(first, second) as temporaries:
        for temporary in temporaries:
            temporary.write_bytes(b"new")

    assert (first.read_bytes(), second.read_bytes()) == (b"new", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "b.bin"]


@pytest.mark.parametrize("there_before", [True, False])
def test_where_one_of_them_cannot_take_its_place_all_are_as_before(
    tmp_path: Path, there_before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "a.bin", tmp_path / "b.bin"
    if there_before:
        first.write_bytes(b"good a")
    replace = Path.replace

    def failing(self: Path, target: Path) -> Path:
        if target == second:
            raise OSError(errno.EIO, "Input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)

    def write_both() -> None:
        with finished_files(first, second) as both:
            for temporary in both:
                temporary.write_bytes(b"new")

    with pytest.raises(OutputError, match="could not be written: Input/output error"):
        write_both()

    assert [path.name for path in tmp_path.iterdir()] == (["a.bin"] if there_before else [])
    assert not there_before or first.read_bytes() == b"good a"


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"No space left on device\. Make room"), finished_file(tmp_path / "a.bin"):
        raise OSError(errno.ENOSPC, "No space left on device")
