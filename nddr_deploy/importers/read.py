"""Any checkpoint file, ours or foreign, as our checkpoint."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nddr_deploy import optional
from nddr_deploy.checkpoint import METADATA_KEY, Checkpoint, checkpoint_from_values, is_checkpoint, load_checkpoint
from nddr_deploy.errors import ConfigError, ModelFileError, unknown_choice
from nddr_deploy.importers.assemble import assemble, first_keys
from nddr_deploy.importers.base import Choices, Foreign, Importer, with_names
from nddr_deploy.importers.refused import check_other_models
from nddr_deploy.importers.table import IMPORTERS
from nddr_deploy.importers.tf_checkpoint import Variables, find_tf_checkpoint, open_tf_variables
from nddr_deploy.importers.torch_file import read_foreign_file

CONFIG = "cfg"  # the entry with the training's settings
STATE_DICTS = ("model_state_dict", "state_dict", "model", "net", "network", "weights")


@dataclass(frozen=True)
class Imported:
    """A checkpoint, and where it came from.

    Attributes:
        path: the file that was read (of a folder or a prefix: the one that stands for it).
        checkpoint: in our form.
        format: of the file; None: it was ours already.
        variant: one line about the network; empty where it was ours already.
        assumed, dropped: sentences about what the file does not say, and what was left out.
    """

    path: Path
    checkpoint: Checkpoint
    format: str | None = None
    variant: str = ""
    assumed: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """What was recognised, for people; empty where the file was ours already."""
        if self.format is None:
            return []
        checkpoint = self.checkpoint
        tasks = ", ".join(f"{task.name} ({task.kind}, {task.channels})" for task in checkpoint.tasks)
        preprocess = checkpoint.preprocess
        values = f"{preprocess.order.upper()} of 0..{255 * preprocess.scale:g}"
        mean, std = (
            "(" + ", ".join(f"{value:g}" for value in three) + ")" for three in (preprocess.mean, preprocess.std)
        )
        return [
            f"found    {self.path}: {self.format}, {self.variant}",
            f"tasks    {tasks}; features are concatenated in this order",
            f"values   {values}, minus {mean}, divided by {std}; outputs are resized by {checkpoint.network.resize}",
            *(_wrapped("assumed", sentence) for sentence in self.assumed),
            *(_wrapped("dropped", sentence) for sentence in self.dropped),
        ]


def read_checkpoint(path: str | os.PathLike[str], choices: Choices | None = None) -> Imported:
    """Read a checkpoint of nddr-deploy or of a format in `IMPORTERS`. No code from the file is run.

    Args:
        path: a file; for TensorFlow also a folder, or a prefix as in `model.ckpt-20000`.
        choices: what the file does not settle by itself.

    Raises:
        ModelFileError: it cannot be read, is incomplete, or leaves something open that `choices` does not settle.
        UnsupportedError: it is another network.
        ConfigError: a choice that this file does not leave.
    """
    choices = Choices() if choices is None else choices
    if choices.format is not None and choices.format not in IMPORTERS:
        raise unknown_choice("format", choices.format, IMPORTERS)
    variables = find_tf_checkpoint(path)
    if variables is not None:
        return _import(_tensorflow(variables), choices)
    if Path(path).suffix == ".safetensors" and _is_ours(path):
        return _ours(Path(path), load_checkpoint(path), choices)
    values = read_foreign_file(path)
    if is_checkpoint(values):
        return _ours(Path(path), checkpoint_from_values(values, path), choices)
    return _import(_pytorch(Path(path), values), choices)


def _wrapped(title: str, sentence: str) -> str:
    indent = " " * 9
    return textwrap.fill(f"{title:9}{sentence}", 116, subsequent_indent=indent, break_on_hyphens=False)


def _is_ours(path: str | os.PathLike[str]) -> bool:
    """Whether a safetensors file holds our checkpoint. What cannot be opened is left to the reader's own error."""
    try:
        with optional.load("safetensors:safe_open", extra="train")(path, framework="pt") as file:
            return METADATA_KEY in (file.metadata() or {})
    except Exception:  # the reader's own error class is not public in every version
        return False


def _ours(path: Path, checkpoint: Checkpoint, choices: Choices) -> Imported:
    if choices.settle:
        raise ConfigError(
            f"{path} is a checkpoint of nddr-deploy, which leaves nothing open: leave format, assume, mean, std and "
            "rename out."
        )
    return Imported(path, checkpoint)


