"""Pictures to calibrate and to judge on: laid as inference lays them, the same every time, never the same twice."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from media import grey_frames, number_of, write_video

from nddr_deploy.data import open_dataset
from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.inference.image_set import ImageSet, check_disjoint, hashes_of, open_images
from nddr_deploy.inference.sources import open_source
from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import Fit
from nddr_deploy.tasks import Segmentation

SIZE = (24, 40)


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(tasks=(Segmentation(classes=("floor", "wall")),), size_hw=SIZE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight greys of odd sizes, numbered."""
    pictures = tmp_path / "photos"
    pictures.mkdir()
    for number, image in enumerate(grey_frames(8, (31, 45))):
        cv2.imwrite(str(pictures / f"{number}.png"), image)
    return pictures


def opened(spec: Path | str, manifest: Manifest, limit: int = 100, **options: object) -> ImageSet:
    return open_images(str(spec), manifest, limit=limit, **options)  # type: ignore[arg-type]


def test_pictures_are_laid_into_the_models_image_as_inference_does_it(folder: Path, manifest: Manifest) -> None:
    images = list(opened(folder, manifest))

    padding = manifest.preprocess.mean_pixel
    for image, frame in zip(images, open_source(folder), strict=True):
        expected = Fit.of((31, 45), SIZE).apply(frame.image, padding)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, expected)


def test_they_come_again_in_the_same_order(folder: Path, manifest: Manifest) -> None:
    images = opened(folder, manifest)

    first, second = ([image.tobytes() for image in images] for _ in range(2))

    assert first == second
    assert len(set(first)) == len(images) == len(images.names) == len(images.hashes) == 8
    assert images.names[0] == "0.png"


def test_fewer_are_spread_over_all_that_is_there(folder: Path, manifest: Manifest) -> None:
    assert opened(folder, manifest, limit=3).names == ("0.png", "3.png", "7.png")


def test_frames_of_a_video_are_spread_over_it(tmp_path: Path, manifest: Manifest) -> None:
    video = tmp_path / "walk.mp4"
    write_video(video, grey_frames(30))

    images = opened(video, manifest, limit=4)

    centre = [number_of(image[:, 8:-8]) for image in images]
    assert centre == [0, 9, 19, 29]
    assert "30 frames of walk.mp4" in images.about


def test_samples_of_a_data_set_are_taken_by_its_name(manifest: Manifest) -> None:
    images = opened("rooms", manifest, limit=2, split="val", options={"count": 5, "size_hw": [16, 20]})

    assert images.names == ("rooms-val-0-000000", "rooms-val-0-000004")
    assert [image.shape for image in images] == [(*SIZE, 3)] * 2


def test_broken_pictures_are_left_out_and_counted(folder: Path, manifest: Manifest) -> None:
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:60])
    (folder / "5.png").write_bytes(b"")

    images = opened(folder, manifest)

    assert list(images.names) == [f"{number}.png" for number in (0, 1, 2, 4, 6, 7)]
    assert "2 cannot be read" in images.about
    assert len(list(images)) == 6


def test_of_pictures_that_are_all_broken_the_first_reason_is_told(folder: Path, manifest: Manifest) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"no picture")

    with pytest.raises(InputError, match=r"None of 8 pictures of .* can be read \(.*0\.png is not a picture"):
        opened(folder, manifest)


def test_a_fingerprint_changes_with_one_pixel_and_not_with_names(folder: Path, manifest: Manifest) -> None:
    before = opened(folder, manifest)
    (folder / "0.png").rename(folder / "zero.png")
    renamed = opened(folder, manifest)
    changed = np.full((31, 45, 3), 25, np.uint8)
    changed[15, 20] = 200
    cv2.imwrite(str(folder / "1.png"), changed)

    after = opened(folder, manifest)

    assert renamed.fingerprint == before.fingerprint
    assert after.fingerprint != before.fingerprint
    assert len(set(after.hashes) - set(before.hashes)) == 1


def test_batches_are_filled_up_and_may_be_gone_through_again(folder: Path, manifest: Manifest) -> None:
    batches = opened(folder, manifest, limit=8).batches(3)

    for _ in range(2):
        shapes = [batch.shape for batch in batches]
        assert shapes == [(3, *SIZE, 3)] * 3
    last = list(batches)[-1]
    np.testing.assert_array_equal(last[1], last[2])
    assert len(batches) == 3


def test_what_is_kept_aside_has_no_picture_of_the_rest(folder: Path, manifest: Manifest) -> None:
    rest, aside = opened(folder, manifest).apart(4)

    assert (len(rest), len(aside)) == (6, 2)
    assert aside.names == ("3.png", "7.png")
    check_disjoint(rest, aside.hashes)
    assert len(list(aside)) == 2


def test_pictures_in_both_sets_are_refused_by_what_they_show(folder: Path, manifest: Manifest, tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    (others / "copy.png").write_bytes((folder / "6.png").read_bytes())

    with pytest.raises(InputError, match=r"1 pictures, '6\.png' for one, are both calibrated and judged on"):
        check_disjoint(opened(folder, manifest), opened(others, manifest).hashes)


def test_samples_have_the_hash_that_the_set_of_their_images_has(manifest: Manifest) -> None:
    options = {"count": 3, "size_hw": [16, 20]}

    found = list(hashes_of(open_dataset("rooms", "val", **options), manifest, 3))

    assert found == list(opened("rooms", manifest, split="val", options=options).hashes)


def test_too_few_to_keep_some_aside_are_refused(folder: Path, manifest: Manifest) -> None:
    with pytest.raises(InputError, match="too few"):
        opened(folder, manifest, limit=3).apart(4)


def test_what_gives_other_pictures_every_time_or_none_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    (tmp_path / "empty").mkdir()
    for spec, message in (
        ("camera:0", "is live"),
        (tmp_path / "empty", "none of its 0 files"),
        ("nowhere", "does not exist"),
    ):
        with pytest.raises((ConfigError, InputError), match=message):
            opened(spec, manifest)
    with pytest.raises(ConfigError, match="limit of 0"):
        opened(tmp_path, manifest, limit=0)


def test_a_folder_has_no_options(folder: Path, manifest: Manifest) -> None:
    with pytest.raises(ConfigError, match=r"is no data set, so it has no options \(count\)"):
        opened(folder, manifest, options={"count": 3})
