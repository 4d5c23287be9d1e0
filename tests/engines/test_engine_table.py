"""What `open_engine` refuses, before and while it loads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy.engines import BACKENDS, open_engine
from nddr_deploy.engines.table import EXTRAS, SUFFIXES
from nddr_deploy.errors import ConfigError, MissingPackageError, ModelFileError, UnsupportedError
from nddr_deploy.graph.metadata import write_manifest


@pytest.mark.parametrize(
    ("path", "options", "sentence"),
    [
        ("model.onnx", {"backend": "onnxruntim"}, "backend: 'onnxruntim' is unknown. .*Did you mean 'onnxruntime'"),
        ("model.engine", {}, "no engine opens '.engine'. Expected one of: .pt"),
        ("model", {}, "no engine opens 'files without a suffix'"),
        ("model.pt", {"backend": "openvino"}, "opens .onnx files, not .pt. Export the checkpoint first"),
        ("model.onnx", {"backend": "torch"}, "opens .pt files, not .onnx. Give the checkpoint"),
        ("model.onnx", {"precision": "float32"}, "precision: 'float32' is unknown"),
        ("model.onnx", {"threads": 0}, "threads: got 0; expected a whole number from 1"),
    ],
)
def test_a_wrong_option_is_one_sentence(path: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        open_engine(path, **options)


def test_the_suffix_chooses_the_backend(handmade: Callable[..., Any], trained: Any) -> None:
    with open_engine(handmade().path, threads=1) as onnx_engine, open_engine(trained.path, threads=1) as torch_engine:
        assert (onnx_engine.backend, torch_engine.backend) == ("onnxruntime", "torch")


def test_every_backend_has_a_suffix_and_an_extra() -> None:
    assert {backend for backends in SUFFIXES.values() for backend in backends} == set(BACKENDS) == set(EXTRAS)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    folder = tmp_path / "model.onnx"
    folder.mkdir()

    with pytest.raises(ModelFileError, match="is a folder"):
        open_engine(folder)


def test_onnx_of_another_tool_is_refused_for_its_missing_manifest(handmade: Callable[..., Any]) -> None:
    with pytest.raises(ModelFileError, match="without a manifest"):
        open_engine(handmade(manifest=False).path)


def test_a_manifest_that_contradicts_the_graph_is_refused(handmade: Callable[..., Any], tmp_path: Path) -> None:
    subject = handmade()
    model = onnx.load(subject.path)
    del model.graph.output[0]  # age
    onnx.save(model, tmp_path / "edited.onnx")

    with pytest.raises(ModelFileError, match=r"returns \['normals', 'segmentation'\], but by its manifest"):
        open_engine(tmp_path / "edited.onnx")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_graph_that_cannot_run_is_one_sentence(handmade: Callable[..., Any], tmp_path: Path, backend: str) -> None:
    model = onnx.load(handmade().path)
    model.graph.node[1].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "broken.onnx")

    with pytest.raises(ModelFileError, match="cannot load it") as caught:
        open_engine(tmp_path / "broken.onnx", backend)
    assert "\n" not in str(caught.value)


def test_half_precision_files_are_for_gpus(handmade: Callable[..., Any], tmp_path: Path) -> None:
    model = onnx.load(handmade().path)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((2, 2), np.float16), "half"))
    onnx.save(model, tmp_path / "half.onnx")

    with pytest.raises(UnsupportedError, match="cannot run this fp16 file"):
        open_engine(tmp_path / "half.onnx")


def test_a_quantised_file_runs_as_int8_and_not_as_anything_else(handmade: Callable[..., Any], tmp_path: Path) -> None:
    subject = handmade()
    onnx.save(quantised(onnx.load(subject.path), subject.manifest), tmp_path / "int8.onnx")
    images = subject.images()

    with open_engine(tmp_path / "int8.onnx", threads=1) as engine:
        outputs = engine.infer(images)

    assert engine.precision == "int8"
    expected = subject.expected(images)["segmentation"]
    assert 0 < np.abs(outputs["segmentation"] - expected).max() < 0.02 * np.ptp(expected)  # steps of 1/255
    with pytest.raises(UnsupportedError, match=r"cannot run this int8 file in fp32\. Possible: int8"):
        open_engine(tmp_path / "int8.onnx", precision="fp32")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_quantised_file_with_half_precision_scales_is_left_to_tensorrt(
    handmade: Callable[..., Any], tmp_path: Path, backend: str
) -> None:
    subject = handmade()
    model = quantised(onnx.load(subject.path), subject.manifest)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((2, 2), np.float16), "half"))
    onnx.save(model, tmp_path / "int8.onnx")

    with pytest.raises(UnsupportedError, match="FP16 scales, as TensorRT from 10 on wants them"):
        open_engine(tmp_path / "int8.onnx", backend)


def test_openvino_does_not_call_a_file_int8_whose_layers_it_runs_in_float32(
    handmade: Callable[..., Any], tmp_path: Path
) -> None:
    subject = handmade()
    onnx.save(quantised(onnx.load(subject.path), subject.manifest), tmp_path / "int8.onnx")

    with pytest.raises(UnsupportedError, match="asked OpenVINO for int8; its layers run in fp32"):
        open_engine(tmp_path / "int8.onnx", "openvino", threads=1)


def quantised(model: onnx.ModelProto, manifest: Any) -> onnx.ModelProto:
    """The convolutions read 8-bit values and weights."""
    weights = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.float32(1 / 254.5), "step"),
            numpy_helper.from_array(np.uint8(0), "zero"),
        ]
    )
    nodes = list(model.graph.node)
    pairs = [
        helper.make_node("QuantizeLinear", ["scaled", "step", "zero"], ["scaled.q"]),
        helper.make_node("DequantizeLinear", ["scaled.q", "step", "zero"], ["scaled.dq"]),
    ]
    for node in nodes:
        if node.op_type != "Conv":
            continue
        name = node.input[1]
        scale = np.abs(weights[name]).max() / 127
        model.graph.initializer.extend(
            [
                numpy_helper.from_array(np.round(weights[name] / scale).astype(np.int8), f"{name}.q"),
                numpy_helper.from_array(np.float32(scale), f"{name}.step"),
                numpy_helper.from_array(np.int8(0), f"{name}.zero"),
            ]
        )
        pairs.append(
            helper.make_node("DequantizeLinear", [f"{name}.{part}" for part in ("q", "step", "zero")], [f"{name}.dq"])
        )
        node.input[0], node.input[1] = "scaled.dq", f"{name}.dq"
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:3], *pairs, *nodes[3:]])
    write_manifest(model, manifest)
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    return model


@pytest.mark.parametrize(("backend", "package"), [("onnxruntime", "onnxruntime"), ("openvino", "openvino")])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    handmade: Callable[..., Any], backend: str, package: str
) -> None:
    probe = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from nddr_deploy.engines import open_engine\n"
        f"open_engine(sys.argv[1], {backend!r})"
    )

    run = subprocess.run([sys.executable, "-c", probe, str(handmade().path)], capture_output=True, text=True)

    last = run.stderr.strip().splitlines()[-1]
    assert MissingPackageError.__name__ in last
    assert f"'{package}' is not installed" in last
    assert "nddr-deploy[cpu]" in last
