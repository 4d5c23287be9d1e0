"""A network with Q/DQ nodes that TensorRT takes, by ONNX Runtime's own quantiser.

The plain preset: one scale per tensor, the extremes of a few pictures. How much accuracy can be kept is another
question than how fast such an engine is, and this step answers only the second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from gpu_steps.agreement import compare
from gpu_steps.work import Work
from nddr_deploy import open_engine
from nddr_deploy.build.images import build_images
from nddr_deploy.files import finished_file
from nddr_deploy.graph.metadata import manifest_of, read_model, write_manifest
from nddr_deploy.graph.tensorrt_lint import check_for_tensorrt
from nddr_deploy.preprocess import Image

FEWEST_CHANNELS = 16  # a convolution of fewer gains nothing
# TensorRT takes signed, symmetric values and biases in float.
PRESET = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "AddQDQPairToWeight": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": ["Conv"],
}


def run(work: Work, network: str) -> tuple[dict[str, Any], list[Path]]:
    """`int8.onnx`: opset 17 and float32 outside of the pairs. TensorRT 8.6 takes it as it is; for 10 and later
    nddr-build makes the rest FP16 and lifts the opset."""
    model, path = work.path(network, "model.onnx"), work.path(network, "int8.onnx")
    plain = read_model(model)
    manifest = manifest_of(plain, source=str(model))
    pictures = str(work.path("pictures", "calibration"))
    images = build_images(pictures, work.settings.size_hw, manifest.preprocess)
    left_out = kept_in_float(plain)
    with finished_file(path) as temporary:
        quantize_static(
            model,
            temporary,
            _Pictures(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=left_out,
            extra_options=PRESET,
        )
        quantised = onnx.load_model(temporary)
        write_manifest(quantised, manifest)
        for major in (8, 10):
            check_for_tensorrt(quantised, precision="int8", major=major, source=str(path))
        onnx.save_model(quantised, temporary)
    with open_engine(path, "onnxruntime") as engine:
        agreement = compare(work, network, engine)
    pairs = sum(node.op_type == "QuantizeLinear" for node in quantised.graph.node)
    return {"pairs": pairs, "left_in_float": left_out, "onnxruntime": agreement}, [path]


def kept_in_float(model: onnx.ModelProto) -> list[str]:
    """Convolutions that stay as they are: the heads' last, and those with few channels on either side."""
    weights = {weight.name: weight.dims for weight in model.graph.initializer}
    outputs = {value.name for value in model.graph.output}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv"
        and (node.output[0] in outputs or min(weights[node.input[1]][:2], default=0) < FEWEST_CHANNELS)
    ]


class _Pictures(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: Image) -> None:
        self._left = iter(images[:, None])

    def get_next(self) -> dict[str, Image] | None:
        image = next(self._left, None)
        return None if image is None else {"images": image}
