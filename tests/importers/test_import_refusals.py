"""What is refused: one line that says what was found, and nothing is written. By row of the list of refusals."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_afanet import image_weights, pixel_weights
from foreign_files import mtlnas_content, nddrpytorch_content, save, state_dict, vandenhende_content
from foreign_resnet import ResNet
from foreign_resnet import weights_of as resnet_weights
from foreign_tf import variables_of, write_npz
from foreign_tf import weights_of as tf_weights
from foreign_vgg import Vgg
from foreign_vgg import weights_of as vgg_weights
from torch import Tensor

from nddr_deploy.errors import NddrError
from nddr_deploy.export.recipe import export_checkpoint

PLAIN, SIDE = Vgg(), Vgg(fusion="single_side")
TWO = ResNet(("depth", "semseg"))
QUICK = pytest.mark.usefixtures("no_search_for_sizes")


@cache
def weights(format: str) -> Mapping[str, Tensor]:
    if format in ("mtlnas", "nddrpytorch"):
        return vgg_weights(PLAIN)
    if format == "vandenhende":
        return state_dict(resnet_weights(TWO), "module.")
    return pixel_weights() if format == "afanet_pixel" else image_weights()


def content(format: str, tensors: Mapping[str, Tensor]) -> object:
    """A file of that format with these tensors."""
    if format == "mtlnas":
        return mtlnas_content(tensors, PLAIN)
    if format == "nddrpytorch":
        return nddrpytorch_content(tensors, PLAIN)
    return state_dict(tensors)


def refused(file: Path, *found: str, size_hw: tuple[int, int] = (64, 96), **options: Any) -> str:
    """Export refuses the file, says all of `found`, in one line, and writes nothing."""
    before = sorted(file.parent.rglob("*"))
    with pytest.raises(NddrError) as caught:
        export_checkpoint(file, file.parent / "model.onnx", size_hw=size_hw, **options)
    message = str(caught.value)
    for part in found:
        assert part in message
    assert caught.value.exit_status in (1, 2)
    assert sorted(file.parent.rglob("*")) == before
    return message


# A pickled global outside the allow-list.


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


# Truncated or unreadable; missing, unexpected or mis-shaped tensors; not finite.


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, legacy: bool, share: float) -> None:
    file = save(tmp_path / "ckpt.pth", mtlnas_content(weights("mtlnas"), PLAIN), legacy=legacy)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])

    refused(file, "ckpt.pth")


@pytest.mark.parametrize("data", [b"\x00" * 4096, b"hello\n", os.urandom(4096)], ids=["zeros", "text", "noise"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "ckpt.pth").write_bytes(data)

    refused(tmp_path / "ckpt.pth", "ckpt.pth")


# One key that no detection rests on, by format.
KEYS = {
    "mtlnas": "nddrs.nddrs.3.bn2.running_var",
    "nddrpytorch": "net2.head.1.running_mean",
    "vandenhende": "module.heads.depth.0.convs.2.1.running_var",
    "afanet_pixel": "B_decoder.last_conv.1.running_mean",
    "afanet_image": "layer3.2.B_bn2.running_var",
}


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


def _tf(change: Callable[[dict[str, Any]], object], folder: Path) -> Path:
    variables = variables_of(tf_weights())
    change(variables)
    return write_npz(folder / "variables.npz", variables)


def test_broken_variables_of_tensorflow_are_named(tmp_path: Path) -> None:
    name = "nddr_3/nddr_3_n2/BatchNorm/moving_variance"
    changes: list[Callable[[dict[str, Any]], object]] = [
        lambda variables: variables.pop(name),
        lambda variables: variables.update({name: np.ones(5, np.float32)}),
        lambda variables: variables.update({name: np.full_like(variables[name], np.nan)}),
    ]
    for change in changes:
        refused(_tf(change, tmp_path), name)


def test_an_unexpected_variable_of_tensorflow_is_named(tmp_path: Path) -> None:
    name = "nddr_3/nddr_3_n2/gain"

    refused(_tf(lambda variables: variables.update({name: np.ones(4, np.float32)}), tmp_path), name)


# Networks of the same repositories that are not NDDR-CNNs.


@pytest.mark.parametrize("key", ["net1_alphas", "net2_alphas", "path_costs", "paths.0.conv.weight"])
def test_an_architecture_search_is_refused(tmp_path: Path, key: str) -> None:
    tensors = {**weights("mtlnas"), key: torch.ones(3, 3)}

    message = refused(save(tmp_path / "ckpt.pth", mtlnas_content(tensors, PLAIN)), key.split(".")[0])

    assert "search" in message


def test_a_config_of_an_architecture_search_is_refused(tmp_path: Path) -> None:
    values = mtlnas_content(weights("mtlnas"), PLAIN, ARCH={"SEARCHSPACE": "GeneralizedMTLNAS"})

    refused(save(tmp_path / "ckpt.pth", values), "GeneralizedMTLNAS")


@pytest.mark.parametrize("setting", ["SINGLETASK", "SHAREDFEATURE"])
def test_a_baseline_without_fusion_is_refused(tmp_path: Path, setting: str) -> None:
    tensors = {key: value for key, value in weights("mtlnas").items() if not key.startswith("nddrs.")}
    values = mtlnas_content(tensors, PLAIN, MODEL={setting: True})

    refused(save(tmp_path / "ckpt.pth", values), "nddrs")


def test_a_bare_baseline_without_fusion_is_refused(tmp_path: Path) -> None:
    tensors = {key: value for key, value in weights("mtlnas").items() if not key.startswith("nddrs.")}

    refused(save(tmp_path / "ckpt.pth", state_dict(tensors)), "nddrs")


def test_a_tensorflow_baseline_is_refused(tmp_path: Path) -> None:
    def rename(variables: dict[str, Any]) -> None:
        for name in list(variables):
            value = variables.pop(name)
            if name.startswith("vgg_16_1"):
                variables["vgg_16/" + name.split("/", 1)[1]] = value

    refused(_tf(rename, tmp_path), "vgg_16/")


@pytest.mark.parametrize(
    "setting", [{"NDDR_BN_TYPE": "no_gamma"}, {"NDDR_TYPE": "zeroth_order"}], ids=lambda setting: next(iter(setting))
)
def test_a_fusion_of_unknown_mathematics_is_refused(tmp_path: Path, setting: dict[str, str]) -> None:
    values = mtlnas_content(weights("mtlnas"), PLAIN, MODEL=setting)

    refused(save(tmp_path / "ckpt.pth", values), *setting.values())


OTHER_MODELS = {
    "undilated backbone": "backbone.semseg.fc.weight",
    "HRNet": "backbone.semseg.transition1.0.0.weight",
    "cross-stitch": "cross_stitch.layer1.cross_stitch_unit",
    "MTAN": "attention_1.semseg.0.weight",
    "PAD-Net": "multi_modal_distillation.self_attention.semseg.depth.conv.weight",
    "MTI-Net": "fpm_scale_3.non_linear.0.conv1.weight",
    "decoders": "decoders.semseg.0.weight",
    "decoder": "decoder.semseg.0.weight",
}


@pytest.mark.parametrize("added", [True, False], ids=["added", "instead of fusion"])
@pytest.mark.parametrize("key", OTHER_MODELS.values(), ids=OTHER_MODELS)
def test_another_model_of_the_survey_is_refused(tmp_path: Path, key: str, added: bool) -> None:
    kept = {name: tensor for name, tensor in weights("vandenhende").items() if added or ".nddr." not in f".{name}"}

    refused(save(tmp_path / "best_model.pth.tar", {**kept, f"module.{key}": torch.ones(4)}), key.split(".")[0])


# What neither keys nor cfg settle.


def test_keys_without_cfg_and_without_a_choice_are_refused(tmp_path: Path) -> None:
    side = state_dict(vgg_weights(SIDE))

    refused(save(tmp_path / "side.pth", side), "single-side=forward", "single-side=reverse", format="mtlnas")
    plain = save(tmp_path / "plain.pth", state_dict(weights("nddrpytorch")))
    refused(plain, "bn=before-relu", "bn=after-relu", format="nddrpytorch")
    refused(plain, "mtlnas", "nddrpytorch")


def test_an_unknown_choice_is_refused(tmp_path: Path) -> None:
    file = save(tmp_path / "plain.pth", state_dict(weights("nddrpytorch")))

    refused(file, "sideways", format="nddrpytorch", assume={"bn": "sideways"})
    refused(file, "batchnorm", format="nddrpytorch", assume={"batchnorm": "after-relu"})
    refused(file, "nddrtorch", format="nddrtorch")


def test_a_file_of_another_format_than_the_forced_one_is_refused(tmp_path: Path) -> None:
    refused(save(tmp_path / "ckpt.pth", state_dict(weights("afanet_pixel"))), "ckpt.pth", format="vandenhende")


def test_what_is_not_recognised_lists_the_formats_and_the_first_keys(tmp_path: Path) -> None:
    file = save(
        tmp_path / "ckpt.pth", {"encoder.conv.weight": torch.ones(4, 3, 3, 3), "encoder.conv.bias": torch.ones(4)}
    )

    formats = ("mtlnas", "nddrpytorch", "tf", "vandenhende", "afanet_pixel", "afanet_image")
    refused(file, *formats, "encoder.conv.weight")


# Tasks and twins.


def renamed(old: str, new: str) -> dict[str, Tensor]:
    return {key.replace(old, new): tensor for key, tensor in weights("vandenhende").items()}


def test_heads_and_fusions_of_different_tasks_are_refused(tmp_path: Path) -> None:
    refused(save(tmp_path / "ckpt.pth", renamed("heads.depth.", "heads.normals.")), "normals", "depth")


def test_a_task_outside_the_list_is_refused(tmp_path: Path) -> None:
    refused(save(tmp_path / "ckpt.pth", renamed(".depth.", ".albedo.")), "albedo")


@pytest.mark.parametrize("part", ["weight", "running_var"])
def test_twins_of_a_convolution_that_differ_are_refused(tmp_path: Path, part: str) -> None:
    key = f"net2.features.17.{part}"
    tensors = {**weights("mtlnas"), key: weights("mtlnas")[key].clone()}
    tensors[key][-1] += 1e-3

    refused(save(tmp_path / "ckpt.pth", mtlnas_content(tensors, PLAIN)), key)


@QUICK
@pytest.mark.parametrize("format", ["afanet_pixel", "afanet_image"])
def test_twins_of_a_downsample_that_differ_are_refused(tmp_path: Path, format: str) -> None:
    prefix = "backbone." if format == "afanet_pixel" else ""
    key = f"{prefix}layer3.0.B_downsample.1.running_mean"
    tensors = {**weights(format), key: weights(format)[key] + 1e-3}

    refused(save(tmp_path / "ckpt.pth", state_dict(tensors)), "layer3.0", "downsample")


# Sizes.


@pytest.mark.parametrize("size_hw", [(192, 224), (224, 225)])
def test_faces_of_another_size_are_refused(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    file = save(tmp_path / "ckpt.pth", state_dict(weights("afanet_image")))

    refused(file, "193", "224", size_hw=size_hw)


@pytest.mark.parametrize("size_hw", [(7, 64), (64, 7)])
@pytest.mark.parametrize("format", ["mtlnas", "nddrpytorch"])
def test_a_picture_below_8_pixels_is_refused(tmp_path: Path, format: str, size_hw: tuple[int, int]) -> None:
    file = save(tmp_path / "ckpt.pth", content(format, weights(format)))

    refused(file, f"{size_hw[0]}x{size_hw[1]}", "8x8", size_hw=size_hw)


# What is silently left out is not refused.


def test_states_of_training_are_left_out(tmp_path: Path) -> None:
    values = vandenhende_content(resnet_weights(TWO))

    export_checkpoint(save(tmp_path / "checkpoint.pth.tar", values), tmp_path / "model.onnx", size_hw=(64, 96))

    assert (tmp_path / "model.onnx").exists()


# The command line.


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
