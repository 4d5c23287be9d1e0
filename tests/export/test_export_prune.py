"""nddr-export --prune-coupling: what is cut before the file appears, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from export_networks import DENSE, config, save

from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.export.__main__ import main
from nddr_deploy.export.recipe import export_checkpoint
from nddr_deploy.graph.metadata import manifest_of

SIZE = (33, 49)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Its NDDR layers are as training starts: 0.9 of a task's own stream, 0.1 of the other."""
    return save(tmp_path / "ckpt.pt", config("resnet18", "nddr conv"), DENSE[:2], size_hw=SIZE)


def test_with_nothing_taken_from_the_other_stream_one_task_needs_its_own_alone(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--tasks", "normals", "--prune-coupling", "0.5", "--report", str(tmp_path / "report.json")]

    status = main([str(checkpoint), *arguments])

    out = capsys.readouterr().out
    assert status == 0
    model = onnx.load(tmp_path / "ckpt.onnx")
    assert not [weight.name for weight in model.graph.initializer if ".segmentation." in weight.name]
    assert "pruned   9 of 18 blocks with a share below 0.5 on 6 made-up images: " in out
    assert "fusions.4: normals from segmentation (" in out
    assert "against the uncut model on 6 made-up images: normals mean_angle" in manifest_of(model, source="").notes[-1]
    report = json.loads((tmp_path / "report.json").read_text())
    assert [head["task"] for head in report["parity"]["heads"]] == ["normals"]
    assert report["nodes"] == len(model.graph.node)
    assert report["pruned"]["flops"][1] < 0.6 * report["pruned"]["flops"][0]
    assert {change["metric"] for change in report["pruned"]["changes"]} >= {"mean_angle"}


def test_without_the_option_nothing_is_cut(checkpoint: Path, tmp_path: Path) -> None:
    report = export_checkpoint(checkpoint)

    assert report.pruned is None
    assert report.to_dict()["pruned"] is None


@pytest.mark.parametrize(
    ("threshold", "images", "error", "message"),
    [
        (None, "photos", ConfigError, "prune-images: photos is for --prune-coupling"),
        (0.7, None, ConfigError, "prune-coupling: got 0.7; expected a share"),
        (0.1, "/nowhere", InputError, "does not exist"),
    ],
)
def test_wrong_options_are_found_before_the_work(
    threshold: float | None,
    images: str | None,
    error: type[Exception],
    message: str,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nddr_deploy.export.recipe.fold_batchnorm", None)

    with pytest.raises(error, match=message):
        export_checkpoint(checkpoint, prune_coupling=threshold, prune_images=images)
