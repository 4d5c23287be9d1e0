"""The command and the recipe: what is printed, what is refused, and that a failure leaves no file behind."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from export_networks import AGE, GENDER, SIZE, config, save
from torch import nn

from nddr_deploy.errors import NddrError, ParityError
from nddr_deploy.export.__main__ import main
from nddr_deploy.export.recipe import export_checkpoint
from nddr_deploy.graph.metadata import read_manifest


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_command_says_what_it_read_folded_compared_and_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = save(tmp_path / "ckpt.pt", config(fusion="nddr conv-relu-bn"))

    status, out, err = run(capsys, checkpoint)

    assert (status, err) == (0, "")
    assert "alexnet + nddr (conv-relu-bn); segmentation, normals (raw)" in out
    assert "folded   10 BatchNorm layers: 8 kept as multiply-add, 2 into the layer after" in out
    kept = [line for line in out.splitlines() if "kept as multiply-add (" in line]
    assert len(kept) == 8
    assert "the next convolution stages.1.segmentation.features.3 pads with zeros" in kept[0]
    assert "segmentation " in out
    assert "mIoU 1" in out
    assert f"{tmp_path / 'ckpt.onnx'}: " in out
    assert "opset 17, by torch.onnx.export (TorchScript)" in out


def test_verbose_shows_every_layer_with_its_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = save(tmp_path / "ckpt.pt")

    _, out, _ = run(capsys, checkpoint, "--verbose")

    layers = [line for line in out.splitlines() if "of the range there" in line]
    assert len(layers) == 10
    assert (
        layers[0]
        .strip()
        .startswith(
            "fusions.0.layers.segmentation.bn: into the layer after (fusions.0.layers.segmentation.conv); differs by "
        )
    )


def test_every_option_reaches_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = save(tmp_path / "ckpt.pt", config(), (AGE, GENDER))
    options = ["--size", "140x150", "--dynamic", "batch,size", "--outputs", "decoded", "--tasks", "gender,age"]

    status, _, err = run(capsys, checkpoint, "--output", tmp_path / "m.onnx", *options, "--opset", "18")

    assert (status, err) == (0, "")
    manifest = read_manifest(tmp_path / "m.onnx")
    assert (manifest.size_hw, manifest.dynamic, manifest.outputs) == ((140, 150), ("batch", "size"), "decoded")
    assert ([task.name for task in manifest.tasks], manifest.opset) == (["gender", "age"], 18)


def test_the_report_is_json_with_every_heads_parity(tmp_path: Path) -> None:
    report = export_checkpoint(save(tmp_path / "ckpt.pt"), report=tmp_path / "parity.json", verbose=True)

    values = json.loads((tmp_path / "parity.json").read_text())
    assert values == json.loads(json.dumps(report.to_dict()))
    assert values["parity"]["passed"] is True
    assert [head["task"] for head in values["parity"]["heads"]] == ["segmentation", "normals"]
    assert values["parity"]["images"] == [[1, *SIZE, 3]] * 3
    assert len(values["layer_differences"]) == len(values["batchnorm"]) == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tasks", "segmentatoin"], "tasks: 'segmentatoin' is unknown. .* Did you mean 'segmentation'?"),
        (["--tasks", "normals,normals"], "tasks: 'normals' was named twice"),
        (["--tasks", ","], "tasks: none were named. Choose from: segmentation, normals"),
        (["--opset", "12"], "opset: 12 cannot be written"),
        (["--size", "8x400"], r"at least \d+x\d+ pixels; got 8x400. Choose a larger size"),
        (["--dynamic", "batch,width"], "dynamic: 'width' is unknown. Choose one of: batch, size"),
        (["--dynamic", "batch", "--batch", "2"], "Give --batch or --dynamic batch"),
        (["--batch", "0"], "batch: got 0; expected a whole number from 1"),
        (["--outputs", "labels"], "outputs: 'labels' is unknown. Choose one of: raw, decoded"),
        (["--output", "model.plan"], "output: model.plan should end in .onnx"),
        (["--output", "missing/model.onnx"], "The folder missing does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_option_is_one_sentence_and_status_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = save(tmp_path / "ckpt.pt")

    status, out, err = run(capsys, checkpoint, *options)

    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.pt"]


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint at all", b"PK\x03\x04 a broken archive"])
def test_what_is_no_checkpoint_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "ckpt.pt").write_bytes(content)

    status, _, err = run(capsys, tmp_path / "ckpt.pt")

    assert status == 2
    assert err.count("\n") == 1
    assert not (tmp_path / "ckpt.onnx").exists()


def test_without_torch_the_command_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)

    status, _, err = run(capsys, tmp_path / "ckpt.pt")

    assert status == 2
    assert "nddr-deploy[train]" in err


def spoil_folding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the fold rules: the shift is forgotten."""
    import nddr_deploy.export.fold as fold

    real = fold.fold_into_after
    monkeypatch.setattr(fold, "fold_into_after", lambda old, scale, shift, start: real(old, scale, 0 * shift, start))


def test_when_parity_fails_no_file_appears_and_an_older_one_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = save(tmp_path / "ckpt.pt")
    spoil_folding(monkeypatch)

    status, out, err = run(capsys, checkpoint, "--report", tmp_path / "parity.json")

    assert (status, out) == (1, "")
    assert "ckpt.onnx was not written: it does not agree with PyTorch. segmentation: " in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt.pt", "parity.json"]
    assert json.loads((tmp_path / "parity.json").read_text())["parity"]["passed"] is False

    (tmp_path / "ckpt.onnx").write_bytes(b"the good one")
    with pytest.raises(ParityError):
        export_checkpoint(checkpoint)
    assert (tmp_path / "ckpt.onnx").read_bytes() == b"the good one"


def test_a_network_that_gives_nan_is_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = save(tmp_path / "ckpt.pt")
    real = nn.Conv2d.forward
    monkeypatch.setattr(
        nn.Conv2d, "forward", lambda self, x: real(self, x) * (torch.nan if self.out_channels == 3 else 1)
    )

    with pytest.raises(NddrError, match="normals: NaN or infinity"):
        export_checkpoint(checkpoint)

    assert not (tmp_path / "ckpt.onnx").exists()


def test_a_killed_export_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "ckpt.pt")
    (tmp_path / "ckpt.onnx").write_bytes(b"the good one")
    program = (
        "import os, signal, sys; import nddr_deploy.export.recipe as recipe\n"
        "recipe.check_parity = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"  # the file is written by then
        "recipe.export_checkpoint(sys.argv[1])"
    )

    done = subprocess.run([sys.executable, "-c", program, checkpoint], check=False)

    assert done.returncode == -signal.SIGKILL
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == 3
    assert left[0].startswith(".ckpt.")
    assert ".partial" in left[0]
    assert (tmp_path / "ckpt.onnx").read_bytes() == b"the good one"
