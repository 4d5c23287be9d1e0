"""Genuine PyTorch files of other code, in every form in which public code wrote them."""

from __future__ import annotations

import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_files import cfg_node, save
from hostile_files import call, dictionary, integer, legacy_file, name, text, zip_file
from safetensors.torch import save_file

from nddr_deploy.errors import ModelFileError
from nddr_deploy.importers.torch_file import read_foreign_file
from nddr_deploy.network.weights_file import read_torch_file

CONTAINERS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


def checkpoint() -> dict[str, Any]:
    weight = torch.arange(12.0).reshape(3, 4)
    return {
        "cfg": cfg_node({"MODEL": {"SHORTCUT": True, "DEEP": {"WIDTHS": [64, 128]}}, "SEED": 1}),
        "step": 20000,
        "model_state_dict": OrderedDict({"a": weight, "twin": weight, "turned": weight.T, "row": weight[1]}),
        "loss": torch.tensor(1.5, requires_grad=True),
        "task1_metric": {"float64": np.float64(0.25), "float32": np.float32(0.5), "int64": np.int64(-3)},
        "task2_metric": {"bool": np.bool_(True)},
        "optimizer": {"state": {140221395468184: {"momentum_buffer": torch.ones(2)}}},
        "order": {"angles", "depths"},
    }


@CONTAINERS
@pytest.mark.parametrize("cuda", [False, True], ids=["cpu", "cuda"])
@pytest.mark.parametrize("old_numpy", [False, True], ids=["numpy2", "numpy1"])
def test_a_checkpoint_with_a_config_and_numpy_scalars_is_read(
    tmp_path: Path, legacy: bool, cuda: bool, old_numpy: bool
) -> None:
    file = save(tmp_path / "ckpt.pth", checkpoint(), legacy=legacy, cuda=cuda, old_numpy=old_numpy)

    values = read_foreign_file(file)

    weights = values["model_state_dict"]
    assert values["cfg"] == {"MODEL": {"SHORTCUT": True, "DEEP": {"WIDTHS": [64, 128]}}, "SEED": 1}
    assert values["task1_metric"] == {"float64": 0.25, "float32": 0.5, "int64": -3}
    assert [type(value) for value in values["task1_metric"].values()] == [float, float, int]
    assert values["task2_metric"] == {"bool": True}
    assert values["order"] == {"angles", "depths"}
    assert values["step"] == 20000
    assert torch.equal(weights["turned"], torch.arange(12.0).reshape(3, 4).T)
    assert torch.equal(weights["row"], torch.tensor([4.0, 5.0, 6.0, 7.0]))
    assert weights["a"].data_ptr() == weights["twin"].data_ptr()  # twins stay one tensor in memory
    assert {tensor.device.type for tensor in weights.values()} == {"cpu"}
    assert values["loss"].item() == 1.5
    assert values["optimizer"]["state"][140221395468184]["momentum_buffer"].tolist() == [1.0, 1.0]


@CONTAINERS
def test_what_is_beside_a_configs_settings_is_left_behind(tmp_path: Path, legacy: bool) -> None:
    config = read_foreign_file(save(tmp_path / "ckpt.pth", checkpoint(), legacy=legacy))["cfg"]

    assert isinstance(config["MODEL"]["DEEP"], dict)
    assert vars(config) == {}  # yacs keeps __immutable__ and others there


def test_each_load_makes_a_class_of_its_own(tmp_path: Path) -> None:
    file = save(tmp_path / "ckpt.pth", checkpoint())

    first, second = (type(read_foreign_file(file)["cfg"]) for _ in range(2))

    assert first is not second


@CONTAINERS
@pytest.mark.parametrize("cuda", [False, True], ids=["cpu", "cuda"])
def test_a_bare_state_dict_is_read(tmp_path: Path, legacy: bool, cuda: bool) -> None:
    half, whole = torch.ones(3, dtype=torch.float16), torch.nn.BatchNorm2d(3)
    file = save(tmp_path / "best.pth.tar", {**whole.state_dict(), "half": half}, legacy=legacy, cuda=cuda)

    for read in (read_foreign_file, read_torch_file):
        values = read(file)
        assert list(values) == [*whole.state_dict(), "half"]
        assert torch.equal(values["half"], half)
        assert values["num_batches_tracked"].dtype == torch.int64


@CONTAINERS
def test_parameters_and_empty_tensors_are_read(tmp_path: Path, legacy: bool) -> None:
    content = {"parameter": torch.nn.Parameter(torch.ones(2)), "empty": torch.zeros(0, 3), "scalar": torch.tensor(2)}

    values = read_foreign_file(save(tmp_path / "a.pth", content, legacy=legacy))

    assert values["parameter"].tolist() == [1.0, 1.0]
    assert values["empty"].shape == (0, 3)
    assert values["scalar"].item() == 2


@pytest.mark.parametrize("write", [zip_file, legacy_file])
@pytest.mark.parametrize("module", ["builtins", "__builtin__"])
def test_a_set_is_read_under_both_of_its_names(tmp_path: Path, write: Any, module: str) -> None:
    made = call(name(module, "set"), b"(" + text("a") + text("b") + b"l")

    assert read_foreign_file(write(tmp_path / "a.pth", dictionary("set", made))) == {"set": {"a", "b"}}


@pytest.mark.parametrize(("order", "expected"), [(">", 2.5), ("<", 2.5)])
def test_a_numpy_scalar_keeps_its_value_in_both_orders_of_bytes(tmp_path: Path, order: str, expected: float) -> None:
    dtype = call(name("numpy", "dtype"), text("f8"), b"\x89", b"\x88")
    state = b"(K\x03" + text(order) + b"NNN" + integer(-1) + integer(-1) + b"K\x00t"
    data = struct.pack(f"{order}d", expected).decode("latin1")
    value = call(name("_codecs", "encode"), text(data), text("latin1"))
    scalar = call(name("numpy.core.multiarray", "scalar"), dtype + state + b"b", value)

    assert read_foreign_file(zip_file(tmp_path / "a.pth", dictionary("mIoU", scalar))) == {"mIoU": expected}


def test_a_safetensors_file_is_read(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")

    assert read_foreign_file(tmp_path / "a.safetensors")["a"].tolist() == [1.0, 1.0]


def test_a_damaged_safetensors_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 100)

    with pytest.raises(ModelFileError, match=r"a\.safetensors cannot be read as a safetensors file"):
        read_foreign_file(tmp_path / "a.safetensors")


def test_our_own_files_may_not_hold_what_only_foreign_ones_do(tmp_path: Path) -> None:
    file = save(tmp_path / "ckpt.pth", checkpoint())

    with pytest.raises(ModelFileError, match=r"asks for the Python object 'yacs\.config\.CfgNode'"):
        read_torch_file(file)
