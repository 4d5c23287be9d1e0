"""UTKFace: what becomes a face, what is dropped, where each name goes, and what no archive can do to a disk."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nddr_deploy.data import open_dataset
from nddr_deploy.data.prepare.shares import split_of
from nddr_deploy.data.prepare.utkface import SHARES, prepare_utkface
from nddr_deploy.errors import InputError, NddrError, UnreadableError

REAL = Path(os.environ.get("NDDR_TEST_DATA") or Path(__file__).parents[3] / "shared/data") / "utkface_12000_128px.tar"
GOOD = {f"{age}_{age % 2}_0_2017010{age % 9}.jpg.chip.jpg": age for age in range(1, 41)}


def jpeg(grey: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((9, 7, 3), grey, np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def write_tar(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def good_files(prefix: str = "") -> dict[str, bytes]:
    return {prefix + name: jpeg(age) for name, age in GOOD.items()}


def bytes_of(root: Path) -> dict[str, bytes]:
    """All files of a folder but the summary's name of the source."""
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    summary = json.loads(files.pop("summary.json"))
    del summary["source"]
    return files | {"summary.json": json.dumps(summary).encode()}


def test_a_name_becomes_age_and_gender_and_the_picture_stays_as_it_is(tmp_path: Path) -> None:
    files = {"7_0_3_20170101.jpg.chip.jpg": jpeg(10), "part1/52_1_0_20170102.jpg": jpeg(20)}

    prepare_utkface(write_tar(tmp_path / "faces.tar", files), tmp_path / "out")

    table = (tmp_path / "out/labels.csv").read_text()
    assert table == "name,age,gender\n52_1_0_20170102,52,female\n7_0_3_20170101,7,male\n"
    assert (tmp_path / "out/images/7_0_3_20170101.jpg").read_bytes() == files["7_0_3_20170101.jpg.chip.jpg"]


def test_the_part_of_a_name_is_the_first_eight_digits_of_its_sha_256(tmp_path: Path) -> None:
    summary = prepare_utkface(write_tar(tmp_path / "faces.tar", good_files()), tmp_path / "out")

    for split, (first, last) in {"train": (0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1)}.items():
        names = (tmp_path / "out" / f"{split}.txt").read_text().split()
        places = [int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 16**8 for name in names]
        assert all(first <= place < last for place in places)
        assert places == sorted(places)
        assert summary.splits[split] == len(names) == len(set(names))
    assert sum(summary.splits.values()) == len(GOOD)


def test_the_part_of_a_name_does_not_depend_on_what_else_is_there(tmp_path: Path) -> None:
    files = good_files()
    half = dict(list(files.items())[::2])
    prepare_utkface(write_tar(tmp_path / "all.tar", files), tmp_path / "all")
    prepare_utkface(write_tar(tmp_path / "half.tar", half), tmp_path / "half")

    for split in SHARES:
        of_half = set((tmp_path / f"half/{split}.txt").read_text().split())
        assert of_half
        assert of_half <= set((tmp_path / f"all/{split}.txt").read_text().split())


def test_shares_are_met_over_many_names() -> None:
    found = [split_of(f"person {number}", SHARES) for number in range(20_000)]

    # 4 standard deviations of a share of 0.8 over 20,000 are 0.011.
    assert found.count("train") / 20_000 == pytest.approx(0.8, abs=0.011)
    assert found.count("val") / 20_000 == pytest.approx(0.1, abs=0.0085)


def test_every_kind_of_unusable_picture_is_counted_by_its_reason(tmp_path: Path) -> None:
    files = (
        good_files()
        | {
            "readme.txt": b"hello",
            "61_1_20170109142408075.jpg.chip.jpg": jpeg(91),  # no race: as in the published archive
            "20_3_0_20170101.jpg.chip.jpg": jpeg(92),  # no such gender
            "-1_0_0_20170101.jpg.chip.jpg": jpeg(93),
            "21_0_0_20170101.jpg.chip.jpg": jpeg(94)[:-200],  # cut off
            "22_0_0_20170101.jpg.chip.jpg": b"",
            "23_0_0_20170101.jpg.chip.jpg": bytes(20_000_001),
            "again/" + next(iter(GOOD)): jpeg(95),
            "90_0_0_20170101.jpg.chip.jpg": jpeg(40),  # the bytes of 40_0_0...
        }
    )

    summary = prepare_utkface(write_tar(tmp_path / "faces.tar", files), tmp_path / "out")

    assert dict(summary.dropped) == {
        "not named AGE_GENDER_RACE_DATE.jpg": 4,
        "damaged picture": 2,
        "larger than 20 MB": 1,
        "the same name as another picture": 1,
        "the same picture as another name": 1,
    }
    assert summary.read == len(files) == summary.labelled + sum(summary.dropped.values())
    assert len(list((tmp_path / "out/images").iterdir())) == summary.labelled
    assert json.loads((tmp_path / "out/summary.json").read_text())["dropped"] == dict(summary.dropped)
    assert "-4 not named AGE_GENDER_RACE_DATE.jpg" in summary.text()


