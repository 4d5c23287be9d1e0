"""nddr-import, and where its checkpoint goes from there: nddr-eval, nddr-train --init, nddr-export."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from foreign_files import nddrpytorch_content, save, state_dict
from foreign_vgg import Vgg, forward, weights_of
from foreign_weights import picture

from nddr_deploy.checkpoint import load_checkpoint
from nddr_deploy.engines import open_engine
from nddr_deploy.evaluate.__main__ import main as evaluate
from nddr_deploy.export.__main__ import main as export
from nddr_deploy.importers.__main__ import main as import_
from nddr_deploy.tasks.class_names import NYU40
from nddr_deploy.training.__main__ import main as train

PLAIN = Vgg()
TRAINING = """\
data: {name: folder, train: train, val: val, options: {path: PATH, size_hw: [64, 96]}}
augment: {flip: false}
steps: 1
batch_size: 2
device: cpu
threads: 1
eval_every: 1
log_every: 1
tensorboard: false
"""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("theirs")
    return save(folder / "ckpt-20000.pth", nddrpytorch_content(weights_of(PLAIN), PLAIN), legacy=True)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Two pictures in the layout of the `folder` data set, with NYU v2's classes."""
    root, rng = tmp_path / "data", np.random.default_rng(0)
    for name in ("images", "segmentation", "normals"):
        (root / name).mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(NYU40))
    for name in ("a", "b"):
        cv2.imwrite(str(root / "images" / f"{name}.png"), rng.integers(0, 256, (64, 96, 3), dtype=np.uint8))
        cv2.imwrite(str(root / "segmentation" / f"{name}.png"), rng.integers(0, 40, (64, 96), dtype=np.uint8))
        normals = np.zeros((64, 96, 3), dtype=np.float32)
        normals[..., 2] = -1
        np.save(root / "normals" / f"{name}.npy", normals)
    return root


