"""The machine's floor: kernels of known arithmetic, and the best of them."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime
import pytest

from nddr_deploy.benchmark import floor
from nddr_deploy.benchmark.floor import SHAPES, Kernels, Rate, Shape, best, chain, input_of
from nddr_deploy.graph.flops import count_flops

SMALL = (Shape(kernel=3, channels=16, size=8, layers=2), Shape(kernel=0, channels=32, size=4, layers=2))


@pytest.mark.parametrize(
    ("shape", "multiplications"),
    [
        (Shape(kernel=3, channels=16, size=8, layers=2), 2 * 16 * 16 * 9 * 64),
        (Shape(kernel=1, channels=16, size=8, layers=3), 3 * 16 * 16 * 64),
        (Shape(kernel=0, channels=32, size=4, layers=2), 2 * 32 * 32 * 16),
    ],
)
def test_a_chain_is_as_much_arithmetic_as_its_shape_says(shape: Shape, multiplications: int) -> None:
    assert count_flops(chain(shape), (1, 1)) == 2 * multiplications


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_values_neither_vanish_nor_explode_along_a_chain(shape: Shape) -> None:
    session = onnxruntime.InferenceSession(chain(shape).SerializeToString(), providers=["CPUExecutionProvider"])

    result = session.run(None, {"value0": input_of(shape)})[0]

    assert 0.3 < np.std(result) < 3  # tiny numbers would be slow, or fast, for no reason


def test_every_runtime_and_precision_has_a_rate() -> None:
    kernels = Kernels(threads=1, shapes=SMALL)

    rates = kernels.measure()

    measured = {(rate.backend, rate.precision) for rate in rates}
    assert measured | {tuple(name.split()) for name in kernels.not_run} == set(floor.RUNTIMES)
    assert {("onnxruntime", "fp32"), ("openvino", "fp32")} <= measured
    assert all(1e6 < rate.flops_per_s < 1e14 for rate in rates)


def test_a_runtime_that_is_not_installed_is_named_and_the_others_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "nddr_deploy.engines.openvino", raising=False)

    kernels = Kernels(threads=1, shapes=SMALL)

    assert {rate.backend for rate in kernels.measure()} == {"onnxruntime"}
    assert set(kernels.not_run) == {"openvino fp32", "openvino bf16"}
    assert "is not installed" in kernels.not_run["openvino fp32"]


def test_the_best_kernel_of_each_precision_is_the_floor() -> None:
    slow, fast = Rate("onnxruntime", "fp32", "a", 1e9), Rate("openvino", "fp32", "b", 3e9)
    other = Rate("openvino", "bf16", "a", 2e9)

    assert best([slow, other, fast]) == {"fp32": fast, "bf16": other}
