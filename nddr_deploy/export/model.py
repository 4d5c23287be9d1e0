"""What is exported: pre-processing, network and the chosen tasks' outputs, as one module with an ordered result."""

from __future__ import annotations

from torch import Tensor, nn

from nddr_deploy.export.decode import decoder
from nddr_deploy.manifest import Manifest
from nddr_deploy.network.image_input import ImageInput
from nddr_deploy.network.network import MultiTaskNetwork


class ExportedModel(nn.Module):
    """Images in, one output per task out, in the order of the manifest's tasks.

    The exporter numbers the entries of a dict in an order of its own; a tuple's order is fixed, so names cannot swap.

    Shapes:
        uint8 (N, H, W, 3) RGB -> per task the raw output, or what its decoder makes of it.
    """

    def __init__(self, network: MultiTaskNetwork, manifest: Manifest) -> None:
        super().__init__()
        self.input = ImageInput(manifest.preprocess)
        for name, part in network.named_children():  # first under the names that the checkpoint has for them
            self.add_module(name, part)
        self.network = network
        self.names = tuple(task.name for task in manifest.tasks)
        decoded = manifest.tasks if manifest.outputs == "decoded" else ()
        self.decoders = nn.ModuleDict({task.name: decoder(task, manifest.resize) for task in decoded})

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        image = self.input(images)
        raw = self.network(image)
        if not self.decoders:
            return tuple(raw[name] for name in self.names)
        return tuple(self.decoders[name](raw[name], image) for name in self.names)
