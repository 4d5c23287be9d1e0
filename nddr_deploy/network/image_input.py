"""Pre-processing as the first layers of a model, so that no engine can get it wrong."""

from __future__ import annotations

import torch
from torch import nn

from nddr_deploy.network.network import MultiTaskNetwork
from nddr_deploy.preprocess import Preprocess


class ImageInput(nn.Module):
    """`Preprocess.apply` in PyTorch: `(pixel - mean / scale) * (scale / std)`, exact also at borders.

    The cast to float is the first operation: TensorRT 8.6 does nothing else with uint8.

    Shapes:
        uint8 (N, H, W, 3) RGB -> float32 (N, 3, H, W), channels in the order of `preprocess`.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        mean = torch.tensor(preprocess.mean, dtype=torch.float64) / preprocess.scale
        factor = preprocess.scale / torch.tensor(preprocess.std, dtype=torch.float64)
        self.register_buffer("mean", mean.float().reshape(3, 1, 1), persistent=False)
        self.register_buffer("factor", factor.float().reshape(3, 1, 1), persistent=False)
        self.register_buffer("channels", torch.tensor([2, 1, 0]), persistent=False)
        self.mean: torch.Tensor
        self.factor: torch.Tensor
        self.channels: torch.Tensor
        self.bgr = preprocess.order == "bgr"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images.to(torch.float32).permute(0, 3, 1, 2)
        if self.bgr:
            x = x.index_select(1, self.channels)
        return (x - self.mean) * self.factor


class ImageModel(nn.Module):
    """A network together with its pre-processing.

    Shapes:
        uint8 (N, H, W, 3) RGB -> task name -> raw output: (N, C, h, w) float where dense, (N, C) float where pooled.
    """

    def __init__(self, network: MultiTaskNetwork, preprocess: Preprocess) -> None:
        super().__init__()
        self.input = ImageInput(preprocess)
        self.network = network

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs: dict[str, torch.Tensor] = self.network(self.input(images))
        return outputs
