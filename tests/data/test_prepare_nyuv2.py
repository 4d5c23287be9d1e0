"""NYU Depth v2 comes out as it went in: the official file in small, public forms, and real frames."""

from __future__ import annotations

import os
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from nyuv2_fakes import npz_frame, rays, scenes, survey_archive, with_lists, write_meta, write_official
from PIL import Image

from nddr_deploy.data import open_dataset
from nddr_deploy.data.__main__ import main
from nddr_deploy.data.prepare import nyuv2
from nddr_deploy.data.prepare.depth_to_normals import Intrinsics, normals_from_depth
from nddr_deploy.data.prepare.frame import as_millimetres
from nddr_deploy.data.prepare.normals_axes import LINES, in_camera_axes
from nddr_deploy.data.prepare.nyuv2 import prepare_nyuv2
from nddr_deploy.data.prepare.nyuv2_folders import normals_of_colours
from nddr_deploy.data.prepare.nyuv2_npz import STORED_AXES
from nddr_deploy.data.prepare.nyuv2_source import CAMERA
from nddr_deploy.errors import InputError
from nddr_deploy.tasks.normals import angles_between

DATA = Path(os.environ.get("NDDR_TEST_DATA") or Path(__file__).parents[3] / "shared/data") / "nyuv2"
needs_real = pytest.mark.skipif(not DATA.is_dir(), reason=f"real frames are not there: {DATA} (set NDDR_TEST_DATA)")
ROOM = Intrinsics(focal_x=60.0, focal_y=58.0, centre_x=40.3, centre_y=31.2, width=81)


@pytest.fixture
def official(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray], dict[str, np.ndarray]]:
    arrays, path = scenes(7), tmp_path / "nyu_depth_v2_labeled.mat"
    write_official(path, arrays)
    return path, arrays, write_meta(tmp_path, 7)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_official_file_gives_back_pixels_depth_and_classes_as_they_were_put_in(
    official: tuple[Path, dict[str, np.ndarray], dict[str, np.ndarray]], tmp_path: Path
) -> None:
    path, arrays, maps = official

    summary = prepare_nyuv2(path, tmp_path / "out")

    assert summary.splits == {"test": 5, "train": 2}
    assert summary.labels == {"segmentation": 40, "segmentation13": 13}
    numbers = {"train": [3, 6], "test": [1, 2, 4, 5, 7]}
    for split, expected in numbers.items():
        fine = open_dataset("folder", split, path=str(tmp_path / "out"))
        coarse = open_dataset("folder", split, path=str(tmp_path / "out"), segmentation="segmentation13")
        assert [sample.name for sample in fine] == [f"{number:04d}" for number in expected]
        for number, sample, other in zip(expected, fine, coarse, strict=True):
            labels = arrays["labels"][number - 1].astype(int)
            forty = np.concatenate([[0], maps["to40"]])[labels]  # 0 = none
            assert np.array_equal(sample.image, arrays["images"][number - 1])
            assert np.array_equal(sample.targets["depth"], arrays["depths"][number - 1])
            assert np.array_equal(sample.targets["segmentation"], np.where(forty == 0, 255, forty - 1))
            thirteen = np.concatenate([[0], maps["to13"]])[forty]
            assert np.array_equal(other.targets["segmentation"], np.where(thirteen == 0, 255, thirteen - 1))
    assert fine.tasks[0].classes[:2] == ("forty 1", "forty 2")
    assert coarse.tasks[0].classes == tuple(f"coarse {number}" for number in range(1, 14))


