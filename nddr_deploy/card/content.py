"""What a model file holds, whatever its bytes: so that a file saved again is told from one that was changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import onnx
from onnx import numpy_helper

from nddr_deploy.card.schema import Content
from nddr_deploy.errors import ModelFileError
from nddr_deploy.graph.metadata import manifest_of


def content_of(model: onnx.ModelProto, *, source: str) -> Content:
    """Digests of the graph, the manifest and every weight.

    The names of nodes, comments, declared shapes of inner tensors, and how values are packed do not count; what is
    computed with which numbers does, and so do the names of tensors.

    Args:
        model: as `graph.metadata.read_model` reads it.
        source: the file it came from, for the error.

    Raises:
        ModelFileError: no manifest, or weights in another file.
    """
    if any(weight.data_location == onnx.TensorProto.EXTERNAL for weight in model.graph.initializer):
        raise ModelFileError(f"{source} keeps weights in another file. Save it as one file.")
    manifest = manifest_of(model, source=source).model_dump(mode="json")
    return Content(
        graph=_digest(_graph(model)),
        manifest=_digest([json.dumps(manifest, sort_keys=True).encode()]),
        weights={weight.name: _digest(_tensor(weight))[:16] for weight in model.graph.initializer},
    )


def changed_weights(before: Content, after: Content) -> tuple[str, ...]:
    """Names of the tensors that only one has, or that differ, in `before`'s order."""
    names = dict.fromkeys([*before.weights, *after.weights])
    return tuple(name for name in names if before.weights.get(name) != after.weights.get(name))


def _digest(parts: Iterator[bytes] | list[bytes]) -> str:
    """Each part with its length before it, so that no two lists of parts read the same."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _tensor(tensor: onnx.TensorProto) -> Iterator[bytes]:
    yield f"{tensor.data_type} {list(tensor.dims)}".encode()
    if tensor.data_type == onnx.TensorProto.STRING:
        yield from tensor.string_data
    else:
        values = numpy_helper.to_array(tensor)
        yield values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def _graph(model: onnx.ModelProto) -> Iterator[bytes]:
    yield " ".join(sorted(f"{opset.domain or 'ai.onnx'}={opset.version}" for opset in model.opset_import)).encode()
    for value in (*model.graph.input, *model.graph.output):
        yield value.name.encode()
        yield value.type.SerializeToString(deterministic=True)
    for node in model.graph.node:
        yield json.dumps([node.domain, node.op_type, list(node.input), list(node.output)]).encode()
        for attribute in sorted(node.attribute, key=lambda attribute: attribute.name):
            yield attribute.name.encode()
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield from _tensor(attribute.t)
            else:
                plain = onnx.AttributeProto()
                plain.CopyFrom(attribute)
                plain.doc_string = ""
                yield plain.SerializeToString(deterministic=True)
