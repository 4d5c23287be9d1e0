"""The official TensorFlow 1 code: every variant as variables in a file, against the formulas."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path

import foreign_vgg
import pytest
from foreign_parity import Outputs, Result, check_parity, check_plain_graph, check_upsampled, largest_difference
from foreign_tf import MEAN_BGR, Variables, forward, resized, variables_of, weights_of, write_folder, write_npz
from foreign_vgg import WIDTHS, Vgg
from foreign_weights import Image, Weights, picture

pytestmark = pytest.mark.usefixtures("no_search_for_sizes")

EVEN, ODD = (64, 96), (65, 97)
WIDE = (145, 178)  # raw map 19 x 23: the head's dilation of 12 reads inside it
VARIANTS = {"plain": 204, "shortcut": 214}


@cache
def trained(name: str) -> Weights:
    return weights_of(shortcut=name == "shortcut")


def formulas(name: str, **readings: object) -> Callable[[Image], Outputs]:
    return lambda image: forward(trained(name), image, **readings)  # type: ignore[arg-type]


def variables(name: str) -> Variables:
    return variables_of(trained(name))


def parity(folder: Path, file: Path, name: str, size_hw: tuple[int, int] = EVEN) -> Result:
    return check_parity(file, formulas(name), size_hw, onnx_file=folder / "model.onnx")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_file_has_the_documented_number_of_variables(name: str) -> None:
    stored = variables(name)
    own = [key for key in stored if not key.endswith("/Momentum")]

    assert len(own) == VARIANTS[name]
    assert len(stored) - len(own) == sum("/moving_" not in key for key in own)
    assert stored["nddr_1/nddr_1_n1/weights"].shape == (1, 1, 8, 4)  # HWIO


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("size_hw", [EVEN, ODD], ids=["even", "odd"])
def test_raw_outputs_of_an_npz_equal_the_formulas(tmp_path: Path, name: str, size_hw: tuple[int, int]) -> None:
    file = write_npz(tmp_path / "variables.npz", variables(name))

    result = parity(tmp_path, file, name, size_hw)

    check_plain_graph(tmp_path / "model.onnx")
    assert result.found["normals"].shape[2:] == ((9, 13) if size_hw == ODD else (8, 12))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_dilation_reads_inside_a_larger_picture(tmp_path: Path, name: str) -> None:
    weights = weights_of(shortcut=name == "shortcut", size_hw=WIDE)
    file = write_npz(tmp_path / "variables.npz", variables_of(weights))

    result = check_parity(file, lambda image: forward(weights, image), WIDE, onnx_file=tmp_path / "model.onnx")

    check_upsampled(result, resized)


@pytest.mark.parametrize("name", VARIANTS)
def test_raw_outputs_of_tensorflows_own_files_equal_the_formulas(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path / "run", variables(name))

    parity(tmp_path, tmp_path / "run", name, ODD)


def test_prefix_and_index_are_accepted(tmp_path: Path) -> None:
    prefix = write_folder(tmp_path / "run", variables("plain"))

    for path in (prefix, prefix.with_name(prefix.name + ".index")):
        parity(tmp_path, path, "plain")


def test_a_folder_gives_its_latest_checkpoint(tmp_path: Path) -> None:
    older = {key: 2 * value for key, value in variables("plain").items()}
    write_folder(tmp_path / "run", older, step=5000)
    write_folder(tmp_path / "run", variables("plain"), step=10000)

    parity(tmp_path, tmp_path / "run", "plain")


def test_momentum_may_be_absent(tmp_path: Path) -> None:
    file = write_npz(tmp_path / "variables.npz", variables_of(trained("plain"), momentum=False))

    parity(tmp_path, file, "plain")


def test_the_manifest_carries_what_the_format_fixes(tmp_path: Path) -> None:
    manifest = parity(tmp_path, write_npz(tmp_path / "variables.npz", variables("plain")), "plain").manifest

    assert [(task.name, task.kind, task.channels) for task in manifest.tasks] == [
        ("segmentation", "segmentation", 40),
        ("normals", "normals", 3),
    ]
    assert manifest.task("normals").coding == "colour"  # type: ignore[attr-defined]
    assert manifest.resize == "asymmetric"
    preprocess = manifest.preprocess
    assert (preprocess.order, preprocess.scale, preprocess.std) == ("bgr", 1, (1, 1, 1))
    assert preprocess.mean == pytest.approx(MEAN_BGR)


@pytest.mark.parametrize(
    ("name", "reading", "sizes"),
    [
        ("plain", {"eps": 1e-5}, (EVEN, ODD)),
        ("shortcut", {"eps": 1e-5}, (EVEN, ODD)),
        ("plain", {"swapped": True}, (EVEN, ODD)),
        ("shortcut", {"swapped": True}, (EVEN, ODD)),
        ("shortcut", {"corners": True}, (EVEN, ODD)),
        ("plain", {"order": "rgb"}, (EVEN, ODD)),
        ("plain", {"floor_pools": True}, (ODD,)),
        ("shortcut", {"floor_pools": True}, (ODD,)),
    ],
)
def test_a_wrong_reading_would_show(name: str, reading: dict[str, object], sizes: tuple[tuple[int, int], ...]) -> None:
    for size_hw in sizes:
        image = picture(size_hw)
        assert largest_difference(formulas(name)(image), formulas(name, **reading)(image)) > 0.04


def as_the_port(weights: Weights) -> Weights:
    """The same tensors under the names of NDDR-CNN-PyTorch."""
    names = {}
    for t, s in product((1, 2), range(5)):
        for i in range(len(WIDTHS[s])):
            names[f"vgg_16_{t}_{s + 1}/conv{s + 1}/conv{s + 1}_{i + 1}"] = f"net{t}.stages.{s}.feature.{{}}", 3 * i
        names[f"nddr_{s + 1}/nddr_{s + 1}_n{t}"] = f"nddrs.nddrs.{s}.{{}}{t}", None
        names |= {f"vgg_16_{t}_6/{layer}": (f"net{t}.head.{{}}", i) for layer, i in (("fc6", 0), ("fc7", 4))}
        names[f"vgg_16_{t}_6/fc8_voc12"] = f"net{t}.head.{{}}", 8
    port = Weights()
    for key, tensor in weights.items():
        scope, part = key.rsplit(".", 1)
        pattern, index = names[scope.removesuffix("/BatchNorm")]
        is_norm = scope.endswith("/BatchNorm")
        which = ("bn" if is_norm else "conv") if index is None else index + is_norm
        port[f"{pattern.format(which)}.{part}"] = tensor.flip(1) if key.endswith("conv1_1.weight") else tensor  # BGR
    return port


def test_on_even_sizes_the_plain_formulas_are_those_of_the_pytorch_port() -> None:
    image = picture(EVEN)

    port = foreign_vgg.forward(as_the_port(trained("plain")), image, Vgg())

    assert largest_difference(formulas("plain")(image), port) < 1e-4


def test_another_upsampling_would_show() -> None:
    raw = formulas("plain")(picture(ODD))["segmentation"]

    assert float((resized(raw, ODD) - resized(raw, ODD, corners=True)).abs().max()) > 0.04
