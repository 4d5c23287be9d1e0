from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from network_samples import AGE, DENSE, GENDER, images, narrow, trained_looking
from torch import nn

from nddr_deploy.errors import ConfigError, ModelFileError
from nddr_deploy.network import MultiTaskNetwork, load_backbone, load_single_task
from nddr_deploy.network.backbones import BACKBONES
from nddr_deploy.network.weights_file import read_state_dict

WIDTH = 1 / 16


def imagenet_file(backbone: str, **options: object) -> dict[str, torch.Tensor]:
    """A random file with torchvision's keys: a backbone's, and those of a classifier with 1000 classes."""
    stages = trained_looking(nn.ModuleList(BACKBONES[backbone](width=WIDTH, **options)), seed=5)
    weights = {key: tensor for stage in stages for key, tensor in stage.state_dict().items()}
    last = stages[-1].channels
    if backbone.startswith("resnet"):
        return {**weights, "fc.weight": torch.randn(1000, last), "fc.bias": torch.randn(1000)}
    grid, first = (6, 1) if backbone == "alexnet" else (7, 0)
    for number, inputs, outputs in ((first, last * grid**2, 256), (first + 3, 256, 256), (6, 256, 1000)):
        weights[f"classifier.{number}.weight"] = 0.01 * torch.randn(outputs, inputs)
        weights[f"classifier.{number}.bias"] = torch.randn(outputs)
    return weights


def features(weights: dict[str, torch.Tensor], backbone: str, x: torch.Tensor, **options: object) -> torch.Tensor:
    for stage in BACKBONES[backbone](width=WIDTH, **options):
        stage.load_state_dict({key: weights[key] for key in stage.state_dict()})
        x = stage.eval()(x)
    return x


def run_stream(network: MultiTaskNetwork, stream: str, x: torch.Tensor) -> torch.Tensor:
    for stage in network.stages_of(stream):
        x = stage.eval()(x)
    return x


@pytest.mark.parametrize("fusion", ["nddr", "shared"])
@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("vgg16", {}),
        ("vgg16", {"batchnorm": True}),
        ("resnet18", {}),
        ("resnet50", {"output_stride": 8}),
        ("alexnet", {}),
    ],
)
def test_an_imagenet_file_starts_every_stream(backbone: str, options: dict[str, object], fusion: str) -> None:
    weights = imagenet_file(backbone, **options)
    network = narrow(backbone, fusion, DENSE, backbone_options=options)

    report = load_backbone(network, weights)

    expected = features(weights, backbone, images(65, 70), **options)
    for stream in network.streams:
        assert torch.equal(run_stream(network, stream, images(65, 70)), expected)
    assert report.missing == ()
    assert all(key.startswith(("classifier.", "fc.")) for key in report.unused)
    assert len(report.unused) == (2 if backbone.startswith("resnet") else 6)
    assert {key.split(".")[2] for key in report.loaded} == set(network.streams)


def test_only_the_streams_asked_for_are_loaded() -> None:
    network = narrow("resnet18", "nddr")
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}

    load_backbone(network, imagenet_file("resnet18"), streams=["normals"])

    changed = {
        key.split(".")[2] for key, tensor in network.state_dict().items() if not torch.equal(tensor, before[key])
    }
    assert changed == {"normals"}
    with pytest.raises(ConfigError, match="streams: 'depth' is unknown"):
        load_backbone(network, imagenet_file("resnet18"), streams=["depth"])


def test_a_file_with_biases_fits_a_vgg_whose_batchnorm_has_taken_their_place() -> None:
    with_bias = {"batchnorm": True, "bias": True, "bn_eps": 1e-5}
    weights = imagenet_file("vgg16", **with_bias)
    network = narrow("vgg16", "none", backbone_options={"batchnorm": True, "bias": False})

    report = load_backbone(network, weights)

    expected = features(weights, "vgg16", images(64, 64), **with_bias)
    torch.testing.assert_close(run_stream(network, "normals", images(64, 64)), expected, rtol=0, atol=1e-5)  # float32
    assert report.missing == ()
    assert not any(key.startswith("features.") for key in report.unused)


def test_a_file_without_batchnorm_fits_a_vgg_with_it() -> None:
    weights = imagenet_file("vgg16")
    torch.manual_seed(0)
    network = narrow("vgg16", "none", backbone_options={"batchnorm": True, "bias": False, "bn_eps": 1e-12})
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()

    report = load_backbone(network, weights)

    expected = features(weights, "vgg16", images(64, 64))
    torch.testing.assert_close(run_stream(network, "normals", images(64, 64)), expected, rtol=0, atol=1e-5)  # float32
    assert {key.rpartition(".")[2] for key in report.missing} == {"weight", "running_mean", "running_var"}


