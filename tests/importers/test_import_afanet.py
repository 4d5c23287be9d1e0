"""AFANet's NDDR baselines, per pixel and per image, against the formulas."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from foreign_afanet import image_forward, image_weights, pixel_forward, pixel_weights
from foreign_files import save, state_dict
from foreign_parity import Result, check_parity, check_plain_graph, check_upsampled, largest_difference
from foreign_weights import IMAGENET, Image, Weights, picture, resize
from torch import Tensor

pytestmark = pytest.mark.usefixtures("no_search_for_sizes")

EVEN, ODD = (64, 96), (65, 97)
WIDE = (321, 337)  # the last map is 21 x 22: the head's dilation of 18 reads inside it
FACES = [(200, 224), (193, 211)]


@cache
def pixel() -> Weights:
    return pixel_weights()


@cache
def faces() -> Weights:
    return image_weights()


def pixel_formulas(image: Image) -> dict[str, Tensor]:
    return pixel_forward(pixel(), image)


def face_formulas(image: Image) -> dict[str, Tensor]:
    return image_forward(faces(), image)


def pixel_parity(folder: Path, size_hw: tuple[int, int], **options: object) -> Result:
    file = save(folder / "model.pth", state_dict(pixel()))
    return check_parity(file, pixel_formulas, size_hw, onnx_file=folder / "model.onnx", **options)


def face_parity(folder: Path, size_hw: tuple[int, int]) -> Result:
    file = save(folder / "model.pth", state_dict(faces()))
    return check_parity(file, face_formulas, size_hw, onnx_file=folder / "model.onnx")


def test_files_have_the_documented_number_of_keys() -> None:
    assert len(pixel()) == 796
    assert len(faces()) == 688


@pytest.mark.parametrize("size_hw", [EVEN, ODD], ids=["even", "odd"])
def test_raw_maps_equal_the_formulas(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    manifest = pixel_parity(tmp_path, size_hw).manifest

    check_plain_graph(tmp_path / "model.onnx")
    assert [(task.name, task.kind, task.channels) for task in manifest.tasks] == [
        ("segmentation", "segmentation", 40),
        ("depth", "depth", 1),
    ]
    assert manifest.resize == "align_corners"
    assert (manifest.preprocess.order, manifest.preprocess.scale) == ("rgb", pytest.approx(1 / 255))
    assert np.allclose((manifest.preprocess.mean, manifest.preprocess.std), IMAGENET)
    assert any("mean" in note for note in manifest.notes)  # the file does not say: assumed


def test_every_dilation_reads_inside_a_larger_picture(tmp_path: Path) -> None:
    weights = pixel_weights(size_hw=WIDE)
    file = save(tmp_path / "model.pth", state_dict(weights))

    result = check_parity(file, lambda image: pixel_forward(weights, image), WIDE, onnx_file=tmp_path / "model.onnx")

    check_upsampled(result, lambda output, size: resize(output, size, align_corners=True))


@pytest.mark.parametrize("size_hw", FACES, ids=["even", "odd"])
def test_raw_scores_equal_the_formulas(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    manifest = face_parity(tmp_path, size_hw).manifest

    check_plain_graph(tmp_path / "model.onnx")
    assert [(task.name, task.kind, task.channels) for task in manifest.tasks] == [
        ("gender", "classification", 2),
        ("age_group", "classification", 8),
    ]
    assert np.allclose((manifest.preprocess.mean, manifest.preprocess.std), IMAGENET)
    assert any("mean" in note for note in manifest.notes)  # the file does not say: assumed


def test_one_downsample_has_two_names(tmp_path: Path) -> None:
    for weights, prefix in ((pixel(), "backbone."), (faces(), "")):
        first, second = (weights[f"{prefix}layer2.0.{t}_downsample.0.weight"] for t in "AB")
        assert first.data_ptr() == second.data_ptr()


@pytest.mark.parametrize("wrapped", [{"prefix": "module.", "legacy": True, "cuda": True}, {"inside": "state_dict"}])
def test_what_users_wrap_around_it_is_taken_off(tmp_path: Path, wrapped: dict[str, object]) -> None:
    content: object = state_dict(pixel(), str(wrapped.get("prefix", "")))
    if "inside" in wrapped:
        content = {wrapped["inside"]: content, "epoch": 12}
    file = save(tmp_path / "m.pth", content, legacy=bool(wrapped.get("legacy")), cuda=bool(wrapped.get("cuda")))

    check_parity(file, pixel_formulas, EVEN, onnx_file=tmp_path / "model.onnx")


def test_pre_processing_that_is_given_wins(tmp_path: Path) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    file = save(tmp_path / "model.pth", state_dict(pixel()))

    result = check_parity(
        file,
        lambda image: pixel_forward(pixel(), image, mean=mean, std=std),
        EVEN,
        onnx_file=tmp_path / "model.onnx",
        mean=mean,
        std=std,
    )

    assert (result.manifest.preprocess.mean, result.manifest.preprocess.std) == (mean, std)


@pytest.mark.parametrize(
    "reading",
    [{"eps": 1e-3}, {"swapped": True}, {"corners": False}, {"grid": (1, 2, 4)}, {"grid": (2, 2, 2)}],
    ids=str,
)
@pytest.mark.parametrize("size_hw", [EVEN, ODD], ids=["even", "odd"])
def test_a_wrong_reading_of_maps_would_show(reading: dict[str, object], size_hw: tuple[int, int]) -> None:
    image = picture(size_hw)

    assert largest_difference(pixel_formulas(image), pixel_forward(pixel(), image, **reading)) > 0.04  # type: ignore[arg-type]


@pytest.mark.parametrize("reading", [{"eps": 1e-3}, {"swapped": True}], ids=str)
def test_a_wrong_reading_of_scores_would_show(reading: dict[str, object]) -> None:
    for size_hw in FACES[:2]:
        image = picture(size_hw)
        assert largest_difference(face_formulas(image), image_forward(faces(), image, **reading)) > 0.04  # type: ignore[arg-type]
