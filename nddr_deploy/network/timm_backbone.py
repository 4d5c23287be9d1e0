"""Any timm network that is a plain sequence of layers, cut where timm cuts it."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from nddr_deploy import optional
from nddr_deploy.errors import ConfigError, UnsupportedError
from nddr_deploy.network.stage import Stage


def timm_backbone(*, name: str) -> list[Stage]:
    """A timm network at its random start (vgg, resnet, densenet, convnext, regnet and others).

    For its trained weights, save the state dict of `timm.create_model(name, pretrained=True, features_only=True)` and
    start from that file: the keys are the same.

    Args:
        name: as in `timm.list_models()`.

    Raises:
        MissingPackageError: timm is not installed; no extra brings it.
        ConfigError: timm has no such network.
        UnsupportedError: the network is not a sequence of layers.
    """
    create = optional.load("timm:create_model")
    try:
        network = create(name, pretrained=False, features_only=True)
    except RuntimeError as error:  # what timm raises for an unknown name, and where it knows no stages
        raise ConfigError(f"backbone_options.name: timm cannot make {name!r} in stages: {error}") from error
    last_layers = list(getattr(network, "return_layers", None) or ())
    if not last_layers:
        raise UnsupportedError(
            f"timm's {name!r} is not a plain sequence of layers and cannot be cut into stages. "
            "Choose a vgg, resnet, densenet, convnext or regnet."
        )
    reductions = [1, *network.feature_info.reduction()]
    strides = [after // before for before, after in pairwise(reductions)]
    stages: list[Stage] = []
    layers: dict[str, nn.Module] = {}
    for layer_name, layer in network.named_children():
        layers[layer_name] = layer
        if layer_name in last_layers:
            number = len(stages)
            stages.append(Stage(layers, network.feature_info.channels()[number], strides[number]))
            layers = {}
    return stages
