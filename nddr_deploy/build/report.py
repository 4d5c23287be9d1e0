"""What a build did, for people and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nddr_deploy.engines.plan_file import PlanManifest, manifest_path
from nddr_deploy.engines.trt_inspect import Realised
from nddr_deploy.evaluate.parity import ParityReport


@dataclass(frozen=True)
class BuildReport:
    """What was built, and what it turned out to be.

    Attributes:
        path: of the plan.
        about: its manifest, as written beside it.
        size_bytes: of the plan.
        seconds: that TensorRT took.
        realised: what its layers run in.
        parity: with ONNX Runtime on the ONNX file.
        images: what the pictures were that ranges and parity were taken on.
        timing_cache: the file that was used; None where there was none.
        layers: the inspector's account of the plan, as TensorRT wrote it.
    """

    path: Path
    about: PlanManifest
    size_bytes: int
    seconds: float
    realised: Realised
    parity: ParityReport
    images: str
    timing_cache: Path | None
    layers: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "file": self.path.name,
            "bytes": self.size_bytes,
            "build_s": self.seconds,
            "images": self.images,
            **self.about.model_dump(mode="json"),
        }

    def text(self) -> str:
        """Several lines: what was built of what, what it runs in, the parity of every head, where it is."""
        about = self.about
        names = ", ".join(task.name for task in about.model.tasks)
        lines = [
            f"read     {about.onnx}: {about.model.network or 'a network'}; {names}",
            f"built    {about.precision} for {about.gpu} (compute capability {about.compute_capability}) by TensorRT "
            f"{about.tensorrt} in {self.seconds:.0f} s",
            f"input    images: uint8 {about.profile} RGB"
            + ("" if about.profile.static else f", best {about.profile.opt}"),
            f"outputs  {about.model.outputs}",
            *(f"realised {line}" if place == 0 else f"         {line}" for place, line in enumerate(self._layers())),
            *(f"kept     in fp32: {line}" for line in about.kept_fp32),
            f"parity   with ONNX Runtime on {self.images}, tolerance {self.parity.tolerance:g} of the range:",
            *(f"         {line}" for line in self.parity.table().splitlines()),
            f"wrote    {self.path}: {self.size_bytes / 1e6:.1f} MB, and {manifest_path(self.path).name}",
        ]
        return "\n".join(lines)

    def _layers(self) -> list[str]:
        return self.realised.text().splitlines()
