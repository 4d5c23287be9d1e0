"""What collects all stages' outputs for the heads: the paper's shortcut, and the sluice network's mixing over depth."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from nddr_deploy.errors import unknown_choice
from nddr_deploy.network.fusion.base import Features
from nddr_deploy.network.resize import Resize
from nddr_deploy.network.stage import Stage
from nddr_deploy.resize import Convention

ORDERS = ("conv", "conv-bn-relu", "conv-relu-bn")


class StageOutputs(nn.Module):
    """All stage outputs of one task at the size of the last.

    Stages after which nothing has a stride need no resizing.

    Args:
        stages: one stream's, for their strides.
    """

    def __init__(self, stages: Sequence[Stage], convention: Convention) -> None:
        super().__init__()
        self.resize = Resize(convention)
        self.smaller_later = [any(later.stride > 1 for later in stages[n + 1 :]) for n in range(len(stages))]

    def forward(self, outputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [
            self.resize(x, outputs[-1]) if smaller else x
            for x, smaller in zip(outputs, self.smaller_later, strict=True)
        ]


class Shortcut(nn.Module):
    """Figure 2: a task's stage outputs, resized to the last one's size, concatenated and reduced to its width.

    Shapes:
        per stage, per task (N, C_l, H_l, W_l) float -> per task (N, C_L, H_L, W_L) float, L the last stage.

    Args:
        tasks: names.
        stages: one stream's, for their channels and strides.
        convention: of the resizing.
        shared: one module for all tasks instead of one each.
        order: "conv" (the paper), "conv-bn-relu" or "conv-relu-bn" (public code).
        bias: of the 1x1 convolution; None: only where no BatchNorm follows.
        start: "xavier", or "last" (the identity on the last stage: heads first see what they saw without it).

    Source:
        Gao et al., NDDR-CNN, CVPR 2019, section 3.3.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        stages: Sequence[Stage],
        convention: Convention,
        shared: bool,
        *,
        order: str = "conv",
        bias: bool | None = None,
        start: str = "xavier",
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if order not in ORDERS:
            raise unknown_choice("shortcut_options.order", order, ORDERS)
        if start not in ("xavier", "last"):
            raise unknown_choice("shortcut_options.start", start, ("xavier", "last"))
        self.collect = StageOutputs(stages, convention)
        self.module_of = {task: "shared" if shared else task for task in tasks}
        self.layers = nn.ModuleDict()
        channels_in, channels = sum(stage.channels for stage in stages), stages[-1].channels
        for name in dict.fromkeys(self.module_of.values()):
            conv = nn.Conv2d(channels_in, channels, kernel_size=1, bias=order == "conv" if bias is None else bias)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
            if start == "xavier":
                nn.init.xavier_uniform_(conv.weight)
            else:
                nn.init.zeros_(conv.weight)
                with torch.no_grad():
                    conv.weight[:, -channels:, 0, 0].fill_diagonal_(1.0)
            parts: dict[str, nn.Module] = {
                "conv": conv,
                "bn": nn.BatchNorm2d(channels, eps=bn_eps, momentum=bn_momentum),
                "relu": nn.ReLU(inplace=True),
            }
            self.layers[name] = nn.Sequential(OrderedDict((part, parts[part]) for part in order.split("-")))

    def forward(self, outputs: Sequence[Features]) -> Features:
        return {
            task: self.layers[module](torch.cat(self.collect([stage[task] for stage in outputs]), dim=1))
            for task, module in self.module_of.items()
        }


class DepthMixing(nn.Module):
    """Mixing over depth: the sum of beta_l times stage output l, resized and brought to the last width.

    Starts at beta = 1 for the last stage and 0 for the others, so at first the heads see the last stage alone.

    Shapes:
        per stage, per task (N, C_l, H_l, W_l) float -> per task (N, C_L, H_L, W_L) float, L the last stage.

    Source:
        Ruder et al., Latent multi-task architecture learning, AAAI 2019.
    """

    def __init__(self, tasks: Sequence[str], stages: Sequence[Stage], convention: Convention) -> None:
        super().__init__()
        self.collect = StageOutputs(stages, convention)
        self.layers = nn.ModuleDict({task: _TaskDepthMixing([stage.channels for stage in stages]) for task in tasks})

    def forward(self, outputs: Sequence[Features]) -> Features:
        return {task: layer(self.collect([stage[task] for stage in outputs])) for task, layer in self.layers.items()}


class _TaskDepthMixing(nn.Module):
    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor([0.0] * (len(channels) - 1) + [1.0]))
        self.reduce = nn.ModuleList(nn.Conv2d(c, channels[-1], kernel_size=1, bias=False) for c in channels[:-1])

    def forward(self, outputs: Sequence[torch.Tensor]) -> torch.Tensor:
        total = self.beta[len(self.reduce)] * outputs[-1]
        for number, reduce in enumerate(self.reduce):
            total = total + self.beta[number] * reduce(outputs[number])
        return total
