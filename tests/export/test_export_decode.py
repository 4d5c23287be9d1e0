"""Results decoded inside the graph are those of `Task.decode` on the raw output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_networks import AGE, DEPTH, GENDER, NORMALS, SEGMENTATION, SIZE, config, save

from nddr_deploy.engines import open_engine
from nddr_deploy.errors import UnsupportedError
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.export.decode import DECODERS, decoder
from nddr_deploy.export.recipe import export_checkpoint
from nddr_deploy.resize import CONVENTIONS, Convention, Grid
from nddr_deploy.tasks import TASKS, Binary, Normals
from nddr_deploy.tasks.base import Array, Task

ALL: tuple[Task, ...] = (SEGMENTATION, NORMALS, DEPTH, AGE, GENDER)
TURNED = Normals("turned", axes=("up", "left", "toward"))
COLOURED = tuple(
    Normals(f"coloured{place}", coding="colour", axes=axes)
    for place, axes in enumerate((("right", "down", "away"), ("toward", "right", "up"), None))
)
EDGE = Binary("edge")


def raw_of(task: Task) -> Array:
    """Two samples with large, small, negative and (in the corner) zero values."""
    shape = (2, task.channels, 6, 9) if task.head == "dense" else (2, task.channels)
    values = np.random.default_rng(3).normal(0, 4, shape).astype(np.float32)
    if task.head == "dense":
        values[:, :, :2, :2] = 0
    return values


@pytest.mark.parametrize("resize", CONVENTIONS)
@pytest.mark.parametrize("task", [*ALL, EDGE, TURNED, *COLOURED], ids=lambda task: task.name)
def test_the_layers_decode_like_the_task(task: Task, resize: Convention) -> None:
    raw, size_hw = raw_of(task), (35, 61)

    found = decoder(task, resize)(torch.from_numpy(raw), torch.zeros(2, 3, *size_hw)).numpy()

    grid = Grid.between((6, 9), size_hw, resize) if task.head == "dense" else None
    expected = np.stack([task.decode(sample, grid) for sample in raw])
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if task is SEGMENTATION:
        assert np.count_nonzero(found != expected) <= 1  # of 4270: a tie within float32's rounding
        assert np.array_equal(found[:, 0, 0], [0, 0])  # all scores equal: the lowest class
    elif task in COLOURED:
        # Next to where the two roots meet, float32's rounding is under a root: 1e-3. Elsewhere as the others.
        np.testing.assert_allclose(found, expected, atol=1e-3)
        assert np.quantile(np.abs(found - expected), 0.99) <= 1e-5
    else:
        # Units: 1, metres, years, 1. Values of up to 12 are interpolated with weights of float32.
        np.testing.assert_allclose(found, expected, atol=1e-5)
    if task.kind == "normals":
        assert np.array_equal(found[0, 0, 0], [0, 0, -1])
        np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-6)
    if task is DEPTH:
        assert found.min() == 0


@pytest.mark.parametrize("dynamic", [(), ("batch", "size")], ids=str)
def test_colours_and_chances_decode_in_the_file_as_outside(tmp_path: Path, dynamic: tuple[str, ...]) -> None:
    tasks = (EDGE, COLOURED[1])
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


def test_every_kind_of_task_has_a_decoder_and_an_unknown_one_is_refused() -> None:
    class Sound(type(DEPTH)):  # type: ignore[misc]
        kind = "sound"

    assert set(DECODERS) == set(TASKS)
    with pytest.raises(UnsupportedError, match=r"noise: tasks of kind 'sound' .* Export with --outputs raw"):
        decoder(Sound("noise"), "half_pixel")


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
