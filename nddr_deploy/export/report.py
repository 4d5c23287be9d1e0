"""What an export did, for people and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nddr_deploy.evaluate.parity import ParityReport
from nddr_deploy.evaluate.prune import Pruned
from nddr_deploy.export.fold import Folded
from nddr_deploy.manifest import Manifest


@dataclass(frozen=True)
class ExportReport:
    """What was read, folded, compared and written.

    Attributes:
        checkpoint, path: the files read and written.
        imported: what was recognised in a checkpoint of other code; empty for our own.
        manifest: as in the file.
        size_bytes, nodes: of the file and its graph.
        folded: what became of each BatchNorm layer.
        parity: ONNX Runtime on the written file against the unfolded network in PyTorch.
        layer_differences: layer -> largest difference after folding, as a share of the range there; None: not asked.
        pruned: what was cut after that comparison; None: not asked.
    """

    checkpoint: Path
    imported: Sequence[str]
    path: Path
    manifest: Manifest
    size_bytes: int
    nodes: int
    folded: tuple[Folded, ...]
    parity: ParityReport
    layer_differences: Mapping[str, float] | None = None
    pruned: Pruned | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "checkpoint": self.checkpoint.name,
            "notes": list(self.manifest.notes),
            "file": self.path.name,
            "bytes": self.size_bytes,
            "nodes": self.nodes,
            "opset": self.manifest.opset,
            "outputs": self.manifest.outputs,
            "size_hw": list(self.manifest.size_hw),
            "dynamic": list(self.manifest.dynamic),
            "batchnorm": [
                {"layer": entry.layer, "action": entry.action, "into": list(entry.into), "reason": entry.reason}
                for entry in self.folded
            ],
            "layer_differences": self.layer_differences,
            "parity": self.parity.to_dict(),
            "pruned": None if self.pruned is None else self.pruned.to_dict(),
        }

    def text(self) -> str:
        """Several lines: what was read, what was folded, the parity of every head, and where the file is."""
        manifest = self.manifest
        height, width = manifest.size_hw
        names = ", ".join(task.name for task in manifest.tasks)
        lines = [
            *self.imported,
            f"read     {self.checkpoint}: {manifest.network}; {names} ({manifest.outputs})",
            f"input    images: uint8 ({_open('batch', manifest, manifest.batch)}, {_open('size', manifest, height)}, "
            f"{_open('size', manifest, width)}, 3) RGB",
            *self._fold_lines(),
            f"parity   with the unfolded network in PyTorch on {sum(shape[0] for shape in self.parity.images)} images, "
            f"tolerance {self.parity.tolerance:g} of the range:",
            *(f"         {line}" for line in self.parity.table().splitlines()),
            *(f"{'' if place else 'pruned':9}{line}" for place, line in enumerate(self._prune_lines())),
            f"wrote    {self.path}: {self.size_bytes / 1e6:.1f} MB, {self.nodes} nodes, opset {manifest.opset}, "
            f"by {manifest.versions['exporter']}",
        ]
        return "\n".join(lines)

    def _prune_lines(self) -> list[str]:
        return [] if self.pruned is None else self.pruned.lines()

    def _fold_lines(self) -> list[str]:
        counts = Counter(entry.action for entry in self.folded)
        summary = ", ".join(f"{count} {action}" for action, count in counts.items())
        lines = [f"folded   {len(self.folded)} BatchNorm layers" + (f": {summary}" if summary else "")]
        for entry in self.folded:
            if self.layer_differences is not None:
                lines.append(
                    f"         {entry}; differs by {self.layer_differences[entry.layer]:.1e} of the range there"
                )
            elif entry.action == "kept as multiply-add":
                lines.append(f"         {entry}")
        return lines


def _open(what: str, manifest: Manifest, fixed: int) -> str:
    return "any" if what in manifest.dynamic else str(fixed)
