"""Ranges: extremes, percentiles that numpy confirms, and the cut of entropy; pictures pass one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx
import pytest
from graph_subjects import exported, run, small
from onnx import helper

from nddr_deploy.errors import ConfigError
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.graph import calibration
from nddr_deploy.graph.calibration import Range, calibrate
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array


class Pictures:
    """Batches of one that count how often they are gone through."""

    def __init__(self, images: Image) -> None:
        self.images = images
        self.passes = 0

    def __iter__(self) -> Iterator[Image]:
        self.passes += 1
        return (image[None] for image in self.images)


def identity() -> onnx.ModelProto:
    """`y` is the pixels, 0 to 255, less 55."""
    scaled = helper.make_node("Mul", ["x", "full"], ["pixels"], name="pixels")  # x is the pixels over 255
    shifted = helper.make_node("Sub", ["pixels", "shift"], ["y"], name="y")
    return small([scaled, shifted], {"full": np.float32(255), "shift": np.float32(55)})


def about(low: float, high: float) -> object:
    """A range as float32 gives it."""
    return {"y": Range(pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))}  # type: ignore[arg-type]


def mostly_small(outlier: int) -> Image:
    """A picture around 60 with one pixel far away: `y` is about 5, and once outlier - 55."""
    values = np.random.default_rng(0).normal(60, 3, (1, 8, 10, 3)).round().clip(0, 255).astype(np.uint8)
    values[0, 2, 3, 1] = outlier
    return values


def test_minmax_is_the_extremes_of_all_pictures() -> None:
    images = np.stack([np.full((8, 10, 3), value, np.uint8) for value in (15, 85, 55)])

    found = calibrate(identity(), ["y"], Pictures(images), run)

    assert found == about(-40, 30)


def test_symmetric_ranges_reach_as_far_to_both_sides() -> None:
    images = np.stack([np.full((8, 10, 3), value, np.uint8) for value in (15, 85)])

    assert calibrate(identity(), ["y"], Pictures(images), run, symmetric=True) == about(-40, 40)


def test_a_percentile_is_numpys_within_a_bin() -> None:
    images = np.random.default_rng(1).integers(0, 256, (4, 8, 10, 3), dtype=np.uint8)

    found = calibrate(identity(), ["y"], Pictures(images), run, method="percentile", percentile=90, bins=4096)["y"]

    values = images.astype(np.float64) - 55
    width = 2 * 200 / 4096  # of a bin; whole pixels lie a step of 1 apart
    assert found.low == pytest.approx(np.percentile(values, 5), abs=1 + width)
    assert found.high == pytest.approx(np.percentile(values, 95), abs=1 + width)


def test_entropy_cuts_off_an_outlier_that_minmax_keeps() -> None:
    images = Pictures(np.concatenate([mostly_small(255), mostly_small(60)]))

    widest = calibrate(identity(), ["y"], images, run)["y"]
    cut = calibrate(identity(), ["y"], images, run, method="entropy")["y"]

    assert widest.high == pytest.approx(200, abs=1e-3)
    assert cut.high < 50  # all but one of 480 values are below 17


def test_a_tensor_that_never_changes_has_its_value_as_the_range() -> None:
    images = Pictures(np.full((2, 8, 10, 3), 60, np.uint8))

    for method in calibration.METHODS:
        assert calibrate(identity(), ["y"], images, run, method=method) == about(5, 5), method


def test_only_so_much_leaves_the_graph_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = exported("resnet 18")
    names = [node.output[0] for node in model.graph.node if node.op_type == "Relu"]
    images = Pictures(probe_images((65, 97), 2))
    left: list[int] = []

    def watched(content: bytes) -> Callable[[Image], Mapping[str, Array]]:
        infer = run(content)

        def told(batch: Image) -> Mapping[str, Array]:
            outputs = infer(batch)
            left.append(sum(value.nbytes for value in outputs.values()))
            return outputs

        return told

    largest = max(value.nbytes for value in run(_with(model, names))(images.images[:1]).values())
    monkeypatch.setattr(calibration, "MOST_BYTES", 2 * largest)

    found = calibrate(model, names, images, watched, method="percentile")

    assert set(found) == set(names)
    assert max(left) <= 2 * largest
    assert sum(size > 16 * len(names) for size in left) > 2 * 2  # several groups, each over both pictures


def test_progress_is_told_of_every_picture() -> None:
    told: list[None] = []

    calibrate(identity(), ["y"], Pictures(probe_images((8, 10), 3)), run, progress=lambda: told.append(None))

    assert len(told) == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "minmx"}, r"method: 'minmx' is unknown.*Did you mean 'minmax'"),
        ({"method": "percentile", "percentile": 30}, "percentile: got 30; expected more than 50"),
        ({"method": "percentile", "bins": 1001}, "bins: got 1001; expected an even number"),
        ({"method": "entropy", "bins": 128}, "bins: got 128; expected an even number from 512"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        calibrate(identity(), ["y"], Pictures(probe_images((8, 10), 1)), run, **wrong)  # type: ignore[arg-type]


def _with(model: onnx.ModelProto, names: list[str]) -> bytes:
    return calibration._with_outputs(model, names)
