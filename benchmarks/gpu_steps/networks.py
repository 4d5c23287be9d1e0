"""The two networks that are measured: random weights, but such that numbers and labels look like a trained one's.

Speed does not depend on what a network has learned. Rounding does: BatchNorm statistics are therefore taken from
pictures, so that every map has the spread that training would give it, and the last layers are fitted to the rendered
pictures' labels and normals by least squares, so that labels cover areas instead of being decided by noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from nddr_deploy.checkpoint import Checkpoint
from nddr_deploy.data.base import Sample
from nddr_deploy.network import NetworkConfig, build_network
from nddr_deploy.network.image_input import ImageModel
from nddr_deploy.network.network import MultiTaskNetwork
from nddr_deploy.preprocess import Preprocess
from nddr_deploy.tasks import Normals, Segmentation, Task

CLASSES = 40  # NYU v2's; the rooms' labels are the first of them
RIDGE = 1e-2  # of the features' mean square: keeps the fit from leaning on single channels
SEED = 0


def config(name: str, width: float) -> NetworkConfig:
    """Of "deeplab", the paper's network, or of "resnet18", the dilated one (output stride 8)."""
    if name == "deeplab":
        backbone, options, head = "vgg16_deeplab", {"width": width, "pool_padding": "same"}, width
    else:
        backbone, options, head = "resnet18", {"width": width, "output_stride": 8}, width / 2
    return NetworkConfig(
        backbone=backbone, backbone_options=options, fusion="nddr", head="large_fov", head_options={"width": head}
    )


def tasks() -> tuple[Task, ...]:
    return Segmentation(classes=tuple(f"class {index}" for index in range(CLASSES))), Normals()


def random_checkpoint(name: str, width: float, samples: Sequence[Sample]) -> Checkpoint:
    """The same one every time.

    Args:
        name: "deeplab" or "resnet18".
        width: factor on its channels.
        samples: rendered rooms of one size, with labels and normals.
    """
    torch.manual_seed(SEED)
    settings, heads = config(name, width), tasks()
    network = build_network(settings, heads).eval()
    model = ImageModel(network, Preprocess()).eval()
    batches = [torch.from_numpy(sample.image[None]) for sample in samples]
    settle_batchnorm(model, batches)
    fit_last_layers(model, network, batches, samples)
    height, width_ = samples[0].image.shape[:2]
    note = "random weights; BatchNorm statistics and last layers fitted to rendered rooms"
    return Checkpoint(settings, heads, Preprocess(), (height, width_), network.state_dict(), notes=(note,))


@torch.no_grad()
def settle_batchnorm(model: nn.Module, batches: Sequence[torch.Tensor]) -> None:
    """Random scales and shifts for every BatchNorm, and the statistics of these images."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    usual = [layer.momentum for layer in layers]
    for layer in layers:
        layer.weight.uniform_(0.5, 1.5)
        layer.bias.normal_(1.0, 0.2)  # mostly above zero: else rounding grows from layer to layer as in no trained one
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches
        layer.train()
    for images in batches:
        model(images)
    for layer, momentum in zip(layers, usual, strict=True):
        layer.momentum = momentum  # type: ignore[assignment]
        layer.eval()


@torch.no_grad()
def fit_last_layers(
    model: nn.Module, network: MultiTaskNetwork, batches: Sequence[torch.Tensor], samples: Sequence[Sample]
) -> None:
    """Least squares from what each head's last convolution reads to the samples' targets."""
    for task, head in network.heads.items():
        last: Any = head.fc8
        read: list[torch.Tensor] = []
        hook = last.register_forward_pre_hook(lambda layer, inputs, read=read: read.append(inputs[0]))
        for images in batches:
            model(images)
        hook.remove()
        features = torch.cat([maps.permute(0, 2, 3, 1).flatten(0, 2) for maps in read]).double()
        wanted = torch.from_numpy(np.concatenate([_targets(sample, task, read[0].shape[2:]) for sample in samples]))
        mean, offset = features.mean(0), wanted.mean(0)
        centred = features - mean
        squares = centred.T @ centred
        squares.diagonal().add_(RIDGE * float(squares.diagonal().mean()) + 1e-9)
        weights = torch.linalg.solve(squares, centred.T @ (wanted - offset)).T
        last.weight.copy_(weights[:, :, None, None])
        last.bias.copy_(offset - weights @ mean)


def _targets(sample: Sample, task: str, grid: Sequence[int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(h * w, C): one class of `CLASSES`, or a normal, at the middle of every cell."""
    target = np.asarray(sample.targets[task])
    rows, columns = (
        ((np.arange(cells) + 0.5) * extent / cells).astype(int)
        for cells, extent in zip(grid, target.shape[:2], strict=True)
    )
    chosen = target[np.ix_(rows, columns)]
    if task == "normals":
        return chosen.reshape(-1, 3).astype(np.float64)
    return (chosen.reshape(-1, 1) == np.arange(CLASSES)).astype(np.float64)
