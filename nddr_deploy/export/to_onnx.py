"""A traced network -> one ONNX file.

The exporter is torch.onnx.export of the TorchScript kind (`dynamo=False`): it writes the opset that is asked for, keeps
the weights' names and adds no source paths. The dynamo kind builds at opset 18 and stays there when 17 is asked for,
and writes an expression per dynamic size. The file says which one made it.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import onnx
import torch
from torch import Tensor, fx

from nddr_deploy.errors import ConfigError, UnsupportedError
from nddr_deploy.export.lower import lower
from nddr_deploy.graph.decode_graph import append_decoders
from nddr_deploy.graph.metadata import write_manifest
from nddr_deploy.graph.tidy import tidy
from nddr_deploy.manifest import Manifest

EXPORTER = "torch.onnx.export (TorchScript)"
OPSETS = range(17, 21)
LARGEST_BYTES = 2**31 - 1  # what one protobuf file can hold


def to_onnx(network: fx.GraphModule, manifest: Manifest, path: str | os.PathLike[str], example: Tensor) -> int:
    """Write the network, with the manifest in its metadata.

    Args:
        network: from `trace` or `fold_batchnorm`; takes images, returns one raw output per task in the manifest's
            order.
        manifest: names the outputs; its `opset`, `dynamic` and `outputs` are what the file has.
        path: the file. It is checked, and written only when all is well.
        example: uint8 (N, H, W, 3), the input that the network was traced with.

    Returns:
        The number of nodes.

    Raises:
        ConfigError: an opset that cannot be written.
        UnsupportedError: the network is too large for one file, or does something that ONNX lacks.
    """
    check_opset(manifest.opset)
    size = sum(weight.numel() * weight.element_size() for weight in (*network.parameters(), *network.buffers()))
    if size > LARGEST_BYTES:
        raise UnsupportedError(
            f"The weights take {size / 2**30:.1f} GiB; one ONNX file holds less than 2. Export fewer --tasks."
        )
    model = onnx.load_model_from_string(_export(lower(network, manifest.dynamic), manifest, example))
    tidy(model)
    model.producer_name, model.producer_version = "nddr-deploy", version("nddr-deploy")
    model.graph.name = "nddr"
    write_manifest(model, manifest.model_copy(update={"outputs": "raw"}))
    if manifest.outputs == "decoded":
        model = append_decoders(model)
    _check(model, manifest)
    onnx.save_model(model, path)
    return len(model.graph.node)


def check_opset(opset: int | None) -> None:
    """Raise ConfigError unless the exporter writes this opset."""
    if opset not in OPSETS:
        raise ConfigError(f"opset: {opset} cannot be written. Choose one from {OPSETS[0]} to {OPSETS[-1]}.")


def _export(network: fx.GraphModule, manifest: Manifest, example: Tensor) -> bytes:
    names = [task.name for task in manifest.tasks]
    file = io.BytesIO()
    try:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                network,
                (example,),
                file,  # type: ignore[arg-type]  # annotated for the other kind of exporter
                dynamo=False,
                opset_version=manifest.opset,
                input_names=["images"],
                output_names=names,
                dynamic_axes=_dynamic_axes(manifest) or None,
                training=torch.onnx.TrainingMode.PRESERVE,  # evaluation, without a second opinion on BatchNorm
                keep_initializers_as_inputs=True,  # else layers with equal weights would share one, under one name
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).splitlines()[0]
        raise UnsupportedError(f"The network cannot be written in ONNX opset {manifest.opset}: {reason}") from error
    return file.getvalue()


def _dynamic_axes(manifest: Manifest) -> dict[str, dict[int, str]]:
    """Value -> its dimensions that stay open, with their names."""
    axes: dict[str, dict[int, str]] = {name: {} for name in ("images", *(task.name for task in manifest.tasks))}
    if "batch" in manifest.dynamic:
        for named in axes.values():
            named[0] = "batch"
    if "size" in manifest.dynamic:
        axes["images"] |= {1: "height", 2: "width"}
        for task in manifest.tasks:
            if task.head == "dense":
                axes[task.name] |= {2: f"{task.name}_height", 3: f"{task.name}_width"}
    return {name: named for name, named in axes.items() if named}


def _check(model: onnx.ModelProto, manifest: Manifest) -> None:
    """The file is what was asked for; a failure here is a fault of this program or of the exporter."""
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if opsets != {"ai.onnx": manifest.opset}:
        raise UnsupportedError(
            f"Opset {manifest.opset} was asked for; {EXPORTER} wrote {opsets}. Choose another --opset."
        )
    left = [node.name for node in model.graph.node if node.op_type == "BatchNormalization"]
    if left:
        raise UnsupportedError(
            f"{left[0]} is still a BatchNormalization node; it is called in a form that is not known."
        )
    onnx.checker.check_model(model, full_check=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's chatter: every warning of its that matters is an error or is checked afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
