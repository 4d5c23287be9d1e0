"""Loss values that a person can redo."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from nddr_deploy.errors import ConfigError
from nddr_deploy.network import Resize
from nddr_deploy.tasks import TASKS, Age, Classification, Depth, Normals, Segmentation, Task
from nddr_deploy.training.losses import LOSSES, cross_entropy_of_rows, reduce_target
from nddr_deploy.training.objective import Objective

approx = pytest.approx
TASKS_OF_A_SCENE = (Segmentation(classes=("a", "b")), Normals(), Depth())


def mean(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss as it is minimised: its sum over what is valid, divided by how much that is."""
    loss = LOSSES[name]
    return lambda raw, target: loss.total(raw, target) / loss.valid(target).sum()


cross_entropy, binary_cross_entropy, age_cross_entropy, cosine, l1, relative_l1 = (
    mean(name) for name in ("cross_entropy", "binary_cross_entropy", "age_cross_entropy", "cosine", "l1", "relative_l1")
)


def losses_of(objective: Objective, raw: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    targets = objective.targets_at(raw, targets)
    sums = objective(raw, targets)
    return {name: total / count for (name, total), count in zip(sums.items(), objective.valid(targets), strict=True)}


def column(*values: float) -> Tensor:
    """One pixel: (1, C, 1, 1)."""
    return torch.tensor(values).reshape(1, -1, 1, 1)


def test_cross_entropy_of_equal_scores_is_the_logarithm_of_the_number_of_classes() -> None:
    loss = cross_entropy(torch.zeros(1, 4, 2, 3), torch.zeros(1, 2, 3, dtype=torch.uint8))

    assert loss.item() == approx(math.log(4))


def test_cross_entropy_is_a_mean_over_labelled_pixels_only() -> None:
    raw = torch.zeros(1, 2, 1, 3)
    raw[0, :, 0, 1] = torch.tensor([100.0, -100.0])  # badly wrong, but not labelled
    target = torch.tensor([[[0, 255, 1]]], dtype=torch.uint8)

    assert cross_entropy(raw, target).item() == approx(math.log(2))


def test_cross_entropy_of_rows_is_that_of_maps() -> None:
    raw = torch.randn(2, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 4, 255, 2], dtype=torch.uint8).expand(2, 3, 4)

    of_maps, of_rows = LOSSES["cross_entropy"].total(raw, target), cross_entropy_of_rows(raw, target)

    assert of_rows.item() == approx(of_maps.item(), rel=1e-12)
    gradients = (torch.autograd.grad(loss, raw)[0] for loss in (of_maps, of_rows))
    assert torch.allclose(*gradients, rtol=0, atol=1e-12)


def test_a_class_255_of_a_pooled_task_is_a_class_like_any_other() -> None:
    raw = torch.zeros(1, 300)
    raw[0, 255] = 1000.0

    assert cross_entropy(raw, torch.tensor([255])).item() == approx(0.0)
    assert cross_entropy(raw, torch.tensor([254])).item() == approx(1000.0)


@pytest.mark.parametrize(
    ("direction", "expected"),
    [((0.0, 0.0, -5.0), 0.0), ((0.0, 2.0, 0.0), 1.0), ((0.0, 0.0, 0.1), 2.0), ((0.0, -3.0, -3.0), 1 - math.sqrt(0.5))],
)
def test_cosine_loss_does_not_depend_on_length(direction: tuple[float, ...], expected: float) -> None:
    target = torch.tensor([0.0, 0.0, -1.0]).reshape(1, 1, 1, 3)

    # float32 of a number near 1: a few units of 6e-8
    assert cosine(column(*direction), target).item() == approx(expected, abs=1e-6)


