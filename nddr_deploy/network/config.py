"""The settings that rebuild a network. Kept apart from the modules: a checkpoint stores them as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from nddr_deploy.errors import ConfigError
from nddr_deploy.resize import Convention


@dataclass(frozen=True)
class NetworkConfig:
    """What `build_network` needs besides the tasks.

    Attributes:
        backbone: key of `BACKBONES`; its keyword arguments in `backbone_options` (for example `{"width": 0.25}`).
        fusion: key of `FUSIONS`: "none", "shared", "nddr", "cross_stitch", "sluice"; its arguments in `fusion_options`.
        fused_stages: numbers, from 1, of the stages that a fusion layer follows; None: all.
        shortcut: none, one module per task (the paper), or one that all tasks share (a public port).
        resize: the convention of every bilinear resize of this network, outputs included.
        head: key of `HEADS` for dense tasks; `pooled_head` for pooled ones; their arguments in `*_options`.
    """

    backbone: str = "vgg16_deeplab"
    backbone_options: Mapping[str, Any] = field(default_factory=dict)
    fusion: str = "nddr"
    fusion_options: Mapping[str, Any] = field(default_factory=dict)
    fused_stages: Sequence[int] | None = None
    shortcut: Literal["none", "per_task", "shared"] = "none"
    shortcut_options: Mapping[str, Any] = field(default_factory=dict)
    resize: Convention = "half_pixel"
    head: str = "large_fov"
    head_options: Mapping[str, Any] = field(default_factory=dict)
    pooled_head: str = "pooled_linear"
    pooled_head_options: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def describe(self) -> str:
        """`vgg16_deeplab + nddr (bn-conv), shortcut per task`."""
        text = self.backbone
        if self.fusion != "none":
            text += f" + {self.fusion}"
        if self.fusion == "nddr":
            text += f" ({self.fusion_options.get('order', 'bn-conv')})"
        if self.shortcut != "none":
            text += f", shortcut {self.shortcut.replace('_', ' ')}"
        return text

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkConfig:
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise ConfigError(
                f"network: {unknown[0]!r} is no setting. Settings: {', '.join(cls.__dataclass_fields__)}."
            )
        return cls(**values)
