"""MTLNAS: every variant in its own layout, against the formulas."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from foreign_files import mtlnas_content, save, state_dict
from foreign_parity import Outputs, Result, check_parity, check_plain_graph, check_upsampled, largest_difference
from foreign_vgg import MEAN, Vgg, forward, weights_of
from foreign_weights import Image, Weights, picture, resize

from nddr_deploy.errors import NddrError
from nddr_deploy.export.recipe import export_checkpoint

pytestmark = pytest.mark.usefixtures("no_search_for_sizes")

EVEN, ODD = (64, 96), (65, 97)
WIDE = (145, 178)  # raw map 18 x 22: the head's dilation of 12 reads inside it
FIVE = {
    "nddr": (Vgg(), 400),
    "auxiliary heads": (Vgg(auxiliary=True), 416),
    "cross_stitch": (Vgg(fusion="cross_stitch"), 360),
    "single_side": (Vgg(fusion="single_side"), 370),
    "single_side_reverse": (Vgg(fusion="single_side_reverse"), 370),
}
THIRTEEN = {
    "13 nddr": (Vgg(13), 496),
    "13 cross_stitch": (Vgg(13, "cross_stitch"), 392),
    "13 single_side": (Vgg(13, "single_side"), 418),
    "13 single_side_reverse": (Vgg(13, "single_side_reverse"), 418),
}
VARIANTS = {**FIVE, **THIRTEEN}


@cache
def trained(name: str) -> tuple[Vgg, Weights]:
    variant, _ = VARIANTS[name]
    return variant, weights_of(variant)


def formulas(name: str, **readings: object) -> Callable[[Image], Outputs]:
    variant, weights = trained(name)
    return lambda image: forward(weights, image, variant, **readings)  # type: ignore[arg-type]


def written(folder: Path, name: str, **settings: object) -> Path:
    variant, weights = trained(name)
    return save(folder / "ckpt-20000.pth", mtlnas_content(weights, variant, **settings))


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


@pytest.mark.parametrize("name", ["nddr", "13 cross_stitch"])
def test_every_dilation_reads_inside_a_larger_picture(tmp_path: Path, name: str) -> None:
    variant, _ = VARIANTS[name]
    weights = weights_of(variant, size_hw=WIDE)
    file = save(tmp_path / "ckpt.pth", mtlnas_content(weights, variant))

    result = check_parity(file, lambda image: forward(weights, image, variant), WIDE, onnx_file=tmp_path / "model.onnx")

    check_upsampled(result, lambda output, size: resize(output, size, align_corners=True))


def test_the_manifest_carries_what_the_format_fixes(tmp_path: Path) -> None:
    manifest = parity(tmp_path, written(tmp_path, "nddr"), "nddr").manifest

    assert [(task.name, task.kind, task.channels) for task in manifest.tasks] == [
        ("segmentation", "segmentation", 40),
        ("normals", "normals", 3),
    ]
    assert manifest.task("normals").coding == "colour"  # type: ignore[attr-defined]
    assert manifest.resize == "align_corners"
    preprocess = manifest.preprocess
    assert (preprocess.order, preprocess.scale, preprocess.std) == ("rgb", 1, (1, 1, 1))
    assert preprocess.mean == pytest.approx(MEAN)
    assert any("mean" in note for note in manifest.notes)  # the file does not say: assumed


def test_class_counts_are_read_from_the_last_layer(tmp_path: Path) -> None:
    variant = Vgg(classes=(13, 3))
    weights = weights_of(variant)
    file = save(tmp_path / "ckpt.pth", mtlnas_content(weights, variant))

    result = check_parity(file, lambda image: forward(weights, image, variant), EVEN, onnx_file=tmp_path / "model.onnx")

    assert [task.channels for task in result.manifest.tasks] == [13, 3]


@pytest.mark.parametrize(
    "how",
    [{"legacy": True}, {"cuda": True, "old_numpy": True}, {"legacy": True, "cuda": True, "old_numpy": True}],
    ids=lambda how: " ".join(how),
)
def test_every_container_is_read(tmp_path: Path, how: dict[str, bool]) -> None:
    variant, weights = trained("nddr")
    file = save(tmp_path / "ckpt-20000.pth", mtlnas_content(weights, variant), **how)

    parity(tmp_path, file, "nddr")


def test_a_prefix_that_every_key_has_is_taken_off(tmp_path: Path) -> None:
    variant, weights = trained("nddr")
    content = mtlnas_content(weights, variant) | {"model_state_dict": state_dict(weights, "module.")}

    parity(tmp_path, save(tmp_path / "ckpt.pth", content), "nddr")


def test_batch_counters_may_be_absent(tmp_path: Path) -> None:
    variant, weights = trained("nddr")
    content = mtlnas_content(weights, variant)
    content["model_state_dict"] = {key: value for key, value in weights.items() if "num_batches" not in key}

    parity(tmp_path, save(tmp_path / "ckpt.pth", content), "nddr")


def test_twins_share_storage_as_in_the_real_file(tmp_path: Path) -> None:
    _, weights = trained("nddr")
    every_key = sum(tensor.nbytes for tensor in weights.values())
    each_once = sum({tensor.data_ptr(): tensor.nbytes for tensor in weights.values()}.values())

    assert each_once < 0.8 * every_key
    assert written(tmp_path, "nddr").stat().st_size < every_key


def test_a_bare_state_dict_needs_its_format_named(tmp_path: Path) -> None:
    file = bare(tmp_path, "nddr")

    with pytest.raises(NddrError, match=r"(?s)mtlnas.*nddrpytorch"):
        export_checkpoint(file, tmp_path / "model.onnx", size_hw=EVEN)
    assert not (tmp_path / "model.onnx").exists()

    parity(tmp_path, file, "nddr", format="mtlnas")


@pytest.mark.parametrize("name", ["single_side", "single_side_reverse"])
def test_single_side_keys_without_cfg_need_the_direction(tmp_path: Path, name: str) -> None:
    file = bare(tmp_path, name)

    with pytest.raises(NddrError, match="single-side"):
        export_checkpoint(file, tmp_path / "model.onnx", size_hw=EVEN, format="mtlnas")
    assert not (tmp_path / "model.onnx").exists()

    direction = "reverse" if name.endswith("reverse") else "forward"
    parity(tmp_path, file, name, format="mtlnas", assume={"single-side": direction})


def test_the_data_sets_mean_beside_the_file_is_used(tmp_path: Path) -> None:
    mean = (110.5, 95.25, 90.125)
    np.save(tmp_path / "nyu_v2_mean.npy", np.array(mean))
    file = written(tmp_path, "nddr")

    result = check_parity(file, formulas("nddr", mean=mean), EVEN, onnx_file=tmp_path / "model.onnx")

    assert result.manifest.preprocess.mean == mean


def test_a_mean_that_is_given_wins(tmp_path: Path) -> None:
    mean = (120.0, 110.0, 100.0)
    np.save(tmp_path / "nyu_v2_mean.npy", np.array([1.0, 2.0, 3.0]))
    file = written(tmp_path, "nddr")

    result = check_parity(file, formulas("nddr", mean=mean), EVEN, onnx_file=tmp_path / "model.onnx", mean=mean)

    assert result.manifest.preprocess.mean == mean


@pytest.mark.parametrize(
    ("name", "reading"),
    [
        *((name, {"eps": 1e-5}) for name in VARIANTS),
        *((name, {"swapped": True}) for name in VARIANTS),
        ("13 cross_stitch", {"zero_padding": False}),
        ("13 single_side", {"zero_padding": False}),
        ("13 single_side_reverse", {"zero_padding": False}),
    ],
)
@pytest.mark.parametrize("size_hw", [EVEN, ODD], ids=["even", "odd"])
def test_a_wrong_reading_would_show(name: str, reading: dict[str, object], size_hw: tuple[int, int]) -> None:
    image = picture(size_hw)

    assert largest_difference(formulas(name)(image), formulas(name, **reading)(image)) > 0.04


@pytest.mark.parametrize("stages", [5, 13])
def test_the_other_direction_of_single_side_would_show(stages: int) -> None:
    weights = weights_of(Vgg(stages, "single_side"))
    image = picture(ODD)

    forwards = forward(weights, image, Vgg(stages, "single_side"))
    reverse = forward(weights, image, Vgg(stages, "single_side_reverse"))

    assert largest_difference(forwards, reverse) > 1


def test_another_upsampling_would_show() -> None:
    raw = formulas("nddr")(picture(ODD))["segmentation"]

    right, wrong = (resize(raw, ODD, align_corners=corners) for corners in (True, False))

    assert float((right - wrong).abs().max()) > 0.04
