"""Every format at its real width: documented key counts, one plain file, and the formulas' outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import rmtree

import foreign_afanet
import foreign_resnet
import foreign_tf
import foreign_vgg
import pytest
from foreign_files import mtlnas_content, nddrpytorch_content, save, state_dict, vandenhende_content
from foreign_parity import Outputs, check_parity, check_plain_graph
from foreign_resnet import ResNet
from foreign_vgg import Vgg
from foreign_weights import Image, Weights

pytestmark = pytest.mark.slow

SIZE = (65, 97)
FULL_VGG = {
    "5 stages": Vgg(width=1),
    "13 stages": Vgg(13, width=1),
    "13 stages, cross_stitch": Vgg(13, "cross_stitch", width=1),
}
FULL_PORT = {
    "plain": Vgg(width=1),
    "shortcut": Vgg(shortcut=True, width=1),
    "bn after relu": Vgg(bn_before_relu=False, width=1),
    "shortcut, bn after relu": Vgg(shortcut=True, bn_before_relu=False, width=1),
}
FULL_RESNET = {
    "resnet18, three": (ResNet(("depth", "normals", "semseg"), width=1), 582),
    "resnet50, two": (ResNet(("normals", "semseg"), depth=50, width=1), 784),
}


@pytest.fixture(autouse=True)
def _remove_files(tmp_path: Path) -> Iterator[None]:
    """pytest keeps three runs' folders: of these files that would be gigabytes."""
    yield
    rmtree(tmp_path)


def check(folder: Path, file: Path, forward: Callable[[Image], Outputs], size_hw: tuple[int, int] = SIZE) -> None:
    onnx_file = folder / "onnx" / "model.onnx"
    onnx_file.parent.mkdir()

    check_parity(file, forward, size_hw, onnx_file=onnx_file)

    check_plain_graph(onnx_file)
    assert list(onnx_file.parent.iterdir()) == [onnx_file]


def millions(weights: Weights) -> float:
    """Numbers that the network computes with, each once, without batch counters."""
    each_once = {tensor.data_ptr(): tensor.numel() for key, tensor in weights.items() if "num_batches" not in key}
    return sum(each_once.values()) / 1e6


@pytest.mark.parametrize("name", FULL_VGG)
def test_mtlnas(tmp_path: Path, name: str) -> None:
    variant = FULL_VGG[name]
    weights = foreign_vgg.weights_of(variant)
    file = save(tmp_path / "ckpt-20000.pth", mtlnas_content(weights, variant), legacy=True)

    check(tmp_path, file, lambda image: foreign_vgg.forward(weights, image, variant))


@pytest.mark.parametrize("name", FULL_PORT)
def test_nddrpytorch(tmp_path: Path, name: str) -> None:
    variant = FULL_PORT[name]
    weights = foreign_vgg.weights_of(variant)
    assert len(weights) == (406 if variant.shortcut else 400)
    if not variant.shortcut:
        assert millions(weights) == pytest.approx(43.5, abs=0.1)
    file = save(tmp_path / "ckpt-20000.pth", nddrpytorch_content(weights, variant))

    check(tmp_path, file, lambda image: foreign_vgg.forward(weights, image, variant))


@pytest.mark.parametrize("shortcut", [False, True], ids=["plain", "shortcut"])
def test_tf(tmp_path: Path, shortcut: bool) -> None:
    weights = foreign_tf.weights_of(shortcut=shortcut, width=1)
    variables = foreign_tf.variables_of(weights)
    assert len([key for key in variables if "Momentum" not in key]) == (214 if shortcut else 204)
    if shortcut:
        assert variables["nddr_shortcut_1/weights"].shape == (1, 1, 1472, 512)
    foreign_tf.write_folder(tmp_path / "run", variables)

    check(tmp_path, tmp_path / "run", lambda image: foreign_tf.forward(weights, image))


@pytest.mark.parametrize("name", FULL_RESNET)
def test_vandenhende(tmp_path: Path, name: str) -> None:
    variant, keys = FULL_RESNET[name]
    weights = foreign_resnet.weights_of(variant)
    assert len(weights) == keys
    file = save(tmp_path / "checkpoint.pth.tar", vandenhende_content(weights), legacy=True)

    check(tmp_path, file, lambda image: foreign_resnet.forward(weights, image, variant))


def test_afanet_pixel(tmp_path: Path) -> None:
    weights = foreign_afanet.pixel_weights(width=1)
    assert len(weights) == 796
    assert weights["A_decoder.conv1.weight"].shape == (48, 256, 1, 1)
    file = save(tmp_path / "model.pth", state_dict(weights))

    check(tmp_path, file, lambda image: foreign_afanet.pixel_forward(weights, image))


def test_afanet_image(tmp_path: Path) -> None:
    weights = foreign_afanet.image_weights(width=1)
    assert len(weights) == 688
    assert weights["B_fc.weight"].shape == (8, 2048)
    file = save(tmp_path / "model.pth", state_dict(weights))

    check(tmp_path, file, lambda image: foreign_afanet.image_forward(weights, image), (193, 211))