def _import(foreign: Foreign, choices: Choices) -> Imported:
    check_other_models(foreign)
    name, importer = _recognised(foreign, choices.format)
    _check_assumptions(name, importer, choices.assume)
    plan = with_names(importer.plan(foreign, choices), choices.rename)
    assumed = plan.assumed
    if choices.size_hw is None:
        height, width = plan.size_hw
        assumed = (*assumed, f"images of {height}x{width} pixels, as is usual for this format's data (--size says it)")
    checkpoint = Checkpoint(
        network=plan.network,
        tasks=plan.tasks,
        preprocess=plan.preprocess,
        size_hw=choices.size_hw or plan.size_hw,
        weights=assemble(foreign, plan),
        notes=(
            f"imported from {foreign.path.name} ({name}): {plan.variant}",
            *(f"assumed: {text}" for text in assumed),
        ),
    )
    state = [entry for entry in foreign.extras if entry != CONFIG]
    dropped = (*plan.dropped, *([f"the state of the training ({', '.join(state)})"] if state else []))
    return Imported(foreign.path, checkpoint, name, plan.variant, assumed, dropped)


def _recognised(foreign: Foreign, asked: str | None) -> tuple[str, Importer]:
    importers: dict[str, Importer] = {name: optional.load(target) for name, target in IMPORTERS.items()}
    if asked is not None:
        if not importers[asked].recognise(foreign):
            raise ModelFileError(
                f"{foreign.path} is no {asked} file: its keys begin with {first_keys(list(foreign.shapes))}; expected "
                f"keys such as {importers[asked].keys}. Leave --format out to have it recognised."
            )
        return asked, importers[asked]
    found = [name for name, importer in importers.items() if importer.recognise(foreign)]
    if len(found) == 1:
        return found[0], importers[found[0]]
    if found:
        raise ModelFileError(
            f"{foreign.path} has keys that {' and '.join(found)} files share, and nothing else that tells whose it is. "
            f"Say it with --format {found[0]} or --format {found[1]}."
        )
    formats = "; ".join(f"{name} ({importer.keys})" for name, importer in importers.items())
    raise ModelFileError(
        f"{foreign.path} is of no known format: its keys begin with {first_keys(list(foreign.shapes))}. "
        f"Known formats and keys of theirs: {formats}."
    )


def _check_assumptions(name: str, importer: Importer, assume: Mapping[str, str]) -> None:
    for key, value in assume.items():
        if not importer.assumptions:
            raise ConfigError(
                f"assume: {key}={value} was given, but a {name} file leaves nothing to assume. Remove it."
            )
        if key not in importer.assumptions:
            raise unknown_choice(f"assume ({name})", key, importer.assumptions)
        values = importer.assumptions[key]
        if values and value not in values:
            raise unknown_choice(f"assume: {key}", value, values)


def _pytorch(path: Path, values: Any) -> Foreign:
    weights, extras, config = _state_dict(path, values)
    while weights and all(key.startswith("module.") for key in weights):  # what DataParallel wraps
        weights = {key.removeprefix("module."): tensor for key, tensor in weights.items()}
    shapes = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    return Foreign(path, weights, shapes, config, extras)


def _state_dict(
    path: Path, values: Any
) -> tuple[Mapping[str, torch.Tensor], tuple[str, ...], Mapping[str, Any] | None]:
    """The state dict of a file, the names of what is beside it, and the settings that the training wrote into it."""
    if _is_state_dict(values):
        return values, (), None
    if not isinstance(values, Mapping):
        raise ModelFileError(
            f"{path} holds a {type(values).__name__}; expected a state dict, or a dictionary with one in it."
        )
    found = {str(name): value for name, value in values.items() if _is_state_dict(value)}
    name = next((name for name in STATE_DICTS if name in found), None)
    if name is None and len(found) == 1:
        name = next(iter(found))
    if name is None:
        several = f"several state dicts ({', '.join(found)})" if found else "no state dict"
        raise ModelFileError(
            f"{path} holds {several}; its entries are {first_keys([str(key) for key in values])}. "
            "Save the network's state dict alone."
        )
    config = values.get(CONFIG)
    extras = tuple(str(key) for key in values if key != name)
    return found[name], extras, config if isinstance(config, Mapping) else None


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) and isinstance(item, torch.Tensor) for key, item in value.items())
    )


def _tensorflow(path: Path) -> Foreign:
    variables = open_tf_variables(path)
    shapes = {name: _in_our_order(shape) for name, shape in variables.shapes.items()}
    return Foreign(path, _TensorFlowWeights(variables), shapes)


@dataclass(frozen=True)
class _TensorFlowWeights(Mapping[str, torch.Tensor]):
    """Variables as PyTorch has them, each read when it is asked for: convolutions (out, in, height, width)."""

    variables: Variables

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = torch.from_numpy(self.variables.read(name))
        return tensor.permute(3, 2, 0, 1).contiguous() if tensor.ndim == 4 else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.variables.shapes)

    def __len__(self) -> int:
        return len(self.variables.shapes)


def _in_our_order(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape
