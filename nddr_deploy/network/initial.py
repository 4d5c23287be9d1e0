"""The random start of backbones and heads (fusion layers have their own)."""

from __future__ import annotations

from torch import nn


def initialise(module: nn.Module, deviation: float | None = None) -> None:
    """Convolutions: He normal by fan-out; linear layers: normal, deviation 0.01; biases 0; BatchNorm 1 and 0.

    Args:
        deviation: of convolutions, instead of He's: small for the last layer of a head.

    Source: torchvision's VGG and ResNet start the same way.
    """
    if any(parameter.is_meta for parameter in module.parameters()):
        return  # shapes without values
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            if deviation is None:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            else:
                nn.init.normal_(layer.weight, std=deviation)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
