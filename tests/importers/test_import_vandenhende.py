"""Multi-Task-Learning-PyTorch with NDDR: every variant in its own layout, against the formulas."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from foreign_files import save, state_dict, vandenhende_content
from foreign_parity import Outputs, Result, check_parity, check_plain_graph, check_upsampled, largest_difference
from foreign_resnet import STAGES, ResNet, forward, in_order, upsampled, weights_of
from foreign_weights import IMAGENET, Image, Weights, picture, resize

pytestmark = pytest.mark.usefixtures("no_search_for_sizes")

EVEN, ODD = (64, 96), (65, 97)
WIDE = (321, 305)  # raw map 41 x 39: the head's dilation of 36 reads inside it
# Old PyTorch sorted a ModuleDict's keys: then the file's order is not the order of concatenation.
VARIANTS = {
    "resnet18, two": (ResNet(("semseg", "depth")), 388),
    "resnet18, two, sorted": (ResNet(("depth", "semseg")), 388),
    "resnet18, three, sorted": (ResNet(("depth", "normals", "semseg")), 582),
    "resnet18, five, sorted": (ResNet(("edge", "human_parts", "normals", "sal", "semseg"), semseg_classes=21), 970),
    "resnet50, two": (ResNet(("semseg", "normals"), depth=50), 784),
    "resnet50, two, sorted": (ResNet(("normals", "semseg"), depth=50), 784),
    "some stages": (ResNet(("depth", "semseg"), fused=("conv", "layer2", "layer4")), 364),
    "last stage": (ResNet(("depth", "semseg"), fused=("layer4",)), 340),
    "layer1": (ResNet(("depth", "semseg"), fused=("layer1", "layer2", "layer3", "layer4")), 376),
}
EXPORTED = [name for name in VARIANTS if name not in ("resnet18, two", "resnet50, two")]  # but for the order, the same
SORTED = [name for name in VARIANTS if "sorted" in name]


@cache
def trained(name: str) -> tuple[ResNet, Weights]:
    variant, _ = VARIANTS[name]
    return variant, weights_of(variant)


def formulas(name: str, **readings: object) -> Callable[[Image], Outputs]:
    variant, weights = trained(name)
    return lambda image: forward(weights, image, variant, **readings)  # type: ignore[arg-type]


def best(folder: Path, name: str) -> Path:
    """`best_model.pth.tar`, a bare state dict; not a tar, whatever its name says."""
    return save(folder / "best_model.pth.tar", state_dict(trained(name)[1], "module."))


def parity(folder: Path, file: Path, name: str, size_hw: tuple[int, int] = EVEN, **options: object) -> Result:
    return check_parity(file, formulas(name), size_hw, onnx_file=folder / "model.onnx", **options)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_file_has_the_documented_number_of_keys(name: str) -> None:
    assert len(trained(name)[1]) == VARIANTS[name][1]


@pytest.mark.parametrize("name", EXPORTED)
@pytest.mark.parametrize("size_hw", [EVEN, ODD], ids=["even", "odd"])
def test_raw_outputs_equal_the_formulas(tmp_path: Path, name: str, size_hw: tuple[int, int]) -> None:
    parity(tmp_path, best(tmp_path, name), name, size_hw)

    check_plain_graph(tmp_path / "model.onnx")


def test_every_dilation_reads_inside_a_larger_picture(tmp_path: Path) -> None:
    variant, _ = VARIANTS["resnet18, two"]
    weights = weights_of(variant, size_hw=WIDE)
    file = save(tmp_path / "best_model.pth.tar", state_dict(weights, "module."))

    result = check_parity(file, lambda image: forward(weights, image, variant), WIDE, onnx_file=tmp_path / "model.onnx")

    check_upsampled(result, upsampled)


@pytest.mark.parametrize("how", [{"legacy": True, "cuda": True, "old_numpy": True}, {"cuda": True}], ids=["old", "new"])
def test_the_checkpoint_of_a_run_is_read(tmp_path: Path, how: dict[str, bool]) -> None:
    name = "resnet18, two, sorted"
    file = save(tmp_path / "checkpoint.pth.tar", vandenhende_content(trained(name)[1]), **how)

    parity(tmp_path, file, name)


def test_keys_without_the_prefix_are_the_same_model(tmp_path: Path) -> None:
    name = "resnet18, two, sorted"

    parity(tmp_path, save(tmp_path / "model.pth", state_dict(trained(name)[1])), name)


def test_the_manifest_carries_what_the_format_fixes(tmp_path: Path) -> None:
    name = "resnet18, five, sorted"
    manifest = parity(tmp_path, best(tmp_path, name), name).manifest

    assert [(task.name, task.channels) for task in manifest.tasks] == [
        ("semseg", 21),
        ("human_parts", 7),
        ("sal", 1),
        ("normals", 3),
        ("edge", 1),
    ]
    assert [task.kind for task in manifest.tasks] == ["segmentation", "segmentation", "binary", "normals", "binary"]
    assert manifest.task("normals").coding == "vector"  # type: ignore[attr-defined]
    assert manifest.resize == "half_pixel"
    preprocess = manifest.preprocess
    assert (preprocess.order, preprocess.scale) == ("rgb", pytest.approx(1 / 255))
    assert np.allclose((preprocess.mean, preprocess.std), IMAGENET)


def test_depth_is_metres(tmp_path: Path) -> None:
    manifest = parity(tmp_path, best(tmp_path, "resnet18, two"), "resnet18, two").manifest

    assert [(task.name, task.kind) for task in manifest.tasks] == [("semseg", "segmentation"), ("depth", "depth")]


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("size_hw", [EVEN, ODD], ids=["even", "odd"])
@pytest.mark.parametrize(
    "reading", [{"eps": 1e-3}, {"first_dilations": (1, 1, 2, 4)}, {"first_dilations": (1, 1, 1, 1)}], ids=str
)
def test_a_wrong_reading_would_show(name: str, size_hw: tuple[int, int], reading: dict[str, object]) -> None:
    image = picture(size_hw)

    assert largest_difference(formulas(name)(image), formulas(name, **reading)(image)) > 0.04


@pytest.mark.parametrize("name", SORTED)
@pytest.mark.parametrize("size_hw", [EVEN, ODD], ids=["even", "odd"])
def test_tasks_in_the_files_order_would_show(name: str, size_hw: tuple[int, int]) -> None:
    variant, _ = trained(name)
    image = picture(size_hw)

    assert list(variant.tasks) != in_order(variant.tasks)
    assert largest_difference(formulas(name)(image), formulas(name, order=variant.tasks)(image)) > 1


def test_a_fusion_left_out_would_show() -> None:
    variant, weights = trained("resnet18, two")
    image = picture(ODD)
    without = ResNet(variant.tasks, fused=STAGES[:-1])

    assert largest_difference(formulas("resnet18, two")(image), forward(weights, image, without)) > 1


def test_another_upsampling_would_show() -> None:
    raw = formulas("resnet18, two")(picture(ODD))["semseg"]

    assert float((upsampled(raw, ODD) - resize(raw, ODD, align_corners=True)).abs().max()) > 0.04
