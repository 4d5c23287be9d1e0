"""What was found in a model, for people and as JSON, CSV and a picture."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from nddr_deploy.errors import InputError
from nddr_deploy.files import finished_file
from nddr_deploy.graph.costs import Cost, Subset
from nddr_deploy.graph.coupling import Block
from nddr_deploy.inspect.tables import coupling_table, flops_table, parameters_table, rendered, subset_table, work
from nddr_deploy.manifest import Manifest


@dataclass(frozen=True)
class InspectReport:
    """What a multi-task model's parts do, and what they take.

    Attributes:
        source: the file that was asked about.
        manifest: of the model.
        precision: that the file is written for; an "int8" or "fp16" one is read as the float network it stands for.
        images: what activations were measured on.
        blocks: the coupling, see `graph.coupling`; empty where no streams meet.
        costs: arithmetic and parameters by part, stream and the outputs that need them.
        subsets: what `--tasks` would leave.
    """

    source: Path
    manifest: Manifest
    precision: str
    images: str
    blocks: tuple[Block, ...]
    costs: tuple[Cost, ...]
    subsets: tuple[Subset, ...]

    @property
    def flops(self) -> int:
        """Of one pass."""
        return sum(cost.flops for cost in self.costs)

    @property
    def parameters(self) -> int:
        return sum(cost.parameters for cost in self.costs)

    def to_dict(self) -> dict[str, Any]:
        """JSON values; a share of nothing becomes None."""
        return {
            "file": self.source.name,
            "network": self.manifest.network,
            "precision": self.precision,
            "tasks": [task.name for task in self.manifest.tasks],
            "size_hw": list(self.manifest.size_hw),
            "batch": self.manifest.batch,
            "images": self.images,
            "flops": self.flops,
            "parameters": self.parameters,
            "coupling": [_block(block) for block in self.blocks],
            "parts": [asdict(cost) for cost in self.costs],
            "subsets": [asdict(subset) for subset in self.subsets],
        }

    def text(self) -> str:
        """Tables: coupling, arithmetic, parameters, and what fewer tasks would save."""
        manifest = self.manifest
        height, width = manifest.size_hw
        tasks = [task.name for task in manifest.tasks]
        images = "one image" if manifest.batch == 1 else f"{manifest.batch} images"
        lines = [
            f"{self.source}: {manifest.network or 'a network'}, {self.precision}; {', '.join(tasks)}",
            f"{work(self.flops)} a pass ({images} of {height}x{width}), {self.parameters / 1e6:.3g} million parameters",
            "",
        ]
        tables = [flops_table(self.costs, tasks), parameters_table(self.costs, tasks)]
        if self.blocks:
            tables.insert(0, coupling_table(self.blocks, tasks, self.images))
        else:
            lines += ["coupling: none. No streams meet in this network: its tasks share all features, or none.", ""]
        if self.subsets:
            tables.append(subset_table(self.subsets))
        return "\n".join(lines) + "\n" + "\n\n".join(rendered(table) for table in tables)

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """The coupling, one line a block.

        Raises:
            InputError, OutputError: the file cannot be written.
        """
        with finished_file(path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("layer", "task", "stream", "share", "weight_norm", "activation"))
            for block in self.blocks:
                values = (block.share, block.weight_norm, block.activation)
                writer.writerow((block.layer, block.task, block.stream, *(f"{value:.6g}" for value in values)))

    def write_heatmap(self, path: str | os.PathLike[str]) -> None:
        """The coupling as a picture: a row a layer, a column for what each task takes from each stream.

        Raises:
            InputError: there is no coupling to draw, or the file cannot be written.
        """
        if not self.blocks:
            raise InputError(f"{self.source}: no streams meet in this network, so there is no coupling to draw.")
        from nddr_deploy.quantize.heatmap import draw

        layers = list(dict.fromkeys(block.layer for block in self.blocks))
        known = {name: place for place, name in enumerate(_order(self.blocks, self.manifest))}
        pairs = sorted(
            {(block.task, block.stream) for block in self.blocks}, key=lambda pair: (known[pair[0]], known[pair[1]])
        )
        matrix = np.full((len(layers), len(pairs)), np.nan)
        for block in self.blocks:
            matrix[layers.index(block.layer), pairs.index((block.task, block.stream))] = 100 * block.share
        with finished_file(path) as temporary:
            draw(
                matrix,
                layers,
                [f"{task} ← {stream}" for task, stream in pairs],
                "What each task takes from each stream, %",
                temporary,
                text=lambda row, column, value: f"{value:.0f}",
                note=f"{self.source.name}; share of weight norm × activation scale, on {self.images}",
            )


def _order(blocks: Sequence[Block], manifest: Manifest) -> list[str]:
    """Names of tasks and streams: the manifest's first."""
    names = [name for block in blocks for name in (block.stream, block.task)]
    return list(dict.fromkeys([*(task.name for task in manifest.tasks), *names]))


def _block(block: Block) -> dict[str, Any]:
    return {**asdict(block), "share": None if isnan(block.share) else block.share}