def test_who_is_over_99_is_labelled_and_counted_and_in_no_list(tmp_path: Path) -> None:
    files = good_files() | {"99_0_0_1.jpg": jpeg(99), "100_0_0_1.jpg": jpeg(100), "116_1_0_1.jpg": jpeg(116)}

    summary = prepare_utkface(write_tar(tmp_path / "faces.tar", files), tmp_path / "out")

    listed = {name for split in SHARES for name in (tmp_path / f"out/{split}.txt").read_text().split()}
    assert summary.over_99_years == 2
    assert {"100_0_0_1", "116_1_0_1"} & listed == set()
    assert "99_0_0_1" in listed
    assert "116_1_0_1,116,female" in (tmp_path / "out/labels.csv").read_text()
    assert sum(summary.splits.values()) == summary.labelled - 2


def test_the_folder_can_be_opened_and_says_what_the_names_say(tmp_path: Path) -> None:
    prepare_utkface(write_tar(tmp_path / "faces.tar", good_files()), tmp_path / "out")

    dataset = open_dataset("folder", "train", path=str(tmp_path / "out"))

    assert [task.name for task in dataset.tasks] == ["age", "gender"]
    for sample in (dataset[index] for index in range(len(dataset))):
        age, gender = map(int, sample.name.split("_")[:2])
        assert (sample.targets["age"], sample.targets["gender"]) == (age, gender)
        assert abs(int(sample.image.mean()) - age) <= 1  # a grey JPEG is off by one at most


@pytest.mark.parametrize("kind", ["tar.gz", "tar.xz", "zip", "folder", "tar in another order"])
def test_every_kind_of_source_gives_the_same_bytes(tmp_path: Path, kind: str) -> None:
    files = good_files("UTKFace/") | {"UTKFace/77_0_0_1.jpg.chip.jpg": jpeg(3)}  # the bytes of 3_...
    prepare_utkface(write_tar(tmp_path / "faces.tar", files), tmp_path / "expected")
    if kind == "zip":
        source = write_zip(tmp_path / "faces.zip", files)
    elif kind == "folder":
        source = tmp_path / "pictures"
        (source / "UTKFace").mkdir(parents=True)
        for name, content in files.items():
            (source / name).write_bytes(content)
    elif kind == "tar in another order":
        source = write_tar(tmp_path / "turned.tar", dict(reversed(files.items())))
    else:
        source = write_tar(tmp_path / f"faces.{kind}", files, f"w:{kind[-2:]}")

    prepare_utkface(source, tmp_path / "out")

    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "expected")


def test_nothing_of_an_archive_leaves_the_output_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(jpeg(200))
    with tarfile.open(home / "hostile.tar", "w") as archive:
        for path in (f"{tmp_path}/1_0_0_1.jpg", "../../2_0_0_2.jpg", "..\\..\\3_0_0_3.jpg", "images/../../4_0_0_4.jpg"):
            content = jpeg(int(path[-5]))
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, kind, target in (
            ("5_0_0_5.jpg", tarfile.SYMTYPE, str(secret)),
            ("6_0_0_6.jpg", tarfile.LNKTYPE, "../../secret.jpg"),
            ("7_0_0_7.jpg", tarfile.FIFOTYPE, ""),
            ("images", tarfile.SYMTYPE, str(tmp_path)),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            archive.addfile(entry)

    prepare_utkface(home / "hostile.tar", home / "out")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "secret.jpg"]
    assert sorted(path.name for path in home.iterdir()) == ["hostile.tar", "out"]
    assert sorted(path.name for path in (home / "out/images").iterdir()) == [f"{n}_0_0_{n}.jpg" for n in range(1, 5)]
    assert all(path.is_file() and not path.is_symlink() for path in (home / "out/images").iterdir())


