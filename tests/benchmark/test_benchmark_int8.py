"""The quantised file of --int8: it belongs to the measured model, and the int8 cases run it."""

from __future__ import annotations

from pathlib import Path

import card_subjects
import onnx
import pytest

from nddr_deploy.benchmark.run import choose_cases
from nddr_deploy.benchmark.subject import Subject
from nddr_deploy.engines import open_engine
from nddr_deploy.errors import ConfigError
from nddr_deploy.graph.metadata import manifest_of, write_manifest


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    return card_subjects.write_models(tmp_path)


def from_another_checkpoint(path: Path) -> Path:
    model = onnx.load(path)
    manifest = manifest_of(model, source=str(path))
    write_manifest(model, manifest.model_copy(update={"hashes": {**manifest.hashes, "checkpoint": "ab" * 32}}))
    onnx.save(model, path)
    return path


def test_it_is_run_by_the_int8_cases_and_by_no_other(models: tuple[Path, Path]) -> None:
    fp32, int8 = models

    cases = choose_cases(
        ["onnxruntime", "openvino:bf16", "onnxruntime:int8", "openvino:int8", "openvino:int8+bf16"],
        Subject.read(fp32, int8=int8),
        {},
    )

    assert [(case.label, case.path) for case in cases] == [
        ("onnxruntime fp32", fp32),
        ("openvino bf16", fp32),
        ("onnxruntime int8", int8),
        ("openvino int8", int8),
        ("openvino int8+bf16", int8),
    ]


def test_without_being_asked_it_is_measured_in_both_runtimes(models: tuple[Path, Path]) -> None:
    cases = choose_cases(None, Subject.read(models[0], int8=models[1]), {})

    assert [case.label for case in cases if case.path == models[1]] == ["onnxruntime int8", "openvino int8"]


def test_one_of_another_checkpoint_is_refused(models: tuple[Path, Path]) -> None:
    other = from_another_checkpoint(models[1])

    with pytest.raises(ConfigError, match="was made from another checkpoint than the measured model"):
        Subject.read(models[0], int8=other)


def test_one_that_is_not_quantised_is_refused(models: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="is an fp32 model; expected one that nddr-quantize wrote"):
        Subject.read(models[0], int8=models[0])


def test_the_case_int8_without_a_quantised_file_says_what_the_file_is(models: tuple[Path, Path]) -> None:
    (case,) = choose_cases(["onnxruntime:int8"], Subject.read(models[0]), {})

    with pytest.raises(Exception, match="cannot run this fp32 file in int8"):
        open_engine(case.path, case.backend, precision=case.precision)
