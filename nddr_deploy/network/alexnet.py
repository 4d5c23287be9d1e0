"""AlexNet, cut after pool1, pool2, conv3, conv4 and pool5. Keys are torchvision's `features.N`."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from nddr_deploy.network.initial import initialise
from nddr_deploy.network.stage import Stage, scaled


def alexnet(*, width: float = 1.0) -> list[Stage]:
    """AlexNet (torchvision's one-column form): five stages, output stride 32.

    The paper's AlexNet is in its supplement. The cut is ours: after every pooling, as Misra et al. (2016) place
    cross-stitch units, and after conv3 and conv4, so that there are five fusion layers as in the other networks.

    Args:
        width: factor on every number of channels.

    Source: Krizhevsky, 2014 ("one weird trick").
    """
    c1, c2, c3, c4, c5 = (scaled(channels, width) for channels in (64, 192, 384, 256, 256))
    cuts: list[tuple[int, int, list[nn.Module]]] = [  # channels, stride, layers
        (c1, 8, [nn.Conv2d(3, c1, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2)]),
        (c2, 2, [nn.Conv2d(c1, c2, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2)]),
        (c3, 1, [nn.Conv2d(c2, c3, 3, padding=1), nn.ReLU(inplace=True)]),
        (c4, 1, [nn.Conv2d(c3, c4, 3, padding=1), nn.ReLU(inplace=True)]),
        (c5, 2, [nn.Conv2d(c4, c5, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2)]),
    ]
    stages, index = [], 0
    for channels, stride, layers in cuts:
        numbered = OrderedDict((str(index + offset), layer) for offset, layer in enumerate(layers))
        index += len(layers)
        stages.append(Stage({"features": nn.Sequential(numbered)}, channels, stride))
        initialise(stages[-1])
    return stages