def test_the_command_says_what_it_recognised_and_writes_a_checkpoint_of_the_same_network(
    theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = import_([str(theirs), "--output", str(tmp_path / "ckpt.pt"), "--size", "65x97"])

    said = capsys.readouterr().out
    assert status == 0
    assert "nddrpytorch, VGG-16 Deeplab-LargeFOV with 5 fusions (nddr, BatchNorm before ReLU)" in said
    assert said.index("segmentation (segmentation, 40)") < said.index("normals (normals, 3)")
    assert "RGB of 0..255, minus (122.679, 116.669, 104.007)" in said
    assert "dropped  the state of the training (step, optimizer_state_dict, scheduler_state_dict, loss" in said
    image = picture((65, 97))
    with open_engine(tmp_path / "ckpt.pt") as engine:
        assert engine.manifest.size_hw == (65, 97)
        assert any("imported from ckpt-20000.pth (nddrpytorch)" in note for note in engine.manifest.notes)
        found = engine.infer(image[None])
    for name, output in forward(weights_of(PLAIN), image, PLAIN).items():
        assert np.abs(found[name] - output.detach().numpy()).max() < 1e-3  # outputs of order one


def test_every_assumption_is_printed_and_kept_in_the_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = save(tmp_path / "bare.pth", state_dict(weights_of(PLAIN)))
    options = ["--format", "nddrpytorch", "--assume", "bn=before-relu", "--assume", "normals-axes=left,up,toward"]

    status = import_([str(bare), *options, "--output", str(tmp_path / "ckpt.pt")])

    said = " ".join(capsys.readouterr().out.split())
    kept = " ".join(load_checkpoint(tmp_path / "ckpt.pt").notes)
    assert status == 0
    for part in ("BatchNorm before ReLU in the fusion layers: as told", "left, up, toward", "480x640"):
        assert part in said
        assert part in kept


def test_what_is_imported_can_be_scored_trained_on_and_exported(
    theirs: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ckpt, run = tmp_path / "ckpt.pt", tmp_path / "run"
    config = tmp_path / "data.yaml"
    config.write_text(TRAINING.replace("PATH", str(labelled)))
    axes = ["--assume", "normals-axes=right,up,toward"]
    assert import_([str(theirs), "--output", str(ckpt), "--size", "64x96", *axes]) == 0

    scored = evaluate([str(ckpt), "--data", "folder", "--option", f"path={labelled}", "--threads", "1"])
    trained = train([str(config), "--init", str(ckpt), "--output", str(run)])
    exported = export([str(run / "ckpt.pt"), "--output", str(tmp_path / "model.onnx")])

    said = capsys.readouterr()
    assert (scored, trained, exported) == (0, 0, 0), said.err
    assert "mIoU" in said.out
    assert "mean_angle" in said.out
    before, after = load_checkpoint(ckpt), load_checkpoint(run / "ckpt.pt")
    assert after.network == before.network
    assert after.preprocess == before.preprocess
    heads = [key for key, value in before.weights.items() if key.startswith("heads.") and value.ndim == 4]
    changes = [float((after.weights[key] - before.weights[key]).abs().mean()) for key in heads]
    # One step of learning from the imported weights; those of a random start would differ by 0.01 and more.
    assert all(0 < change < 0.003 for change in changes), changes


def test_normals_in_unknown_axes_are_left_out_of_the_score_with_the_reason(
    theirs: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert import_([str(theirs), "--output", str(tmp_path / "ckpt.pt"), "--size", "64x96"]) == 0

    status = evaluate([str(tmp_path / "ckpt.pt"), "--data", "folder", "--option", f"path={labelled}", "--threads", "1"])

    said = capsys.readouterr()
    assert status == 0
    assert "normals is left out: its axes are not known" in said.err
    assert "mean_angle" not in said.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--assume", "bn"], "Write KEY=VALUE"),
        (["--mean", "1,2"], "is not three numbers"),
        (["--mean", "nan,1,1"], "is not three numbers"),
        (["--mean", "0.5,0.5,300"], "outside this format's value range, 0 to 255"),
        (["--std", "0,1,1"], "expected deviations above 0"),
        (["--assume", "bn=after-relu"], "contradicts"),
        (["--assume", "normals-axes=left,up"], "expected three directions"),
        (["--assume", "normals-axes=left,up,right"], "three directions"),
        (["--size", "7x64"], "at least 8x8"),
        (["--rename", "semseg=segmentation"], "rename: 'semseg' is unknown. Choose one of: segmentation, normals"),
        (["--rename", "normals=segmentation"], "Two tasks are called 'segmentation'"),
        (["--rename", "normals=a.b"], "cannot name a task"),
        (["--format", "vandenhende"], "is no vandenhende file"),
    ],
)
def test_a_wrong_choice_is_one_sentence_and_leaves_nothing(
    theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    try:
        status = import_([str(theirs), "--output", str(tmp_path / "ckpt.pt"), *options])
    except SystemExit as stop:
        status = int(stop.code or 0)

    assert status == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_failed_import_leaves_the_checkpoint_that_was_there(theirs: Path, tmp_path: Path) -> None:
    (tmp_path / "ckpt.pt").write_bytes(b"good")

    assert import_([str(theirs), "--output", str(tmp_path / "ckpt.pt"), "--size", "7x7"]) == 2

    assert (tmp_path / "ckpt.pt").read_bytes() == b"good"


def test_our_own_checkpoint_needs_no_import(theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import_([str(theirs), "--output", str(tmp_path / "ckpt.pt"), "--size", "64x96"])

    again = import_([str(tmp_path / "ckpt.pt"), "--output", str(tmp_path / "again.pt")])
    told = export([str(tmp_path / "ckpt.pt"), "--assume", "bn=after-relu"])

    errors = capsys.readouterr().err
    assert (again, told) == (2, 2)
    assert "is a checkpoint of nddr-deploy already" in errors
    assert "which leaves nothing open" in errors


def test_the_mean_is_given_as_red_green_blue_also_where_the_network_reads_blue_first(tmp_path: Path) -> None:
    from foreign_tf import variables_of, write_npz
    from foreign_tf import weights_of as tf_weights

    file = write_npz(tmp_path / "variables.npz", variables_of(tf_weights()))

    assert import_([str(file), "--output", str(tmp_path / "ckpt.pt"), "--mean", "1,2,3", "--std", "4,5,6"]) == 0

    preprocess = load_checkpoint(tmp_path / "ckpt.pt").preprocess
    assert (preprocess.order, preprocess.mean, preprocess.std) == ("bgr", (3, 2, 1), (6, 5, 4))


def test_a_task_takes_the_name_of_the_users_data_and_keeps_its_place(tmp_path: Path) -> None:
    variant = Vgg(fusion="single_side")
    weights = weights_of(variant)
    file = save(tmp_path / "theirs.pth", state_dict(weights))
    options = ["--assume", "single-side=forward", "--rename", "normals=surface", "--size", "64x96"]

    assert import_([str(file), "--output", str(tmp_path / "ckpt.pt"), *options]) == 0

    image = picture((64, 96))
    with open_engine(tmp_path / "ckpt.pt") as engine:
        assert [task.name for task in engine.manifest.tasks] == ["segmentation", "surface"]
        found = engine.infer(image[None])
    expected = forward(weights, image, variant)["normals"].detach().numpy()
    assert np.abs(found["surface"] - expected).max() < 1e-3  # outputs of order one


def test_safetensors_with_public_keys_are_imported_too(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = {key: value.clone() for key, value in weights_of(PLAIN).items()}
    save_file(tensors, tmp_path / "theirs.safetensors")
    options = ["--format", "mtlnas", "--output", str(tmp_path / "ckpt.safetensors")]

    assert import_([str(tmp_path / "theirs.safetensors"), *options]) == 0

    key = "net1.stages.0.feature.0.weight"
    written = load_checkpoint(tmp_path / "ckpt.safetensors").weights
    assert torch.equal(written["stages.0.segmentation.features.0.weight"], tensors[key])
