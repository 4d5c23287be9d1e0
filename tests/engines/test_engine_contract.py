"""What every backend must keep. A new backend is one more entry of `BACKENDS`.

ONNX backends run a model that can be computed by hand; PyTorch a narrow checkpoint, whose reference is in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nddr_deploy.engines import open_engine
from nddr_deploy.engines.base import Engine
from nddr_deploy.engines.machine import available_cores
from nddr_deploy.errors import InputError, ModelFileError, UnsupportedError

Model = Callable[..., Any]


def opened(subject: Any, backend: str, **options: Any) -> Engine:
    return open_engine(subject.path, backend, **{"threads": 1, **options})


def check(outputs: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    """Every head by name, float32, within a fraction of its range."""
    assert list(outputs) == ["segmentation", "normals", "age"]
    for name, output in outputs.items():
        assert output.dtype == np.float32
        assert output.shape == expected[name].shape
        assert np.abs(output - expected[name]).max() <= tolerance * np.ptp(expected[name]), name


@pytest.mark.parametrize("dynamic", [(), ("batch",), ("size",), ("batch", "size")])
def test_every_head_comes_by_name_from_one_pass(model: Model, backend: str, dynamic: tuple[str, ...]) -> None:
    subject = model(dynamic=dynamic)
    images = subject.images()

    with opened(subject, backend) as engine:
        outputs = engine.infer(images)

    check(outputs, subject.expected(images), subject.tolerance)


def test_heads_of_equal_shape_are_told_apart(model: Model, backend: str) -> None:
    subject = model()
    images = subject.images()

    with opened(subject, backend) as engine:
        outputs = engine.infer(images)

    swapped = {**outputs, "segmentation": outputs["normals"], "normals": outputs["segmentation"]}
    with pytest.raises(AssertionError, match="segmentation"):  # the check above would see it
        check(swapped, subject.expected(images), subject.tolerance)


def test_a_batch_gives_what_its_images_give_alone(model: Model, backend: str) -> None:
    subject = model(dynamic=("batch",))
    images = subject.images(count=3)

    with opened(subject, backend) as engine:
        together = engine.infer(images)
        alone = [engine.infer(images[index : index + 1]) for index in range(3)]

    expected = {name: np.concatenate([outputs[name] for outputs in alone]) for name in together}
    check(together, expected, subject.tolerance)


def test_a_fixed_batch_of_three_is_taken(model: Model, backend: str) -> None:
    subject = model(batch=3)
    images = subject.images(count=3)

    with opened(subject, backend) as engine:
        outputs = engine.infer(images)

    check(outputs, subject.expected(images), subject.tolerance)


def test_sizes_may_change_from_pass_to_pass_where_the_model_leaves_them_open(model: Model, backend: str) -> None:
    subject = model(dynamic=("size",))
    usual = subject.images()
    large = np.tile(subject.images(seed=1), (1, 2, 2, 1))

    with opened(subject, backend) as engine:
        for images in (usual, large, large[:, :, : large.shape[2] // 2 + 8], usual):
            check(engine.infer(images), subject.expected(images), subject.tolerance)


def test_outputs_stay_as_they_are_when_the_next_image_runs(model: Model, backend: str) -> None:
    subject = model()

    with opened(subject, backend) as engine:
        first = engine.infer(subject.images(seed=1))
        before = {name: output.copy() for name, output in first.items()}
        engine.infer(subject.images(seed=2))

    for name, output in first.items():  # the engine is closed by now, too
        np.testing.assert_array_equal(output, before[name])


def test_outputs_can_be_written_to_and_images_stay_as_they_are(model: Model, backend: str) -> None:
    subject = model()
    images = subject.images()
    before = images.copy()

    with opened(subject, backend) as engine:
        for output in engine.infer(images).values():
            output[:] = 0
        again = engine.infer(images)

    np.testing.assert_array_equal(images, before)
    check(again, subject.expected(before), subject.tolerance)


def test_images_that_are_views_or_read_only_are_taken(model: Model, backend: str) -> None:
    subject = model()
    read_only = subject.images()
    read_only.flags.writeable = False
    mirrored = read_only[:, :, ::-1]

    with opened(subject, backend) as engine:
        check(engine.infer(read_only), subject.expected(read_only), subject.tolerance)
        check(engine.infer(mirrored), subject.expected(mirrored.copy()), subject.tolerance)


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (np.zeros((1, 64, 64, 3), np.float32), r"float32 \(1, 64, 64, 3\)"),
        (np.zeros((1, 3, 64, 64), np.uint8), r"uint8 \(1, 3, 64, 64\)"),
        (np.zeros((64, 64, 3), np.uint8), r"uint8 \(64, 64, 3\)"),
        (np.zeros((0, 64, 64, 3), np.uint8), r"uint8 \(0, 64, 64, 3\)"),
        (np.zeros((1, 0, 64, 3), np.uint8), r"uint8 \(1, 0, 64, 3\)"),
        ([[0]], "list"),
    ],
)
def test_what_is_no_batch_of_images_is_refused_with_what_was_found(
    model: Model, backend: str, images: Any, found: str
) -> None:
    with (
        opened(model(dynamic=("batch", "size")), backend) as engine,
        pytest.raises(InputError, match=rf"takes uint8 RGB images \(N, H, W, 3\); got {found}"),
    ):
        engine.infer(images)


def test_another_size_or_batch_than_a_fixed_model_takes_is_refused(handmade: Model, backend: str) -> None:
    if backend == "torch":
        pytest.skip("a checkpoint leaves size and batch open")

    with opened(handmade(), backend) as engine:
        for shape in ((1, 16, 32, 3), (2, 16, 24, 3)):
            with pytest.raises(InputError, match=r"takes uint8 RGB images \(1, 16, 24, 3\); got uint8"):
                engine.infer(np.zeros(shape, np.uint8))


def test_closing_twice_is_fine_and_a_closed_engine_says_so(model: Model, backend: str) -> None:
    subject = model()
    engine = opened(subject, backend)

    engine.close()
    engine.close()

    with pytest.raises(InputError, match="engine is closed"):
        engine.infer(subject.images())


def test_an_engine_says_what_it_is(model: Model, backend: str) -> None:
    subject = model()

    with opened(subject, backend) as engine:
        assert (engine.backend, engine.precision, engine.device, engine.threads) == (backend, "fp32", "CPU", 1)
        assert [task.name for task in engine.manifest.tasks] == ["segmentation", "normals", "age"]
        assert engine.manifest.size_hw == subject.manifest.size_hw


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_precision_that_cannot_be_had_is_refused(model: Model, backend: str, precision: str) -> None:
    if (backend, precision) == ("openvino", "fp16"):
        pytest.skip("it has fp16 where the processor does: test_engine_precisions.py")
    with pytest.raises(UnsupportedError, match=rf"{precision}"):
        opened(model(), backend, precision=precision)


def test_two_engines_in_one_process_do_not_disturb_each_other(model: Model, backend: str) -> None:
    subject = model()
    left, right = subject.images(seed=1), subject.images(seed=2)
    cores = min(2, available_cores())

    with opened(subject, backend) as first, opened(subject, backend, threads=cores) as second:
        outputs = [first.infer(left), second.infer(right), first.infer(right)]

    for found, images in zip(outputs, (left, right, right), strict=True):
        check(found, subject.expected(images), subject.tolerance)


def test_a_missing_file_and_a_damaged_one_are_one_sentence_each(model: Model, backend: str, tmp_path: Path) -> None:
    path = model().path
    damaged = tmp_path / f"damaged{path.suffix}"
    damaged.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    foreign = tmp_path / f"foreign{path.suffix}"
    foreign.write_bytes(b"neither a checkpoint nor a graph" * 40)

    for file in (tmp_path / f"none{path.suffix}", damaged, foreign):
        with pytest.raises(ModelFileError) as caught:
            open_engine(file, backend)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)
