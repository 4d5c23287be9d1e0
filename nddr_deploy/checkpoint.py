"""A checkpoint: weights together with everything that rebuilds the network, and optionally the state of its training.

One file holds plain values and tensors only, so loading never runs code. Two saves of the same content are the same
bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from nddr_deploy import optional
from nddr_deploy.errors import ConfigError, ModelFileError, NddrError
from nddr_deploy.files import finished_file
from nddr_deploy.network.build import build_empty
from nddr_deploy.network.config import NetworkConfig
from nddr_deploy.network.network import MultiTaskNetwork
from nddr_deploy.network.weights_file import read_torch_file
from nddr_deploy.preprocess import Preprocess
from nddr_deploy.resize import Convention
from nddr_deploy.tasks import Task, task_from_dict

FORMAT = "nddr-deploy-checkpoint/1"
METADATA_KEY = "nddr_deploy.checkpoint"  # one key only: safetensors writes several in any order


class Trained(Protocol):
    """A trained network with what its user must know: a checkpoint, or a network of the user's own code.

    Attributes:
        tasks: in the order of the outputs.
        preprocess: what the network was trained with.
        size_hw: the image size it was trained for, in pixels.
        resize: the convention in which raw outputs are brought to the image's size.
        description: one line for people.
        notes: things worth knowing, copied into exported files.
    """

    @property
    def tasks(self) -> tuple[Task, ...]: ...
    @property
    def preprocess(self) -> Preprocess: ...
    @property
    def size_hw(self) -> tuple[int, int]: ...
    @property
    def resize(self) -> Convention: ...
    @property
    def description(self) -> str: ...
    @property
    def notes(self) -> tuple[str, ...]: ...

    def build(self) -> MultiTaskNetwork:
        """The network with its weights, in evaluation mode."""


@dataclass(frozen=True, eq=False)  # tensors have no single truth value
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        network: settings of the network.
        tasks: in the order of its outputs.
        preprocess: what the network was trained with.
        size_hw: the image size it was trained for, in pixels.
        weights: the network's state dict, on the CPU.
        config: the training's settings as plain values; may be empty.
        training: optimiser, random states and so on as plain values and tensors; may be empty.
        notes: things worth knowing, copied into exported files.
    """

    network: NetworkConfig
    tasks: tuple[Task, ...]
    preprocess: Preprocess
    size_hw: tuple[int, int]
    weights: Mapping[str, torch.Tensor]
    config: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def resize(self) -> Convention:
        return self.network.resize

    @property
    def description(self) -> str:
        """`vgg16_deeplab + nddr (bn-conv), shortcut per task`."""
        return self.network.describe()

    def build(self) -> MultiTaskNetwork:
        """The network with these weights (copies), in evaluation mode. Draws no random numbers.

        Raises:
            ConfigError: the settings make no network.
            ModelFileError: a tensor is missing, unexpected, or of another shape or type; the first one is named.
        """
        network = build_empty(self.network, self.tasks)
        _check_weights(network.state_dict(), self.weights)
        network.load_state_dict({key: tensor.clone() for key, tensor in self.weights.items()}, assign=True)
        return network.eval()


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the file appears under its name only when it is whole.

    Args:
        path: `.safetensors` writes that format, which has no place for `training`; any other suffix PyTorch's.

    Raises:
        InputError: the folder cannot be written to.
        ConfigError: `training` is given for a `.safetensors` file, or something is neither a plain value nor a tensor.
    """
    values: dict[str, Any] = {
        "format": FORMAT,
        "network": checkpoint.network.to_dict(),
        "tasks": [task.to_dict() for task in checkpoint.tasks],
        "preprocess": checkpoint.preprocess.to_dict(),
        "size_hw": list(checkpoint.size_hw),
        "config": checkpoint.config,
        "notes": list(checkpoint.notes),
    }
    weights = _Plain().of(checkpoint.weights, "weights")
    if Path(path).suffix == ".safetensors":
        if checkpoint.training:
            raise ConfigError(f"{path}: a .safetensors file has no place for the training's state. Save it as .pt.")
        save = optional.load("safetensors.torch:save", extra="train")
        text = json.dumps(_Plain().of(values, "checkpoint"), sort_keys=True)
        with finished_file(path) as temporary:
            temporary.write_bytes(save(weights, metadata={METADATA_KEY: text}))
        return
    values = _Plain().of({**values, "weights": weights, "training": checkpoint.training}, "checkpoint")
    # Through an open file: given a name, torch.save would write that name into the archive.
    with finished_file(path) as temporary, temporary.open("wb") as file:
        torch.save(values, file)


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read what `save_checkpoint` wrote.

    Raises:
        ModelFileError: no such file; truncated, of another kind or version; a value is not finite; or it asks for code
            when it is loaded.
    """
    is_safetensors = Path(path).suffix == ".safetensors"
    return checkpoint_from_values(_read_safetensors(path) if is_safetensors else read_torch_file(path), path)