def test_a_file_with_batchnorm_does_not_fit_a_vgg_without() -> None:
    network = narrow("vgg16", "none")

    with pytest.raises(ModelFileError, match=r"has BatchNorm behind 'features.0.weight'.*batchnorm to true"):
        load_backbone(network, imagenet_file("vgg16", batchnorm=True))


@pytest.mark.parametrize(("backbone", "grid", "first"), [("vgg16", 7, 0), ("alexnet", 6, 1)])
def test_the_hidden_layers_of_a_classifier_start_pooled_heads(backbone: str, grid: int, first: int) -> None:
    weights = imagenet_file(backbone)
    options = {"width": WIDTH, "grid": grid}
    network = narrow(backbone, "none", (AGE, GENDER), pooled_head="classifier", pooled_head_options=options)

    report = load_backbone(network, weights)

    for task in ("age", "gender"):
        layers = network.heads[task].classifier
        assert torch.equal(layers[0].weight, weights[f"classifier.{first}.weight"])
        assert torch.equal(layers[3].bias, weights[f"classifier.{first + 3}.bias"])
    assert report.unused == ("classifier.6.weight", "classifier.6.bias")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda w: w.pop("layer2.0.conv1.weight"), "does not have 'layer2.0.conv1.weight'"),
        (lambda w: w.update({"conv1.weight": torch.zeros(8, 3, 7, 7)}), r"'conv1.weight' has the shape \(8, 3, 7, 7\)"),
        (lambda w: w["layer1.0.bn1.bias"].fill_(float("nan")), "'layer1.0.bn1.bias' holds values that are not finite"),
        (lambda w: w.clear(), "its first key is 'nothing'"),
    ],
)
def test_a_file_that_does_not_fit_names_the_first_key(change: object, sentence: str) -> None:
    weights = imagenet_file("resnet18")
    change(weights)  # type: ignore[operator]

    with pytest.raises(ModelFileError, match=sentence):
        load_backbone(narrow("resnet18", "nddr"), weights)


def test_single_task_weights_may_call_their_only_task_otherwise() -> None:
    single = narrow("vgg16", "none", (GENDER,))
    weights = {key.replace("gender", "sex"): tensor for key, tensor in single.state_dict().items()}
    network = narrow("vgg16", "nddr", (AGE, GENDER))

    report = load_single_task(network, {"gender": weights})

    assert torch.equal(run_stream(network, "gender", images(32, 32)), run_stream(single, "gender", images(32, 32)))
    assert torch.equal(network.heads["gender"].fc.weight, single.heads["gender"].fc.weight)
    assert report.unused == report.missing == ()
    assert len(report.loaded) == len(weights)


def test_single_task_weights_that_do_not_fit_are_refused() -> None:
    weights = narrow("vgg16", "none", DENSE[:1]).state_dict()

    with pytest.raises(ConfigError, match="'depth' is unknown"):
        load_single_task(narrow("vgg16", "nddr"), {"depth": weights})
    with pytest.raises(ConfigError, match="shares its stream"):
        load_single_task(narrow("vgg16", "shared"), {"segmentation": weights})
    with pytest.raises(ModelFileError, match=r"do not have 'stages.0.segmentation.conv1.weight'"):
        load_single_task(narrow("resnet18", "nddr"), {"segmentation": weights})


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("legacy", [False, True])
def test_state_dicts_are_read_from_every_kind_of_file(tmp_path: Path, suffix: str, legacy: bool) -> None:
    from safetensors.torch import save_file

    weights = imagenet_file("alexnet")
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(OrderedDict(weights), path, _use_new_zipfile_serialization=not legacy)

    found = read_state_dict(path)

    assert {key: tensor.tolist() for key, tensor in found.items()} == {k: v.tolist() for k, v in weights.items()}


class Command:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("ran",)


def test_a_weight_file_that_wants_code_or_is_damaged_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = {
        "code.pth": pickle.dumps({"weight": Command()}),
        "empty.pth": b"",
        "text.pth": b"hello, this is a text",
        "text.safetensors": b"hello, this is a text",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelFileError, match=name):
            read_state_dict(tmp_path / name)
    torch.save({"a": Command()}, tmp_path / "zip.pth")
    with pytest.raises(ModelFileError, match=r"asks for the Python object .*print"):
        read_state_dict(tmp_path / "zip.pth")
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    with pytest.raises(ModelFileError, match="holds no state dict"):
        read_state_dict(tmp_path / "other.pth")
    with pytest.raises(ModelFileError, match="is no file"):
        read_state_dict(tmp_path / "absent.safetensors")
    assert capsys.readouterr().out == ""
