"""All backends on one trained-looking network: the same results, in the precision that was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nddr_deploy.engines import open_engine
from nddr_deploy.engines.openvino import core
from nddr_deploy.errors import UnsupportedError


def difference(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """The largest over the heads, of the head's range."""
    return max(float(np.abs(found[name] - expected[name]).max() / np.ptp(expected[name])) for name in expected)


def engine_of(backend: str, trained: Any, exported: Any, **options: Any) -> Any:
    path = trained.path if backend == "torch" else exported.path
    return open_engine(path, backend, **{"threads": 1, **options})


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("size_hw", [(41, 57), (64, 49)])
def test_every_backend_returns_what_the_network_computes_in_float64(
    backend: str, trained: Any, exported: Any, count: int, size_hw: tuple[int, int]
) -> None:
    images = np.random.default_rng(count).integers(0, 256, (count, *size_hw, 3), dtype=np.uint8)

    with engine_of(backend, trained, exported) as engine:
        outputs = engine.infer(images)

    assert difference(outputs, trained.expected(images)) < trained.tolerance


def test_left_alone_a_backend_computes_in_float32(backend: str, trained: Any, exported: Any) -> None:
    images = trained.images(seed=7)

    with engine_of(backend, trained, exported) as engine:
        outputs = engine.infer(images)

    # bfloat16 keeps 8 bits of every number, and the difference is then above 1e-3 (tested below)
    assert difference(outputs, trained.expected(images)) < 1e-5


def test_bfloat16_is_used_where_it_is_asked_for(backend: str, trained: Any, exported: Any) -> None:
    images = trained.images(seed=7)
    if backend.startswith("onnxruntime"):
        with pytest.raises(UnsupportedError, match=r"in bf16\. Possible: fp32"):
            engine_of(backend, trained, exported, precision="bf16")
        return
    if backend == "openvino" and "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(UnsupportedError, match="no bf16 arithmetic"):
            engine_of(backend, trained, exported, precision="bf16")
        return

    with engine_of(backend, trained, exported, precision="bf16") as engine:
        outputs = engine.infer(images)

    assert engine.precision == "bf16"
    assert all(output.dtype == np.float32 for output in outputs.values())
    assert 1e-3 < difference(outputs, trained.expected(images)) < 0.1  # really bfloat16, and still the same network


def test_decoded_results_of_all_backends_agree(trained: Any, tmp_path: Any) -> None:
    import engine_subjects

    from nddr_deploy.evaluate.decode import decode_outputs
    from nddr_deploy.preprocess import Fit

    decoded = engine_subjects.export(trained, tmp_path / "decoded.onnx", outputs="decoded")
    images = trained.images(seed=3)
    fit = Fit.of((41, 57), (41, 57))
    results = {}
    for path, backend in ((trained.path, "torch"), (decoded.path, "onnxruntime"), (decoded.path, "openvino")):
        with open_engine(path, backend, threads=1) as engine:
            results[backend] = decode_outputs(engine.infer(images), 0, engine.manifest, fit)

    for backend in ("onnxruntime", "openvino"):
        differ = results[backend]["segmentation"] != results["torch"]["segmentation"]
        assert differ.mean() < 1e-3  # ties only
        np.testing.assert_allclose(results[backend]["normals"], results["torch"]["normals"], atol=1e-3)
        assert float(results[backend]["age"]) == pytest.approx(float(results["torch"]["age"]), abs=1e-3)
