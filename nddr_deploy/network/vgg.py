"""VGG-16 in two forms, cut after pool1 .. pool5. Keys are torchvision's (vgg16; vgg16_bn with BatchNorm)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from nddr_deploy.network.initial import initialise
from nddr_deploy.network.pools import halving_pool
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
    pools: list[Sequence[nn.Module]] = [[nn.MaxPool2d(kernel_size=2)] for _ in WIDTHS]
    return _stages(width, pools, (2, 2, 2, 2, 2), (1, 1, 1, 1, 1), batchnorm, bias, bn_eps, bn_momentum)


def vgg16_deeplab(
    *,
    width: float = 1.0,
    batchnorm: bool = True,
    bias: bool | None = None,
    pool_padding: str = "after",
    bn_eps: float = 1e-3,
    bn_momentum: float = 0.05,
) -> list[Stage]:
    """Deeplab's large-field-of-view form of VGG-16: output stride 8.

    All poolings are 3x3. pool1..pool3 halve, pool4 and pool5 keep the size; the last stage is dilated by 2 and ends in
    an average pool that divides by the number of real pixels. Its head is "large_fov".

    Args:
        width: factor on every number of channels.
        batchnorm: conv -> BN -> ReLU; without: conv -> ReLU.
        bias: of the convolutions; None: only without BatchNorm.
        pool_padding: "after" (PyTorch ports, an odd side n becomes floor(n / 2)) or "same" (TensorFlow, ceil(n / 2)).

    Source: Chen et al., Deeplab, 2015, and the code released with NDDR-CNN.
    """
    halving = [halving_pool(pool_padding) for _ in range(3)]
    keeping = [nn.MaxPool2d(kernel_size=3, stride=1, padding=1) for _ in range(2)]
    average = nn.AvgPool2d(kernel_size=3, stride=1, padding=1, count_include_pad=False)
    pools: list[Sequence[nn.Module]] = [*([pool] for pool in halving), [keeping[0]], [keeping[1], average]]
    bias = not batchnorm if bias is None else bias
    return _stages(width, pools, (2, 2, 2, 1, 1), (1, 1, 1, 1, 2), batchnorm, bias, bn_eps, bn_momentum)


def _stages(
    width: float,
    pools: Sequence[Sequence[nn.Module]],
    strides: Sequence[int],
    dilations: Sequence[int],
    batchnorm: bool,
    bias: bool,
    bn_eps: float,
    bn_momentum: float,
) -> list[Stage]:
    stages = []
    channels_in, index = 3, 0
    for widths, pool, stride, dilation in zip(WIDTHS, pools, strides, dilations, strict=True):
        layers: list[nn.Module] = []
        for channels in (scaled(full, width) for full in widths):
            layers.append(nn.Conv2d(channels_in, channels, 3, padding=dilation, dilation=dilation, bias=bias))
            if batchnorm:
                layers.append(nn.BatchNorm2d(channels, eps=bn_eps, momentum=bn_momentum))
            layers.append(nn.ReLU(inplace=True))
            channels_in = channels
        numbered = {str(index + offset): layer for offset, layer in enumerate([*layers, pool[0]])}
        index += len(numbered)
        if len(pool) == 2:  # torchvision has no number for a second pool
            numbered["average"] = pool[1]
        stages.append(Stage({"features": nn.Sequential(OrderedDict(numbered))}, channels_in, stride))
        initialise(stages[-1])
    return stages
