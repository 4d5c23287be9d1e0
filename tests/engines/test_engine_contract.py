"""What every backend must keep. A new backend is one more entry of `BACKENDS` and of `FILES`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nddr_deploy.engines import BACKENDS, open_engine
from nddr_deploy.engines.base import Engine
from nddr_deploy.errors import InputError, UnsupportedError

TOLERANCE = 1e-5  # of the output's range: float32 sums of a few products


def close_to(output: Any, expected: Any) -> bool:
    return bool(np.abs(output - expected).max() <= TOLERANCE * np.ptp(expected))


ONNX_BACKENDS = [name for name in BACKENDS if name != "torch"]


@pytest.fixture(scope="module", params=ONNX_BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(model: Any, backend: str, **options: Any) -> Engine:
    return open_engine(model.path, backend, **{"threads": 1, **options})


@pytest.mark.parametrize("dynamic", [(), ("batch",), ("size",), ("batch", "size")])
def test_every_head_comes_by_name_from_one_pass(handmade: Callable[..., Any], backend: str, dynamic: Any) -> None:
    model = handmade(dynamic=dynamic)
    images = model.images()

    with opened(model, backend) as engine:
        outputs = engine.infer(images)

    expected = model.expected(images)
    assert list(outputs) == ["segmentation", "normals", "age"]
    for name, output in outputs.items():
        assert output.shape == expected[name].shape
        assert output.dtype == np.float32
        assert close_to(output, expected[name]), name


def test_heads_of_equal_shape_are_not_swapped(handmade: Callable[..., Any], backend: str) -> None:
    model = handmade()
    images = model.images()

    with opened(model, backend) as engine:
        outputs = engine.infer(images)

    assert not close_to(outputs["normals"], model.expected(images)["segmentation"])
    assert (outputs["segmentation"] >= 0).all()  # its weights are positive; those of the normals are not
    assert (outputs["normals"] < 0).any()


def test_any_batch_gives_what_single_images_give(handmade: Callable[..., Any], backend: str) -> None:
    model = handmade(dynamic=("batch",))
    images = model.images(count=3)

    with opened(model, backend) as engine:
        together = engine.infer(images)
        alone = [engine.infer(images[index : index + 1]) for index in range(3)]

    for name in together:
        assert together[name].shape[0] == 3
        assert close_to(together[name], np.concatenate([outputs[name] for outputs in alone])), name


def test_a_fixed_batch_of_three_is_taken(handmade: Callable[..., Any], backend: str) -> None:
    model = handmade(batch=3)
    images = model.images(count=3)

    with opened(model, backend) as engine:
        outputs = engine.infer(images)

    assert close_to(outputs["age"], model.expected(images)["age"])


def test_sizes_may_change_from_pass_to_pass_where_the_model_leaves_them_open(
    handmade: Callable[..., Any], backend: str
) -> None:
    model = handmade(dynamic=("size",))
    small, large = model.images()[:, :8, :12], np.tile(model.images(seed=1), (1, 2, 2, 1))

    with opened(model, backend) as engine:
        for images in (small, large, small):
            outputs = engine.infer(images)
            for name, expected in model.expected(images).items():
                assert outputs[name].shape == expected.shape
                assert close_to(outputs[name], expected), name


def test_outputs_stay_as_they_are_when_the_next_image_runs(handmade: Callable[..., Any], backend: str) -> None:
    model = handmade()

    with opened(model, backend) as engine:
        first = engine.infer(model.images(seed=1))
        before = {name: output.copy() for name, output in first.items()}
        engine.infer(model.images(seed=2))

    for name, output in first.items():  # the engine is closed, too
        np.testing.assert_array_equal(output, before[name])


def test_outputs_can_be_written_to_and_images_stay_as_they_are(handmade: Callable[..., Any], backend: str) -> None:
    model = handmade()
    images = model.images()
    before = images.copy()

    with opened(model, backend) as engine:
        for output in engine.infer(images).values():
            output[:] = 0
        again = engine.infer(images)

    np.testing.assert_array_equal(images, before)
    assert close_to(again["normals"], model.expected(images)["normals"])


def test_images_that_are_views_or_read_only_are_taken(handmade: Callable[..., Any], backend: str) -> None:
    model = handmade()
    mirrored = model.images()[:, :, ::-1]
    mirrored.flags.writeable = False

    with opened(model, backend) as engine:
        outputs = engine.infer(mirrored)

    assert close_to(outputs["segmentation"], model.expected(mirrored)["segmentation"])


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (np.zeros((1, 16, 24, 3), np.float32), r"float32 \(1, 16, 24, 3\)"),
        (np.zeros((1, 3, 16, 24), np.uint8), r"uint8 \(1, 3, 16, 24\)"),
        (np.zeros((16, 24, 3), np.uint8), r"uint8 \(16, 24, 3\)"),
        (np.zeros((1, 16, 32, 3), np.uint8), r"uint8 \(1, 16, 32, 3\)"),
        (np.zeros((2, 16, 24, 3), np.uint8), r"uint8 \(2, 16, 24, 3\)"),
        (np.zeros((0, 16, 24, 3), np.uint8), r"uint8 \(0, 16, 24, 3\)"),
        ([[0]], "list"),
    ],
)
def test_another_type_or_shape_is_refused_with_what_was_found_and_expected(
    handmade: Callable[..., Any], backend: str, images: Any, found: str
) -> None:
    with (
        opened(handmade(), backend) as engine,
        pytest.raises(InputError, match=rf"takes uint8 RGB images \(1, 16, 24, 3\); got {found}"),
    ):
        engine.infer(images)


def test_closing_twice_is_fine_and_a_closed_engine_says_so(handmade: Callable[..., Any], backend: str) -> None:
    model = handmade()
    engine = opened(model, backend)

    engine.close()
    engine.close()

    with pytest.raises(InputError, match="engine is closed"):
        engine.infer(model.images())


def test_an_engine_names_what_it_is(handmade: Callable[..., Any], backend: str) -> None:
    model = handmade()

    with opened(model, backend) as engine:
        assert (engine.backend, engine.precision, engine.device, engine.threads) == (backend, "fp32", "CPU", 1)
        assert engine.manifest == model.manifest


def test_left_alone_an_engine_computes_in_float32(handmade: Callable[..., Any], backend: str) -> None:
    model = handmade()
    images = model.images(seed=3)

    with opened(model, backend) as engine:
        outputs = engine.infer(images)

    # bfloat16 keeps 8 bits of a number: an error near 1e-3 of the range, a hundred times what is allowed here
    assert close_to(outputs["segmentation"], model.expected(images)["segmentation"])


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_precision_that_cannot_be_had_is_refused(handmade: Callable[..., Any], backend: str, precision: str) -> None:
    with pytest.raises(UnsupportedError, match=f"in {precision}. Possible: fp32"):
        opened(handmade(), backend, precision=precision)


def test_a_missing_file_is_one_sentence(tmp_path: Path, backend: str) -> None:
    from nddr_deploy.errors import ModelFileError

    with pytest.raises(ModelFileError, match="does not exist"):
        open_engine(tmp_path / "none.onnx", backend)
