from __future__ import annotations

import json
import random
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nddr_deploy.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from nddr_deploy.errors import ConfigError, InputError, ModelFileError
from nddr_deploy.network import NetworkConfig, build_network
from nddr_deploy.preprocess import Preprocess
from nddr_deploy.tasks import Age, Normals, Segmentation

CONFIG = NetworkConfig(
    backbone="resnet18",
    backbone_options={"width": 1 / 16},
    fusion_options={"order": "conv-bn-relu"},
    shortcut="per_task",
    resize="asymmetric",
    head="conv1x1",
)
TASKS = (Segmentation(classes=("wall", "floor")), Normals("surface"), Age(classes=5))


@pytest.fixture
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    network = build_network(CONFIG, TASKS)
    network(torch.randn(2, 3, 33, 33))  # gives BatchNorm statistics
    random_state = random.Random(3).getstate()
    return Checkpoint(
        network=CONFIG,
        tasks=TASKS,
        preprocess=Preprocess(order="bgr"),
        size_hw=(33, 47),
        weights=network.state_dict(),
        config={"steps": 10, "rates": [0.1, 1e-4], "name": "wall", "amp": None},
        training={"step": 7, "optimizer": {0: {"momentum": torch.randn(3)}}, "random": random_state},
        notes=("made in a test",),
    )


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_checkpoint_gives_back_what_was_saved(checkpoint: Checkpoint, tmp_path: Path, suffix: str) -> None:
    if suffix == ".safetensors":
        checkpoint = replace(checkpoint, training={})
    save_checkpoint(tmp_path / f"a{suffix}", checkpoint)

    loaded = load_checkpoint(tmp_path / f"a{suffix}")

    for name in ("network", "tasks", "preprocess", "size_hw", "config", "notes"):
        assert getattr(loaded, name) == getattr(checkpoint, name)
    assert loaded.weights.keys() == checkpoint.weights.keys()
    assert all(torch.equal(loaded.weights[key], tensor) for key, tensor in checkpoint.weights.items())
    if checkpoint.training:
        assert loaded.training["step"] == 7
        assert loaded.training["random"] == checkpoint.training["random"]
        momentum = (c.training["optimizer"][0]["momentum"] for c in (loaded, checkpoint))
        assert torch.equal(*momentum)


def test_the_built_network_computes_what_the_saved_one_did(checkpoint: Checkpoint, tmp_path: Path) -> None:
    original = build_network(CONFIG, TASKS)
    original.load_state_dict(checkpoint.weights)
    save_checkpoint(tmp_path / "a.pt", checkpoint)
    x = torch.randn(2, 3, 33, 47)

    network = load_checkpoint(tmp_path / "a.pt").build()

    expected = original.eval()(x)
    assert not network.training
    assert list(network(x)) == ["segmentation", "surface", "age"]
    assert all(torch.equal(output, expected[task]) for task, output in network(x).items())


def test_building_copies_the_weights_and_draws_no_random_numbers(checkpoint: Checkpoint) -> None:
    before, bias = torch.get_rng_state(), checkpoint.weights["heads.age.fc.bias"].clone()

    network = checkpoint.build()
    for parameter in network.parameters():
        parameter.data.add_(1.0)

    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(checkpoint.build().heads["age"].fc.bias, bias)
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_the_same_content_is_the_same_bytes(checkpoint: Checkpoint, tmp_path: Path, suffix: str) -> None:
    if suffix == ".safetensors":
        checkpoint = replace(checkpoint, training={})
    first, second = tmp_path / f"first{suffix}", tmp_path / f"another name{suffix}"
    save_checkpoint(first, checkpoint)

    save_checkpoint(second, load_checkpoint(first))  # other objects, as after a resume

    assert first.read_bytes() == second.read_bytes()


