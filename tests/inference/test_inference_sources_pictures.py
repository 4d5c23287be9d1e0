"""Folders, patterns, lists and single pictures: natural order, unique names, one failing file costs only itself."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

from nddr_deploy.errors import InputError
from nddr_deploy.inference.sources import open_source

DATA = Path(os.environ.get("NDDR_TEST_DATA") or Path(__file__).parents[3] / "shared/data")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"real data is not there: {DATA} (set NDDR_TEST_DATA)")


def draw(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow.fromarray(np.full((4, 6, 3), value, dtype=np.uint8)).save(path)
    return path


def test_a_folder_gives_its_pictures_in_natural_order_and_nothing_else(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        draw(tmp_path / f"frame{number}.png", number)
    (tmp_path / "notes.md").write_text("not a picture")
    (tmp_path / ".frame3.123.partial.png").write_bytes(b"half written")
    (tmp_path / "inner.png").mkdir()

    source = open_source(tmp_path)
    frames = list(source)

    assert [frame.name for frame in frames] == ["frame1", "frame2", "frame10"]
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 2, 10]
    assert [frame.time_s for frame in frames] == [None] * 3
    assert (source.info.kind, source.info.frames) == ("pictures", 3)
    assert source.remarks.problems == []


def test_a_picture_that_fails_is_one_sentence_and_the_others_go_on(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("text")
    (tmp_path / "c.png").write_bytes(b"")
    draw(tmp_path / "d.png")

    source = open_source(tmp_path)
    frames = list(source)

    assert [frame.name for frame in frames] == ["a", "d"]
    assert [frame.index for frame in frames] == [0, 1]
    assert ["b.png" in source.remarks.problems[0], "c.png" in source.remarks.problems[1]] == [True, True]
    assert len(source.remarks.problems) == 2


def test_results_of_pictures_with_the_same_stem_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for name in ("a.png", "a.bmp", "b.png"):
        draw(tmp_path / name)

    names = [frame.name for frame in open_source(tmp_path)]

    assert len(set(names)) == 3
    assert names[-1] == "b"
    assert all("a" in name for name in names[:2])


def test_results_of_same_names_from_two_folders_do_not_overwrite_each_other(tmp_path: Path) -> None:
    draw(tmp_path / "x/a.png", 1)
    draw(tmp_path / "y/a.png", 2)
    (tmp_path / "list.txt").write_text("x/a.png\ny/a.png\n")

    frames = list(open_source(tmp_path / "list.txt"))

    assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 2]
    assert len({frame.name for frame in frames}) == 2


@pytest.mark.parametrize("suffix", [".txt", ".lst"])
def test_a_list_is_read_relative_to_its_own_folder_in_its_own_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    for name in ("a.png", "b.png"):
        draw(tmp_path / "set" / name)
    absolute = draw(tmp_path / "elsewhere/c.png")
    listing = tmp_path / "set" / f"list{suffix}"
    listing.write_text(f"# a comment\nb.png\n\n  a.png  \n{absolute}\nmissing.png\n")
    monkeypatch.chdir("/")

    source = open_source(listing)

    assert [frame.name for frame in source] == ["b", "a", "c"]
    assert len(source.remarks.problems) == 1
    assert "missing.png" in source.remarks.problems[0]


@pytest.mark.parametrize("content", [b"", b"# only a comment\n", b"\xff\xfe\x00a"])
def test_a_list_without_a_file_in_it_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(content)

    with pytest.raises(InputError, match=r"list\.txt"):
        open_source(tmp_path / "list.txt")


def test_a_pattern_gives_what_it_matches_in_natural_order(tmp_path: Path) -> None:
    for name in ("f10.png", "f9.png", "other.png"):
        draw(tmp_path / name)

    assert [frame.name for frame in open_source(str(tmp_path / "f*.png"))] == ["f9", "f10"]


@pytest.mark.parametrize("pattern", ["", "*.png", "none/*.png"])
def test_a_folder_or_pattern_without_pictures_is_refused(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "notes.md").write_text("not a picture")

    with pytest.raises(InputError):
        open_source(f"{tmp_path}/{pattern}")


def test_one_picture_is_a_source_of_one_frame(tmp_path: Path) -> None:
    source = open_source(draw(tmp_path / "a.PNG", 7))

    (frame,) = source

    assert (frame.name, frame.path) == ("a", tmp_path / "a.PNG")
    assert frame.image.shape == (4, 6, 3)
    assert source.info.frames == 1


@needs_data
def test_the_real_photos_all_come_with_their_own_sizes() -> None:
    source = open_source(DATA / "photos")

    frames = list(source)

    assert source.remarks.problems == []
    assert [frame.path for frame in frames] == sorted((DATA / "photos").iterdir())
    for frame in frames:
        with pillow.open(str(frame.path)) as picture:
            assert frame.image.shape == (picture.height, picture.width, 3)


@needs_data
def test_of_the_odd_real_pictures_only_the_broken_ones_are_missing() -> None:
    source = open_source(str(DATA / "odd/*.[jp][pn]g"))

    names = {frame.name for frame in source}

    expected = {"base", "cmyk", "exif_orientation_6", "gray_16bit", "rgba_half_transparent", "size_1x1"}
    assert names == expected
    assert len(source.remarks.problems) == 3
    for name in ("text_named.jpg", "truncated_half.jpg", "zero_byte.jpg"):
        assert sum(name in problem for problem in source.remarks.problems) == 1
