"""A file of decoded results gives what the file of raw outputs gives after `Task.decode`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from export_networks import AGE, DEPTH, GENDER, NORMALS, SEGMENTATION, SIZE, config, save

from nddr_deploy.engines import open_engine
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.export.recipe import export_checkpoint
from nddr_deploy.graph.decode_graph import append_decoders
from nddr_deploy.graph.metadata import read_manifest
from nddr_deploy.graph.tensorrt_lint import check_for_tensorrt
from nddr_deploy.resize import Convention, Grid
from nddr_deploy.tasks import Binary, Normals
from nddr_deploy.tasks.base import Task

ALL: tuple[Task, ...] = (SEGMENTATION, NORMALS, DEPTH, AGE, GENDER)
COLOURED = Normals("coloured", coding="colour", axes=("toward", "right", "up"))
EDGE = Binary("edge")


@pytest.mark.parametrize("dynamic", [(), ("batch", "size")], ids=str)
def test_colours_and_chances_decode_in_the_file_as_outside(tmp_path: Path, dynamic: tuple[str, ...]) -> None:
    tasks = (EDGE, COLOURED)
    checkpoint = save(tmp_path / "ckpt.pt", config(), tasks)
    raw_file = export_checkpoint(checkpoint, tmp_path / "raw.onnx", dynamic=dynamic).path
    decoded_file = export_checkpoint(checkpoint, tmp_path / "decoded.onnx", dynamic=dynamic, outputs="decoded").path
    images = probe_images(SIZE, 1)

    with open_engine(raw_file) as engine:
        raw = engine.infer(images)
    with open_engine(decoded_file) as engine:
        assert engine.manifest.tasks == tasks
        decoded = engine.infer(images)

    for task in tasks:
        grid = Grid.between(raw[task.name].shape[2:], SIZE, engine.manifest.resize)
        expected = task.decode(raw[task.name][0], grid)
        assert decoded[task.name][0].shape == expected.shape
        assert np.quantile(np.abs(decoded[task.name][0] - expected), 0.999) <= 1e-4


def test_plain_normals_decode_without_nodes_for_axes_or_colours(tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "ckpt.pt", config(), (NORMALS, DEPTH))

    nodes = onnx.load(export_checkpoint(checkpoint, outputs="decoded", tasks=["normals"]).path).graph.node

    kinds = [node.op_type for node in nodes]
    assert kinds[kinds.index("Resize") :].count("Gather") == 0
    assert kinds[kinds.index("Resize") :].count("Sqrt") == 1


@pytest.mark.parametrize(
    ("resize", "dynamic"),
    [("half_pixel", ()), ("align_corners", ("batch", "size")), ("asymmetric", ("batch", "size"))],
    ids=str,
)
def test_the_decoded_file_gives_what_the_raw_file_gives_after_decoding(
    tmp_path: Path, resize: Convention, dynamic: tuple[str, ...]
) -> None:
    checkpoint = save(tmp_path / "ckpt.pt", config(resize=resize, fusion="nddr conv-bn-relu"), ALL)
    raw_file = export_checkpoint(checkpoint, tmp_path / "raw.onnx", dynamic=dynamic).path
    decoded_file = export_checkpoint(checkpoint, tmp_path / "decoded.onnx", dynamic=dynamic, outputs="decoded").path
    height, width = (150, 140) if dynamic else SIZE
    images = probe_images((height, width), 3 if dynamic else 1)

    with open_engine(raw_file) as engine:
        raw = engine.infer(images)
    with open_engine(decoded_file) as engine:
        decoded = engine.infer(images)

    shapes = {name: (value.dtype.name, value.shape[1:]) for name, value in decoded.items()}
    assert shapes == {
        "segmentation": ("uint8", (height, width)),
        "normals": ("float32", (height, width, 3)),
        "depth": ("float32", (height, width)),
        "age": ("float32", ()),
        "gender": ("float32", (2,)),
    }
    for task in ALL:
        grid = None
        if task.head == "dense":
            grid = Grid.between(raw[task.name].shape[2:], (height, width), resize)
        expected = np.stack([task.decode(sample, grid) for sample in raw[task.name]])
        differs = np.abs(decoded[task.name].astype(np.float64) - expected)
        if task is SEGMENTATION:
            assert np.count_nonzero(differs) <= 1  # a tie
        else:
            assert np.quantile(differs, 0.9999) <= 1e-4 * max(np.ptp(expected), 0.01 * np.abs(expected).max())


def test_labels_leave_the_graph_through_float(tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "ckpt.pt", config(), (SEGMENTATION, DEPTH))

    nodes = onnx.load(export_checkpoint(checkpoint, outputs="decoded", tasks=["segmentation"]).path).graph.node

    resize, argmax, to_float, to_uint8 = list(nodes)[-4:]
    assert [resize.op_type, argmax.op_type, to_float.op_type] == ["Resize", "ArgMax", "Cast"]
    assert to_float.attribute[0].i == onnx.TensorProto.FLOAT
    assert to_uint8.attribute[0].i == onnx.TensorProto.UINT8
    assert list(to_uint8.output) == ["segmentation"]


@pytest.mark.parametrize("dynamic", [(), ("batch", "size")], ids=str)
def test_the_decoded_file_is_the_raw_one_with_decoders_behind_it(tmp_path: Path, dynamic: tuple[str, ...]) -> None:
    checkpoint = save(tmp_path / "ckpt.pt", config(), ALL)
    raw = export_checkpoint(checkpoint, tmp_path / "raw.onnx", dynamic=dynamic)
    decoded = export_checkpoint(checkpoint, tmp_path / "decoded.onnx", dynamic=dynamic, outputs="decoded")

    assert onnx.load(decoded.path) == append_decoders(onnx.load(raw.path))
    assert read_manifest(decoded.path) == decoded.manifest
    decoders = [node.name for node in onnx.load(decoded.path).graph.node if node.name.startswith("decode.")]
    assert decoded.nodes - raw.nodes == len(decoders)
    check_for_tensorrt(onnx.load(decoded.path), precision="fp32", major=8, source="the file")
