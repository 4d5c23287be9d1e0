"""Parameter groups: how fast each part of the network learns, and what decays."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.network import MultiTaskNetwork

Role = Literal["backbone", "fusion", "head"]
Decay = Literal["weights", "fusion", "all"]
DECAYS: tuple[Decay, ...] = ("weights", "fusion", "all")


def parameter_groups(
    network: MultiTaskNetwork,
    *,
    weight_decay: float,
    decay: Decay = "weights",
    fusion_lr_factor: float = 100.0,
    head_lr_factor: float = 1.0,
) -> list[dict[str, Any]]:
    """One group for each (role, decays or not) that has parameters; `lr_factor` is its rate over the base rate.

    Args:
        weight_decay: l2 factor of the parameters that decay; the others get 0.
        decay: "weights": convolution and linear weights; "fusion": those of fusion layers and shortcut; "all".
        fusion_lr_factor: of fusion layers and shortcut.
        head_lr_factor: of the heads.

    Raises:
        ConfigError: an unknown `decay`, a negative `weight_decay`, or a factor that is not positive.

    Source:
        Gao et al., NDDR-CNN, CVPR 2019, section 4.2 and Table 2 (rate factor 100).
    """
    if decay not in DECAYS:
        raise unknown_choice("optimiser.decay", decay, DECAYS)
    factors: dict[Role, float] = {"backbone": 1.0, "fusion": fusion_lr_factor, "head": head_lr_factor}
    if weight_decay < 0 or min(factors.values()) <= 0:
        raise ConfigError(
            "optimiser: expected a weight_decay of at least 0 and positive rate factors; got "
            f"{weight_decay}, fusion_lr_factor {fusion_lr_factor}, head_lr_factor {head_lr_factor}."
        )
    groups: dict[tuple[Role, bool], list[nn.Parameter]] = {}
    kernels, fusion = _kernels(network), network.fusion_parameters()
    for name, parameter in network.named_parameters():
        role: Role = "fusion" if name in fusion else "head" if name.startswith("heads.") else "backbone"
        is_kernel = name in kernels
        decays = {"all": True, "weights": is_kernel, "fusion": is_kernel and role == "fusion"}[decay]
        groups.setdefault((role, decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "name": f"{role}, {'decays' if decays else 'no decay'}",
            "lr_factor": factors[role],
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (role, decays), parameters in groups.items()
    ]


def make_optimiser(
    groups: list[dict[str, Any]], *, name: str = "sgd", lr: float, momentum: float = 0.9
) -> torch.optim.Optimizer:
    """SGD with momentum (no Nesterov), or AdamW with `momentum` as its first beta.

    Raises:
        ConfigError: an unknown name, a rate that is not positive, or a momentum outside 0 .. 1.
    """
    if not lr > 0 or not 0 <= momentum < 1:
        raise ConfigError(
            f"optimiser: expected a positive lr and a momentum from 0 to below 1; got {lr} and {momentum}."
        )
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.999))
    raise unknown_choice("optimiser.name", name, ("sgd", "adamw"))


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every group `rate` times its own factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["lr_factor"]


def _kernels(network: nn.Module) -> set[str]:
    """The names of all parameters but biases and those of BatchNorm."""
    spared = {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in network.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if isinstance(module, _BatchNorm) or name == "bias"
    }
    return {name for name, _ in network.named_parameters()} - spared
