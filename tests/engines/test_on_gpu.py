"""What the simulated GPU stands for, on a real one with a real TensorRT: build, run, stream, read in place."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nddr_deploy.build.recipe import build_engine
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.cuda import count_gpus
from nddr_deploy.evaluate.decode import decode_batch

pytestmark = [
    pytest.mark.skipif(count_gpus() == 0, reason="no GPU here"),
    pytest.mark.skipif(find_spec("tensorrt") is None, reason="TensorRT is not installed"),
]


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def built(request: pytest.FixtureRequest, exported: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    path = tmp_path_factory.mktemp("built") / "model.trt"
    size = exported.manifest.size_hw
    build_engine(exported.path, path, precision=request.param, batch=(1, 2, 4), size=[size], timing_cache=None)
    return exported, path


def expected_of(subject: Any, images: Any) -> dict[str, Any]:
    with open_engine(subject.path, threads=1) as engine:
        return decode_batch(engine.infer(images), subject.manifest, subject.manifest.size_hw)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_head_comes_decoded_from_one_pass(built: tuple[Any, Path], count: int) -> None:
    subject, path = built
    images = subject.images(count)

    with open_engine(path) as engine:
        outputs = engine.infer(images)

    for name, expected in expected_of(subject, images).items():
        assert outputs[name].dtype == expected.dtype
        close = np.abs(outputs[name].astype(float) - expected) <= 2e-2 * max(np.ptp(expected), 1e-6)
        assert close.mean() > 0.99, name  # fp16 rounds, and near ties of random scores may turn


def test_a_stream_returns_what_single_passes_do_in_order(built: tuple[Any, Path]) -> None:
    subject, path = built
    batches = [subject.images(1 + seed % 3, seed) for seed in range(7)]

    with open_engine(path) as engine:
        alone = [engine.infer(batch) for batch in batches]
        streamed = list(engine.stream(iter(batches)))

    for one, other in zip(alone, streamed, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_images_on_the_gpu_are_read_where_they_are(built: tuple[Any, Path]) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    subject, path = built
    images = subject.images(2)

    with open_engine(path) as engine:
        outputs = engine.infer(torch.from_numpy(images).cuda())
        expected = engine.infer(images)

    for name in expected:
        np.testing.assert_array_equal(outputs[name], expected[name])


def test_a_fixed_shape_runs_as_a_cuda_graph_and_gives_the_same_bits(
    handmade: Callable[..., Any], tmp_path: Path
) -> None:
    from nddr_deploy.engines.trt import TensorRTEngine

    subject = handmade()
    build_engine(subject.path, tmp_path / "model.trt", precision="fp32", timing_cache=None)
    images = subject.images()

    with TensorRTEngine(tmp_path / "model.trt") as graph, TensorRTEngine(tmp_path / "model.trt", graph=False) as plain:
        assert (graph.has_graph, plain.has_graph) == (True, False)
        one, other = graph.infer(images), plain.infer(images)

    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
