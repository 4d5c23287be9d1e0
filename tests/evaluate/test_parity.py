"""The parity check: what it lets pass, what it does not, and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from nddr_deploy.evaluate.parity import Model, check_parity
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.tasks import Age, Classification, Depth, Normals, Segmentation
from nddr_deploy.tasks.base import Array

TASKS = (Segmentation(classes=("a", "b", "c")), Depth(), Age(classes=10))
IMAGES = [probe_images((16, 24), 2), probe_images((24, 16), 1)]


def model(change: Callable[[dict[str, Array]], object] | None = None) -> Model:
    """A model with three heads whose values depend on the image; `change` spoils its outputs."""

    def run(images: Array) -> dict[str, Array]:
        small = images[:, ::4, ::4].astype(np.float32).transpose(0, 3, 1, 2) / 255
        scores = small[:, :1].mean((2, 3)) * np.arange(10, dtype=np.float32)
        outputs = {"segmentation": small, "depth": small[:, :1] + 2, "age": scores}
        if change is not None:
            change(outputs)
        return outputs

    return run


def add(name: str, value: float) -> Callable[[dict[str, Array]], object]:
    def change(outputs: dict[str, Array]) -> None:
        outputs[name] = outputs[name].copy()
        outputs[name].reshape(-1)[3] += value

    return change


def test_equal_models_pass_with_perfect_metrics() -> None:
    report = check_parity(model(), model(), IMAGES, TASKS)

    assert report.passed
    assert [head.task for head in report.heads] == ["segmentation", "depth", "age"]
    assert all(head.max_abs == 0 for head in report.heads)
    assert report.heads[0].metrics["PAcc"] == 1
    assert report.heads[1].metrics["RMSE"] == 0
    assert report.heads[2].metrics["MAE"] == 0
    assert report.images == ((2, 16, 24, 3), (1, 24, 16, 3))


@pytest.mark.parametrize(("share", "passes"), [(0.9e-4, True), (1.1e-4, False)])
def test_the_tolerance_is_a_share_of_the_range(share: float, passes: bool) -> None:
    exact = check_parity(model(), model(), IMAGES, TASKS).heads[0]

    report = check_parity(model(), model(add("segmentation", share * exact.extent)), IMAGES, TASKS)

    assert exact.extent == pytest.approx(1.0, abs=0.05)  # noise reaches from 0 to 255
    assert report.passed is passes
    assert report.heads[0].relative == pytest.approx(share, rel=0.01)
    assert [head.passed for head in report.heads[1:]] == [True, True]


def test_a_nearly_constant_output_is_measured_against_its_size() -> None:
    def flatten(outputs: dict[str, Array]) -> None:
        outputs["depth"] = 5 + 1e-6 * outputs["depth"]

    report = check_parity(model(flatten), model(flatten), IMAGES, TASKS)

    assert report.heads[1].extent == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("spoilt_reference", [True, False])
def test_what_is_not_finite_never_passes(value: float, spoilt_reference: bool) -> None:
    wrong = model(add("depth", value))
    pair = (wrong, wrong) if spoilt_reference else (model(), wrong)

    report = check_parity(*pair, IMAGES, TASKS)

    assert not report.passed
    assert report.problems() == "depth: NaN or infinity"
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["heads"][1]["max_abs"] is None


def test_missing_and_additional_heads_fail() -> None:
    missing = check_parity(model(), model(lambda outputs: outputs.pop("age")), IMAGES, TASKS)
    additional = check_parity(model(), model(lambda o: o.update(other=o["age"])), IMAGES, TASKS)

    assert missing.problems() == "age: the candidate has no such output"
    assert additional.problems() == "other: an output that is no task of this model"


def test_another_shape_or_type_fails() -> None:
    shape = check_parity(model(), model(lambda o: o.update(age=o["age"][:, :9])), IMAGES, TASKS)
    kind = check_parity(model(), model(lambda o: o.update(age=o["age"].astype(np.float64))), IMAGES, TASKS)

    assert shape.problems() == "age: float32 (2, 9) instead of float32 (2, 10)"
    assert "float64" in kind.problems()


def test_swapped_heads_of_one_shape_fail() -> None:
    tasks = (Classification("gender", ("f", "m")), Classification("glasses", ("no", "yes")))

    def run(images: Array) -> dict[str, Array]:
        means = images.mean((1, 2)).astype(np.float32)
        return {"gender": means[:, :2], "glasses": means[:, 1:]}

    def swapped(images: Array) -> dict[str, Array]:
        return {"gender": run(images)["glasses"], "glasses": run(images)["gender"]}

    report = check_parity(run, swapped, IMAGES, tasks)

    assert [head.passed for head in report.heads] == [False, False]


@pytest.mark.parametrize(("wrong_pixels", "passes"), [(1, True), (2, False)])
def test_of_decoded_labels_one_pixel_may_be_a_tie(wrong_pixels: int, passes: bool) -> None:
    def labels(images: Array) -> dict[str, Array]:
        return {"segmentation": images[..., 0] // 86}

    def other(images: Array) -> dict[str, Array]:
        found = labels(images)["segmentation"].copy()
        if len(images) == 1:
            found[0, 0, :wrong_pixels] = 2 - found[0, 0, :wrong_pixels] // 2 * 2
        return {"segmentation": found}

    report = check_parity(labels, other, IMAGES, TASKS[:1], outputs="decoded")

    assert report.passed is passes
    assert report.heads[0].relative == wrong_pixels / (3 * 16 * 24)


def test_a_decoded_normal_may_turn_where_it_has_no_length_but_no_more() -> None:
    def normals(images: Array) -> dict[str, Array]:
        vectors = images.astype(np.float32) - 127.4
        return {"normals": vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)}

    def turned(pixels: int) -> Model:
        def run(images: Array) -> dict[str, Array]:
            result = normals(images)["normals"]
            result[0, 0, :pixels] *= -1 if len(images) == 1 else 1
            return {"normals": result}

        return run

    one, two = (check_parity(normals, turned(n), IMAGES, [Normals()], outputs="decoded") for n in (1, 2))

    assert one.passed
    assert not two.passed
    assert one.heads[0].metrics["mean_angle"] > 0


def test_the_table_has_one_line_per_head_and_says_which_differs() -> None:
    report = check_parity(model(), model(add("depth", 1.0)), IMAGES, TASKS)

    lines = report.table().splitlines()

    assert len(lines) == 4
    assert "equal" in lines[1]
    assert "DIFFERS" in lines[2]
    assert "2 of 72 values differ by more than 0.0001 of the range" in lines[2]


def test_probe_images_differ_and_are_the_same_every_time() -> None:
    first, second = probe_images((20, 30), 3), probe_images((20, 30), 3)

    assert first.shape == (3, 20, 30, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)
    assert len({image.tobytes() for image in probe_images((20, 30), 7)}) == 7
    assert np.ptp(first, axis=(1, 2, 3)).min() > 100
