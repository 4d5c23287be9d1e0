"""nddr-infer with a TensorRT engine, on a simulated GPU: the same results as with ONNX Runtime, in the same order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from simulated.simulate import VERSIONS, simulate

from nddr_deploy.build.recipe import build_engine
from nddr_deploy.inference.__main__ import main
from nddr_deploy.inference.run import infer

COUNT = 7


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Seven, each of them unlike the others, of the model's size."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(COUNT):
        blocks = random.integers(0, 256, (4, 6, 3), dtype=np.uint8)
        Image.fromarray(blocks.repeat(4, axis=0).repeat(4, axis=1)).save(folder / f"{number}.png")
    return folder


def arrays(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.name: dict(np.load(path)) for path in sorted(folder.glob("*.npz"))}


@pytest.mark.parametrize("dynamic", [(), ("batch",)])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_picture_gets_the_result_that_onnx_runtime_gives_it(
    handmade: Callable[..., Any], pictures: Path, tmp_path: Path, version: str, dynamic: tuple[str, ...]
) -> None:
    model, batch = handmade(dynamic=dynamic).path, 3 if dynamic else None
    infer(model, pictures, tmp_path / "onnx", format="npz", batch=batch)
    with simulate(version):
        build_engine(
            model, tmp_path / "a.trt", precision="fp32", batch=(1, 2, 4) if dynamic else None, timing_cache=None
        )
        report = infer(tmp_path / "a.trt", pictures, tmp_path / "trt", format="npz", batch=batch)

    expected, found = arrays(tmp_path / "onnx"), arrays(tmp_path / "trt")
    assert report.frames == COUNT
    assert len(found) == COUNT
    assert list(found) == list(expected)
    for name, results in found.items():
        assert list(results) == list(expected[name])
        for key, value in results.items():
            assert np.allclose(value, expected[name][key], atol=1e-3, equal_nan=True), (name, key)


def test_more_frames_per_pass_than_the_engine_takes_is_one_sentence(
    handmade: Callable[..., Any], pictures: Path, tmp_path: Path
) -> None:
    with simulate():
        build_engine(handmade(dynamic=("batch",)).path, tmp_path / "a.trt", batch=(1, 2, 4), timing_cache=None)
        report = infer(tmp_path / "a.trt", pictures, tmp_path / "out", format="npz", batch=8)

    assert report.frames == 0
    assert len(report.problems) == 1
    assert "takes uint8 RGB images (1 to 4, 16, 24, 3); got uint8 (8, 16, 24, 3)" in report.problems[0]


def test_an_engine_whose_smallest_batch_is_two_is_run_with_two(
    handmade: Callable[..., Any], pictures: Path, tmp_path: Path
) -> None:
    with simulate():
        build_engine(handmade(dynamic=("batch",)).path, tmp_path / "a.trt", batch=(2, 2, 4), timing_cache=None)
        report = infer(tmp_path / "a.trt", pictures, tmp_path / "out", format="npz", batch=2)

    assert report.frames == COUNT


def test_the_command_without_a_gpu_is_one_sentence(
    handmade: Callable[..., Any], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with simulate():
        build_engine(handmade().path, tmp_path / "a.trt", timing_cache=None)
    arguments = ["--engine", str(tmp_path / "a.trt"), "--input", str(pictures), "--output", str(tmp_path / "out")]

    with simulate(count=0):
        assert main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()

    assert len(error) == 1
    assert "No NVIDIA GPU" in error[0]
