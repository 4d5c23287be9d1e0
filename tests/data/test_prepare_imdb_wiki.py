"""IMDB and WIKI: dates become ages, bad rows are counted by reason, a person is in one split, pictures stay put."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nddr_deploy.data import open_dataset
from nddr_deploy.data.pictures import read_picture
from nddr_deploy.data.prepare import blocks, checked_pictures
from nddr_deploy.data.prepare.imdb_wiki import SHARES, age_of, prepare_imdb_wiki
from nddr_deploy.errors import ConfigError, InputError

scipy_io = pytest.importorskip("scipy.io", reason="scipy is not installed: pip install 'nddr-deploy[data]'")

REAL = Path(os.environ.get("NDDR_TEST_DATA") or Path(__file__).parents[3] / "shared/data") / "imdb_wiki/wiki.mat"
MAY_1981 = 723671  # 5 May 1981 as a day number of MATLAB


def row(number: int, **changes: Any) -> dict[str, Any]:
    """A row that becomes a face: a woman of 28 years, one picture of person `number`."""
    good = {
        "dob": MAY_1981,
        "photo_taken": 2009,
        "full_path": f"{number % 100:02}/{number}_1981-05-05_2009.jpg",
        "gender": 0.0,
        "name": f"Person {number}",
        "face_score": 3.5,
        "second_face_score": math.nan,
    }
    return good | changes


def write_mat(path: Path, rows: Sequence[Mapping[str, Any]], name: str = "wiki", **more: Any) -> Path:
    """In the published form: one structure of 1 x N columns, texts in cells."""
    columns: dict[str, Any] = {}
    for column in rows[0]:
        values = [row[column] for row in rows]
        if isinstance(values[0], str):
            cells = np.empty((1, len(values)), object)
            cells[0, :] = [np.array([value]) if value else np.array([], "U1") for value in values]
            columns[column] = cells
        else:
            columns[column] = np.array([values], np.float64)
    for column, values in more.items():
        cells = np.empty((1, len(values)), object)
        cells[0, :] = values
        columns[column] = cells
    scipy_io.savemat(path, {name: columns})
    return path


def write_pictures(root: Path, numbers: Sequence[int]) -> Path:
    for number in numbers:
        file = root / row(number)["full_path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 7), (number, number, number)).save(file, "PNG" if number % 2 else "JPEG")
    return root


def listed(root: Path) -> dict[str, list[str]]:
    files = {split: root / f"{split}.txt" for split in SHARES}
    return {split: file.read_text().split() if file.exists() else [] for split, file in files.items()}


def written(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("dob", "photo_taken", "age"),
    [
        # Python's ordinal of a date is MATLAB's day number less 366; each date can be looked up with date.fromordinal.
        (MAY_1981, 2009, 28),  # 5 May 1981: the birthday was before July
        (723671 + 56, 2009, 28),  # 30 June 1981
        (723671 + 57, 2009, 27),  # 1 July 1981: half of the year's photos are from before
        (723671 + 240, 2009, 27),  # 31 December 1981
        (723671 + 241, 2009, 27),  # 1 January 1982
        (367, 50, 49),  # 1 January of the year 1
        (4, 50, 49),  # days before it count as that day
        (-3, 50, 49),
        (736011.75, 2015, 0),  # 18 February 2015, in the afternoon
    ],
)
def test_an_age_is_the_year_of_the_photo_less_that_of_the_birth_less_one_from_july_on(
    dob: float, photo_taken: float, age: int
) -> None:
    assert age_of(dob, photo_taken) == age


def test_a_row_becomes_a_name_an_age_a_gender_and_a_person(tmp_path: Path) -> None:
    rows = [row(1), row(2, gender=1.0, name="  Ann\n Öberg "), row(3, photo_taken=1990)]

    summary = prepare_imdb_wiki(write_mat(tmp_path / "wiki.mat", rows), tmp_path / "out")

    assert (tmp_path / "out/labels.csv").read_text(encoding="utf-8").splitlines() == [
        "name,age,gender,person",
        "01/1_1981-05-05_2009,28,female,Person 1",
        "02/2_1981-05-05_2009,28,male,Ann Öberg",
        "03/3_1981-05-05_2009,9,female,Person 3",
    ]
    assert summary.read == summary.labelled == sum(summary.splits.values()) == 3


BAD = {
    "no face was found": {"face_score": -math.inf},
    "a face score below 1": {"face_score": 0.99},
    "a second face": {"second_face_score": 0.01},
    "the gender is not known": {"gender": math.nan},
    "the birth date or the year of the photo is not known": {"dob": math.nan},
    "an age below 0 or over 100": {"photo_taken": 1980},
    "the path of the picture is not a plain one": {"full_path": "../../etc/7_1.jpg"},
    "the same picture as an earlier row": {"full_path": row(1)["full_path"]},
}


@pytest.mark.parametrize("name", ["imdb", "wiki"])
def test_every_kind_of_bad_row_is_counted_by_its_reason(tmp_path: Path, name: str) -> None:
    rows = [row(1), row(2, face_score=1.0, second_face_score=0.0)]
    for times, changes in enumerate(BAD.values(), start=1):
        rows += [row(100 * times + number, **changes) for number in range(times)]

    summary = prepare_imdb_wiki(write_mat(tmp_path / f"{name}.mat", rows, name), tmp_path / "out")

    assert dict(summary.dropped) == {reason: times for times, reason in enumerate(BAD, start=1)}
    assert summary.labelled == 2
    saved = json.loads((tmp_path / "out/summary.json").read_text())
    assert saved["dropped"] == dict(summary.dropped)
    assert list(saved["dropped"].values()) == sorted(saved["dropped"].values(), reverse=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"face_score": math.nan},
        {"gender": 2.0},
        {"dob": 1e9},
        {"photo_taken": math.nan},
        {"photo_taken": 2083.0},
        {"full_path": ""},
        {"full_path": "/etc/7_1.jpg"},
        {"full_path": "01/../7_1.jpg"},
        {"full_path": "01\\7_1.jpg"},
        {"full_path": "01/7_1\n.jpg"},
        {"full_path": "01/.7_1.jpg"},
        {"full_path": "01/7_1.mat"},
    ],
)
def test_odd_values_are_no_faces(tmp_path: Path, changes: Mapping[str, Any]) -> None:
    mat = write_mat(tmp_path / "wiki.mat", [row(1), row(2, **changes)])

    assert prepare_imdb_wiki(mat, tmp_path / "out").labelled == 1


def test_who_is_over_99_is_labelled_and_counted_and_in_no_list(tmp_path: Path) -> None:
    rows = [row(1), row(2, photo_taken=2080), row(3, photo_taken=2081), row(4, photo_taken=2082)]

    summary = prepare_imdb_wiki(write_mat(tmp_path / "wiki.mat", rows), tmp_path / "out")

    assert summary.labelled == 3  # of 28, 99 and 100 years; 101 is out of the published range
    assert summary.over_99_years == 1
    assert sum(summary.splits.values()) == 2
    assert "03/3_1981-05-05_2009,100,female" in (tmp_path / "out/labels.csv").read_text()
    assert "over 99 years: in no list" in summary.text()


def test_splits_have_no_person_in_common_and_about_the_papers_share(tmp_path: Path) -> None:
    people = 800
    rows = [row(number, name=f"Person {number % people}") for number in range(2 * people)]
    summary = prepare_imdb_wiki(write_mat(tmp_path / "wiki.mat", rows), tmp_path / "out")

    persons = [
        {int(name.split("/")[1].split("_")[0]) % people for name in names}
        for names in listed(tmp_path / "out").values()
    ]

    assert sum(map(len, persons)) == len(set().union(*persons)) == people
    assert list(summary.persons.values()) == [len(part) for part in persons]
    # 4 standard deviations of a share of 0.162 over 800 persons are 0.052.
    assert summary.persons["test"] / people == pytest.approx(2000 / 12325, abs=0.052)


def test_the_split_of_a_person_does_not_depend_on_other_rows(tmp_path: Path) -> None:
    rows = [row(number) for number in range(200)]
    prepare_imdb_wiki(write_mat(tmp_path / "all.mat", rows), tmp_path / "all")
    prepare_imdb_wiki(write_mat(tmp_path / "few.mat", rows[::-3]), tmp_path / "few")

    for few, everything in zip(listed(tmp_path / "few").values(), listed(tmp_path / "all").values(), strict=True):
        assert few
        assert set(few) <= set(everything)


def test_imdb_names_a_person_by_number_and_who_has_no_name_is_the_person_of_the_page(tmp_path: Path) -> None:
    rows = [
        row(1, celeb_id=2.0, name="B. Second"),
        row(2, celeb_id=2.0, name="Second, B."),
        row(3, celeb_id=math.nan, name="Third"),
        row(4, celeb_id=9.0, name=""),
        row(5, celeb_id=1.0, name="Fifth", full_path="04/4_1981-05-05_2010.jpg"),
        row(6, celeb_id=1.5, name="Sixth"),
    ]
    names = [np.array(["First"]), np.array(["Second"])]

    prepare_imdb_wiki(write_mat(tmp_path / "imdb.mat", rows, "imdb", celeb_names=names), tmp_path / "out")

    persons = [line.split(",")[3] for line in (tmp_path / "out/labels.csv").read_text().splitlines()[1:]]
    assert persons == ["Second", "Second", "Third", "4", "First", "Sixth"]


def test_without_pictures_the_lists_are_there_and_the_summary_says_what_is_wanting(tmp_path: Path) -> None:
    mat = write_mat(tmp_path / "wiki.mat", [row(number) for number in range(20)])

    summary = prepare_imdb_wiki(mat, tmp_path / "out")

    assert sum(summary.splits.values()) == 20
    assert "The pictures are not there" in summary.text()
    with pytest.raises(InputError, match="images does not exist"):
        open_dataset("folder", "train", path=str(tmp_path / "out"))


def test_pictures_are_read_where_they_are_and_missing_and_damaged_ones_are_counted(tmp_path: Path) -> None:
    crops = write_pictures(tmp_path / "wiki_crop", range(30))
    (crops / row(4)["full_path"]).unlink()
    (crops / row(5)["full_path"]).unlink()
    (crops / row(6)["full_path"]).write_bytes(b"no picture")
    before = sorted(path for path in crops.rglob("*"))
    mat = write_mat(tmp_path / "wiki.mat", [row(number) for number in range(30)])

    summary = prepare_imdb_wiki(mat, tmp_path / "out", images=crops)

    assert dict(summary.without_picture) == {"missing picture": 2, "damaged picture": 1}
    assert summary.labelled == 30
    assert sum(summary.splits.values()) == 27
    assert sorted(path for path in crops.rglob("*")) == before
    assert (tmp_path / "out/images").resolve() == crops.resolve()
    dataset = open_dataset("folder", "train", path=str(tmp_path / "out"))
    assert dataset.names == listed(tmp_path / "out")["train"]
    for sample in (dataset[index] for index in range(len(dataset))):
        assert int(sample.image[0, 0, 0]) == pytest.approx(
            int(sample.name[3:].split("_")[0]), abs=1
        )  # a grey JPEG is off by one at most
        assert sample.targets["age"] == 28


def test_pictures_that_lie_in_the_output_are_used(tmp_path: Path) -> None:
    write_pictures(tmp_path / "out/images", range(9))
    mat = write_mat(tmp_path / "wiki.mat", [row(number) for number in range(10)])

    summary = prepare_imdb_wiki(mat, tmp_path / "out")

    assert dict(summary.without_picture) == {"missing picture": 1}
    assert summary.pictures == "checked"


def test_other_pictures_than_before_are_refused(tmp_path: Path) -> None:
    first, second = (write_pictures(tmp_path / name, range(3)) for name in ("first", "second"))
    mat = write_mat(tmp_path / "wiki.mat", [row(number) for number in range(3)])
    prepare_imdb_wiki(mat, tmp_path / "out", images=first)
    before = written(tmp_path / "out")

    with pytest.raises(InputError, match=r"out/images is there and is not .*second"):
        prepare_imdb_wiki(mat, tmp_path / "out", images=second)
    with pytest.raises(InputError, match=r"folder of pictures .*third does not exist"):
        prepare_imdb_wiki(mat, tmp_path / "out", images=tmp_path / "third")
    prepare_imdb_wiki(mat, tmp_path / "out", images=first)

    assert written(tmp_path / "out") == before


def test_a_stopped_check_goes_on_and_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crops = write_pictures(tmp_path / "wiki_crop", range(40))
    (crops / row(30)["full_path"]).write_bytes(b"no picture")
    mat = write_mat(tmp_path / "wiki.mat", [row(number) for number in range(40)])
    prepare_imdb_wiki(mat, tmp_path / "expected", images=crops)
    monkeypatch.setattr(blocks, "BLOCK", 4)
    read: list[Path] = []

    def stopping(after: int) -> Callable[[Path], object]:
        def look(file: Path) -> object:
            read.append(file)
            if len(read) > after:
                raise KeyboardInterrupt
            return read_picture(file)

        return look

    monkeypatch.setattr(checked_pictures, "read_picture", stopping(after=22))
    with pytest.raises(KeyboardInterrupt):
        prepare_imdb_wiki(mat, tmp_path / "out", images=crops)
    assert not (tmp_path / "out/labels.csv").exists()
    with open(tmp_path / "out" / checked_pictures.JOURNAL, "a") as journal:
        journal.write("33/33_198")  # a power cut in the middle of a line
    read.clear()
    monkeypatch.setattr(checked_pictures, "read_picture", stopping(after=100))
    prepare_imdb_wiki(mat, tmp_path / "out", images=crops)

    assert len(read) == 20  # of 40, five blocks of four were done
    assert written(tmp_path / "out") == written(tmp_path / "expected")


def test_a_file_that_is_no_such_file_is_refused(tmp_path: Path) -> None:
    whole = write_mat(tmp_path / "whole.mat", [row(number) for number in range(50)]).read_bytes()
    (tmp_path / "cut.mat").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "note.mat").write_text("hello")
    (tmp_path / "v73.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(600))
    scipy_io.savemat(tmp_path / "other.mat", {"faces": np.ones(3)})
    scipy_io.savemat(tmp_path / "matrix.mat", {"wiki": np.ones(3)})
    few = row(1)
    del few["face_score"]
    write_mat(tmp_path / "few.mat", [few])
    write_mat(tmp_path / "text.mat", [row(1, gender="female")])
    write_mat(tmp_path / "number.mat", [row(1, name=3.0)])
    scipy_io.savemat(tmp_path / "lengths.mat", {"wiki": {**write_columns(), "dob": np.ones((1, 2))}})

    for name, message in (
        ("lost.mat", "does not exist"),
        ("cut.mat", "cannot be read as a MATLAB 5 file"),
        ("note.mat", "cannot be read as a MATLAB 5 file"),
        ("v73.mat", "cannot be read as a MATLAB 5 file"),
        ("other.mat", "no structure 'imdb' or 'wiki'"),
        ("matrix.mat", "no structure 'imdb' or 'wiki'"),
        ("few.mat", "no column 'face_score'"),
        ("text.mat", "gender holds object; expected numbers"),
        ("number.mat", "name holds float64; expected texts"),
        ("lengths.mat", r"columns of different lengths \(2, 1"),
    ):
        with pytest.raises(InputError, match=message):
            prepare_imdb_wiki(tmp_path / name, tmp_path / "out")


def write_columns() -> dict[str, Any]:
    """One good row, as columns."""
    texts = ("full_path", "name")
    return {key: np.array([[value]], object if key in texts else np.float64) for key, value in row(1).items()}


def test_a_file_without_a_usable_row_says_why(tmp_path: Path) -> None:
    mat = write_mat(tmp_path / "wiki.mat", [row(1, gender=math.nan)])

    with pytest.raises(InputError, match="no usable face: 1 x the gender is not known"):
        prepare_imdb_wiki(mat, tmp_path / "out")


def test_a_split_without_a_face_has_no_list(tmp_path: Path) -> None:
    mat = write_mat(tmp_path / "wiki.mat", [row(number) for number in range(100)])
    prepare_imdb_wiki(mat, tmp_path / "out")
    assert all(listed(tmp_path / "out").values())
    prepare_imdb_wiki(mat, tmp_path / "out", images=write_pictures(tmp_path / "wiki_crop", [1]))
    (there,) = [split for split, names in listed(tmp_path / "out").items() if names]
    other = next(split for split in SHARES if split != there)

    assert len(open_dataset("folder", there, path=str(tmp_path / "out"))) == 1
    with pytest.raises(ConfigError, match=there):
        open_dataset("folder", other, path=str(tmp_path / "out"))


@pytest.mark.skipif(not REAL.is_file(), reason=f"wiki.mat is not there: {REAL} (set NDDR_TEST_DATA)")
def test_the_published_wiki_gives_exactly_38138_faces(tmp_path: Path) -> None:
    summary = prepare_imdb_wiki(REAL, tmp_path / "out")

    assert summary.read == 62_328
    assert summary.labelled == 38_138
    assert dict(summary.dropped) == {
        "no face was found": 18_016,
        "a second face": 4_070,
        "a face score below 1": 1_319,
        "the gender is not known": 736,
        "an age below 0 or over 100": 49,
    }
    assert summary.over_99_years == 12
    assert sum(summary.splits.values()) == 38_126
    table = (tmp_path / "out/labels.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert len(table) == 38_138
    person_of = {line.split(",")[0]: line.split(",", 3)[3] for line in table}
    persons = [{person_of[name] for name in names} for names in listed(tmp_path / "out").values()]
    assert sum(map(len, persons)) == len(set().union(*persons))
    assert "17/10000217_1981-05-05_2009,28,male,Sami Jauhojärvi" in table
