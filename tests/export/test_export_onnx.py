"""The ONNX file itself: inputs, outputs, opset, nodes, names, and nothing about the machine that wrote it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_networks import AGE, DENSE, DEPTH, GENDER, NORMALS, SEGMENTATION, SIZE, config, network_of, save

from nddr_deploy.engines import open_engine
from nddr_deploy.errors import ConfigError, ParityError, UnsupportedError
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.export.fold import fold_batchnorm
from nddr_deploy.export.model import ExportedModel
from nddr_deploy.export.recipe import export_checkpoint
from nddr_deploy.export.to_onnx import EXPORTER, to_onnx
from nddr_deploy.files import sha256
from nddr_deploy.graph.metadata import read_manifest
from nddr_deploy.manifest import Manifest
from nddr_deploy.network import ImageModel
from nddr_deploy.network.config import NetworkConfig
from nddr_deploy.preprocess import Preprocess
from nddr_deploy.tasks import Classification, Depth
from nddr_deploy.tasks.base import Array


def dimensions(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def written(tmp_path: Path, **options: object) -> onnx.ModelProto:
    checkpoint = save(tmp_path / "ckpt.pt", config(shortcut="per_task"))
    return onnx.load(export_checkpoint(checkpoint, **options).path)


@pytest.mark.parametrize("opset", [17, 18, 19, 20])
def test_the_file_has_the_opset_that_was_asked_for(tmp_path: Path, opset: int) -> None:
    model = written(tmp_path, opset=opset)

    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert model.ir_version <= 9  # ONNX Runtime 1.17 and TensorRT 8.6 read no newer one
    assert read_manifest(tmp_path / "ckpt.onnx").opset == opset


@pytest.mark.parametrize("opset", [16, 21, 99])
def test_an_opset_that_cannot_be_written_is_refused(tmp_path: Path, opset: int) -> None:
    with pytest.raises(ConfigError, match=f"opset: {opset} cannot be written. Choose one from 17 to 20"):
        export_checkpoint(save(tmp_path / "ckpt.pt"), opset=opset)


def test_an_exporter_that_stays_at_another_opset_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **options: real(*args, **{**options, "opset_version": 18}))

    with pytest.raises(UnsupportedError, match=r"Opset 17 was asked for; .* wrote .*18"):
        export_checkpoint(save(tmp_path / "ckpt.pt"))

    assert not (tmp_path / "ckpt.onnx").exists()


def test_the_input_is_uint8_and_its_first_node_casts_it(tmp_path: Path) -> None:
    model = written(tmp_path)

    (images,) = model.graph.input
    assert images.name == "images"
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert dimensions(images) == [1, 131, 163, 3]
    first = model.graph.node[0]
    assert (first.op_type, list(first.input)) == ("Cast", ["images"])
    assert first.attribute[0].i == onnx.TensorProto.FLOAT
    assert [node.op_type for node in model.graph.node[1:4]] == ["Transpose", "Sub", "Mul"]


def test_preprocessing_is_exact_up_to_the_borders_in_both_channel_orders(tmp_path: Path) -> None:
    for order in ("rgb", "bgr"):
        preprocess = Preprocess(mean=(0.7, 0.2, 0.4), std=(0.1, 0.2, 0.3), order=order)
        checkpoint = save(tmp_path / f"{order}.pt", preprocess=preprocess)

        report = export_checkpoint(checkpoint)

        assert max(head.relative for head in report.parity.heads) < 1e-5
        assert read_manifest(report.path).preprocess == preprocess


def test_outputs_come_in_the_order_asked_for_and_carry_their_own_values(tmp_path: Path) -> None:
    tasks = (Depth("near"), Depth("far"), Depth("sky"))  # equal shapes: only the values can tell
    network = network_of(config(), tasks)
    save(tmp_path / "ckpt.pt", config(), tasks)
    images = probe_images(SIZE, 1)
    with torch.inference_mode():
        expected = ImageModel(network, Preprocess())(torch.from_numpy(images))

    report = export_checkpoint(tmp_path / "ckpt.pt", tasks=["sky", "near", "far"])
    with open_engine(report.path) as engine:
        found = engine.infer(images)

    assert [output.name for output in onnx.load(report.path).graph.output] == ["sky", "near", "far"]
    assert [task.name for task in engine.manifest.tasks] == ["sky", "near", "far"]
    for name in ("near", "far", "sky"):
        others = [other for other in expected if other != name]
        assert np.abs(found[name] - expected[name].numpy()).max() < 1e-4 * np.ptp(expected[name].numpy())
        assert all(np.abs(found[name] - expected[other].numpy()).max() > 1e-2 for other in others)


@pytest.mark.parametrize("tasks", [(Depth("near"), Depth("far")), (GENDER, Classification("mood", ("sad", "happy")))])
def test_an_exporter_that_swaps_two_heads_writes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: tuple[Depth, Depth]
) -> None:
    checkpoint = save(tmp_path / "ckpt.pt", config(), tasks)
    real = ExportedModel.forward
    monkeypatch.setattr(ExportedModel, "forward", lambda self, images: real(self, images)[::-1])

    with pytest.raises(ParityError, match=f"{tasks[0].name}: .* differ .*{tasks[1].name}: .* differ"):
        export_checkpoint(checkpoint)

    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.pt"]


def test_weights_and_nodes_keep_the_names_of_the_layers_also_where_weights_are_equal(tmp_path: Path) -> None:
    settings = config(
        fusion="nddr conv", shortcut="per_task"
    )  # untrained: the last two fusions start with equal weights
    checkpoint_names = {name for name, _ in network_of(settings).named_parameters()}

    model = onnx.load(export_checkpoint(save(tmp_path / "ckpt.pt", settings)).path)

    weights = {weight.name for weight in model.graph.initializer if weight.name.endswith((".weight", ".bias"))}
    assert weights == checkpoint_names
    nodes = {node.name: node for node in model.graph.node}
    assert len(nodes) == len(model.graph.node)
    for layer in ("fusions.3.layers.normals.conv", "fusions.4.layers.normals.conv"):
        assert list(nodes[f"{layer}/Conv"].input[1:]) == [f"{layer}.weight", f"{layer}.bias"]


@pytest.mark.parametrize(
    ("resize", "dynamic"),
    [
        ("half_pixel", ()),
        ("align_corners", ()),
        ("asymmetric", ()),
        ("align_corners", ("batch",)),
        ("asymmetric", ("batch", "size")),
    ],
    ids=str,
)
def test_every_resize_is_one_node_of_its_convention(tmp_path: Path, resize: str, dynamic: tuple[str, ...]) -> None:
    checkpoint = save(tmp_path / "ckpt.pt", config(shortcut="per_task", resize=resize))

    report = export_checkpoint(checkpoint, dynamic=dynamic)

    nodes = onnx.load(report.path).graph.node
    resizes = [node for node in nodes if node.op_type == "Resize"]
    assert len(resizes) == 8  # four stages of each stream are larger than the last
    for node in resizes:
        values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        assert values["coordinate_transformation_mode"].decode() == resize
        assert values["mode"] == b"linear"
    kinds = Counter(node.op_type for node in nodes)
    assert kinds["Shape"] == {0: 0, 1: 8, 2: 16}[len(dynamic)]
    assert not {"Gather", "Constant", "Identity", "Dropout", "If", "Loop"} & set(kinds)


def test_the_file_says_nothing_about_the_machine_that_wrote_it(tmp_path: Path) -> None:
    report = export_checkpoint(save(tmp_path / "ckpt.pt"), dynamic=("batch", "size"), outputs="decoded")

    data = report.path.read_bytes()
    for trace in (b".py", b"site-packages", b"/work", b"/home", b"/root", b"Traceback", bytes(tmp_path), b"forward("):
        assert trace not in data, trace
    model = onnx.load(report.path)
    parts = [model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output]
    assert not any(part.doc_string for part in parts)
    assert [entry.key for entry in model.metadata_props] == ["nddr_deploy.manifest"]


def test_the_same_checkpoint_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    save(tmp_path / "ckpt.pt", config(shortcut="per_task"))
    export_checkpoint(tmp_path / "ckpt.pt", tmp_path / "first.onnx")
    program = "import sys, nddr_deploy; nddr_deploy.export_checkpoint(sys.argv[1], sys.argv[2])"

    subprocess.run([sys.executable, "-c", program, tmp_path / "ckpt.pt", tmp_path / "second.onnx"], check=True)

    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()


def test_the_manifest_describes_the_file(tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "ckpt.pt", config(fusion="nddr conv-relu-bn", resize="align_corners"))

    manifest = export_checkpoint(
        checkpoint, tmp_path / "m.onnx", size_hw=(163, 131), dynamic=["size", "batch"]
    ).manifest

    assert read_manifest(tmp_path / "m.onnx") == manifest
    assert manifest.tasks == DENSE[:2]
    assert (manifest.size_hw, manifest.dynamic, manifest.resize) == ((163, 131), ("batch", "size"), "align_corners")
    assert manifest.network == "alexnet + nddr (conv-relu-bn)"
    assert manifest.hashes == {"checkpoint": sha256(checkpoint)}
    assert manifest.versions["exporter"] == EXPORTER
    assert len(manifest.notes) == 8
    assert manifest.notes[0].startswith("fusions.0.layers.segmentation.bn: kept as multiply-add (it comes after ReLU")


@pytest.mark.parametrize(
    ("dynamic", "expected"),
    [
        ((), {"images": [1, 131, 163, 3], "segmentation": [1, 5, 3, 4], "age": [1, 12]}),
        (("batch",), {"images": ["batch", 131, 163, 3], "segmentation": ["batch", 5, 3, 4], "age": ["batch", 12]}),
        (
            ("size",),
            {
                "images": [1, "height", "width", 3],
                "segmentation": [1, 5, "segmentation_height", "segmentation_width"],
                "age": [1, 12],
            },
        ),
    ],
    ids=str,
)
def test_only_what_was_asked_for_stays_open(
    tmp_path: Path, dynamic: tuple[str, ...], expected: dict[str, list[int | str]]
) -> None:
    report = export_checkpoint(save(tmp_path / "ckpt.pt", config(), (SEGMENTATION, AGE)), dynamic=dynamic)

    graph = onnx.load(report.path).graph
    assert {value.name: dimensions(value) for value in (*graph.input, *graph.output)} == expected


@pytest.mark.parametrize("size_hw", [(65, 97), (64, 96), (64, 97), (65, 96)])
def test_tensorflows_pooling_is_one_node_where_the_size_is_fixed(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    settings = NetworkConfig(
        backbone="vgg16_deeplab",
        backbone_options={"width": 0.05, "pool_padding": "same"},
        head_options={"width": 0.02},
    )

    report = export_checkpoint(save(tmp_path / "ckpt.pt", settings), size_hw=size_hw)

    operations = [node.op_type for node in onnx.load(report.path).graph.node]
    assert report.parity.passed  # against F.pad and max_pool2d in PyTorch
    assert operations.count("MaxPool") == 2 * 5
    assert "Pad" not in operations


@pytest.mark.parametrize(("head", "pool_padding"), [("aspp", "same"), ("deeplab_v2", "after")])
def test_an_open_size_is_right_at_sizes_that_were_never_seen(tmp_path: Path, head: str, pool_padding: str) -> None:
    settings = config(
        "vgg16_deeplab", shortcut="shared", head=head, head_options={"width": 0.02} if head == "aspp" else {}
    )
    settings.backbone_options["pool_padding"] = pool_padding  # type: ignore[index]
    try:
        network = network_of(settings)
        checkpoint = save(tmp_path / "ckpt.pt", settings)
    finally:
        del settings.backbone_options["pool_padding"]  # type: ignore[attr-defined]
    report = export_checkpoint(checkpoint, dynamic=("batch", "size"))

    with open_engine(report.path) as engine:
        for size_hw, count in (((33, 40), 1), ((71, 90), 2), ((128, 50), 1)):
            images = probe_images(size_hw, count)
            with torch.inference_mode():
                expected = ImageModel(network, Preprocess())(torch.from_numpy(images))
            for name, found in engine.infer(images).items():
                assert found.shape == expected[name].shape
                assert np.abs(found - expected[name].numpy()).max() < 1e-4 * np.ptp(expected[name].numpy())


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_fixed_batch_is_compared_on_three_images_or_more(tmp_path: Path, batch: int) -> None:
    report = export_checkpoint(save(tmp_path / "ckpt.pt"), batch=batch)

    assert dimensions(onnx.load(report.path).graph.input[0])[0] == batch
    assert {shape[0] for shape in report.parity.images} == {batch}
    assert sum(shape[0] for shape in report.parity.images) >= 3


def test_the_classifier_averages_over_cells_that_do_not_divide_the_map(tmp_path: Path) -> None:
    options = {"pooled_head": "classifier", "pooled_head_options": {"width": 0.01}}
    checkpoint = save(tmp_path / "ckpt.pt", config(**options), (AGE, GENDER))  # a 3x4 map to 7x7 cells

    report = export_checkpoint(checkpoint, outputs="raw")

    assert max(head.relative for head in report.parity.heads) < 1e-5
    with pytest.raises(UnsupportedError, match=r"heads.age.avgpool averages over 7x7 cells.* one file per size"):
        export_checkpoint(checkpoint, dynamic=["size"])


@pytest.mark.parametrize(("fusion", "smaller"), [("none", 0.6), ("nddr bn-conv", 0.99), ("shared", 1.0)])
def test_choosing_tasks_cuts_what_only_the_others_need_and_changes_no_value(
    tmp_path: Path, fusion: str, smaller: float
) -> None:
    checkpoint = save(tmp_path / "ckpt.pt", config(fusion=fusion))
    images = probe_images(SIZE, 1)

    both = export_checkpoint(checkpoint, tmp_path / "both.onnx")
    one = export_checkpoint(checkpoint, tmp_path / "one.onnx", tasks=["normals"])

    def run(path: Path) -> dict[str, Array]:
        with open_engine(path, threads=1) as engine:
            return engine.infer(images)

    assert list(run(one.path)) == ["normals"]
    assert np.array_equal(run(one.path)["normals"], run(both.path)["normals"])
    weights = {weight.name for weight in onnx.load(one.path).graph.initializer}
    assert not any(name.startswith("heads.segmentation") for name in weights)
    # What follows the last layer that `normals` needs is gone: the other task's last fusion; with "none", its stream.
    assert any(name.startswith("stages.4.segmentation") for name in weights) is (fusion == "nddr bn-conv")
    assert "fusions.4.layers.segmentation.conv.weight" not in weights
    assert one.nodes < both.nodes
    assert one.size_bytes < smaller * both.size_bytes


def test_too_large_for_one_file_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nddr_deploy.export.to_onnx.LARGEST_BYTES", 1000)

    with pytest.raises(UnsupportedError, match="one ONNX file holds less than 2"):
        export_checkpoint(save(tmp_path / "ckpt.pt"))


def test_a_task_may_have_a_hyphen_in_its_name(tmp_path: Path) -> None:
    report = export_checkpoint(save(tmp_path / "ckpt.pt", config(), (Depth("my-depth"), NORMALS)), outputs="decoded")

    assert [output.name for output in onnx.load(report.path).graph.output] == ["my-depth", "normals"]


def test_the_graph_can_be_written_without_an_engine(tmp_path: Path) -> None:
    manifest = Manifest(tasks=(DEPTH,), size_hw=SIZE, opset=17)
    example = torch.from_numpy(probe_images(SIZE, 1))
    folded, _ = fold_batchnorm(ExportedModel(network_of(config(fusion="none"), (DEPTH,)), manifest), [example])

    nodes = to_onnx(folded, manifest, tmp_path / "m.onnx", example)

    assert nodes == len(onnx.load(tmp_path / "m.onnx").graph.node)
