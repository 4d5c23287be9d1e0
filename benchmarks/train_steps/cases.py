"""The trainings that are measured: what examples/ trains, with enough samples for a few batches and no more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.experiments.spec import merged
from nddr_deploy.training.config import TrainConfig
from nddr_deploy.training.config_file import config_from_dict
from train_steps import CHECKOUT

EXAMPLES = CHECKOUT / "examples"
BATCHES = 4  # that both loops go through again and again, and that lie in memory
# Validation and saving are timed apart; a real training records its losses as often as this.
UNDISTURBED: dict[str, Any] = {
    "steps": 1_000_000,
    "eval_every": 1_000_000,
    "checkpoint_every": 1_000_000,
    "log_every": 20,
    "tensorboard": False,
}
NETWORK: dict[str, Any] = {"backbone": "vgg16_deeplab", "backbone_options": {"batchnorm": True}}


@dataclass(frozen=True)
class Changes:
    """What the command line says about a case; None leaves it.

    Attributes:
        device, amp, batch, compile, ema: of the training.
        backbone, width: of the network.
        size_hw: of rooms; of the random window of other data.
        data, path: the data set, and its folder.
    """

    device: str | None = None
    amp: str | None = None
    backbone: str | None = None
    width: float | None = None
    size_hw: tuple[int, int] | None = None
    batch: int | None = None
    compile: bool = False
    ema: float | None = None
    data: str = "rooms"
    path: str | None = None


def pixels() -> dict[str, Any]:
    """What table 1's fused networks train as, `examples/tables/pixels.yaml`, scale small."""
    scale = yaml.safe_load((EXAMPLES / "tables" / "pixels.yaml").read_text(encoding="utf-8"))["scales"]["small"]
    return merged({"network": NETWORK, "tasks": ["segmentation", "normals"]}, scale["every"], scale["fused"])


def demo() -> dict[str, Any]:
    """`examples/demo.yaml`."""
    values: dict[str, Any] = yaml.safe_load((EXAMPLES / "demo.yaml").read_text(encoding="utf-8"))
    return values


def paper() -> dict[str, Any]:
    """The paper's network and sizes: for a GPU."""
    network = {"backbone_options": {"width": 1, "batchnorm": False}, "head_options": {"width": 1, "dilation": 12}}
    sizes = {"data": {"options": {"size_hw": [321, 321]}}, "batch_size": 10}
    return merged(pixels(), {"network": network}, sizes, {"deterministic": False})


def tiny() -> dict[str, Any]:
    """Does every measurement run? In seconds; the figures mean nothing."""
    small = {"data": {"options": {"size_hw": [32, 40]}}, "network": {"backbone_options": {"width": 0.03125}}}
    return merged(pixels(), small, {"batch_size": 2, "amp": "none"})


CASES = {"pixels": pixels, "demo": demo, "paper": paper, "tiny": tiny}


def case_config(name: str, changes: Changes, output: Path, *, threads: int | None, workers: int = 0) -> TrainConfig:
    """A case, changed as the command line says.

    Args:
        output: folder that the training may write to.

    Raises:
        ConfigError: an unknown case, or changes that do not go together.
    """
    if name not in CASES:
        raise unknown_choice("--cases", name, CASES)
    if (changes.data == "folder") != (changes.path is not None):
        raise ConfigError("--data folder and --path DIR go together: the data set that nddr-data made lies in DIR.")
    config = merged(CASES[name](), UNDISTURBED, {"output": str(output), "threads": threads, "workers": workers})
    top = {"device": changes.device, "amp": changes.amp, "batch_size": changes.batch, "ema": changes.ema}
    config |= {key: value for key, value in top.items() if value is not None}
    config["compile"] = changes.compile
    network = config["network"]
    if changes.backbone is not None and changes.backbone != network["backbone"]:
        network |= {"backbone": changes.backbone, "backbone_options": {"width": network["backbone_options"]["width"]}}
    if changes.width is not None:
        network["backbone_options"]["width"] = changes.width
    size_hw = None if changes.size_hw is None else list(changes.size_hw)
    if changes.data == "folder":
        # Two tasks of the case may be others there: all of them are learned.
        config["data"] = {"name": "folder", "options": {"path": changes.path}}
        config |= {"tasks": [], "loss": {}}
        config["augment"] = {"scale": [0.5, 1.5], "crop_hw": size_hw or config_size(CASES[name]())}
    else:
        if size_hw is not None:
            config["data"]["options"]["size_hw"] = size_hw
        train_options = {"count": BATCHES * config["batch_size"], "remember": True}
        config["data"] |= {"train_options": train_options, "val_options": {"count": 8, "remember": True}}
    return config_from_dict(config)


def config_size(values: dict[str, Any]) -> list[int]:
    """The (height, width) of a case's rooms."""
    size: list[int] = values["data"]["options"]["size_hw"]
    return size
