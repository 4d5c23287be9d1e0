"""What is traced: pre-processing, network and the chosen tasks' raw outputs, as one module with an ordered result."""

from __future__ import annotations

from torch import Tensor, nn

from nddr_deploy.manifest import Manifest
from nddr_deploy.network.image_input import ImageInput
from nddr_deploy.network.network import MultiTaskNetwork


class ExportedModel(nn.Module):
    """Images in, one raw output per task out, in the order of the manifest's tasks.

    The exporter numbers the entries of a dict in an order of its own; a tuple's order is fixed, so names cannot swap.

    Shapes:
        uint8 (N, H, W, 3) RGB -> per task (N, C, h, w) float32 where dense, (N, C) where pooled.
    """

    def __init__(self, network: MultiTaskNetwork, manifest: Manifest) -> None:
        super().__init__()
        self.input = ImageInput(manifest.preprocess)
        for name, part in network.named_children():  # first under the names that the checkpoint has for them
            self.add_module(name, part)
        self.network = network
        self.names = tuple(task.name for task in manifest.tasks)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        raw = self.network(self.input(images))
        return tuple(raw[name] for name in self.names)
