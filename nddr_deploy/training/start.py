"""Weights before the first step."""

from __future__ import annotations

from collections.abc import Mapping

from nddr_deploy.checkpoint import load_checkpoint
from nddr_deploy.errors import ConfigError, ModelFileError
from nddr_deploy.network import MultiTaskNetwork, load_backbone, load_single_task, load_streams
from nddr_deploy.network.weights_file import read_state_dict


def load_start(
    network: MultiTaskNetwork,
    *,
    imagenet: str | None = None,
    single_task: Mapping[str, str] | None = None,
    streams: str | None = None,
    checkpoint: str | None = None,
) -> str:
    """Put weights from files into a network that stands at its random start.

    Args:
        imagenet: a torchvision weight file of the backbone, for every stream.
        single_task: task name -> checkpoint of a network trained for it.
        streams: a checkpoint with one stream, for every stream.
        checkpoint: a checkpoint of the same network.

    Returns:
        One sentence about what was loaded, and what kept its random start.

    Raises:
        ConfigError: more than one start, or one for a task that the network lacks.
        ModelFileError: a file cannot be read, or a tensor in it is missing or of another shape.

    Source:
        Gao et al., NDDR-CNN, CVPR 2019, Table 3: single-task networks are the best start.
    """
    starts = {"imagenet": imagenet, "single_task": single_task, "streams": streams, "checkpoint": checkpoint}
    chosen = [name for name, value in starts.items() if value]
    if len(chosen) > 1:
        raise ConfigError(f"start: {' and '.join(chosen)} were given; a training starts from one of them.")
    if imagenet:
        report = load_backbone(network, read_state_dict(imagenet))
        return f"{len(report.loaded)} tensors start from {imagenet}, {len(report.missing)} of the backbone at random."
    if single_task:
        weights_of = {task: load_checkpoint(path).weights for task, path in single_task.items()}
        report = load_single_task(network, weights_of)
        others = [task for task in network.tasks if task not in single_task]
        left = f" {', '.join(others)}: at random." if others else ""
        return f"{len(report.loaded)} tensors start from {', '.join(single_task.values())}.{left}"
    if streams:
        report = load_streams(network, load_checkpoint(streams).weights)
        return f"{len(report.loaded)} tensors of all streams start from {streams}; heads at random."
    if checkpoint:
        _load_all(network, checkpoint)
        return f"All weights start from {checkpoint}."
    return "All weights start at random."


def _load_all(network: MultiTaskNetwork, path: str) -> None:
    weights, ours = load_checkpoint(path).weights, network.state_dict()
    for key, tensor in ours.items():
        found = weights.get(key)
        if found is None or found.shape != tensor.shape:
            what = "is missing" if found is None else f"has the shape {tuple(found.shape)}"
            raise ModelFileError(
                f"{path}: the weight {key!r} {what}; this network needs {tuple(tensor.shape)}. "
                "Give a checkpoint of the same network, tasks and widths."
            )
    extra = next((key for key in weights if key not in ours), None)
    if extra is not None:
        raise ModelFileError(
            f"{path}: this network has no place for the weight {extra!r}. Give a checkpoint of the same network."
        )
    network.load_state_dict(dict(weights))
