"""Which files and runtimes take part in a pick, by what lies beside the model and by what the machine has."""

from __future__ import annotations

from pathlib import Path

import card_subjects
import pytest
from handmade_model import TASKS
from test_benchmark_int8 import from_another_checkpoint

from nddr_deploy.benchmark import pick_files
from nddr_deploy.benchmark.pick_files import find_contenders
from nddr_deploy.card.card_file import card_path
from nddr_deploy.card.schema import Link
from nddr_deploy.engines.plan_file import PlanManifest, manifest_path
from nddr_deploy.errors import ConfigError
from nddr_deploy.files import sha256
from nddr_deploy.manifest import Manifest

FLOATS = ["onnxruntime fp32", "openvino fp32", "openvino bf16", "openvino fp16"]
INTEGERS = ["onnxruntime int8", "openvino int8", "openvino int8+bf16"]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setattr(pick_files, "count_gpus", lambda: 0)
    return card_subjects.write_models(tmp_path)


def labels(model: Path, **options: Path) -> list[str]:
    return [case.label for case in find_contenders(model, **options).cases]


def write_plan(path: Path, checkpoint: str, precision: str = "fp16") -> None:
    """A plan of no worth with a right manifest."""
    path.write_bytes(b"plan")
    shape = (1, 16, 24, 3)
    about = {
        "model": Manifest(tasks=TASKS, size_hw=(16, 24), hashes={"checkpoint": checkpoint}),
        "plan": sha256(path),
        "onnx": "model.onnx",
        "tensorrt": "10.9.0.34",
        "gpu": "A GPU",
        "compute_capability": "9.0",
        "precision": precision,
        "realised": {},
        "profile": {"min": shape, "opt": shape, "max": shape},
    }
    manifest_path(path).write_text(PlanManifest.model_validate(about).to_json())


def test_the_int8_form_beside_the_model_takes_part(models: tuple[Path, Path]) -> None:
    assert labels(models[0]) == FLOATS + INTEGERS


def test_without_an_int8_form_it_is_said_how_to_make_one(models: tuple[Path, Path]) -> None:
    models[1].unlink()

    found = find_contenders(models[0])

    assert [case.label for case in found.cases] == FLOATS
    assert "there is no model.int8.onnx; make it with nddr-quantize" in found.not_run["int8"]


def test_a_gpu_that_is_not_there_is_named(models: tuple[Path, Path]) -> None:
    not_run = find_contenders(models[0]).not_run

    assert not_run == {
        "onnxruntime-cuda, onnxruntime-tensorrt, tensorrt": "there is no NVIDIA GPU that can be used here"
    }


def test_an_int8_form_of_another_name_is_found_by_its_card(models: tuple[Path, Path]) -> None:
    card = card_subjects.measured_card(*models)
    named = models[1].rename(models[1].with_name("small.onnx"))
    link = Link(role="onnx", file="model.onnx", sha256=sha256(models[0]))
    file = card.model.model_copy(update={"name": "small.onnx"})
    card = card.model_copy(update={"model": file, "chain": (link,)})
    card_path(named).write_text(card.to_json())

    assert find_contenders(models[0]).subject.int8 == named

    (named.parent / "other.card.json").write_text(card.to_json())
    with pytest.raises(ConfigError, match=r"Several int8 forms of .* Name one with --int8"):
        find_contenders(models[0])


def test_an_int8_form_of_another_checkpoint_is_left_out_with_the_reason_and_refused_where_it_was_named(
    models: tuple[Path, Path],
) -> None:
    from_another_checkpoint(models[1])

    found = find_contenders(models[0])

    assert [case.label for case in found.cases] == FLOATS
    assert "was made from another checkpoint" in found.not_run["int8"]
    with pytest.raises(ConfigError, match="was made from another checkpoint"):
        find_contenders(models[0], int8=models[1])


def test_a_pick_starts_from_the_fp32_model(models: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.int8\.onnx is no FP32 model"):
        find_contenders(models[1])
    with pytest.raises(ConfigError, match="starts from the exported model"):
        find_contenders(tmp_path / "model.trt")


def test_where_there_is_a_gpu_its_runtimes_and_the_models_own_engines_take_part(
    models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pick_files, "count_gpus", lambda: 1)
    folder = models[0].parent
    write_plan(folder / "model.trt", card_subjects.CHECKPOINT)
    write_plan(folder / "model.int8.trt", card_subjects.CHECKPOINT, "int8")
    write_plan(folder / "model.old.trt", "ab" * 32)
    write_plan(folder / "models.trt", card_subjects.CHECKPOINT)  # of another name: of another model

    found = find_contenders(models[0])

    assert [case.label for case in found.cases if case.gpu] == [
        "onnxruntime-cuda fp32",
        "onnxruntime-tensorrt fp32",
        "onnxruntime-tensorrt fp16",
        "tensorrt int8",
        "tensorrt fp16",
    ]
    assert [case.path.name for case in found.cases if case.backend == "tensorrt"] == ["model.int8.trt", "model.trt"]
    assert list(found.not_run) == ["model.old.trt"]
    assert "different checkpoints" in found.not_run["model.old.trt"]


def test_a_gpu_without_an_engine_is_told_how_to_build_one(
    models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pick_files, "count_gpus", lambda: 1)

    assert find_contenders(models[0]).not_run == {"tensorrt": "there is no model.trt; build it with nddr-build"}
