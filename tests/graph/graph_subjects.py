"""Graphs for the tests of graph passes: exported networks, graphs of a few nodes, and what runs them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.graph.inference import tensor_types
from nddr_deploy.graph.ranges import scan_ranges
from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

sys.path.append(str(Path(__file__).parents[1] / "export"))  # its networks look trained

# ONNX Runtime adds int32 biases to FP16 convolutions between Q/DQ, with scales (of input times weight) that FP16 cannot
# hold: measured on a two-task VGG, outputs moved by 20 % of their range. With this off, they follow the graph.
FAULTY_WITH_FP16 = ["WeightBiasQuantization"]

NDDR_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "resnet 18, one-sided": {"order": "conv", "single_side": "normals"},
    "vgg, own features first": {"order": "bn-conv", "own_first": True},
}


def run(model: onnx.ModelProto | bytes, *, plainly: bool = False) -> Callable[[Image], dict[str, Array]]:
    """What computes a model's outputs from images in ONNX Runtime.

    Args:
        plainly: without any of its optimisations.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if plainly:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"], disabled_optimizers=FAULTY_WITH_FP16
    )
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))


def run_rounding(model: onnx.ModelProto) -> Callable[[Image], dict[str, Array]]:
    """What computes an FP16 graph as a GPU does: FP32 inside a node, FP16 for every tensor that is typed so.

    ONNX Runtime on a CPU takes an FP16 graph, too, but drops most roundings between its nodes, and overflows with
    them. Here each node runs by itself.
    """
    types = tensor_types(model)
    weights = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    sessions = [None if node.op_type == "Cast" else _alone(node, types, model) for node in model.graph.node]

    def infer(images: Image) -> dict[str, Array]:
        values: dict[str, Any] = {**weights, "images": images}
        for node, session in zip(model.graph.node, sessions, strict=True):
            if session is None:
                results = [values[node.input[0]]]
            else:
                results = session.run(None, {name: _wide(values[name]) for name in dict.fromkeys(node.input) if name})
            for name, result in zip((name for name in node.output if name), results, strict=True):
                with np.errstate(over="ignore"):
                    values[name] = np.asarray(result).astype(helper.tensor_dtype_to_np_dtype(types[name]))
        return {output.name: values[output.name] for output in model.graph.output}

    return infer


def _alone(node: onnx.NodeProto, types: Mapping[str, int], model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    def declared(names: Sequence[str]) -> list[onnx.ValueInfoProto]:
        kinds = {name: types[name] for name in names if name}
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT if kind == TensorProto.FLOAT16 else kind, None)
            for name, kind in kinds.items()
        ]

    graph = helper.make_graph([node], "alone", declared(node.input), declared(node.output))
    whole = helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(whole.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _wide(value: Any) -> Any:
    return value.astype(np.float32) if value.dtype == np.float16 else value


def ranges_of(model: onnx.ModelProto, batches: Sequence[Image]) -> dict[str, float]:
    return scan_ranges(model, run, batches)


@cache
def _exported(
    form: str,
    tasks: int,
    size_hw: tuple[int, int],
    batch: int,
    dynamic: tuple[str, ...],
    outputs: str,
    opset: int,
) -> bytes:
    """Fold and write; raw outputs without the parity that the tests of export check."""
    import torch
    from export_networks import AGE, DEPTH, GENDER, NORMALS, SEGMENTATION, config, network_of, save

    from nddr_deploy.export.fold import fold_batchnorm
    from nddr_deploy.export.model import ExportedModel
    from nddr_deploy.export.recipe import export_checkpoint
    from nddr_deploy.export.to_onnx import to_onnx

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    settings, kinds = {
        "vgg": (config("vgg16_deeplab", shortcut="shared", head="aspp", head_options={"width": 0.02}), "dense"),
        "vgg, padded as TensorFlow pads": (config("vgg16_deeplab", resize="asymmetric"), "dense"),
        "resnet": (config("resnet50", "nddr conv-relu-bn", shortcut="per_task", head="deeplab_v2"), "dense"),
        "resnet 18": (config("resnet18", "nddr conv-bn-relu", head="conv1x1", resize="align_corners"), "dense"),
        "alexnet": (config(), "mixed"),
        "cross-stitch": (config("resnet18", "cross_stitch"), "mixed"),
        "sluice": (config("resnet50", "sluice"), "dense"),
        "single": (config("resnet18", "none", shortcut="per_task"), "dense"),
        "resnet 18, one-sided": (config("resnet18", shortcut="per_task"), "dense"),
        "vgg, own features first": (config("vgg16_deeplab"), "dense"),
        "low-level features": (config("resnet18", head="deeplab_v3plus", head_options={"width": 0.02}), "dense"),
    }[form]
    if form == "vgg, padded as TensorFlow pads":
        settings = replace(settings, backbone_options={**settings.backbone_options, "pool_padding": "same"})
    if form in NDDR_OPTIONS:
        settings = replace(settings, fusion_options=NDDR_OPTIONS[form])
    chosen = {"dense": (SEGMENTATION, NORMALS, DEPTH), "mixed": (NORMALS, AGE, SEGMENTATION, GENDER, DEPTH)}[kinds]
    if outputs == "decoded":
        with TemporaryDirectory() as folder:
            fixed = None if "batch" in dynamic else batch
            checkpoint = save(Path(folder) / "model.pt", settings, chosen[:tasks], size_hw=size_hw)
            report = export_checkpoint(checkpoint, batch=fixed, dynamic=dynamic, outputs=outputs, opset=opset)
            content = report.path.read_bytes()
        torch.set_num_threads(threads)
        return content
    manifest = Manifest(
        tasks=chosen[:tasks],
        size_hw=size_hw,
        batch=batch,
        dynamic=dynamic,
        resize=settings.resize,
        opset=opset,
    )
    example = torch.from_numpy(probe_images(size_hw, batch))
    folded, _ = fold_batchnorm(ExportedModel(network_of(settings, chosen[:tasks]), manifest), [example])
    with TemporaryDirectory() as folder:
        to_onnx(folded, manifest, Path(folder) / "model.onnx", example)
        content = (Path(folder) / "model.onnx").read_bytes()
    torch.set_num_threads(threads)
    return content


def exported(
    form: str = "resnet 18",
    *,
    tasks: int = 2,
    size_hw: tuple[int, int] = (65, 97),
    batch: int = 1,
    dynamic: tuple[str, ...] = (),
    outputs: str = "raw",
    opset: int = 17,
) -> onnx.ModelProto:
    """A narrow, trained-looking network as nddr-export writes it."""
    return onnx.load_from_string(_exported(form, tasks, size_hw, batch, dynamic, outputs, opset))


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Iterable[Image]) -> None:
        self.left = iter([{"images": images} for images in batches])

    def get_next(self) -> dict[str, Image] | None:
        return next(self.left, None)