def test_cosine_loss_and_its_gradient_are_those_of_pytorchs_cosine_similarity() -> None:
    raw = torch.randn(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    target = 3 * torch.randn(2, 5, 7, 3, dtype=torch.float64)  # of any length, too

    ours = LOSSES["cosine"].total(raw, target)
    expected = (1 - torch.nn.functional.cosine_similarity(raw, target.movedim(-1, 1), dim=1)).sum()

    assert ours.item() == approx(expected.item(), rel=1e-12)
    gradients = (torch.autograd.grad(loss, raw)[0] for loss in (ours, expected))
    assert torch.allclose(*gradients, rtol=0, atol=1e-12)


def test_cosine_loss_skips_pixels_without_a_normal_and_keeps_those_with_a_zero_component() -> None:
    raw = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]).reshape(1, 3, 1, 2)
    target = torch.tensor([[[[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]])

    assert cosine(raw, target).item() == approx(1.0)  # the second pixel alone: orthogonal


def test_depth_losses_skip_what_was_not_measured() -> None:
    raw, target = column(3.0, 9.0).reshape(1, 1, 1, 2), torch.tensor([[[2.0, 0.0]]])

    assert l1(raw, target).item() == approx(1.0)
    assert relative_l1(raw, target).item() == approx(0.5)


def test_binary_cross_entropy_is_a_mean_over_labelled_pixels_only() -> None:
    raw = column(0.0, 100.0, 2.0, -1e30).reshape(1, 1, 1, 4)
    target = torch.tensor([[[1, 1, 0, 255]]], dtype=torch.uint8)

    # ln 2 where it cannot tell, nothing where it is sure and right, ln(1 + e^2) for the wrong one.
    assert binary_cross_entropy(raw, target).item() == approx((math.log(2) + math.log(1 + math.exp(2))) / 3)


def test_age_cross_entropy_takes_the_nearest_year() -> None:
    raw = torch.zeros(1, 100)
    raw[0, 34] = 50.0

    # the other 99 classes weigh exp(-50) each
    assert age_cross_entropy(raw, torch.tensor([34.2])).item() == approx(0.0, abs=1e-6)
    assert age_cross_entropy(raw, torch.tensor([35.0])).item() == approx(50.0)


@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy", "cosine", "l1", "relative_l1"])
def test_nothing_labelled_gives_zero_loss_and_zero_gradient(name: str) -> None:
    channels, target = {
        "cross_entropy": (2, torch.full((1, 2, 2), 255, dtype=torch.uint8)),
        "binary_cross_entropy": (1, torch.full((1, 2, 2), 255, dtype=torch.uint8)),
        "cosine": (3, torch.zeros(1, 2, 2, 3)),
        "l1": (1, torch.zeros(1, 2, 2)),
        "relative_l1": (1, torch.zeros(1, 2, 2)),
    }[name]
    raw = torch.randn(1, channels, 2, 2, requires_grad=True)

    loss = LOSSES[name].total(raw, target)
    loss.backward()

    assert loss.item() == 0
    assert not LOSSES[name].valid(target).any()
    assert raw.grad is not None
    assert torch.equal(raw.grad, torch.zeros_like(raw))


def plain_mean(name: str, raw: Tensor, target: Tensor) -> Tensor:
    """Each loss once more, on the valid pixels alone."""
    if name == "cross_entropy":
        return torch.nn.functional.cross_entropy(raw, target.long(), ignore_index=255)
    if name == "cosine":
        valid = target.any(dim=-1)
        ours, truth = raw.movedim(1, -1)[valid], target[valid]
        return (1 - (ours * truth).sum(dim=-1) / ours.norm(dim=-1)).mean()
    valid = target != 255 if name == "binary_cross_entropy" else target > 0
    ours, truth = raw[:, 0][valid], target[valid]
    if name == "binary_cross_entropy":
        return torch.nn.functional.binary_cross_entropy(ours.sigmoid(), truth.double())
    return ((ours - truth).abs() / (truth if name == "relative_l1" else 1)).mean()


@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy", "cosine", "l1", "relative_l1"])
def test_the_gradient_of_sums_over_parts_is_that_of_the_mean_over_all_valid_pixels(name: str) -> None:
    random = torch.Generator().manual_seed(0)
    hidden = torch.rand((3, 5, 7), generator=random) < 0.4
    hidden[1] = True  # a part without labels
    labels = torch.randint(0, 2, (3, 5, 7), generator=random, dtype=torch.uint8).masked_fill(hidden, 255)
    metres = (torch.rand((3, 5, 7), generator=random, dtype=torch.float64) + 0.1).masked_fill(hidden, 0)
    normals = torch.nn.functional.normalize(torch.randn((3, 5, 7, 3), generator=random, dtype=torch.float64), dim=-1)
    channels, target = {
        "cross_entropy": (2, labels),
        "binary_cross_entropy": (1, labels),
        "cosine": (3, normals.masked_fill(hidden[..., None], 0)),
        "l1": (1, metres),
        "relative_l1": (1, metres),
    }[name]
    raw = torch.randn((3, channels, 5, 7), generator=random, dtype=torch.float64, requires_grad=True)
    loss, parts = LOSSES[name], (slice(0, 1), slice(1, 2), slice(2, 3))

    total = torch.stack([loss.total(raw[part], target[part]) / loss.valid(target).sum() for part in parts]).sum()
    plain = plain_mean(name, raw, target)

    ours, theirs = (torch.autograd.grad(value, raw)[0] for value in (total, plain))
    assert total.item() == approx(plain.item(), rel=1e-12)  # float64
    assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-14)


def test_every_task_names_a_loss_that_exists() -> None:
    assert {task.loss for task in TASKS.values()} <= set(LOSSES)


def test_reduced_targets_are_those_at_the_centres_of_the_raw_pixels() -> None:
    target = torch.arange(36).reshape(1, 6, 6)

    reduced = {
        convention: reduce_target(target, (2, 2), convention)[0].tolist()
        for convention in ("half_pixel", "align_corners", "asymmetric")
    }

    assert reduced["half_pixel"] == [[7, 10], [25, 28]]  # rows and columns 1 and 4
    assert reduced["align_corners"] == [[0, 5], [30, 35]]  # the corners
    assert reduced["asymmetric"] == [[0, 3], [18, 21]]  # 0 and 3


def scene(height: int, width: int) -> dict[str, Tensor]:
    normals = torch.zeros(2, height, width, 3)
    normals[..., 2] = -1
    return {
        "segmentation": torch.zeros(2, height, width, dtype=torch.uint8),
        "normals": normals,
        "depth": torch.full((2, height, width), 3.0),
    }


@pytest.mark.parametrize("at", ["full", "raw"])
def test_an_objective_compares_every_output_with_its_own_target(at: str) -> None:
    objective = Objective(TASKS_OF_A_SCENE, weights={"depth": 2.0}, kinds={}, at=at)  # type: ignore[arg-type]
    raw = {
        "segmentation": torch.tensor([100.0, 0.0]).reshape(1, 2, 1, 1).expand(2, 2, 3, 4),
        "normals": torch.tensor([0.0, 0.0, -2.0]).reshape(1, 3, 1, 1).expand(2, 3, 3, 4),
        "depth": torch.full((2, 1, 3, 4), 2.5),
    }

    losses = losses_of(objective, raw, scene(12, 16))

    assert losses["segmentation"].item() == approx(0.0)
    assert losses["normals"].item() == approx(0.0, abs=1e-6)
    assert losses["depth"].item() == approx(0.5)  # not weighted yet
    assert objective.weights == {"segmentation": 1.0, "normals": 1.0, "depth": 2.0}


def test_full_size_losses_resize_raw_maps_with_the_networks_convention() -> None:
    objective = Objective((Depth(),), weights={}, kinds={}, at="full", resize="asymmetric")
    raw = torch.rand(1, 1, 2, 3)
    target = Resize("asymmetric")(raw, (4, 6))[:, 0]

    assert losses_of(objective, {"depth": raw}, {"depth": target})["depth"].item() == 0


@pytest.mark.parametrize(
    ("weights", "kinds", "sentence"),
    [
        ({"depht": 1.0}, {}, "Did you mean 'depth'"),
        ({"depth": 0.0}, {}, "positive factor"),
        ({"depth": float("nan")}, {}, "positive factor"),
        ({}, {"depth": "l3"}, "Choose one of: .*relative_l1"),
    ],
)
def test_an_objective_refuses_what_it_cannot_weigh(
    weights: dict[str, float], kinds: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Objective(TASKS_OF_A_SCENE, weights=weights, kinds=kinds)


def test_pooled_tasks_of_one_network_keep_their_losses_apart() -> None:
    tasks: tuple[Task, ...] = (Age(), Classification("gender", ("a", "b")))
    raw = {"age": torch.zeros(3, 100), "gender": torch.zeros(3, 2)}

    targets = {"age": torch.tensor([1.0, 2.0, 3.0]), "gender": torch.tensor([0, 1, 0])}
    losses = losses_of(Objective(tasks, weights={}, kinds={}), raw, targets)

    assert losses["age"].item() == approx(math.log(100))
    assert losses["gender"].item() == approx(math.log(2))


def test_pixels_are_counted_after_targets_were_reduced_to_the_raw_size() -> None:
    objective = Objective((Depth(),), weights={}, kinds={}, at="raw")
    target = torch.zeros(1, 6, 6)
    target[0, 1, 1] = 2.0  # the centre of the first of four raw pixels
    raw = torch.full((1, 1, 2, 2), 5.0)

    reduced = objective.targets_at({"depth": raw}, {"depth": target})

    assert objective.valid(reduced).tolist() == [1]
    assert objective({"depth": raw}, reduced)["depth"].item() == approx(3.0)
