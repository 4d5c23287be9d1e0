"""A user's folder is checked as a whole: all that is wrong is named, and what is there is summed up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nddr_deploy.data.prepare.check_folder import check_folder
from nddr_deploy.errors import InputError

HW = (10, 20)


def write_folder(root: Path, names: tuple[str, ...] = ("a", "room/b", "room/c")) -> Path:
    """Three samples with every task; the first row of each label is not known, and c is 11 pixels high."""
    for number, name in enumerate(names):
        height, width = (11, 20) if name.endswith("c") else HW
        for folder in ("images", "segmentation", "depth", "normals", "edge"):
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, height)).save(root / f"images/{name}.png")
        labels = np.zeros((height, width), np.uint8)
        labels[:, :5], labels[0] = 1, 255
        Image.fromarray(labels).save(root / f"segmentation/{name}.png")
        edges = np.where(labels == 255, 255, 1 - labels).astype(np.uint8)
        Image.fromarray(edges).save(root / f"edge/{name}.png")
        depth = np.full((height, width), 1500 + 250 * number, np.uint16)
        depth[0] = 0
        Image.fromarray(depth).save(root / f"depth/{name}.png")
        normals = np.zeros((height, width, 3), np.float32)
        normals[1:, :, 2] = -1
        np.save(root / f"normals/{name}.npy", normals)
    (root / "classes.txt").write_text("wall\nfloor\nsofa\n")
    table = [f"{name},{20 + 10 * number},{'male' if number else 'female'}" for number, name in enumerate(names)]
    (root / "labels.csv").write_text("\n".join(["name,age,gender", *table]) + "\n")
    return root


def test_a_folder_is_summed_up_task_by_task(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    (root / "train.txt").write_text("a\nroom/b\n")
    (root / "test.txt").write_text("room/c\n")

    report = check_folder(root)

    assert report.problems == []
    assert report.text().splitlines() == [
        f"{root}",
        "  train         2 samples",
        "  test          1 samples",
        "  pictures      10x20 to 11x20 (height x width)",
        # 60 of the 620 pixels are in a first row; of the rest, a quarter is in the first 5 of 20 columns.
        "  segmentation  3 classes, 9.7 % not known; of what is known:",
        "                wall 75.00 %",
        "                floor 25.00 %",
        "                sofa 0.00 %",
        "  normals       9.7 % not known",
        "  depth         1.50 to 2.00 m, 9.7 % not known",
        "  edge          no 25.00 %, yes 75.00 %; 9.7 % not known",
        "  age           20 to 40 years, mean 30.0",
        "  gender        male 66.67 %, female 33.33 %",
        "  note          1 of 3 classes have no pixel: sofa",
    ]


def break_picture(root: Path) -> str:
    (root / "images/room/b.png").write_bytes(b"")
    return "images/room/b.png"


def break_label_id(root: Path) -> str:
    Image.fromarray(np.full(HW, 3, np.uint8)).save(root / "segmentation/a.png")
    return "segmentation/a.png"


def break_alignment(root: Path) -> str:
    Image.fromarray(np.zeros((11, 20), np.uint16)).save(root / "depth/a.png")
    return "depth/a.png"


def break_range(root: Path) -> str:
    np.save(root / "normals/room/c.npy", np.full((11, 20, 3), -2, np.float32))
    return "normals/room/c.npy"


def break_mask(root: Path) -> str:
    Image.fromarray(np.array([0, 255] * 100, np.uint8).reshape(HW)).save(root / "edge/a.png")
    return "edge/a.png"


def lose_label(root: Path) -> str:
    (root / "depth/room/b.png").unlink()
    return "depth/room/b.png"


def break_cell(root: Path) -> str:
    table = root / "labels.csv"
    table.write_text(table.read_text().replace("room/b,30", "room/b,100"))
    return "labels.csv"


def list_a_stranger(root: Path) -> str:
    (root / "train.txt").write_text("a\nstranger\nroom/b\nroom/c\n")
    return "train.txt"


def list_what_lies_outside(root: Path) -> str:
    (root / "train.txt").write_text("../images/a\na\nroom/b\nroom/c\n")
    return "train.txt"


def empty_a_list(root: Path) -> str:
    (root / "train.txt").write_text("a\nroom/b\nroom/c\n")
    (root / "val.txt").write_text("\n")
    return "val.txt"


BREAKS = (
    break_picture,
    break_label_id,
    break_alignment,
    break_range,
    break_mask,
    lose_label,
    break_cell,
    list_a_stranger,
    list_what_lies_outside,
    empty_a_list,
)


@pytest.mark.parametrize("breaks", BREAKS)
def test_what_is_wrong_is_named_and_nothing_else(tmp_path: Path, breaks: Callable[[Path], str]) -> None:
    root = write_folder(tmp_path)
    file = breaks(root)

    (problem,) = check_folder(root).problems

    assert str(root / file) in problem


def test_all_that_is_wrong_is_listed_and_the_rest_is_still_summed_up(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    files = [breaks(root) for breaks in BREAKS[1:7]]

    report = check_folder(root)

    assert len(report.problems) == len(files)
    for file in files:
        assert sum(str(root / file) in problem for problem in report.problems) == 1
    assert "age           20 to 40 years, mean 30.0" in report.text()  # b, of 30 years, was made 100


def test_without_lists_every_split_has_all_and_that_is_said(tmp_path: Path) -> None:
    report = check_folder(write_folder(tmp_path))

    assert report.splits == {"train": 3, "val": 3, "test": 3}
    assert "no lists such as train.txt" in report.text()


def test_names_in_two_lists_or_in_none_are_worth_a_note(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    (root / "train.txt").write_text("a\na\n")
    (root / "val.txt").write_text("a\n")

    report = check_folder(root)

    assert report.problems == []
    assert report.notes[:3] == [
        "1 names are twice in train.txt",
        "1 names are in train.txt and in val.txt",
        "2 pictures are in no list",
    ]


def test_depths_that_are_rather_millimetres_are_worth_a_note(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    (root / "depth/a.png").unlink()
    np.save(root / "depth/a.npy", np.full(HW, 1500.0, np.float32))

    assert "depth up to 1,500 m: files .npy hold metres, not millimetres" in check_folder(root).notes


def test_a_task_without_one_good_label_is_said_to_be_so(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    for file in (root / "normals").rglob("*.npy"):
        file.write_bytes(b"")

    report = check_folder(root)

    assert len(report.problems) == 3
    assert "  normals       no label could be read" in report.text().splitlines()


def test_labels_that_know_nothing_are_no_error(tmp_path: Path) -> None:
    root = write_folder(tmp_path, ("a",))
    Image.fromarray(np.full(HW, 255, np.uint8)).save(root / "segmentation/a.png")
    Image.fromarray(np.zeros(HW, np.uint16)).save(root / "depth/a.png")
    np.save(root / "normals/a.npy", np.zeros((*HW, 3), np.float32))

    lines = check_folder(root).text().splitlines()

    assert "  segmentation  3 classes, 100.0 % not known; of what is known:" in lines
    assert "  depth         100.0 % not known" in lines
    assert "  normals       100.0 % not known" in lines


def test_a_folder_that_cannot_be_checked_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="images does not exist"):
        check_folder(tmp_path)


def test_more_samples_than_are_looked_at_together_are_all_counted(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(300):
        Image.new("RGB", (2, 2)).save(tmp_path / f"images/{number}.png")
    rows = [f"{number},{number % 100}" for number in range(300)]
    (tmp_path / "labels.csv").write_text("\n".join(["name,age", *rows]))

    report = check_folder(tmp_path)

    assert report.sizes == {(2, 2): 300}
    assert report.facts["age"].known == 300
    assert report.facts["age"].total == 3 * 4950