def is_checkpoint(values: Any) -> bool:
    """Whether what was read from a file is a checkpoint of ours, of this version or another."""
    found = values.get("format") if isinstance(values, dict) else None
    return isinstance(found, str) and found.startswith("nddr-deploy-checkpoint/")


def checkpoint_from_values(values: Any, path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in what was read from a file; raises as `load_checkpoint`."""
    if not is_checkpoint(values):
        raise ModelFileError(
            f"{path} is no checkpoint of nddr-deploy. Expected a file that nddr-train, nddr-import or save_checkpoint "
            "wrote; nddr-import makes one from other code's checkpoints."
        )
    if values["format"] != FORMAT:
        raise ModelFileError(
            f"{path} has the format {values['format']!r}; this version reads {FORMAT!r}. Use the version that wrote it."
        )
    try:
        height, width = values["size_hw"]
        checkpoint = Checkpoint(
            network=NetworkConfig.from_dict(values["network"]),
            tasks=tuple(task_from_dict(task) for task in values["tasks"]),
            preprocess=Preprocess.from_dict(values["preprocess"]),
            size_hw=(height, width),
            weights=dict(values["weights"]),
            config=values["config"],
            training=values["training"],
            notes=tuple(values["notes"]),
        )
    except (NddrError, KeyError, TypeError, ValueError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise ModelFileError(f"{path}: its settings cannot be read ({reason}). Save it again.") from error
    for key, tensor in checkpoint.weights.items():
        if not isinstance(tensor, torch.Tensor) or not torch.isfinite(tensor).all():
            raise ModelFileError(
                f"{path}: the weight {key!r} is not finite. Use a checkpoint from before training failed."
            )
    return checkpoint


def _read_safetensors(path: str | os.PathLike[str]) -> dict[str, Any]:
    if not Path(path).is_file():
        raise ModelFileError(f"{path} is no file. Give the path of a checkpoint or a weight file.")
    safe_open = optional.load("safetensors:safe_open", extra="train")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(METADATA_KEY, "{}")
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        return {**dict(json.loads(text)), "weights": weights, "training": {}}
    except Exception as error:  # the reader's own error class is not public in every version
        raise ModelFileError(f"{path} cannot be read as a safetensors file: {error}. Copy or save it again.") from error


def _check_weights(wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> None:
    for key, tensor in wanted.items():
        if key not in found:
            raise ModelFileError(f"The checkpoint does not have the weight {key!r} of its network. Save it again.")
        if found[key].shape != tensor.shape or found[key].dtype != tensor.dtype:
            raise ModelFileError(
                f"The checkpoint's weight {key!r} is {found[key].dtype} {tuple(found[key].shape)}; "
                f"its network needs {tensor.dtype} {tuple(tensor.shape)}. Save it again."
            )
    for key in found:
        if key not in wanted:
            raise ModelFileError(f"The checkpoint's weight {key!r} has no place in its network. Save it again.")


class _Plain:
    """Copies nested values into a form whose pickle depends on the content alone.

    Pickle writes an object that it has seen as a reference, so equal texts must be one object (or after a resume, the
    file would differ from that of an unbroken run), and a tensor its whole storage, so it must own exactly its values.
    """

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def of(self, value: Any, where: str) -> Any:
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, str):
            return self._texts.setdefault(str(value), str(value))
        if isinstance(value, torch.Tensor):
            tensor = value.detach().cpu().contiguous()
            owns_all = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
            return tensor if owns_all else tensor.clone()
        if isinstance(value, Mapping):
            return {self.of(key, where): self.of(item, f"{where}.{key}") for key, item in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
            items = (self.of(item, f"{where}[{number}]") for number, item in enumerate(value))
            return tuple(items) if isinstance(value, tuple) else list(items)
        raise ConfigError(f"{where} is a {type(value).__name__}; a checkpoint holds only plain values and tensors.")
