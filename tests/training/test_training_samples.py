"""Which samples a step sees, and that image and targets stay aligned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from training_fakes import TinyScenes

from nddr_deploy.data.base import Sample
from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.tasks import Binary, Depth, Normals, Segmentation
from nddr_deploy.training.augment import augment
from nddr_deploy.training.config import AugmentConfig
from nddr_deploy.training.samples import Batch, Batches, load_batches, sample_order, step_samples

TASKS = (Segmentation(classes=tuple("abcdefgh")), Normals(), Depth())
GREY = (1, 2, 3)


def picture(height: int = 6, width: int = 8) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Every pixel's label is in its red channel, its depth in metres in its green one; normals lean left or right."""
    labels = np.arange(height * width, dtype=np.uint8).reshape(height, width) % 8
    depth = 1 + np.arange(height * width, dtype=np.float32).reshape(height, width)
    normals = np.zeros((height, width, 3), dtype=np.float32)
    normals[..., 0] = np.where(np.arange(width) < width / 2, 0.6, -0.6)
    normals[..., 2] = -0.8
    image = np.stack([labels * 10, depth.astype(np.uint8), np.where(normals[..., 0] > 0, 200, 20)], axis=2).astype(
        np.uint8
    )
    return image, {"segmentation": labels, "normals": normals, "depth": depth}


def vary(settings: AugmentConfig, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    image, targets = picture()
    return augment(image, targets, TASKS, settings, GREY, np.random.default_rng(seed))


def batches(count: int = 8, batch_size: int = 4, settings: AugmentConfig | None = None, **more: int) -> Batches:
    dataset = TinyScenes("train", count)
    settings = settings or AugmentConfig()
    return Batches(dataset, dataset.tasks, batch_size=batch_size, seed=3, settings=settings, padding=GREY, **more)


def same(first: object, second: object) -> bool:
    assert isinstance(first, Batch)
    assert isinstance(second, Batch)
    pairs = [(first.images, second.images), *((first.targets[name], second.targets[name]) for name in first.targets)]
    return all(torch.equal(left, right) for left, right in pairs)


def test_mirroring_negates_the_x_of_normals_and_keeps_all_targets_on_their_pixels() -> None:
    outcomes = set()
    for seed in range(8):
        image, targets = vary(AugmentConfig(flip=True), seed)
        flipped = bool(image[0, 0, 0] != 0)
        outcomes.add(flipped)

        assert np.array_equal(image[..., 0], targets["segmentation"] * 10)
        assert np.array_equal(image[..., 1], targets["depth"].astype(np.uint8))
        was_leaning_right = image[..., 2] == 200
        assert np.array_equal(targets["normals"][..., 0] > 0, was_leaning_right != flipped)
    assert outcomes == {True, False}


def test_a_crop_takes_the_same_window_of_image_and_targets() -> None:
    starts = set()
    for seed in range(20):
        image, targets = vary(AugmentConfig(flip=False, crop_hw=(3, 4)), seed)
        starts.add(int(targets["depth"][0, 0]))

        assert image.shape == (3, 4, 3)
        assert np.array_equal(image[..., 0], targets["segmentation"] * 10)
        assert np.array_equal(image[..., 1], targets["depth"].astype(np.uint8))
    assert len(starts) > 5


def test_what_lies_outside_the_image_is_padding_and_not_labelled() -> None:
    image, targets = vary(AugmentConfig(flip=False, crop_hw=(10, 12)))

    outside = targets["segmentation"] == 255
    assert outside.sum() == 10 * 12 - 6 * 8
    assert (image[outside] == GREY).all()
    assert not targets["depth"][outside].any()
    assert not targets["normals"][outside].any()
    assert (targets["depth"][~outside] > 0).all()


def test_enlarging_brings_things_nearer_and_keeps_normals_of_length_one() -> None:
    _, targets = vary(AugmentConfig(flip=False, scale=(2.0, 2.0)))

    assert targets["depth"].shape == (6, 8)
    assert set(np.unique(targets["depth"] * 2)) <= set(range(1, 49))  # an original depth, halved
    assert np.linalg.norm(targets["normals"], axis=2) == pytest.approx(1.0)


def test_a_constant_image_stays_constant_inside_when_it_is_scaled() -> None:
    image = np.full((12, 16, 3), 77, dtype=np.uint8)
    targets = {"depth": np.full((12, 16), 3.0, dtype=np.float32)}

    varied, found = augment(image, targets, (Depth(),), AugmentConfig(scale=(1.3, 1.3)), GREY, np.random.default_rng(0))

    assert (varied == 77).all()
    assert found["depth"] == pytest.approx(3.0 / 1.3)


def test_colours_change_within_their_range_and_targets_do_not() -> None:
    image = np.full((4, 4, 3), 100, dtype=np.uint8)
    targets = {"depth": np.ones((4, 4), dtype=np.float32)}
    settings = AugmentConfig(flip=False, brightness=0.2)

    found = [
        augment(image, targets, (Depth(),), settings, GREY, np.random.default_rng(seed))[0].max() for seed in range(20)
    ]

    assert min(found) >= 80
    assert max(found) <= 120
    assert len(set(found)) > 5


@pytest.mark.parametrize("wrong", [{"scale": (0.0, 1.0)}, {"scale": (1.5, 1.0)}, {"contrast": 1.5}])
def test_senseless_variations_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="augment"):
        vary(AugmentConfig(**wrong))  # type: ignore[arg-type]


