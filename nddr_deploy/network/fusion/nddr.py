"""The paper's layer: neural discriminative dimensionality reduction."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from nddr_deploy.errors import unknown_choice
from nddr_deploy.network.fusion.base import Features, Fusion

ORDERS = ("bn-conv", "conv-bn-relu", "conv-relu-bn", "conv-bn", "conv")


class NDDR(Fusion):
    """Concatenate all streams' features, then reduce them to each stream's own width by a 1x1 convolution.

    Training starts near the single-task networks: `own` weights a task's own channels, `other` each other task's.

    Shapes:
        in and out: one (N, C, H, W) float tensor per stream, C the same for all; each weight (C, K * C, 1, 1).

    Args:
        streams: names, in the order in which features are concatenated.
        channels: C.
        order: "bn-conv" (the paper: BatchNorm on the K * C input channels), "conv-bn-relu" (the code released with it),
            "conv-relu-bn", "conv-bn" or "conv".
        bias: of the convolutions.
        start: "diagonal" (Eq. 3) or "xavier".
        own, other: the diagonal start (alpha, beta) of Eq. 3.
        single_side: the tasks whose features are fused, the others pass unchanged; None: all.
        own_first: each task's convolution reads its own features first, then the others in order.

    Raises:
        ConfigError: fewer than two streams, an unknown order or start, or `single_side` names no task.

    Source:
        Gao et al., NDDR-CNN, CVPR 2019, section 3.1 and Eq. 3.
    """

    def __init__(
        self,
        streams: Sequence[str],
        channels: int,
        *,
        order: str = "bn-conv",
        bias: bool = False,
        start: str = "diagonal",
        own: float = 0.9,
        other: float = 0.1,
        single_side: Sequence[str] | str | None = None,
        own_first: bool = False,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__(streams, channels)
        if order not in ORDERS:
            raise unknown_choice("fusion_options.order", order, ORDERS)
        if start not in ("diagonal", "xavier"):
            raise unknown_choice("fusion_options.start", start, ("diagonal", "xavier"))
        fused = [single_side] if isinstance(single_side, str) else self.streams if single_side is None else single_side
        for name in fused:
            if name not in self.streams:
                raise unknown_choice("fusion_options.single_side", name, self.streams)
        self.inputs = {stream: self._order_for(stream, own_first) for stream in self.streams if stream in fused}
        self.layers = nn.ModuleDict()
        for stream, inputs in self.inputs.items():
            channels_in = len(inputs) * channels
            conv = nn.Conv2d(channels_in, channels, kernel_size=1, bias=bias)
            bn_channels = channels_in if order == "bn-conv" else channels
            parts: dict[str, nn.Module] = {
                "conv": conv,
                "bn": nn.BatchNorm2d(bn_channels, eps=bn_eps, momentum=bn_momentum),
                "relu": nn.ReLU(inplace=True),
            }
            self.layers[stream] = nn.Sequential(OrderedDict((part, parts[part]) for part in order.split("-")))
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
            if start == "xavier":
                nn.init.xavier_uniform_(conv.weight)
            else:
                nn.init.zeros_(conv.weight)
                with torch.no_grad():
                    for block, source in enumerate(inputs):
                        columns = conv.weight[:, block * channels : (block + 1) * channels, 0, 0]
                        columns.fill_diagonal_(own if source == stream else other)

    def _order_for(self, stream: str, own_first: bool) -> tuple[str, ...]:
        if not own_first:
            return self.streams
        return (stream, *(other for other in self.streams if other != stream))

    def forward(self, features: Features) -> Features:
        joined = {
            inputs: torch.cat([features[s] for s in inputs], dim=1) for inputs in dict.fromkeys(self.inputs.values())
        }
        fused = {stream: self.layers[stream](joined[inputs]) for stream, inputs in self.inputs.items()}
        return {stream: fused.get(stream, features[stream]) for stream in self.streams}
