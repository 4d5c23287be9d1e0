"""A file's tensors under our network's keys, each checked on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from nddr_deploy.errors import ModelFileError
from nddr_deploy.importers.base import Foreign, Plan
from nddr_deploy.network import MultiTaskNetwork
from nddr_deploy.network.build import build_empty
from nddr_deploy.network.load import COUNTER


def assemble(foreign: Foreign, plan: Plan) -> dict[str, torch.Tensor]:
    """The state dict of our network, from the file's tensors (which are not copied).

    Raises:
        ModelFileError: a tensor is missing, unexpected, of another shape or type, not finite, or unlike its twin; the
            first one is named.
    """
    network = build_empty(plan.network, plan.tasks)
    sources = {**_layer_sources(network, plan), **plan.stacked}
    used = {key for keys in sources.values() for key in keys}
    _check_keys(foreign, plan, used)
    weights: dict[str, torch.Tensor] = {}
    for key, wanted in network.state_dict().items():
        if key.endswith(COUNTER):
            weights[key] = torch.zeros((), dtype=torch.int64)
        elif len(sources[key]) == 1:
            weights[key] = _checked(foreign, sources[key][0], tuple(wanted.shape))
        else:
            scalars = [_checked(foreign, name, ()) for name in sources[key]]
            weights[key] = torch.stack(scalars).reshape(wanted.shape)
    _check_twins(foreign, plan.twins)
    return weights


def _layer_sources(network: MultiTaskNetwork, plan: Plan) -> dict[str, tuple[str, ...]]:
    """Our key -> the file's key, for every layer with weights. Ours stand in the order of computation, too."""
    sources: dict[str, tuple[str, ...]] = {}
    for part, theirs in plan.layers.items():
        found = network.get_submodule(part).named_modules()
        ours = {name: layer for name, layer in found if any(True for _ in layer.parameters(recurse=False))}
        names = [theirs(name) for name in ours] if callable(theirs) else theirs
        for (name, layer), their_layer in zip(ours.items(), names, strict=True):
            batchnorm = isinstance(layer, nn.BatchNorm2d)
            for parameter in layer.state_dict():
                if parameter != COUNTER:
                    key = f"{part}.{name}.{parameter}" if name else f"{part}.{parameter}"
                    sources[key] = (plan.parameter(their_layer, parameter, batchnorm),)
    return sources


def _check_keys(foreign: Foreign, plan: Plan, used: set[str]) -> None:
    missing = [key for key in used if key not in foreign.shapes]
    if missing:
        raise ModelFileError(
            f"{foreign.path} does not have {min(missing)!r} ({len(missing)} of its {len(used)} tensors are missing). "
            "Give the whole file as the training wrote it."
        )
    for key in foreign.shapes:
        if not (key in used or key in plan.twins or key.endswith(COUNTER) or plan.ignored(key)):
            raise ModelFileError(
                f"{foreign.path}: {key!r} has no place in {plan.variant}. "
                "Give the file as the training wrote it; if the network was changed, it is another one."
            )


def _checked(foreign: Foreign, key: str, wanted: tuple[int, ...]) -> torch.Tensor:
    if foreign.shapes[key] != wanted:
        raise ModelFileError(
            f"{foreign.path}: {key!r} has the shape {foreign.shapes[key]}; by the rest of the file it should be "
            f"{wanted}. Give the file as the training wrote it."
        )
    tensor = foreign.weights[key]
    if tensor.dtype != torch.float32:
        raise ModelFileError(
            f"{foreign.path}: {key!r} holds {str(tensor.dtype).removeprefix('torch.')} values; expected float32."
        )
    if not torch.isfinite(tensor).all():
        raise ModelFileError(
            f"{foreign.path}: {key!r} holds values that are not finite. Use a checkpoint from before training failed."
        )
    return tensor.detach()


def _check_twins(foreign: Foreign, twins: Mapping[str, str]) -> None:
    for twin, original in twins.items():
        if twin not in foreign.shapes:
            continue
        first, second = foreign.weights[twin], foreign.weights[original]
        shared = first.data_ptr() == second.data_ptr() and first.stride() == second.stride()
        alike = first.shape == second.shape and first.dtype == second.dtype
        if not alike or not (shared or torch.equal(first, second)):
            raise ModelFileError(
                f"{foreign.path}: {twin!r} and {original!r} are one tensor in this format, but here they differ: the "
                "file was edited. Give the file as the training wrote it."
            )


def first_keys(keys: Sequence[str], count: int = 4) -> str:
    """`'a', 'b', ... (12 in all)`, for messages."""
    shown = ", ".join(repr(key[:80]) for key in keys[:count])
    return shown if len(keys) <= count else f"{shown}, ... ({len(keys)} in all)"