def test_links_in_a_zip_or_a_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(jpeg(200))
    link = zipfile.ZipInfo("5_0_0_5.jpg")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(write_zip(tmp_path / "a.zip", {"1_0_0_1.jpg": jpeg(1)}), "a") as archive:
        archive.writestr(link, str(tmp_path / "secret.jpg"))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/1_0_0_1.jpg").write_bytes(jpeg(1))
    (tmp_path / "pictures/5_0_0_5.jpg").symlink_to(tmp_path / "secret.jpg")

    for source in ("a.zip", "pictures"):
        assert prepare_utkface(tmp_path / source, tmp_path / f"{source} out").read == 1


@pytest.mark.parametrize("share", [0.3, 0.5, 0.77, 0.99])
@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_a_truncated_archive_is_refused_and_goes_on_once_it_is_whole(tmp_path: Path, kind: str, share: float) -> None:
    whole = tmp_path / f"whole.{kind}"
    write_zip(whole, good_files()) if kind == "zip" else write_tar(whole, good_files(), "w:gz" if "gz" in kind else "w")
    content = whole.read_bytes().rstrip(b"\0")  # a tar's own end is zeros
    cut = tmp_path / f"cut.{kind}"
    cut.write_bytes(content[: int(len(content) * share)])

    with pytest.raises(NddrError, match=r"cut\.(tar|tar\.gz|zip) .*Copy it again"):
        prepare_utkface(cut, tmp_path / "out")
    assert not (tmp_path / "out/labels.csv").exists()
    prepare_utkface(whole, tmp_path / "out")

    prepare_utkface(whole, tmp_path / "expected")
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "expected")


def test_a_tar_that_ends_between_two_entries_is_found_out(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole.tar", good_files()).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:10240])  # blocks of 512: a header, then 2 of a picture, again and again

    with pytest.raises(UnreadableError, match="damaged or ends in the middle"):
        prepare_utkface(tmp_path / "cut.tar", tmp_path / "out")


def test_damage_inside_a_zip_is_found_out(tmp_path: Path) -> None:
    content = bytearray(write_zip(tmp_path / "a.zip", good_files()).read_bytes())
    content[2000] ^= 255
    (tmp_path / "a.zip").write_bytes(bytes(content))

    with pytest.raises(UnreadableError, match=r"a\.zip is damaged"):
        prepare_utkface(tmp_path / "a.zip", tmp_path / "out")


def test_a_stopped_run_goes_on_and_half_written_pictures_are_written_again(tmp_path: Path) -> None:
    source = write_tar(tmp_path / "faces.tar", good_files())
    prepare_utkface(source, tmp_path / "expected")
    images = tmp_path / "out/images"
    images.mkdir(parents=True)
    whole, half = sorted((tmp_path / "expected/images").iterdir())[:2]
    (images / whole.name).write_bytes(whole.read_bytes())
    (images / half.name).write_bytes(half.read_bytes()[:100])
    before = (images / whole.name).stat().st_mtime_ns

    prepare_utkface(source, tmp_path / "out")

    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "expected")
    assert (images / whole.name).stat().st_mtime_ns == before


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "half.gz").write_bytes(gzip.compress(b"hello" * 1000)[:20])
    (tmp_path / "none").mkdir()

    for name, message in (
        ("lost.tar", "does not exist"),
        ("note.txt", "neither a tar nor a zip"),
        ("empty.tar", "neither a tar nor a zip"),
        ("half.gz", "neither a tar nor a zip"),
        ("none", "holds no usable face: it is empty"),
    ):
        with pytest.raises(InputError, match=message):
            prepare_utkface(tmp_path / name, tmp_path / "out")


@pytest.mark.skipif(not REAL.is_file(), reason=f"UTKFace is not there: {REAL} (set NDDR_TEST_DATA)")
def test_the_published_archive_has_no_name_that_is_not_understood(tmp_path: Path) -> None:
    """Its first 300 pictures: all of it takes 12 seconds."""
    files = {}
    with tarfile.open(REAL) as archive:
        for entry in archive:
            content = archive.extractfile(entry)
            if content is not None and len(files) < 300:
                files[entry.name] = content.read()

    summary = prepare_utkface(write_tar(tmp_path / "faces.tar", files), tmp_path / "out")

    assert set(summary.dropped) <= {"the same picture as another name"}
    assert summary.over_99_years == 18
    assert len(open_dataset("folder", "train", path=str(tmp_path / "out"))) == summary.splits["train"]
