"""Every backbone x fusion x order x shortcut: the ONNX file without BatchNorm equals the unfolded PyTorch network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_networks import AGE, BACKBONES, DENSE, FUSIONS, GENDER, SHORTCUTS, config, network_of

from nddr_deploy.evaluate.parity import check_parity
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.export.fold import fold_batchnorm
from nddr_deploy.export.model import ExportedModel
from nddr_deploy.export.to_onnx import to_onnx
from nddr_deploy.manifest import Manifest
from nddr_deploy.network import ImageModel, NetworkConfig
from nddr_deploy.preprocess import Preprocess
from nddr_deploy.resize import CONVENTIONS
from nddr_deploy.tasks import Task
from nddr_deploy.tasks.base import Array

SIZES = ((65, 97), (64, 96), (97, 65), (71, 103))
HEADS = ("conv1x1", "large_fov", "deeplab_v2", "aspp")
MIXED = (DENSE[0], GENDER, AGE)

# Every backbone meets every fusion, every fusion every shortcut, every backbone every shortcut; the rest takes turns.
PAIRWISE = [
    (backbone, fusion, SHORTCUTS[(row + column) % 3], 3 * row + column)
    for row, backbone in enumerate(name for name in BACKBONES if name != "resnet101")
    for column, fusion in enumerate(FUSIONS)
]
FULL = [(*case, turn) for turn, case in enumerate(product(BACKBONES, FUSIONS, SHORTCUTS, [2, 3]))]


def check(tmp_path: Path, backbone: str, fusion: str, shortcut: str, turn: int, tasks_count: int) -> None:
    tasks = (MIXED if turn % 4 == 3 else DENSE)[:tasks_count]
    head = HEADS[turn % 4]
    settings = config(
        backbone,
        fusion,
        shortcut=shortcut,
        shortcut_options={} if shortcut == "none" else {"order": ("conv", "conv-bn-relu", "conv-relu-bn")[turn % 3]},
        resize=CONVENTIONS[turn % 3],
        head=head,
        head_options={"width": 0.02} if head in ("large_fov", "aspp") else {},
    )
    export_and_compare(tmp_path, settings, tasks, SIZES[turn % 4], turn)


def export_and_compare(
    tmp_path: Path, settings: NetworkConfig, tasks: Sequence[Task], size_hw: tuple[int, int], turn: int
) -> list[str]:
    """The operations of the file, after its outputs were found to be those of the unfolded network."""
    batch_is_open = turn % 2 == 0
    manifest = Manifest(
        tasks=tuple(tasks),
        preprocess=Preprocess(order="bgr" if turn % 5 == 0 else "rgb"),
        size_hw=size_hw,
        batch=(1, 3)[turn // 2 % 2],
        dynamic=("batch",) if batch_is_open else (),
        resize=settings.resize,
        opset=17,
    )
    network = network_of(settings, tasks, seed=turn)
    images = probe_images(manifest.size_hw, 3)
    batches = [images, images[:1]] if batch_is_open else [images] if manifest.batch == 3 else list(images[:, None])
    example = torch.from_numpy(batches[0])

    folded, _ = fold_batchnorm(ExportedModel(network, manifest), [example])
    to_onnx(folded, manifest, tmp_path / "model.onnx", example)

    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    unfolded = ImageModel(network, manifest.preprocess).eval()

    names = [output.name for output in session.get_outputs()]
    with torch.inference_mode():
        expected = {batch.tobytes(): _arrays(unfolded(torch.from_numpy(batch))) for batch in batches}
    found = {batch.tobytes(): dict(zip(names, session.run(None, {"images": batch}), strict=True)) for batch in batches}

    report = check_parity(
        lambda batch: expected[batch.tobytes()], lambda batch: found[batch.tobytes()], batches, tasks, tolerance=1e-4
    )
    assert report.passed, report.table()
    for task in tasks:  # the same once more, by hand: the requirement is this line
        truth = np.concatenate([outputs[task.name] for outputs in expected.values()])
        exported = np.concatenate([outputs[task.name] for outputs in found.values()])
        assert np.abs(exported - truth).max() <= 1e-4 * np.ptp(truth)
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert "BatchNormalization" not in kinds
    assert "Identity" not in kinds
    return kinds


def _arrays(outputs: dict[str, torch.Tensor]) -> dict[str, Array]:
    return {name: output.numpy() for name, output in outputs.items()}


def thirteen_stages(fusion: str, **options: Any) -> NetworkConfig:
    return NetworkConfig(
        backbone_options={"width": 0.0625, "cut": "convolution", "pool_padding": "zeros"},
        fusion=fusion,
        fusion_options=options,
        resize="align_corners",
        head_options={"width": 0.02, "pools": True},
    )


def resnet(backbone: str, **settings: Any) -> NetworkConfig:
    options = {"width": 0.0625, "stem_pool": "before_fusion", **settings.pop("backbone_options", {})}
    settings.setdefault("fusion_options", {"order": "conv-bn-relu"})
    return NetworkConfig(backbone, options, **settings)


SINGLE_SIDE = {"order": "conv-bn", "own_first": True}
V3PLUS: dict[str, Any] = {
    "backbone_options": {"output_stride": 16, "multi_grid": (1, 2, 4)},
    "head": "deeplab_v3plus",
    "head_options": {"width": 0.0625},
}
FOREIGN: dict[str, tuple[NetworkConfig, Sequence[Task], int]] = {  # and how many Pad nodes are left
    "13 stages, nddr": (thirteen_stages("nddr", order="conv-bn-relu"), DENSE[:2], 0),
    "13 stages, batchnorm after relu": (thirteen_stages("nddr", order="conv-relu-bn"), DENSE[:2], 6),
    "13 stages, cross-stitch": (thirteen_stages("cross_stitch"), DENSE[:2], 6),
    "13 stages, single side": (thirteen_stages("nddr", single_side="normals", **SINGLE_SIDE), DENSE[:2], 3),
    "13 stages, reverse": (thirteen_stages("nddr", single_side="segmentation", **SINGLE_SIDE), DENSE[:2], 3),
    "v3+": (resnet("resnet50", fused_stages=(2, 3, 4, 5), resize="align_corners", **V3PLUS), DENSE[::2], 0),
    "v3+, shared trunk": (resnet("resnet50", fusion="shared", fusion_options={}, **V3PLUS), DENSE, 0),
    "some stages": (resnet("resnet18", fused_stages=(1, 4), shortcut="shared", head="conv1x1"), DENSE, 0),
}


@pytest.mark.parametrize("size_hw", [(64, 96), (65, 83)])
@pytest.mark.parametrize("form", FOREIGN)
def test_the_file_of_a_foreign_form_equals_the_unfolded_network(
    tmp_path: Path, form: str, size_hw: tuple[int, int]
) -> None:
    settings, tasks, pads = FOREIGN[form]

    operations = export_and_compare(tmp_path, settings, tasks, size_hw, turn=size_hw[0])

    assert operations.count("Pad") == pads  # zeros beside values that may be negative are no MaxPool's padding


@pytest.mark.parametrize("size_hw", [(33, 64), (50, 41)])
def test_the_file_of_a_classifier_for_one_map_size_equals_the_unfolded_network(
    tmp_path: Path, size_hw: tuple[int, int]
) -> None:
    settings = resnet("resnet18", fused_stages=(2, 3, 4, 5), pooled_head_options={"map_side": 2})

    export_and_compare(tmp_path, settings, (GENDER, AGE), size_hw, turn=0)


@pytest.mark.parametrize(("backbone", "fusion", "shortcut", "turn"), PAIRWISE)
def test_the_file_equals_the_unfolded_network(
    tmp_path: Path, backbone: str, fusion: str, shortcut: str, turn: int
) -> None:
    check(tmp_path, backbone, fusion, shortcut, turn, tasks_count=3 if turn % 4 == 1 else 2)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "fusion", "shortcut", "tasks_count", "turn"), FULL)
def test_every_combination_equals_the_unfolded_network(
    tmp_path: Path, backbone: str, fusion: str, shortcut: str, tasks_count: int, turn: int
) -> None:
    check(tmp_path, backbone, fusion, shortcut, turn, tasks_count)
