from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import pytest
import torch
from network_samples import DENSE, images
from torch import nn

from nddr_deploy.errors import ConfigError, MissingPackageError, UnsupportedError
from nddr_deploy.network import NetworkConfig, build_network


class FeatureList(nn.Module):
    """What timm's `features_only=True` returns for networks that are a sequence of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.act = nn.ReLU()
        self.down = nn.MaxPool2d(2)
        self.layer1 = nn.Conv2d(4, 8, 3, padding=1)
        self.return_layers = {"act": "0", "layer1": "1"}
        self.feature_info = SimpleNamespace(channels=lambda: [4, 8], reduction=lambda: [2, 4])


def fake_timm(name: str, pretrained: bool, features_only: bool) -> nn.Module:
    assert features_only
    assert not pretrained
    if name == "plain":
        return FeatureList()
    if name == "branched":
        return nn.Identity()
    raise RuntimeError(f"Unknown model ({name})")


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("timm")
    module.create_model = fake_timm  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", module)


def config(**options: str) -> NetworkConfig:
    return NetworkConfig(backbone="timm", backbone_options=options, head="conv1x1", shortcut="per_task")


@pytest.mark.usefixtures("timm")
def test_a_timm_network_is_cut_where_timm_cuts_it() -> None:
    network = build_network(config(name="plain"), DENSE[:2]).eval()

    first, second = network.stages_of("normals")

    assert [name for name, _ in first.named_children()] == ["stem", "act"]
    assert [name for name, _ in second.named_children()] == ["down", "layer1"]
    assert [(stage.channels, stage.stride) for stage in (first, second)] == [(4, 2), (8, 2)]
    assert network(images(20, 30))["segmentation"].shape == (2, 5, 5, 7)
    assert network.penalties() == {}


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"name": "branched"}, UnsupportedError, "not a plain sequence of layers"),
        ({"name": "resnet19"}, ConfigError, "cannot make 'resnet19'.*Unknown model"),
        ({}, ConfigError, "'name' is needed"),
        ({"name": "plain", "width": 0.5}, ConfigError, "'width' is unknown"),
    ],
)
def test_a_timm_network_that_cannot_be_had_is_one_sentence(
    options: dict[str, str], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        build_network(config(**options), DENSE[:2])


def test_a_missing_timm_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)

    with pytest.raises(MissingPackageError, match=r"'timm' is not installed. Install it with: pip install timm"):
        build_network(config(name="resnet18"), DENSE[:2])


@pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed (no extra brings it)")
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "convnext_atto", "regnetx_002"])
def test_the_stages_of_a_real_timm_network_compute_what_timm_computes(name: str) -> None:
    import timm

    network = build_network(NetworkConfig(backbone="timm", backbone_options={"name": name}, fusion="none"), DENSE[:1])
    reference = timm.create_model(name, features_only=True).eval()
    x = images(64, 96)
    expected = reference(x)

    for stage, output in zip(network.eval().stages_of("segmentation"), expected, strict=True):
        stage.load_state_dict({key: reference.state_dict()[key] for key in stage.state_dict()})
        x = stage(x)
        assert torch.equal(x, output)
