"""Whole files that no importer can read as an NDDR-CNN, or not without being told: one line, and nothing written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_broken import PLAIN, QUICK, TWO, content, refused, tf_file, weights
from foreign_files import mtlnas_content, save, state_dict, vandenhende_content
from foreign_resnet import weights_of as resnet_weights
from foreign_vgg import Vgg
from foreign_vgg import weights_of as vgg_weights
from torch import Tensor

from nddr_deploy.export.recipe import export_checkpoint


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

    refused(tf_file(rename, tmp_path), "vgg_16/")


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


def test_keys_without_cfg_and_without_a_choice_are_refused(tmp_path: Path) -> None:
    side = state_dict(vgg_weights(Vgg(fusion="single_side")))

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


@pytest.mark.parametrize("size_hw", [(192, 224), (224, 225)])
def test_faces_of_another_size_are_refused(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    file = save(tmp_path / "ckpt.pth", state_dict(weights("afanet_image")))

    refused(file, "193", "224", size_hw=size_hw)


@pytest.mark.parametrize("size_hw", [(7, 64), (64, 7)])
@pytest.mark.parametrize("format", ["mtlnas", "nddrpytorch"])
def test_a_picture_below_8_pixels_is_refused(tmp_path: Path, format: str, size_hw: tuple[int, int]) -> None:
    file = save(tmp_path / "ckpt.pth", content(format, weights(format)))

    refused(file, f"{size_hw[0]}x{size_hw[1]}", "8x8", size_hw=size_hw)


def test_states_of_training_are_left_out(tmp_path: Path) -> None:
    values = vandenhende_content(resnet_weights(TWO))

    export_checkpoint(save(tmp_path / "checkpoint.pth.tar", values), tmp_path / "model.onnx", size_hw=(64, 96))

    assert (tmp_path / "model.onnx").exists()


# Settings that no training wrote.


@pytest.mark.parametrize("value", [torch.ones(2), ["x"], {"a": 1}], ids=["tensor", "list", "mapping"])
@pytest.mark.parametrize("name", ["ARCH.SEARCHSPACE", "MODEL.NDDR_TYPE", "MODEL.NDDR_BN_TYPE"])
def test_a_setting_that_is_no_plain_value_is_named(tmp_path: Path, name: str, value: object) -> None:
    section, setting = name.split(".")
    values = mtlnas_content(weights("mtlnas"), PLAIN, **{section: {setting: value}})

    refused(save(tmp_path / "ckpt.pth", values), name, "expected a plain value")


@pytest.mark.parametrize("model", [5, "NDDR_TYPE", None])
def test_a_section_that_is_no_section_counts_as_absent(tmp_path: Path, model: object) -> None:
    values = mtlnas_content(weights("mtlnas"), PLAIN)
    values["cfg"]["MODEL"] = model

    export_checkpoint(save(tmp_path / "ckpt.pth", values), tmp_path / "model.onnx", size_hw=(64, 96))

    assert (tmp_path / "model.onnx").exists()


def test_a_twin_of_another_type_is_refused(tmp_path: Path) -> None:
    key = "net2.features.17.weight"
    tensors = {**weights("mtlnas"), key: weights("mtlnas")[key].double()}

    refused(save(tmp_path / "ckpt.pth", mtlnas_content(tensors, PLAIN)), key)
