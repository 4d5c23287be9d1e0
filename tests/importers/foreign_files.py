"""Checkpoint files as the public code leaves them: containers, pickled configs, and what else they hold."""

from __future__ import annotations

import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from foreign_vgg import Vgg, mtlnas_cfg, nddrpytorch_cfg
from torch import Tensor

HUGE = 140221395468184  # PyTorch to 1.4 keyed the optimizer's state by address


class _CfgNode(dict[str, Any]):
    """Pickles as yacs' class does: a dict with instance attributes, one of them a set."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__()
        self.__dict__["__immutable__"] = True
        self.__dict__["__deprecated_keys__"] = set()
        self.__dict__["__renamed_keys__"] = {}
        self.__dict__["__new_allowed__"] = False
        for key, value in values.items():
            self[key] = _CfgNode(value) if isinstance(value, dict) else value


_CfgNode.__module__, _CfgNode.__name__, _CfgNode.__qualname__ = "yacs.config", "CfgNode", "CfgNode"


def cfg_node(values: Mapping[str, Any]) -> Any:
    """What `yacs.config.CfgNode` would be; yacs itself is not needed."""
    return _CfgNode(values)


@contextmanager
def _yacs() -> Iterator[None]:
    """`yacs.config` can be imported, only while a file is written."""
    package, module = ModuleType("yacs"), ModuleType("yacs.config")
    module.CfgNode = _CfgNode  # type: ignore[attr-defined]
    package.config = module  # type: ignore[attr-defined]
    sys.modules.update({"yacs": package, "yacs.config": module})
    try:
        yield
    finally:
        for name in ("yacs", "yacs.config"):
            del sys.modules[name]


def save(path: Path, content: object, *, legacy: bool = False, cuda: bool = False, old_numpy: bool = False) -> Path:
    """`torch.save`, with a choice of container, of the storages' device tag and of numpy's module name."""
    tag = torch.serialization.location_tag
    try:
        if cuda:
            torch.serialization.location_tag = lambda storage: "cuda:0"
        with _yacs():
            torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    finally:
        torch.serialization.location_tag = tag
    if old_numpy:
        _rename_numpy(path, legacy)
    return path


def _rename_numpy(path: Path, legacy: bool) -> None:
    """numpy before 2 said `numpy.core` where it now says `numpy._core`."""

    def renamed(pickled: bytes) -> bytes:
        assert b"cnumpy._core.multiarray\nscalar\n" in pickled
        return pickled.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")

    if legacy:
        path.write_bytes(renamed(path.read_bytes()))
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, renamed(data) if name.endswith("data.pkl") else data)


def state_dict(weights: Mapping[str, Tensor], prefix: str = "") -> OrderedDict[str, Tensor]:
    return OrderedDict((prefix + key, value) for key, value in weights.items())


def mtlnas_content(weights: Mapping[str, Tensor], variant: Vgg, **settings: Any) -> dict[str, Any]:
    """`settings` replace those of the cfg: `MODEL={"NDDR_TYPE": "x"}`."""
    return {
        "cfg": cfg_node(_with(mtlnas_cfg(variant), settings)),
        "step": 20000,
        "model_state_dict": state_dict(weights),
        "optimizer_state_dict": _optimizer(),
        "scheduler_state_dict": {"last_epoch": 20000, "base_lrs": [0.001, 0.1], "_step_count": 20001},
        "loss": torch.tensor(1.5, requires_grad=True),
        "loss1": torch.tensor(1.0, requires_grad=True),
        "loss2": torch.tensor(0.5, requires_grad=True),
        "task1_metric": {"Mean IoU": np.float64(0.33), "Pixel Acc": np.float32(0.66)},
        "task2_metric": None,
    }


def nddrpytorch_content(weights: Mapping[str, Tensor], variant: Vgg, **settings: Any) -> dict[str, Any]:
    return {
        "cfg": cfg_node(_with(nddrpytorch_cfg(variant), settings)),
        "step": 20000,
        "model_state_dict": state_dict(weights),
        "optimizer_state_dict": _optimizer(),
        "scheduler_state_dict": {"last_epoch": 20000, "base_lrs": [0.001, 0.1]},
        "loss": torch.tensor(1.5, requires_grad=True),
        "loss_seg": torch.tensor(1.0, requires_grad=True),
        "loss_normal": torch.tensor(0.5, requires_grad=True),
        "mIoU": np.float64(0.33),
        "PixelAcc": np.float64(0.66),
        "angle_metrics": {"Mean": np.float64(15.1), "Median": np.float32(11.2), "Within 11.25": np.float64(50.5)},
    }


def vandenhende_content(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """`checkpoint.pth.tar`."""
    return {
        "optimizer": _optimizer(),
        "model": state_dict(weights, "module."),
        "epoch": 60,
        "best_result": {"multi_task_performance": np.float64(1.2), "semseg": {"mIoU": np.float64(0.4)}},
    }


def _optimizer() -> dict[str, Any]:
    buffer = {"momentum_buffer": torch.full((4,), 0.25)}
    return {"state": {HUGE: buffer}, "param_groups": [{"lr": 0.001, "nesterov": False, "params": [HUGE, HUGE + 72]}]}


def _with(cfg: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: {**value, **settings.get(key, {})} if isinstance(value, dict) else value for key, value in cfg.items()}
