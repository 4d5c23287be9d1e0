"""The multi-task network of Figures 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from nddr_deploy.errors import InputError
from nddr_deploy.network.fusion import Fusion
from nddr_deploy.network.heads import Head
from nddr_deploy.network.shortcut import DepthMixing, Shortcut
from nddr_deploy.network.stage import Stage


class MultiTaskNetwork(nn.Module):
    """K streams side by side, fused after every stage, with one head per task.

    Attributes:
        stream_of: task name -> the stream whose features its head reads (its own, or "shared").
        stages: per stage, stream -> `Stage`.
        fusions: per stage.
        shortcut, depth_mixing: what is between the last stage and the heads, or None.
        heads: task name -> head, in the order of the outputs.
        minimum_side, maximum_side: the smallest and the largest image height and width in pixels that every stage and
            head can work on; None: no largest.

    Shapes:
        images (N, 3, H, W) float, pre-processed -> task name -> raw output, float: dense (N, C, h, w), pooled (N, C).

    Source:
        Gao et al., NDDR-CNN, CVPR 2019, Figure 1 and Figure 2.
    """

    def __init__(
        self,
        stream_of: Mapping[str, str],
        stages: Sequence[Mapping[str, Stage]],
        fusions: Sequence[Fusion],
        heads: Mapping[str, Head],
        *,
        shortcut: Shortcut | None = None,
        depth_mixing: DepthMixing | None = None,
        minimum_side: int = 1,
        maximum_side: int | None = None,
    ) -> None:
        super().__init__()
        self.stream_of = dict(stream_of)
        self.stages = nn.ModuleList(nn.ModuleDict(dict(stage)) for stage in stages)
        self.fusions = nn.ModuleList(fusions)
        self.shortcut = shortcut
        self.depth_mixing = depth_mixing
        self.heads = nn.ModuleDict(dict(heads))
        # Modules of other code can be heads, too.
        self.low_level_stages = {task: getattr(head, "low_level_stage", None) for task, head in heads.items()}
        self.minimum_side = minimum_side
        self.maximum_side = maximum_side

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        self._check_images(images)
        features = dict.fromkeys(self.streams, images)
        unfused = {}  # stage number -> features, where a head reads them
        outputs = []  # per stage, task -> fused features
        for number, (stage, fusion) in enumerate(self._sites(), start=1):
            features = {stream: stage[stream](x) for stream, x in features.items()}
            if number in self.low_level_stages.values():
                unfused[number] = features
            features = fusion(features)  # Figure 1
            outputs.append({task: features[stream] for task, stream in self.stream_of.items()})
        if self.shortcut is not None:
            outputs[-1] = self.shortcut(outputs)  # Figure 2
        if self.depth_mixing is not None:
            outputs[-1] = self.depth_mixing(outputs)
        raw = {}
        for task, head in self.heads.items():
            last, early = outputs[-1][task], self.low_level_stages[task]
            raw[task] = head(last) if early is None else head(last, unfused[early][self.stream_of[task]])
        return raw

    def check_size(self, size_hw: tuple[int, int]) -> None:
        """Whether the network takes images of this height and width.

        Raises:
            InputError: it does not; the message names the sides that it takes.
        """
        smallest, largest, (height, width) = self.minimum_side, self.maximum_side, size_hw
        if largest is not None and not smallest <= min(size_hw) <= max(size_hw) <= largest:
            raise InputError(
                f"This network takes images of {smallest}x{smallest} to {largest}x{largest} pixels; "
                f"got {height}x{width}. Choose a height and a width from {smallest} to {largest}."
            )
        if min(size_hw) < smallest:
            raise InputError(
                f"This network takes images of at least {smallest}x{smallest} pixels; got {height}x{width}. "
                "Choose a larger size."
            )

    @property
    def streams(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.stream_of.values()))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Task names, in the order of the outputs."""
        return tuple(self.stream_of)

    def stages_of(self, stream: str) -> list[Stage]:
        """One stream's stages, in order."""
        return [stage[stream] for stage, _ in self._sites()]

    def fusion_parameters(self) -> dict[str, nn.Parameter]:
        """Name -> parameter of everything between and after the streams: what trains at a multiple of the base rate."""
        ours = ("fusions.", "shortcut.", "depth_mixing.")
        return {name: parameter for name, parameter in self.named_parameters() if name.startswith(ours)}

    def parameter_counts(self) -> dict[str, int]:
        """Trained numbers in "stages", "fusions", "shortcut", "depth_mixing" and "heads"."""
        counts: dict[str, int] = {}
        for name, parameter in self.named_parameters():
            part = name.partition(".")[0]
            counts[part] = counts.get(part, 0) + parameter.numel()
        return counts

    def penalties(self) -> dict[str, torch.Tensor]:
        """Terms to add to the loss, by name, already weighted. Empty unless a fusion layer asks for one."""
        total = None
        for stage, fusion in self._sites():
            term = fusion.penalty(stage)
            if term is not None:
                total = term if total is None else total + term
        return {} if total is None else {"fusion": total}

    def _sites(self) -> Iterator[tuple[Mapping[str, Stage], Fusion]]:
        return zip(self.stages, self.fusions, strict=True)  # type: ignore[arg-type]

    def _check_images(self, images: torch.Tensor) -> None:
        if type(images) is not torch.Tensor or torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
            return  # a trace has symbols, not sizes
        self.check_size((images.shape[-2], images.shape[-1]))