def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same_bytes(
    official: tuple[Path, dict[str, np.ndarray], dict[str, np.ndarray]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, _, _ = official
    prepare_nyuv2(path, tmp_path / "whole")
    real, written = nyuv2.write_frame, []

    def stopping(frame: object, folder: Path, name: str) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(name)
        real(frame, folder, name)  # type: ignore[arg-type]

    monkeypatch.setattr(nyuv2, "write_frame", stopping)
    with pytest.raises(KeyboardInterrupt):
        prepare_nyuv2(path, tmp_path / "parts")
    assert not (tmp_path / "parts" / "train.txt").exists()  # nothing that looks finished
    monkeypatch.setattr(
        nyuv2, "write_frame", lambda frame, folder, name: (written.append(name), real(frame, folder, name))
    )
    prepare_nyuv2(path, tmp_path / "parts")

    assert len(written) == len(set(written)) == 7  # none twice
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a_folder_of_another_data_set_is_not_touched(
    official: tuple[Path, dict[str, np.ndarray], dict[str, np.ndarray]], tmp_path: Path
) -> None:
    path, _, _ = official
    prepare_nyuv2(path, tmp_path / "out")
    before = contents(tmp_path / "out")
    other = tmp_path / "other"
    other.mkdir()
    write_official(other / "nyu_depth_v2_labeled.mat", scenes(8, seed=1))
    write_meta(other, 8)

    with pytest.raises(InputError, match="holds another data set"):
        prepare_nyuv2(other / "nyu_depth_v2_labeled.mat", tmp_path / "out")
    (tmp_path / "mine" / "images").mkdir(parents=True)
    with pytest.raises(InputError, match="holds pictures that nddr-data nyuv2 did not write"):
        prepare_nyuv2(path, tmp_path / "mine")

    assert contents(tmp_path / "out") == before


def test_frames_in_no_official_split_are_counted(tmp_path: Path) -> None:
    write_official(tmp_path / "nyu_depth_v2_labeled.mat", scenes(5))
    write_meta(tmp_path, 3)

    summary = prepare_nyuv2(tmp_path / "nyu_depth_v2_labeled.mat", tmp_path / "out")

    assert summary.dropped == {"in no official split": 2}
    assert sum(summary.splits.values()) == 3


def test_wrong_files_are_one_sentence_that_names_them(
    official: tuple[Path, dict[str, np.ndarray], dict[str, np.ndarray]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, arrays, _ = official

    def refused(source: Path, *words: str) -> str:
        assert main(["nyuv2", str(source), "--output", str(tmp_path / "no"), *words]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert not (tmp_path / "no" / "images").exists()
        return said

    assert "does not exist. Expected one of: nyu_depth_v2_labeled.mat" in refused(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "splits.mat (the data set's page) and classMapping40.mat" in refused(path, "--meta", str(tmp_path / "empty"))
    assert "is no form of NYU Depth v2 that is known" in refused(tmp_path / "empty")
    cut = tmp_path / "cut.mat"
    cut.write_bytes(path.read_bytes()[:3000])
    assert "is no MATLAB 7.3 file, or is damaged or cut off" in refused(cut)
    for name, wrong, message in (
        ("depths", arrays["depths"].astype(np.float64), "depths is float64"),
        ("labels", arrays["labels"][:, :-1], "labels has the shape"),
        ("images", arrays["images"][..., :2], "expected (N, 3, W, H)"),
    ):
        write_official(tmp_path / "wrong.mat", {**arrays, name: wrong})
        assert message in refused(tmp_path / "wrong.mat")
    write_official(tmp_path / "wrong.mat", arrays, classes=893)
    assert "names 893 classes, classMapping40.mat 894" in refused(tmp_path / "wrong.mat")
    for value in (np.nan, -1.0, 2000.0):
        depths = arrays["depths"].copy()
        depths[2, 4, 4] = value  # frame 3 is the first of the training split, but frames go by number
        write_official(tmp_path / "wrong.mat", {**arrays, "depths": depths})
        assert main(["nyuv2", str(tmp_path / "wrong.mat"), "--output", str(tmp_path / "bad")]) == 2
        said = capsys.readouterr().err
        assert "wrong.mat, frame 0003: depth goes" in said
        assert not list((tmp_path / "bad").glob("*.txt"))


def test_exact_millimetres_are_kept_in_16_bits_and_other_depths_as_they_are() -> None:
    exact = (np.array([[0, 1, 713], [9999, 65535, 2]]).astype(np.float32)) / np.float32(1000)

    assert np.array_equal(as_millimetres(exact), [[0, 1, 713], [9999, 65535, 2]])
    assert as_millimetres(exact + np.float32(0.0003)) is None
    assert as_millimetres(np.full((2, 2), 70.0, np.float32)) is None  # more than 16 bits hold


@pytest.mark.parametrize(
    "normal", [(0.0, 0.0, -1.0), (0.0, -1.0, 0.0), (0.6, 0.0, -0.8), (-0.5, -0.5, -(0.5**0.5)), (0.2, 0.7, -0.6)]
)
def test_a_plane_gives_its_own_normal_everywhere(normal: tuple[float, float, float]) -> None:
    n = np.array(normal) / np.linalg.norm(normal)
    facing = -(rays(ROOM, 63, 81) @ n)
    seen = facing > 0.25  # further off, neighbours in so coarse a picture are not near each other
    depth = np.where(seen, 1.5 / np.where(seen, facing, 1), 0).astype(np.float32)  # 1.5 m from us

    found = normals_from_depth(depth, ROOM)

    known = (found != 0).any(axis=2)
    assert known.sum() > 0.8 * (depth > 0).sum()
    assert not known[depth == 0].any()
    assert angles_between(found[known], np.broadcast_to(n, found[known].shape)).max() < 0.2  # float32


def test_an_edge_in_depth_does_not_bend_the_planes_beside_it() -> None:
    depth = np.full((63, 81), 3.0, np.float32)
    depth[:, 40:] = 1.8

    found = normals_from_depth(depth, ROOM)

    known = (found != 0).any(axis=2)
    assert known.mean() > 0.98
    assert angles_between(found[known], np.broadcast_to([0.0, 0.0, -1.0], found[known].shape)).max() < 0.2


def test_where_depth_is_missing_or_lonely_no_normal_is_told() -> None:
    depth = np.full((63, 81), 2.0, np.float32)
    depth[10:20, 10:30] = 0
    depth[15, 20] = 2.0

    found = normals_from_depth(depth, ROOM)

    assert not found[10:20, 10:30].any()
    assert np.allclose(found[40, 40], (0, 0, -1), atol=1e-3)


def test_a_camera_scales_with_the_picture() -> None:
    half = CAMERA.scaled(320)

    assert half.focal_x == pytest.approx(CAMERA.focal_x / 2)
    # The middle between the first two pixels of the large picture is the first pixel of the small one.
    assert (half.centre_x - 0) == pytest.approx((CAMERA.centre_x - 0.5) / 2)


def test_colours_of_normals_come_out_in_camera_axes() -> None:
    colours = np.array([[[255, 128, 128], [128, 255, 128], [128, 128, 255], [255, 255, 255]]], np.uint8)

    found = normals_of_colours(colours, ("right", "up", "toward"))

    assert np.allclose(found[0], [[1, 0, 0], [0, -1, 0], [0, 0, -1], [0, 0, 0]], atol=0.01)  # 128 is not quite 0


def test_an_archive_of_a_frame_gives_back_what_is_in_it_with_its_normals_in_our_axes(tmp_path: Path) -> None:
    depth = np.full((18, 22), 1.23456, np.float32)
    depth[0] = np.nan
    normals = np.zeros((18, 22, 3), np.float16)
    normals[2:] = 0.6, -0.8, 0.0  # right, away, up
    put = npz_frame(tmp_path / "train_0_id0007.npz", depth_m=depth, normal=normals)

    summary = prepare_nyuv2(tmp_path, tmp_path / "out")

    assert (summary.splits, summary.normals) == ({"train": 1}, "the source")
    (sample,) = open_dataset("folder", "train", path=str(tmp_path / "out"))
    labels = put["label13_minus1void"].astype(int)
    assert sample.name == "0007"
    assert np.array_equal(sample.image, put["image_u8"])
    assert np.array_equal(sample.targets["depth"], np.nan_to_num(depth))
    assert np.array_equal(sample.targets["segmentation"], np.where(labels == -1, 255, labels))
    assert np.allclose(sample.targets["normals"][2:], (0.6, 0.0, -0.8), atol=1e-3)  # float16
    assert not sample.targets["normals"][:2].any()


@needs_real
def test_stored_normals_of_real_frames_are_those_of_their_depth_in_our_axes_and_in_no_other() -> None:
    medians: dict[tuple[str, ...], list[float]] = {}
    for path in sorted((DATA / "mini_multitask").glob("*.npz"))[::4]:
        with np.load(path) as archive:
            stored, depth = archive["normal"].astype(np.float32), archive["depth_m"].astype(np.float32)
        measured = normals_from_depth(depth, CAMERA)
        both = (measured != 0).any(axis=2) & (np.linalg.norm(stored, axis=2) > 0.5)
        assert both.mean() > 0.45  # one frame has depth in half of its pixels only
        some = np.flatnonzero(both)[::37]
        for lines in permutations(LINES):
            for axes in product(*lines):
                turned = in_camera_axes(stored, (axes[0], axes[1], axes[2])).reshape(-1, 3)[some]
                angle = float(np.median(angles_between(turned, measured.reshape(-1, 3)[some])))
                medians.setdefault(axes, []).append(angle)

    ours = medians.pop(STORED_AXES)
    assert np.mean(ours) < 6.0  # two methods on noisy depth; over all frames half of the pixels are within 4 degrees
    # A mirrored x is the least wrong: most of these cameras look straight at a wall.
    assert min(np.mean(found) for found in medians.values()) > 2.5 * np.mean(ours)


@needs_real
def test_real_frames_in_two_public_forms_are_read_checked_and_open_as_a_data_set(tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((DATA / "mini_multitask").glob("*_id00*[5-6].npz")):
        (few / path.name).symlink_to(path)
    small = prepare_nyuv2(few, tmp_path / "small")
    assert small.normals == "the source"
    for split in small.splits:
        for sample in open_dataset("folder", split, path=str(tmp_path / "small")):
            lengths = np.linalg.norm(sample.targets["normals"], axis=2)
            assert np.isclose(lengths[lengths > 0], 1, atol=1e-3).all()
            facing = (sample.targets["normals"] * rays(CAMERA.scaled(384), 288, 384)).sum(axis=2)
            assert (facing[lengths > 0] < 0).mean() > 0.97  # toward the camera, but for noise at edges

    plain = tmp_path / "plain"
    for part, suffix in (("rgb", ".jpg"), ("depth_mm", ".png"), ("seg40", ".png")):
        (plain / part).mkdir(parents=True)
        for path in sorted((DATA / part).iterdir())[:2]:
            (plain / part / f"{path.stem}{path.suffix or suffix}").symlink_to(path)
    summary = prepare_nyuv2(plain, tmp_path / "labelled", meta=DATA / "meta")
    assert summary.splits == {"test": 2}
    assert summary.normals == "depth"
    for sample in open_dataset("folder", "test", path=str(tmp_path / "labelled")):
        with Image.open(DATA / "seg40" / f"{sample.name}.png") as picture:
            stored = np.asarray(picture).astype(int)
        with Image.open(DATA / "depth_mm" / f"{sample.name}.png") as picture:
            millimetres = np.asarray(picture).astype(np.float32)
        assert np.array_equal(sample.targets["segmentation"], np.where(stored == 0, 255, stored - 1))
        assert np.array_equal(sample.targets["depth"], millimetres / np.float32(1000))
        assert (sample.targets["normals"] != 0).any(axis=2).mean() > 0.9


def test_the_survey_archive_is_read_and_the_axes_of_its_normals_are_found(tmp_path: Path) -> None:
    put = survey_archive(tmp_path / "NYUD_MT")

    summary = prepare_nyuv2(tmp_path / "NYUD_MT", tmp_path / "out")

    assert "normals' axes right, up, toward" in summary.layout
    assert summary.splits == {"test": 1, "train": 2}
    (sample,) = open_dataset("folder", "test", path=str(tmp_path / "out"))
    assert sample.name == "c"
    assert np.array_equal(sample.targets["segmentation"], np.where(put["labels"] == 0, 255, put["labels"] - 1))
    assert np.array_equal(sample.targets["depth"], put["depth"])
    assert np.allclose(sample.targets["normals"], put["normals"], atol=2e-3)  # float16
    assert np.array_equal(sample.targets["edge"], (put["labels"] > 20).astype(np.uint8))


def test_list_files_are_read_and_white_normals_are_missing(tmp_path: Path) -> None:
    with_lists(tmp_path / "nyu")

    with pytest.raises(InputError, match=r"Say --normals-axes"):
        prepare_nyuv2(tmp_path / "nyu", tmp_path / "out")
    prepare_nyuv2(tmp_path / "nyu", tmp_path / "out", normals_axes=("right", "up", "toward"))

    (sample,) = open_dataset("folder", "train", path=str(tmp_path / "out"))
    assert not sample.targets["normals"][0].any()
    assert np.allclose(sample.targets["normals"][1:], (0, -1, 0), atol=0.01)
    assert (sample.targets["segmentation"][0] == 255).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/images/one.png /../../secret.png", "leads out of"),
        ("/images/one.png", "expected `/IMAGE /LABEL`"),
        ("/images/one.png /seg/two.png", "which does not exist"),
    ],
)
def test_lists_that_lead_astray_are_refused(tmp_path: Path, line: str, message: str) -> None:
    with_lists(tmp_path / "nyu", line)

    with pytest.raises(InputError, match=message):
        prepare_nyuv2(tmp_path / "nyu", tmp_path / "out", normals_axes=("right", "up", "toward"))
