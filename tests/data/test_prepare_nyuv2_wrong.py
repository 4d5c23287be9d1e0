"""Public forms of NYU Depth v2 that are incomplete, damaged or said in a wrong way: one sentence, and nothing mixed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from nyuv2_fakes import npz_frame, scenes, survey_archive, with_lists, write_meta, write_official
from PIL import Image

from nddr_deploy.data import open_dataset
from nddr_deploy.data.prepare.nyuv2 import prepare_nyuv2
from nddr_deploy.errors import InputError

OFFICIAL = "nyu_depth_v2_labeled.mat"


def plain(folder: Path, names: tuple[str, ...] = ("0002", "0003")) -> None:
    for part in ("rgb", "seg40", "depth_mm"):
        (folder / part).mkdir(parents=True)
    for name in names:
        Image.fromarray(np.full((16, 20, 3), 90, np.uint8)).save(folder / "rgb" / f"{name}.png")
        Image.fromarray(np.full((16, 20), 3, np.uint8)).save(folder / "seg40" / f"{name}.png")
        Image.fromarray(np.full((16, 20), 2500, np.uint16)).save(folder / "depth_mm" / f"{name}.png")


def test_other_axes_than_before_are_not_answered_with_the_normals_of_before(tmp_path: Path) -> None:
    with_lists(tmp_path / "nyu")
    prepare_nyuv2(tmp_path / "nyu", tmp_path / "out", normals_axes=("right", "up", "toward"))

    with pytest.raises(InputError, match="or this one with other classes or axes"):
        prepare_nyuv2(tmp_path / "nyu", tmp_path / "out", normals_axes=("left", "up", "toward"))


def test_classes_that_came_to_hand_later_are_not_said_to_be_there(tmp_path: Path) -> None:
    write_official(tmp_path / OFFICIAL, scenes(3))
    write_meta(tmp_path, 3)
    (tmp_path / "class13Mapping.mat").rename(tmp_path / "later")
    assert prepare_nyuv2(tmp_path / OFFICIAL, tmp_path / "out").labels == {"segmentation": 40}
    (tmp_path / "later").rename(tmp_path / "class13Mapping.mat")

    with pytest.raises(InputError, match="or this one with other classes or axes"):
        prepare_nyuv2(tmp_path / OFFICIAL, tmp_path / "out")


def test_a_run_that_is_complete_says_so_and_keeps_every_byte(tmp_path: Path) -> None:
    write_official(tmp_path / OFFICIAL, scenes(3))
    write_meta(tmp_path, 4)
    first = prepare_nyuv2(tmp_path / OFFICIAL, tmp_path / "out")
    written = (tmp_path / "out" / "summary.json").read_bytes()

    again = prepare_nyuv2(tmp_path / OFFICIAL, tmp_path / "out")

    assert "earlier run" not in first.text()
    assert "3 frames written, all of them by an earlier run" in again.text()
    assert (tmp_path / "out" / "summary.json").read_bytes() == written
    assert json.loads(written)["dropped"] == {"named by splits.mat but not in the file": 1}


def test_arrays_that_lie_in_another_file_are_not_followed(tmp_path: Path) -> None:
    write_official(tmp_path / "secret.h5", scenes(3))
    write_meta(tmp_path, 3)
    kept = (tmp_path / "secret.h5").read_bytes()
    path = tmp_path / OFFICIAL
    for how in ("link", "soft", "virtual", "raw"):
        path.write_bytes(kept)
        with h5py.File(path, "r+") as file:
            images = file["images"]
            shape = images.shape
            del file["images"]
            if how == "link":
                file["images"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/images")
            elif how == "soft":
                file["there"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/")
                file["images"] = h5py.SoftLink("/there/images")
            elif how == "virtual":
                layout = h5py.VirtualLayout(shape, np.uint8)
                layout[...] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "images", shape)
                file.create_virtual_dataset("images", layout)
            else:
                size = int(np.prod(shape))
                file.create_dataset("images", shape, np.uint8, external=[(str(tmp_path / "secret.h5"), 0, size)])

        with pytest.raises(InputError, match="images lies in another file"):
            prepare_nyuv2(path, tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_a_damaged_official_file_is_refused_however_its_reader_fails(tmp_path: Path) -> None:
    write_official(tmp_path / "whole.mat", scenes(3, 8, 10))
    write_meta(tmp_path, 3)
    whole = (tmp_path / "whole.mat").read_bytes()
    path = tmp_path / OFFICIAL
    for length in range(600, len(whole), len(whole) // 25):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=OFFICIAL):
            prepare_nyuv2(path, tmp_path / "out")
    with h5py.File(tmp_path / "whole.mat", "r") as file:
        start = 512 + h5py.h5o.get_info(file["depths"].id).addr  # after what MATLAB puts before HDF5
    random, refused = np.random.default_rng(1), 0
    for trial in range(40):
        damaged = bytearray(whole)
        damaged[start : start + 200] = random.integers(0, 256, 200).astype(np.uint8).tobytes()
        path.write_bytes(damaged)
        try:
            prepare_nyuv2(path, tmp_path / f"out{trial}")
        except InputError:
            refused += 1
    assert refused == 40


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("classMapping40.mat", {"mapClass": np.array([[0, 41]]), "className": 40}, "expected classes from 1 to 40"),
        ("classMapping40.mat", {"mapClass": np.array([["a"]]), "className": 40}, "expected numbers"),
        ("classMapping40.mat", {"mapClass": np.ones((1, 894)), "className": 39}, "names of 40 classes"),
        ("class13Mapping.mat", {"labels13": np.ones((1, 39)), "classNames": 13}, "has 39 labels"),
        ("splits.mat", {"trainNdxs": np.array([[1], [2]]), "testNdxs": np.array([[2]])}, "named twice"),
        ("splits.mat", {"trainNdxs": np.array([[1], [2]])}, "has no 'testNdxs'"),
    ],
)
def test_tables_that_are_not_as_published_are_refused(
    tmp_path: Path, name: str, content: dict[str, object], message: str
) -> None:
    write_official(tmp_path / OFFICIAL, scenes(3))
    write_meta(tmp_path, 3)
    for key, value in content.items():
        if isinstance(value, int):
            content = {**content, key: np.array([[f"class {number}" for number in range(value)]], object)}
    scipy.io.savemat(tmp_path / name, {"classMapping13": content} if name.startswith("class13") else content)

    with pytest.raises(InputError, match=message) as refused:
        prepare_nyuv2(tmp_path / OFFICIAL, tmp_path / "out")

    assert str(tmp_path / name) in str(refused.value)


@pytest.mark.parametrize("part", ["normals", "depth", "edge"])
def test_a_frame_of_the_survey_archive_without_what_the_others_have_is_named(tmp_path: Path, part: str) -> None:
    survey_archive(tmp_path / "NYUD_MT")
    (tmp_path / "NYUD_MT" / part / "b.npy").unlink()

    with pytest.raises(InputError, match=f"{part}/b.npy cannot be read"):
        prepare_nyuv2(tmp_path / "NYUD_MT", tmp_path / "out")


def test_edges_of_the_survey_archive_may_be_of_any_kind_of_number(tmp_path: Path) -> None:
    survey_archive(tmp_path / "NYUD_MT")
    edge = np.zeros((48, 64, 1), np.uint8)
    edge[4], edge[5] = 1, 255
    np.save(tmp_path / "NYUD_MT" / "edge" / "c.npy", edge)
    np.save(tmp_path / "NYUD_MT" / "edge" / "a.npy", edge[..., 0] == 1)

    prepare_nyuv2(tmp_path / "NYUD_MT", tmp_path / "out")

    (test,) = open_dataset("folder", "test", path=str(tmp_path / "out"))
    assert np.array_equal(test.targets["edge"], edge[..., 0])
    assert open_dataset("folder", "train", path=str(tmp_path / "out"))[0].targets["edge"].sum() == 64


@pytest.mark.parametrize(
    ("part", "shape", "message"),
    [
        ("normals", (48, 64), r"normals/a.npy has the shape \(48, 64\)"),
        ("normals", (40, 64, 3), r"its depth \(48, 64\)"),
        ("depth", (48, 64, 3), "depth/a.npy has the shape"),
        ("edge", (48, 60), "edge has 48x60 pixels, the picture 48x64"),
    ],
)
def test_arrays_of_another_shape_are_named(tmp_path: Path, part: str, shape: tuple[int, ...], message: str) -> None:
    survey_archive(tmp_path / "NYUD_MT")
    np.save(tmp_path / "NYUD_MT" / part / "a.npy", np.ones(shape, np.float32))

    with pytest.raises(InputError, match=message):
        prepare_nyuv2(tmp_path / "NYUD_MT", tmp_path / "out")


def test_normals_that_point_away_from_the_camera_are_refused_while_they_are_brought_in(tmp_path: Path) -> None:
    survey_archive(tmp_path / "NYUD_MT")

    with pytest.raises(InputError, match=r"frame a: most normals point away from the camera. Say with --normals-axes"):
        prepare_nyuv2(tmp_path / "NYUD_MT", tmp_path / "out", normals_axes=("right", "down", "away"))


def test_frames_without_labels_or_depth_are_dropped_and_counted(tmp_path: Path) -> None:
    plain(tmp_path / "nyu", names=("0001", "0002", "0003", "0004"))
    (tmp_path / "nyu" / "seg40" / "0001.png").unlink()
    (tmp_path / "nyu" / "depth_mm" / "0004.png").unlink()
    write_meta(tmp_path, 4)  # beside it

    summary = prepare_nyuv2(tmp_path / "nyu", tmp_path / "out")

    assert summary.dropped == {"without labels": 1, "without depth": 1}
    assert summary.splits == {"train": 1, "test": 1}
    assert "no frame" not in summary.text()
    assert [sample.name for sample in open_dataset("folder", "train", path=str(tmp_path / "out"))] == ["0003"]


def test_a_source_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    plain(tmp_path / "nyu")
    shutil.rmtree(tmp_path / "nyu" / "seg40")
    (tmp_path / "nyu" / "seg40").mkdir()

    with pytest.raises(InputError, match="holds no frame that can be used; 2 without labels"):
        prepare_nyuv2(tmp_path / "nyu", tmp_path / "out")


def test_damaged_archives_are_refused_however_their_reader_fails(tmp_path: Path) -> None:
    path = tmp_path / "train_0_id0007.npz"
    npz_frame(path)
    whole, random = path.read_bytes(), np.random.default_rng(3)
    refused = 0
    for trial in range(60):
        damaged = bytearray(whole)
        for place in random.integers(0, len(damaged), 10):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            prepare_nyuv2(tmp_path, tmp_path / f"out{trial}")
        except InputError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label13_minus1void": np.full((18, 22), 256, np.int16)}, "holds the label 256"),
        ({"label13_minus1void": np.full((18, 22), 13, np.int8)}, "segmentation holds the label 13"),
        ({"normal": np.zeros((18, 22, 2), np.float16)}, "normal has the shape"),
        ({"depth_m": np.full((18, 20), 1.0, np.float32)}, "depth has 18x20 pixels"),
        ({"depth_m": np.full((18, 22), np.inf, np.float32)}, "depth goes beyond"),
        ({"image_u8": np.zeros((18, 22, 3), np.float32)}, "image_u8 is float32"),
    ],
)
def test_wrong_arrays_of_an_archive_are_named(tmp_path: Path, change: dict[str, np.ndarray], message: str) -> None:
    npz_frame(tmp_path / "val_0_id0001.npz", **change)

    with pytest.raises(InputError, match=message):
        prepare_nyuv2(tmp_path, tmp_path / "out")
