from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nddr_deploy.data import open_dataset
from nddr_deploy.errors import ConfigError, InputError

HW = (20, 30)


def write_folder(root: Path, names: tuple[str, ...] = ("a", "b")) -> Path:
    """Two small pictures with every kind of label."""
    for part in ("images", "segmentation", "depth", "normals"):
        (root / part).mkdir()
    (root / "classes.txt").write_text("floor\nwall\n")
    for index, name in enumerate(names):
        Image.fromarray(np.full((*HW, 3), 50 * index, np.uint8)).save(root / "images" / f"{name}.png")
        labels = np.zeros(HW, np.uint8)
        labels[:10], labels[0] = 1, 255
        Image.fromarray(labels).save(root / "segmentation" / f"{name}.png")
        Image.fromarray(np.full(HW, 2345, np.uint16)).save(root / "depth" / f"{name}.png")
        normals = np.zeros((*HW, 3), np.float16)
        normals[1:, :, 2] = -1
        np.save(root / "normals" / f"{name}.npy", normals)
    rows = "\n".join(f"{name}, {30 + index}, {('male', 'female')[index]}" for index, name in enumerate(names))
    (root / "labels.csv").write_text(f"name, age, gender\n{rows}\n")
    return root


def test_every_kind_of_label_comes_in_its_unit(tmp_path: Path) -> None:
    dataset = open_dataset("folder", "train", path=str(write_folder(tmp_path)))
    sample = dataset[1]

    assert [task.name for task in dataset.tasks] == ["segmentation", "normals", "depth", "age", "gender"]
    assert dataset.tasks[0].options()["classes"] == ["floor", "wall"] or dataset.tasks[0].channels == 2
    assert sample.name == "b"
    assert sample.image[0, 0].tolist() == [50, 50, 50]
    assert sample.targets["segmentation"][[0, 1, 19], 0].tolist() == [255, 1, 0]
    assert sample.targets["depth"] == pytest.approx(2.345, abs=1e-6)
    assert sample.targets["normals"][[0, 1], 0].tolist() == [[0, 0, 0], [0, 0, -1]]
    assert sample.targets["age"] == 31
    assert sample.targets["gender"] == 1
    assert {name: target.dtype.name for name, target in sample.targets.items()} == {
        "segmentation": "uint8",
        "normals": "float32",
        "depth": "float32",
        "age": "float32",
        "gender": "int64",
    }


def test_yes_or_no_labels_keep_what_is_not_labelled_also_at_the_border(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    mask = np.zeros(HW, np.uint8)
    mask[:10], mask[0] = 1, 255
    for task in ("sal", "edge"):
        (root / task).mkdir()
        for name in ("a", "b"):
            Image.fromarray(mask).save(root / task / f"{name}.png")
    Image.fromarray(mask == 1).save(root / "edge" / "a.png")  # 1 bit a pixel

    dataset = open_dataset("folder", "train", path=str(root), tasks=["edge", "sal"], size_hw=[60, 60])

    assert [task.kind for task in dataset.tasks] == ["binary", "binary"]
    for task, first in (("edge", 0), ("sal", 255)):
        target = dataset[0].targets[task]
        assert target.dtype == np.uint8
        assert target[[0, 9, 10, 12, 49, 50], 30].tolist() == [255, 255, first, 1, 0, 255]


@pytest.mark.parametrize(("values", "sentence"), [((0, 255), "values 0, 255;.*Divide"), ((0, 1, 2), "values 0, 1, 2;")])
def test_a_mask_that_may_mean_something_else_is_refused(tmp_path: Path, values: tuple[int, ...], sentence: str) -> None:
    root = write_folder(tmp_path)
    (root / "edge").mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.resize(np.array(values, np.uint8), HW)).save(root / "edge" / f"{name}.png")

    with pytest.raises(InputError, match=f"edge/a.png.*{sentence}"):
        open_dataset("folder", "train", path=str(root), tasks=["edge"])[0]


