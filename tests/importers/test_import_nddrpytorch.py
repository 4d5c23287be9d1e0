"""NDDR-CNN-PyTorch: every variant in its own layout, against the formulas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from foreign_files import nddrpytorch_content, save, state_dict
from foreign_parity import Outputs, Result, check_parity, check_plain_graph, check_upsampled, largest_difference
from foreign_vgg import MEAN, Vgg, forward, weights_of
from foreign_weights import Image, Weights, picture, resize

from nddr_deploy.errors import NddrError
from nddr_deploy.export.recipe import export_checkpoint

pytestmark = pytest.mark.usefixtures("no_search_for_sizes")

EVEN, ODD = (64, 96), (65, 97)
WIDE = (145, 178)  # raw map 18 x 22: the head's dilation of 12 reads inside it
VARIANTS = {
    "plain": (Vgg(), 400),
    "shortcut": (Vgg(shortcut=True), 406),
    "bn after relu": (Vgg(bn_before_relu=False), 400),
    "shortcut, bn after relu": (Vgg(shortcut=True, bn_before_relu=False), 406),
    "bias": (Vgg(bias=True), 410),
    "bias, bn after relu": (Vgg(bias=True, bn_before_relu=False), 410),
}


@cache
def trained(name: str) -> tuple[Vgg, Weights]:
    variant, _ = VARIANTS[name]
    return variant, weights_of(variant, seed=1)


def formulas(name: str, **readings: object) -> Callable[[Image], Outputs]:
    variant, weights = trained(name)
    return lambda image: forward(weights, image, variant, **readings)  # type: ignore[arg-type]


def written(folder: Path, name: str) -> Path:
    variant, weights = trained(name)
    return save(folder / "ckpt-20000.pth", nddrpytorch_content(weights, variant))


def bare(folder: Path, name: str) -> Path:
    return save(folder / "weights.pth", state_dict(trained(name)[1]))


def parity(folder: Path, file: Path, name: str, size_hw: tuple[int, int] = EVEN, **options: object) -> Result:
    return check_parity(file, formulas(name), size_hw, onnx_file=folder / "model.onnx", **options)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_file_has_the_documented_number_of_keys(name: str) -> None:
    assert len(trained(name)[1]) == VARIANTS[name][1]


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("size_hw", [EVEN, ODD], ids=["even", "odd"])
def test_raw_outputs_equal_the_formulas(tmp_path: Path, name: str, size_hw: tuple[int, int]) -> None:
    parity(tmp_path, written(tmp_path, name), name, size_hw)

    check_plain_graph(tmp_path / "model.onnx")


@pytest.mark.parametrize("name", ["plain", "shortcut, bn after relu"])
def test_every_dilation_reads_inside_a_larger_picture(tmp_path: Path, name: str) -> None:
    variant, _ = VARIANTS[name]
    weights = weights_of(variant, size_hw=WIDE)
    file = save(tmp_path / "ckpt.pth", nddrpytorch_content(weights, variant))

    result = check_parity(file, lambda image: forward(weights, image, variant), WIDE, onnx_file=tmp_path / "model.onnx")

    check_upsampled(result, lambda output, size: resize(output, size, align_corners=True))


def test_the_manifest_carries_what_the_format_fixes(tmp_path: Path) -> None:
    manifest = parity(tmp_path, written(tmp_path, "shortcut"), "shortcut").manifest

    assert [(task.name, task.kind, task.channels) for task in manifest.tasks] == [
        ("segmentation", "segmentation", 40),
        ("normals", "normals", 3),
    ]
    assert manifest.task("normals").coding == "colour"  # type: ignore[attr-defined]
    assert manifest.resize == "align_corners"
    preprocess = manifest.preprocess
    assert (preprocess.order, preprocess.scale, preprocess.std) == ("rgb", 1, (1, 1, 1))
    assert preprocess.mean == pytest.approx(MEAN)
    assert not any("mean" in note for note in manifest.notes)  # this one is the format's own


@pytest.mark.parametrize("how", [{"legacy": True, "cuda": True, "old_numpy": True}, {"cuda": True}], ids=["old", "new"])
def test_both_containers_are_read(tmp_path: Path, how: dict[str, bool]) -> None:
    variant, weights = trained("shortcut")
    file = save(tmp_path / "ckpt-20000.pth", nddrpytorch_content(weights, variant), **how)

    parity(tmp_path, file, "shortcut")


def test_the_top_level_alone_tells_it_from_mtlnas(tmp_path: Path) -> None:
    variant, weights = trained("plain")
    content = nddrpytorch_content(weights, variant)
    del content["cfg"]

    file = save(tmp_path / "ckpt.pth", content)

    manifest = parity(tmp_path, file, "plain", assume={"bn": "before-relu"}).manifest
    assert any("before" in note for note in manifest.notes)


def test_a_bare_state_dict_needs_its_format_and_its_order(tmp_path: Path) -> None:
    file = bare(tmp_path, "bn after relu")
    onnx_file = tmp_path / "model.onnx"

    with pytest.raises(NddrError, match=r"(?s)mtlnas.*nddrpytorch"):
        export_checkpoint(file, onnx_file, size_hw=EVEN)
    with pytest.raises(NddrError, match=r"bn=(before|after)-relu"):
        export_checkpoint(file, onnx_file, size_hw=EVEN, format="nddrpytorch")
    assert not onnx_file.exists()

    parity(tmp_path, file, "bn after relu", format="nddrpytorch", assume={"bn": "after-relu"})


@pytest.mark.parametrize("name", ["shortcut", "shortcut, bn after relu"])
def test_the_keys_of_a_shortcut_tell_format_and_order(tmp_path: Path, name: str) -> None:
    parity(tmp_path, bare(tmp_path, name), name)


@pytest.mark.parametrize(
    ("name", "reading"),
    [
        *((name, {"eps": 1e-5}) for name in VARIANTS),
        *((name, {"swapped": True}) for name in VARIANTS),
        ("shortcut", {"corners": False}),
        ("shortcut, bn after relu", {"corners": False}),
        ("plain", {"mean": MEAN[::-1]}),
    ],
)
@pytest.mark.parametrize("size_hw", [EVEN, ODD], ids=["even", "odd"])
def test_a_wrong_reading_would_show(name: str, reading: dict[str, object], size_hw: tuple[int, int]) -> None:
    image = picture(size_hw)

    assert largest_difference(formulas(name)(image), formulas(name, **reading)(image)) > 0.04


@pytest.mark.parametrize("name", ["plain", "bn after relu"])
@pytest.mark.parametrize("size_hw", [EVEN, ODD], ids=["even", "odd"])
def test_the_other_order_of_bn_and_relu_would_show(name: str, size_hw: tuple[int, int]) -> None:
    variant, weights = trained(name)
    other = replace(variant, bn_before_relu=not variant.bn_before_relu)
    image = picture(size_hw)

    assert largest_difference(formulas(name)(image), forward(weights, image, other)) > 1


def test_another_upsampling_would_show() -> None:
    raw = formulas("plain")(picture(ODD))["segmentation"]

    right, wrong = (resize(raw, ODD, align_corners=corners) for corners in (True, False))

    assert float((right - wrong).abs().max()) > 0.04
