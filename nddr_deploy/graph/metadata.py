"""The manifest inside an ONNX file: one entry of the model's metadata."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from nddr_deploy.errors import ModelFileError
from nddr_deploy.manifest import METADATA_KEY, Manifest


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """What an exported ONNX file takes and returns.

    Raises:
        ModelFileError: no file, not ONNX, or an ONNX file without a (readable) manifest.
    """
    return manifest_of(read_model(path), source=str(path))


def manifest_of(model: onnx.ModelProto, *, source: str) -> Manifest:
    """`read_manifest` of a model that is loaded already.

    Args:
        model: a whole ONNX model.
        source: the file it came from, for the error.

    Raises:
        ModelFileError: there is no manifest in it, or a damaged one.
    """
    entries = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in entries:
        raise ModelFileError(
            f"{source} is an ONNX file without a manifest ({METADATA_KEY!r} in its metadata), so its tasks and "
            "pre-processing are unknown. Use a file written by nddr-export."
        )
    return Manifest.from_json(entries[METADATA_KEY], source=source)


def write_manifest(model: onnx.ModelProto, manifest: Manifest) -> None:
    """Make `manifest` the only metadata of `model`, in place."""
    del model.metadata_props[:]
    model.metadata_props.add(key=METADATA_KEY, value=manifest.to_json())


def read_model(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Load an ONNX file.

    Raises:
        ModelFileError: no file, or not ONNX.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelFileError(f"{file} does not exist or is no file; expected an ONNX file written by nddr-export.")
    try:
        model = onnx.load_model(file, format="protobuf", load_external_data=False)
    except DecodeError as error:
        if file.suffix in (".pt", ".pth", ".ckpt"):
            raise ModelFileError(f"{file} is a checkpoint, no ONNX file. Export it first, with nddr-export.") from error
        raise ModelFileError(f"{file} is no ONNX file, or only a part of one. Export the model again.") from error
    if not model.graph.node or not model.opset_import:  # an empty or a foreign protobuf can parse, too
        raise ModelFileError(f"{file} is no ONNX file: it holds no graph. Export the model again.")
    return model
