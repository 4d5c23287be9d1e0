"""Files that ask for code, are cut off, or lack a network's tensors: one line, exit status 2, nothing written."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_broken import KEYS, PLAIN, QUICK, content, refused, tf_file, weights
from foreign_files import mtlnas_content, save


class Call:
    """Calls `function(*arguments)` when it is unpickled."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("where", ["cfg", "task1_metric", "optimizer_state_dict", "model_state_dict"])
@pytest.mark.parametrize(
    ("function", "argument", "name"),
    [(os.system, "touch {}", "system"), (eval, "open({!r}, 'w')", "eval"), (exec, "open({!r}, 'w')", "exec")],
    ids=["os.system", "eval", "exec"],
)
def test_a_file_that_asks_for_code_is_refused_by_name(
    tmp_path: Path, legacy: bool, where: str, function: Callable[..., object], argument: str, name: str
) -> None:
    canary = tmp_path / "canary"
    values = mtlnas_content(weights("mtlnas"), PLAIN)
    values[where] = {"deep": [Call(function, argument.format(str(canary)))]}

    refused(save(tmp_path / "ckpt.pth", values, legacy=legacy), name)

    assert not canary.exists()


def test_a_call_inside_another_calls_arguments_is_refused(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    values = mtlnas_content(weights("mtlnas"), PLAIN)
    values["task1_metric"] = Call(set, [Call(np.dtype, "f8"), Call(os.system, f"touch {canary}")])

    refused(save(tmp_path / "ckpt.pth", values), "system")

    assert not canary.exists()


@pytest.mark.parametrize(
    "function", [getattr, pickle.loads, __import__, np.load], ids=lambda function: function.__name__
)
def test_a_way_around_the_list_is_refused(tmp_path: Path, function: Callable[..., object]) -> None:
    values = mtlnas_content(weights("mtlnas"), PLAIN)
    values["loss"] = Call(function, "os", "system")

    refused(save(tmp_path / "ckpt.pth", values), function.__name__)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, legacy: bool, share: float) -> None:
    file = save(tmp_path / "ckpt.pth", mtlnas_content(weights("mtlnas"), PLAIN), legacy=legacy)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])

    refused(file, "ckpt.pth")


@pytest.mark.parametrize(
    "data", [b"\x00" * 4096, b"hello\n", np.random.default_rng(0).bytes(4096)], ids=["zeros", "text", "noise"]
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "ckpt.pth").write_bytes(data)

    refused(tmp_path / "ckpt.pth", "ckpt.pth")


@QUICK
@pytest.mark.parametrize("format", KEYS)
def test_a_missing_tensor_is_named(tmp_path: Path, format: str) -> None:
    tensors = dict(weights(format))
    del tensors[KEYS[format]]

    refused(save(tmp_path / "ckpt.pth", content(format, tensors)), KEYS[format].removeprefix("module."))


@QUICK
@pytest.mark.parametrize("format", KEYS)
def test_an_unexpected_tensor_is_named(tmp_path: Path, format: str) -> None:
    key = KEYS[format].rpartition(".")[0] + ".gain"
    tensors = {**weights(format), key: torch.ones(4)}

    refused(save(tmp_path / "ckpt.pth", content(format, tensors)), key.removeprefix("module."))


@QUICK
@pytest.mark.parametrize("format", KEYS)
def test_a_tensor_of_another_shape_is_named(tmp_path: Path, format: str) -> None:
    key = KEYS[format]
    tensors = {**weights(format), key: torch.ones(len(weights(format)[key]) + 1)}

    refused(save(tmp_path / "ckpt.pth", content(format, tensors)), key.removeprefix("module."))


@QUICK
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf], ids=str)
@pytest.mark.parametrize("format", KEYS)
def test_a_value_that_is_not_finite_is_named(tmp_path: Path, format: str, value: float) -> None:
    key = KEYS[format]
    bad = weights(format)[key].clone()
    bad[-1] = value

    refused(save(tmp_path / "ckpt.pth", content(format, {**weights(format), key: bad})), key.removeprefix("module."))


def test_broken_variables_of_tensorflow_are_named(tmp_path: Path) -> None:
    name = "nddr_3/nddr_3_n2/BatchNorm/moving_variance"
    changes: list[Callable[[dict[str, Any]], object]] = [
        lambda variables: variables.pop(name),
        lambda variables: variables.update({name: np.ones(5, np.float32)}),
        lambda variables: variables.update({name: np.full_like(variables[name], np.nan)}),
    ]
    for change in changes:
        refused(tf_file(change, tmp_path), name)


def test_an_unexpected_variable_of_tensorflow_is_named(tmp_path: Path) -> None:
    name = "nddr_3/nddr_3_n2/gain"

    refused(tf_file(lambda variables: variables.update({name: np.ones(4, np.float32)}), tmp_path), name)


@pytest.mark.parametrize("what", ["hostile", "incomplete"])
def test_the_command_says_it_in_one_line(tmp_path: Path, what: str) -> None:
    canary = tmp_path / "canary"
    values = mtlnas_content(weights("mtlnas"), PLAIN)
    if what == "hostile":
        values["cfg"] = Call(os.system, f"touch {canary}")
    else:
        del values["model_state_dict"][KEYS["mtlnas"]]
    file = save(tmp_path / "ckpt.pth", values)

    done = subprocess.run(
        [sys.executable, "-m", "nddr_deploy.export", file, "--size", "64x96"], capture_output=True, text=True
    )

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert ("system" if what == "hostile" else KEYS["mtlnas"]) in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt.pth"]
