"""VGG-16 in two forms, cut at its poolings or at each convolution. Keys are torchvision's (vgg16, vgg16_bn)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import count

from torch import nn

from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.network.initial import initialise
from nddr_deploy.network.pools import halving_pool, last_pools
from nddr_deploy.network.stage import Stage, scaled

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg16(
    *,
    width: float = 1.0,
    batchnorm: bool = False,
    bias: bool = True,
    bn_eps: float = 1e-5,
    bn_momentum: float = 0.1,
) -> list[Stage]:
    """The plain VGG-16: five stages, each ends in a 2x2 max-pool; output stride 32.

    Args:
        width: factor on every number of channels.
        batchnorm: conv -> BN -> ReLU, torchvision's vgg16_bn.
        bias: of the convolutions; torchvision has one in both forms.

    Source: Simonyan and Zisserman, 2015, configuration D.
    """
    pools = [[nn.MaxPool2d(kernel_size=2)] for _ in WIDTHS]
    return _stages("pool", width, pools, (2, 2, 2, 2, 2), (1, 1, 1, 1, 1), batchnorm, bias, bn_eps, bn_momentum)


def vgg16_deeplab(
    *,
    width: float = 1.0,
    cut: str = "pool",
    batchnorm: bool = True,
    bias: bool | None = None,
    pool_padding: str = "after",
    bn_eps: float = 1e-3,
    bn_momentum: float = 0.05,
) -> list[Stage]:
    """Deeplab's large-field-of-view form of VGG-16: output stride 8.

    All poolings are 3x3. pool1..pool3 halve, pool4 and pool5 keep the size; the convolutions behind pool4 are dilated
    by 2, and an average pool that divides by the number of real pixels ends the network. Its head is "large_fov".

    Args:
        width: factor on every number of channels.
        cut: after each "pool" (five stages), or after each "convolution" (13 stages, as in a public port): then a
            pooling begins the stage behind it, and the last two belong to the head (its option `pools`).
        batchnorm: conv -> BN -> ReLU; without: conv -> ReLU.
        bias: of the convolutions; None: only without BatchNorm.
        pool_padding: of pool1..pool3: "after" (PyTorch ports, an odd side n becomes floor(n / 2)), "same" (TensorFlow,
            ceil(n / 2)), or "zeros": "after" for inputs that may be negative, as those of a fusion layer.

    Raises:
        ConfigError: cut after convolutions, and "after" padding, which takes only what comes from a ReLU.

    Source: Chen et al., Deeplab, 2015, and the code released with NDDR-CNN; its 13 stages: Gao et al., MTL-NAS, 2020.
    """
    if cut not in ("pool", "convolution"):
        raise unknown_choice("backbone_options.cut", cut, ("pool", "convolution"))
    if cut == "convolution" and pool_padding == "after":
        raise ConfigError(
            "backbone_options.pool_padding: 'after' is for maps that come from a ReLU, but with cut 'convolution' they "
            "come from a fusion layer and may be negative. Choose 'zeros' or 'same'."
        )
    pools: list[Sequence[nn.Module]] = [[halving_pool(pool_padding)] for _ in range(3)]
    pools += [[nn.MaxPool2d(kernel_size=3, stride=1, padding=1)], list(last_pools().values())]
    bias = not batchnorm if bias is None else bias
    return _stages(cut, width, pools, (2, 2, 2, 1, 1), (1, 1, 1, 1, 2), batchnorm, bias, bn_eps, bn_momentum)


def _stages(
    cut: str,
    width: float,
    pools: Sequence[Sequence[nn.Module]],
    pool_strides: Sequence[int],
    dilations: Sequence[int],
    batchnorm: bool,
    bias: bool,
    bn_eps: float,
    bn_momentum: float,
) -> list[Stage]:
    stages: list[Stage] = []
    number = count()  # torchvision's, through all stages
    layers: dict[str, nn.Module] = {}  # of the stage that is being made
    channels_in, stride = 3, 1
    for widths, pool, pool_stride, dilation in zip(WIDTHS, pools, pool_strides, dilations, strict=True):
        for channels in (scaled(full, width) for full in widths):
            conv = nn.Conv2d(channels_in, channels, 3, padding=dilation, dilation=dilation, bias=bias)
            layers[str(next(number))] = conv
            if batchnorm:
                layers[str(next(number))] = nn.BatchNorm2d(channels, eps=bn_eps, momentum=bn_momentum)
            layers[str(next(number))] = nn.ReLU(inplace=True)
            channels_in = channels
            if cut == "convolution":
                stages.append(_stage(layers, channels, stride))
                layers, stride = {}, 1
        layers[str(next(number))] = pool[0]
        if len(pool) == 2:  # torchvision has no number for a second pool
            layers["average"] = pool[1]
        stride *= pool_stride
        if cut == "pool":
            stages.append(_stage(layers, channels_in, stride))
            layers, stride = {}, 1
    return stages


def _stage(layers: Mapping[str, nn.Module], channels: int, stride: int) -> Stage:
    stage = Stage({"features": nn.Sequential(OrderedDict(layers))}, channels, stride)
    initialise(stage)
    return stage