def test_equal_texts_in_other_objects_and_views_of_larger_tensors_change_no_byte(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    def with_training(name: str, tensor: torch.Tensor) -> Checkpoint:
        return replace(checkpoint, training={"a": "name", "b": name, "c": tensor, "d": (1, 2), "e": (1, 2)})

    pair = (1, 2)
    large = torch.arange(12.0).reshape(3, 4)
    save_checkpoint(tmp_path / "a.pt", with_training("name", large[1].clone()))
    other = with_training("".join(["na", "me"]), large[1])
    save_checkpoint(tmp_path / "b.pt", replace(other, training={**other.training, "d": pair, "e": pair}))

    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_a_file_holds_no_code_and_no_name_of_this_machine(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", checkpoint)

    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        pickled = archive.read("archive/data.pkl")

    assert str(tmp_path).encode() not in (tmp_path / "a.pt").read_bytes()
    assert b"nddr_deploy" not in pickled  # no class of ours: plain values only


def test_a_failed_save_leaves_the_file_that_was_there(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", checkpoint)
    before = (tmp_path / "a.pt").read_bytes()

    with pytest.raises(ConfigError, match=r"checkpoint.training.bad\[0\] is a object; a checkpoint holds only plain"):
        save_checkpoint(tmp_path / "a.pt", replace(checkpoint, training={"bad": [object()]}))
    with pytest.raises(ConfigError, match="no place for the training's state"):
        save_checkpoint(tmp_path / "a.safetensors", checkpoint)
    with pytest.raises(InputError, match="does not exist"):
        save_checkpoint(tmp_path / "absent" / "a.pt", checkpoint)

    assert (tmp_path / "a.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def raw(checkpoint: Checkpoint, tmp_path: Path) -> dict[str, Any]:
    save_checkpoint(tmp_path / "raw.pt", checkpoint)
    values: dict[str, Any] = torch.load(tmp_path / "raw.pt", weights_only=True)
    return values


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": "nddr-deploy-checkpoint/9"}, "has the format 'nddr-deploy-checkpoint/9'; this version reads"),
        ({"format": "other"}, "is no checkpoint of nddr-deploy"),
        ({"tasks": [{"kind": "segmentatoin", "name": "a"}]}, "settings cannot be read .*'segmentatoin' is unknown"),
        ({"network": {"backbon": "vgg16"}}, "settings cannot be read .*'backbon'"),
        ({"size_hw": [3]}, "settings cannot be read"),
        ({"preprocess": {"scale": 1.0}}, "settings cannot be read .*'mean' is missing"),
    ],
)
def test_settings_that_cannot_be_read_are_refused(
    checkpoint: Checkpoint, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    torch.save({**raw(checkpoint, tmp_path), **change}, tmp_path / "b.pt")

    with pytest.raises(ModelFileError, match=sentence) as error:
        load_checkpoint(tmp_path / "b.pt")
    assert "b.pt" in str(error.value)


def test_a_weight_that_is_not_finite_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.weights["heads.age.fc.bias"][1] = float("nan")
    save_checkpoint(tmp_path / "a.pt", checkpoint)

    with pytest.raises(ModelFileError, match=r"'heads.age.fc.bias' is not finite"):
        load_checkpoint(tmp_path / "a.pt")


def test_weights_that_do_not_fit_the_network_are_named(checkpoint: Checkpoint) -> None:
    weights = dict(checkpoint.weights)
    first = next(iter(weights))

    without = {key: tensor for key, tensor in weights.items() if key != first}
    with pytest.raises(ModelFileError, match=f"does not have the weight '{first}'"):
        replace(checkpoint, weights=without).build()
    with pytest.raises(ModelFileError, match=r"'heads.age.fc.bias' is torch.float32 \(2,\); .* torch.float32 \(5,\)"):
        replace(checkpoint, weights={**weights, "heads.age.fc.bias": torch.zeros(2)}).build()
    half = {**weights, "heads.age.fc.bias": torch.zeros(5, dtype=torch.float16)}
    with pytest.raises(ModelFileError, match=r"'heads.age.fc.bias' is torch.float16"):
        replace(checkpoint, weights=half).build()
    with pytest.raises(ModelFileError, match="'extra' has no place"):
        replace(checkpoint, weights={**weights, "extra": torch.zeros(2)}).build()


class Command:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("ran",)


def test_a_file_that_wants_to_run_code_is_refused(
    checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({**raw(checkpoint, tmp_path), "config": Command()}, tmp_path / "b.pt")

    with pytest.raises(ModelFileError, match=r"b.pt asks for the Python object .*print.*could run code"):
        load_checkpoint(tmp_path / "b.pt")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_and_foreign_files_are_refused(checkpoint: Checkpoint, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    save_checkpoint(path, replace(checkpoint, training={}))
    whole = path.read_bytes()

    for content in (b"", b"a text", whole[: len(whole) // 2], whole[:100], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=path.name):
            load_checkpoint(path)
    with pytest.raises(ModelFileError, match="is no file"):
        load_checkpoint(tmp_path / f"absent{suffix}")
    with pytest.raises(ModelFileError, match="is no file"):
        load_checkpoint(tmp_path)


def test_a_safetensors_file_of_others_is_no_checkpoint(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    for metadata in (None, {"format": "pt"}, {"nddr_deploy.checkpoint": json.dumps([1])}):
        save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors", metadata=metadata)
        with pytest.raises(ModelFileError, match=r"a.safetensors"):
            load_checkpoint(tmp_path / "a.safetensors")


def test_a_bare_state_dict_is_no_checkpoint(checkpoint: Checkpoint, tmp_path: Path) -> None:
    torch.save(checkpoint.weights, tmp_path / "a.pt")

    with pytest.raises(ModelFileError, match="is no checkpoint of nddr-deploy"):
        load_checkpoint(tmp_path / "a.pt")
