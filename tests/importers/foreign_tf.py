"""The official TensorFlow 1 network: its variables, and its forward pass from formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from foreign_vgg import WIDTHS
from foreign_weights import Image, Weights, conv, network_input, norm, resize_unshifted
from torch import Tensor

EPS = 1e-3
MEAN_BGR = (104.00698793, 116.66876762, 122.67891434)
NAMES = {1: "segmentation", 2: "normals"}
PARTS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
Variables = dict[str, np.ndarray[Any, Any]]


def weights_of(
    *,
    shortcut: bool = False,
    width: float = 1 / 16,
    classes: tuple[int, int] = (40, 3),
    seed: int = 0,
    size_hw: tuple[int, int] = (64, 96),
) -> Weights:
    """By scope, convolutions as (O, I, k, k); `SCOPE/BatchNorm` beside each but the last."""
    weights = Weights(seed)

    def layer(scope: str, out: int, into: int, side: int = 1, gain: float = 1) -> None:
        weights.conv(scope, out, into, side, gain=gain)
        weights.norm(f"{scope}/BatchNorm", out)

    widths = [[int(full * width) for full in stage] for stage in WIDTHS]
    wide = int(1024 * width)
    for t in (1, 2):
        into = 3
        for s, stage in enumerate(widths, 1):
            for i, out in enumerate(stage, 1):
                layer(f"vgg_16_{t}_{s}/conv{s}/conv{s}_{i}", out, into, 3, gain=1 if into > 3 else 1 / 64)
                into = out
            weights.mix(f"nddr_{s}/nddr_{s}_n{t}", into, 2, own=t - 1)
            weights.norm(f"nddr_{s}/nddr_{s}_n{t}/BatchNorm", into)
        if shortcut:
            layer(f"nddr_shortcut_{t}", into, sum(stage[-1] for stage in widths))
        layer(f"vgg_16_{t}_6/fc6", wide, into, 3)
        layer(f"vgg_16_{t}_6/fc7", wide, wide)
        weights.last(f"vgg_16_{t}_6/fc8_voc12", classes[t - 1], wide)
    weights.measure(lambda image: forward(weights, image), size_hw)
    return weights


def variables_of(weights: Weights, *, momentum: bool = True) -> Variables:
    """As TensorFlow stores them: HWIO, by name, sorted, with the optimizer's slots."""
    variables: Variables = {}
    for key, tensor in weights.items():
        scope, part = key.rsplit(".", 1)
        if part == "num_batches_tracked":
            continue
        if scope.endswith("BatchNorm"):
            name = next(name for name, ours in PARTS.items() if ours == part)
            variables[f"{scope}/{name}"] = tensor.numpy()
        elif part == "weight":
            variables[f"{scope}/weights"] = tensor.permute(2, 3, 1, 0).contiguous().numpy()
        else:
            variables[f"{scope}/biases"] = tensor.numpy()
    if momentum:
        trained = [name for name in variables if "/moving_" not in name]
        variables |= {f"{name}/Momentum": np.full_like(variables[name], 0.01) for name in trained}
    return dict(sorted(variables.items()))


def write_npz(path: Path, variables: Variables) -> Path:
    np.savez(path, **variables)
    return path


def write_folder(folder: Path, variables: Variables, step: int = 20000) -> Path:
    """What TensorFlow leaves in a folder: index, data, meta, and the text file that names the latest."""
    from tf_writer import write_tf_checkpoint

    folder.mkdir(parents=True, exist_ok=True)
    prefix = folder / f"model.ckpt-{step}"
    write_tf_checkpoint(prefix, variables)
    prefix.with_name(prefix.name + ".meta").write_bytes(b"\x0a\x00")
    (folder / "checkpoint").write_text(
        f'model_checkpoint_path: "{prefix.name}"\nall_model_checkpoint_paths: "{prefix.name}"\n'
    )
    return prefix


def forward(
    weights: Weights,
    image: Image,
    *,
    eps: float = EPS,
    swapped: bool = False,
    corners: bool = False,
    order: str = "bgr",
    floor_pools: bool = False,
) -> dict[str, Tensor]:
    """Raw outputs (1, C, h, w) by task. What follows `image` are wrong readings, for the proof that they show."""
    x = network_input(image, MEAN_BGR if order == "bgr" else MEAN_BGR[::-1], order=order)
    streams = [x, x]
    fused: list[list[Tensor]] = []

    def layer(x: Tensor, scope: str, dilation: int = 0) -> Tensor:
        options = {"padding": dilation, "dilation": dilation} if dilation else {}
        return F.relu(norm(conv(x, weights, scope, **options), weights, f"{scope}/BatchNorm", eps))

    for s, stage in enumerate(WIDTHS, 1):
        own = []
        for t, x in enumerate(streams, 1):
            for i in range(1, len(stage) + 1):
                x = layer(x, f"vgg_16_{t}_{s}/conv{s}/conv{s}_{i}", dilation=2 if s == 5 else 1)
            x = _same_pool(x, floor_pools) if s <= 3 else F.max_pool2d(x, 3, 1, 1)
            own.append(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) if s == 5 else x)
        both = torch.cat(own[::-1] if swapped else own, 1)
        streams = [layer(both, f"nddr_{s}/nddr_{s}_n{t}") for t in (1, 2)]
        fused.append(streams)
    outputs = {}
    for t, x in enumerate(streams, 1):
        if f"nddr_shortcut_{t}.weight" in weights:
            maps = [resized(stage[t - 1], tuple(x.shape[2:]), corners=corners) for stage in fused[:-1]]
            x = layer(torch.cat([*maps, x], 1), f"nddr_shortcut_{t}")
        x = layer(layer(x, f"vgg_16_{t}_6/fc6", dilation=12), f"vgg_16_{t}_6/fc7")
        outputs[NAMES[t]] = conv(x, weights, f"vgg_16_{t}_6/fc8_voc12")
    return outputs


def resized(x: Tensor, size_hw: tuple[int, ...], *, corners: bool = False) -> Tensor:
    size = (size_hw[0], size_hw[1])
    if corners:
        return F.interpolate(x, size, mode="bilinear", align_corners=True)
    return resize_unshifted(x, size)


def _same_pool(x: Tensor, floor: bool) -> Tensor:
    """3x3, stride 2, output ceil(n/2): an odd side is padded by 1 before and 1 after, an even one by 1 after."""
    height, width = x.shape[2:]
    if floor:
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2)
    return F.max_pool2d(F.pad(x, (width % 2, 1, height % 2, 1), value=-torch.inf), 3, 2)