def test_every_epoch_sees_every_sample_once_in_another_order() -> None:
    pairs = [pair for step in range(5) for pair in step_samples(0, step, batch_size=4, count=10)]

    epochs = {epoch: [index for of, index in pairs if of == epoch] for epoch in (0, 1)}
    assert {epoch: sorted(order) for epoch, order in epochs.items()} == {0: list(range(10)), 1: list(range(10))}
    assert epochs[0] != epochs[1]
    assert epochs[0] == sample_order(0, 0, 10).tolist()
    assert sample_order(0, 0, 10).tolist() != sample_order(1, 0, 10).tolist()


def test_a_batch_depends_on_its_step_alone() -> None:
    settings = AugmentConfig(brightness=0.3, scale=(0.8, 1.2))
    once, again = batches(settings=settings), batches(settings=settings)
    for step in range(4):
        once[step]

    assert same(once[4], again[4])


def test_the_same_sample_is_varied_differently_in_another_epoch() -> None:
    many = batches(count=1, batch_size=1, settings=AugmentConfig(brightness=0.5))

    assert not same(many[0], many[1])


def test_processes_share_a_step_without_overlap() -> None:
    whole = batches()[1]
    parts = [batches(process=process, processes=2)[1] for process in (0, 1)]

    assert isinstance(whole, Batch)
    joined = torch.stack([part.images for part in parts if isinstance(part, Batch)], dim=1).flatten(0, 1)
    assert torch.equal(joined, whole.images)


def test_worker_processes_give_the_same_batches_in_the_same_order() -> None:
    alone = list(load_batches(batches(), range(1, 4)))
    helped = list(load_batches(batches(), range(1, 4), workers=2))

    assert len(alone) == len(helped) == 3
    assert all(same(left, right) for left, right in zip(alone, helped, strict=True))


def test_loading_draws_nothing_from_the_generator_that_dropout_uses() -> None:
    before = torch.get_rng_state()

    list(load_batches(batches(), range(2)))

    assert torch.equal(torch.get_rng_state(), before)


class Edges(TinyScenes):
    """Scenes whose only target says yes, no and not labelled, and `last` in the last pixel."""

    last = 255

    def __init__(self, split: str, count: int) -> None:
        super().__init__(split, count)
        self.tasks = (Binary("edge"),)

    def __getitem__(self, index: int) -> Sample:
        image = super().__getitem__(index).image
        target = np.arange(image[..., 0].size, dtype=np.uint8).reshape(image.shape[:2]) % 2
        target[0, 0], target[-1, -1] = 255, self.last
        return Sample(f"scene-{index}", image, {"edge": target})


class WrongEdges(Edges):
    last = 2


class WrongLabels(TinyScenes):
    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return replace(sample, targets={**sample.targets, "segmentation": sample.targets["segmentation"] + 7})


class MixedSizes(TinyScenes):
    def __getitem__(self, index: int) -> Sample:
        return TinyScenes("train", size_hw=(24 + 8 * index, 40))[index]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (WrongLabels, r"scene-\d: .* segmentation holds [78]; expected 0 to 1"),
        (WrongEdges, r"scene-\d: .* edge holds 2; expected 0 to 1"),
        (MixedSizes, "24x40.*crop_hw"),
    ],
)
def test_a_bad_sample_is_one_sentence_also_from_a_worker(kind: type[TinyScenes], sentence: str, workers: int) -> None:
    dataset = kind("train", 2)
    some = Batches(dataset, dataset.tasks, batch_size=2, seed=1, settings=AugmentConfig(), padding=GREY)

    with pytest.raises(InputError, match=sentence) as caught:
        list(load_batches(some, range(1), workers=workers))

    assert "\n" not in str(caught.value)


def test_yes_or_no_targets_outside_the_image_are_not_labelled() -> None:
    dataset = Edges("train", 1)
    height, width = dataset[0].image.shape[:2]
    settings = AugmentConfig(crop_hw=(height + 8, width + 8))
    some = Batches(dataset, dataset.tasks, batch_size=1, seed=1, settings=settings, padding=GREY)

    (batch,) = load_batches(some, range(1))

    edge = batch.targets["edge"]
    assert edge.dtype == torch.uint8
    assert set(edge.unique().tolist()) == {0, 1, 255}
    assert int((edge == 255).sum()) == (height + 8) * (width + 8) - height * width + 2


def test_a_batch_that_processes_cannot_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 3"):
        batches(batch_size=4, processes=3)
