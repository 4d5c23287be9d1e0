"""What BatchNorm normalises with while a network learns: the batch, the batches of all processes, or neither."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nddr_deploy.errors import UnsupportedError, unknown_choice

BatchNormMode = Literal["batch", "synced", "frozen"]
MODES: tuple[BatchNormMode, ...] = ("batch", "synced", "frozen")
PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def set_up_batchnorm(network: nn.Module, mode: BatchNormMode, device: torch.device) -> None:
    """Make a network ready for a mode, in place; the names of its weights stay.

    Args:
        device: where the network will learn.

    Raises:
        ConfigError: an unknown mode.
        UnsupportedError: "synced" without a GPU, or for a BatchNorm that is more than one.
    """
    if mode not in MODES:
        raise unknown_choice("batchnorm", mode, MODES)
    if mode != "synced":
        return
    if device.type != "cuda":
        raise UnsupportedError(
            "batchnorm: synced needs GPUs, and this training runs on a CPU. Choose batchnorm=batch or batchnorm=frozen."
        )
    for name, layer in network.named_modules():
        if isinstance(layer, _BatchNorm) and type(layer) not in PLAIN:
            raise UnsupportedError(
                f"batchnorm: {name} is a {type(layer).__name__}, which does more than BatchNorm and has no synced "
                "form. Choose batchnorm=batch or batchnorm=frozen."
            )
    nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]


def to_training_mode(network: nn.Module, mode: BatchNormMode) -> None:
    """`network.train()`, but frozen BatchNorm keeps its statistics and normalises with them; its weights learn."""
    network.train()
    if mode == "frozen":
        for layer in network.modules():
            if isinstance(layer, _BatchNorm):
                layer.eval()