def test_depth_may_be_metres_in_a_numpy_file(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    (root / "depth" / "a.png").unlink()
    np.save(root / "depth" / "a.npy", np.full(HW, 1.5))

    assert open_dataset("folder", "train", path=str(root), tasks=["depth"])[0].targets["depth"].max() == 1.5


def test_split_files_choose_the_samples_and_their_order(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    (root / "train.txt").write_text("b\n")
    (root / "val.txt").write_text("b\na\n")

    assert [sample.name for sample in open_dataset("folder", "train", path=str(root))] == ["b"]
    assert [sample.name for sample in open_dataset("folder", "val", path=str(root))] == ["b", "a"]
    assert len(open_dataset("folder", "val", path=str(root), count=1)) == 1
    with pytest.raises(ConfigError, match="train, val"):
        open_dataset("folder", "test", path=str(root))


def test_fitting_keeps_labels_on_their_pixels_and_leaves_the_border_unlabelled(tmp_path: Path) -> None:
    sample = open_dataset("folder", "train", path=str(write_folder(tmp_path)), size_hw=[60, 60])[0]

    labels = sample.targets["segmentation"]
    assert sample.image.shape == (60, 60, 3)
    assert (labels[:10] == 255).all()  # 20x30 becomes 40x60, ten rows of border above and below
    assert (labels[-10:] == 255).all()
    assert labels[10:50][[0, 1, 2, 19, 20, 39], 0].tolist() == [255, 255, 1, 1, 0, 0]
    assert (sample.targets["depth"][:10] == 0).all()
    assert sample.targets["normals"][30, 30].tolist() == [0, 0, -1]


def break_labels(root: Path) -> None:
    Image.fromarray(np.full(HW, 2, np.uint8)).save(root / "segmentation" / "a.png")


def break_size(root: Path) -> None:
    Image.fromarray(np.zeros((30, 20), np.uint8)).save(root / "segmentation" / "a.png")


def break_mode(root: Path) -> None:
    Image.fromarray(np.zeros((*HW, 3), np.uint8)).save(root / "segmentation" / "a.png")


def break_depth_bits(root: Path) -> None:
    Image.fromarray(np.zeros(HW, np.uint8)).save(root / "depth" / "a.png")


def break_depth_sign(root: Path) -> None:
    (root / "depth" / "a.png").unlink()
    np.save(root / "depth" / "a.npy", np.full(HW, -1.0))


def break_normals_length(root: Path) -> None:
    np.save(root / "normals" / "a.npy", np.full((*HW, 3), -0.9, np.float32))


def break_normals_direction(root: Path) -> None:
    normals = np.zeros((*HW, 3), np.float32)
    normals[..., 2] = 1
    np.save(root / "normals" / "a.npy", normals)


def break_normals_type(root: Path) -> None:
    np.save(root / "normals" / "a.npy", np.zeros((*HW, 3), np.uint8))


def break_normals_shape(root: Path) -> None:
    np.save(root / "normals" / "a.npy", np.zeros(HW, np.float32))


def break_normals_file(root: Path) -> None:
    (root / "normals" / "a.npy").write_bytes(b"no array")


def break_label_file(root: Path) -> None:
    (root / "segmentation" / "a.png").write_bytes(b"no picture")


def break_picture(root: Path) -> None:
    (root / "images" / "a.png").write_bytes(b"")


def break_age(root: Path) -> None:
    (root / "labels.csv").write_text("name,age,gender\na,old,male\nb,3,female\n")


def break_gender(root: Path) -> None:
    (root / "labels.csv").write_text("name,age,gender\na,3,0\nb,3,female\n")


@pytest.mark.parametrize(
    ("breaks", "file", "expected"),
    [
        (break_labels, "segmentation/a.png", "names 2 classes"),
        (break_size, "segmentation/a.png", "its picture is 20x30"),
        (break_mode, "segmentation/a.png", "one channel"),
        (break_depth_bits, "depth/a.png", "16-bit"),
        (break_depth_sign, "depth/a.npy", "negative"),
        (break_normals_length, "normals/a.npy", "unit"),
        (break_normals_direction, "normals/a.npy", "away from the camera"),
        (break_normals_type, "normals/a.npy", "uint8"),
        (break_normals_shape, "normals/a.npy", r"\(20, 30\)"),
        (break_normals_file, "normals/a.npy", "numpy"),
        (break_label_file, "segmentation/a.png", "picture"),
        (break_picture, "images/a.png", "empty"),
        (break_age, "labels.csv", "'old'"),
        (break_gender, "labels.csv", "male, female"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, breaks: Callable[[Path], None], file: str, expected: str) -> None:
    root = write_folder(tmp_path)
    breaks(root)
    dataset = open_dataset("folder", "train", path=str(root))

    with pytest.raises(InputError, match=expected) as caught:
        dataset[0]

    assert str(root / file) in str(caught.value)
    assert dataset[1].name == "b"


def lose_label(root: Path) -> None:
    (root / "segmentation" / "b.png").unlink()


def lose_row(root: Path) -> None:
    (root / "labels.csv").write_text("name,age,gender\na,3,male\n")


def lose_classes(root: Path) -> None:
    (root / "classes.txt").unlink()


def lose_pictures(root: Path) -> None:
    for file in (root / "images").iterdir():
        file.unlink()


def list_a_stranger(root: Path) -> None:
    (root / "train.txt").write_text("a\nstranger\n")


def list_nothing(root: Path) -> None:
    (root / "train.txt").write_text("\n")


def repeat_a_name(root: Path) -> None:
    Image.new("RGB", (30, 20)).save(root / "images" / "a.jpg")


@pytest.mark.parametrize(
    ("breaks", "file"),
    [
        (lose_label, "segmentation/b.png"),
        (lose_row, "labels.csv"),
        (lose_classes, "classes.txt"),
        (lose_pictures, "images"),
        (list_a_stranger, "train.txt"),
        (list_nothing, "train.txt"),
        (repeat_a_name, "images/a.jpg"),
    ],
)
def test_what_is_missing_is_said_on_opening(tmp_path: Path, breaks: Callable[[Path], None], file: str) -> None:
    root = write_folder(tmp_path)
    breaks(root)

    with pytest.raises(InputError) as caught:
        open_dataset("folder", "train", path=str(root))

    assert str(root / file) in str(caught.value)


def test_a_folder_without_labels_or_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_dataset("folder", "train", path=str(tmp_path / "none"))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is no folder"):
        open_dataset("folder", "train", path=str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"images does not exist\. Give a folder with the pictures in images/"):
        open_dataset("folder", "train", path=str(tmp_path))
    (tmp_path / "images").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "images" / "a.png")
    with pytest.raises(InputError, match="no labels"):
        open_dataset("folder", "train", path=str(tmp_path))


def test_names_may_have_folders_in_them_and_images_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    root = write_folder(tmp_path / "data")
    for part in ("images", "segmentation", "depth", "normals"):
        (root / part / "kitchen").mkdir()
        for file in list((root / part).glob("b.*")):
            file.rename(root / part / "kitchen" / file.name)
    (root / "labels.csv").write_text("name,age,gender\na,30,male\nkitchen/b,31,female\n")
    (root / "images").rename(tmp_path / "elsewhere")
    (root / "images").symlink_to(tmp_path / "elsewhere")

    samples = list(open_dataset("folder", "train", path=str(root)))

    assert [sample.name for sample in samples] == ["a", "kitchen/b"]
    assert samples[1].image[0, 0].tolist() == [50, 50, 50]
    assert samples[1].targets["age"] == 31


def test_a_list_cannot_name_what_lies_outside_of_images(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    root = write_folder(tmp_path / "data")
    Image.new("RGB", (30, 20)).save(tmp_path / "secret.png")
    (root / "train.txt").write_text("../../secret\n")

    with pytest.raises(InputError, match=r"names '\.\./\.\./secret', but .* has no picture of that name"):
        open_dataset("folder", "train", path=str(root))


def test_hidden_files_are_no_samples(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    (root / "images" / "._a.png").write_bytes(b"left by another system")
    (root / "images" / ".thumbnails").mkdir()
    (root / "images" / ".thumbnails" / "c.png").write_bytes(b"")
    (root / "._train.txt").write_text("a")

    assert open_dataset("folder", "val", path=str(root)).names == ["a", "b"]


def test_twelve_thousand_samples_are_opened_at_once(tmp_path: Path) -> None:
    """In a quarter of a second; the limit leaves room for a busy machine."""
    (tmp_path / "images").mkdir()
    for number in range(12_000):
        (tmp_path / f"images/{number}.jpg").touch()
    (tmp_path / "labels.csv").write_text("name,age\n" + "".join(f"{number},30\n" for number in range(12_000)))

    begin = time.thread_time()
    dataset = open_dataset("folder", "train", path=str(tmp_path))

    assert len(dataset) == 12_000
    assert time.thread_time() - begin < 1.0


def test_a_second_set_of_classes_has_its_own_folder_and_names(tmp_path: Path) -> None:
    for part in ("images", "segmentation", "coarse"):
        (tmp_path / part).mkdir()
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(tmp_path / "images" / "one.png")
    Image.fromarray(np.full((20, 24), 2, np.uint8)).save(tmp_path / "segmentation" / "one.png")
    Image.fromarray(np.full((20, 24), 1, np.uint8)).save(tmp_path / "coarse" / "one.png")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    (tmp_path / "coarse" / "classes.txt").write_text("x\ny\n")

    fine = open_dataset("folder", path=str(tmp_path))
    coarse = open_dataset("folder", path=str(tmp_path), segmentation="coarse")

    assert (fine.tasks[0].classes, coarse.tasks[0].classes) == (("a", "b", "c"), ("x", "y"))
    assert (fine[0].targets["segmentation"] == 2).all()
    assert (coarse[0].targets["segmentation"] == 1).all()


@pytest.mark.parametrize("name", ["fine", "../coarse", ""])
def test_labels_in_a_folder_that_is_not_there_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "coarse").mkdir()
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(tmp_path / "data" / "images" / "one.png")

    with pytest.raises(InputError, match=r"has no sub-folder .* with labels"):
        open_dataset("folder", path=str(tmp_path / "data"), segmentation=name)