@cache
def _quantised(form: str, tasks: int, size_hw: tuple[int, int], opset: int, form_of: str) -> bytes:
    images = probe_images(size_hw, 3)
    kind = QuantType.QInt8 if form_of == "TensorRT" else QuantType.QUInt8
    extra = {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "AddQDQPairToWeight": True,
        "QuantizeBias": False,
        "OpTypesToExcludeOutputQuantization": ["Conv"],
    }
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(_exported(form, tasks, size_hw, 1, (), "raw", opset))
        quantize_static(
            path,
            Path(folder) / "int8.onnx",
            _Batches(images[:, None]),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=kind,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv"],
            extra_options=extra if form_of == "TensorRT" else {},
        )
        return (Path(folder) / "int8.onnx").read_bytes()


def quantised(
    form: str = "resnet 18",
    *,
    tasks: int = 2,
    size_hw: tuple[int, int] = (65, 97),
    opset: int = 17,
    form_of: str = "TensorRT",
) -> onnx.ModelProto:
    """The network with Q/DQ nodes around its convolutions, calibrated on the probe images.

    Args:
        form_of: "TensorRT", signed, symmetric, biases in float; or "CPU", as ONNX Runtime does by itself.
    """
    return onnx.load_from_string(_quantised(form, tasks, size_hw, opset, form_of))


def small(
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, Any],
    outputs: Mapping[str, int] | None = None,
    *,
    opset: int = 17,
    images: Sequence[int | str] = (1, 8, 10, 3),
) -> onnx.ModelProto:
    """`images` -> Cast -> Transpose -> `x` (N, 3, H, W) -> the nodes -> `y`; unnamed nodes are named by their outputs.

    Args:
        outputs: name -> type; float `y` where left out.
    """
    first = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["turned"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["turned", "factor"], ["x"]),
    ]
    for node in (*first, *nodes):
        node.name = node.name or node.output[0]
    arrays = {"factor": np.float32(1 / 255), **weights}
    graph = helper.make_graph(
        [*first, *nodes],
        "small",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, list(images))],
        [
            helper.make_tensor_value_info(name, kind, None)
            for name, kind in (outputs or {"y": TensorProto.FLOAT}).items()
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    for value, inferred in zip(graph.output, onnx.shape_inference.infer_shapes(model).graph.output, strict=True):
        value.CopyFrom(inferred)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def conv(name: str, source: str, weight: str) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, weight], [name], name=name)


def types_by_node(model: onnx.ModelProto) -> dict[str, tuple[list[str], list[str]]]:
    """Node name -> the types of what it reads and of what it makes."""
    types = tensor_types(model)

    def named(names: Sequence[str]) -> list[str]:
        return [helper.tensor_dtype_to_string(types[name]).removeprefix("TensorProto.") for name in names if name]

    return {node.name: (named(node.input), named(node.output)) for node in model.graph.node}


def casts(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    return (node for node in model.graph.node if node.op_type == "Cast")
