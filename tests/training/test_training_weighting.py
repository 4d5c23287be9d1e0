"""Weights of several losses: by hand where a hand suffices, and in whole trainings."""

from __future__ import annotations

import csv
import io
import math
import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from rich.console import Console
from torch import Tensor
from training_fakes import TinyScenes, open_tiny, settings
from training_pair import train_together

from nddr_deploy.checkpoint import load_checkpoint
from nddr_deploy.errors import ConfigError
from nddr_deploy.network import MultiTaskNetwork, NetworkConfig, build_network
from nddr_deploy.tasks import Depth, Normals, Segmentation
from nddr_deploy.training import run
from nddr_deploy.training.config_file import config_from_dict
from nddr_deploy.training.optimiser import make_optimiser, set_rate
from nddr_deploy.training.processes import Processes
from nddr_deploy.training.weighting import WEIGHTINGS, Situation, Weighting, make_weighting, shared_weights

approx = pytest.approx
TASKS = (Segmentation(classes=("a", "b")), Normals(), Depth())
TWO = {"segmentation": 1.0, "normals": 1.0}
THREE = {**TWO, "depth": 1.0}


def network(tasks: int = 2, **changes: Any) -> MultiTaskNetwork:
    options = {"backbone_options": {"width": 0.02}, "head_options": {"width": 0.01, "dilation": 2}}
    return build_network(NetworkConfig(backbone="vgg16_deeplab", **{**options, **changes}), TASKS[:tasks])


def weighting(
    name: str, weights: Mapping[str, float], *, on: MultiTaskNetwork | None = None, epoch: int = 5, **options: Any
) -> Weighting:
    accelerator = Accelerator(cpu=True)
    situation = Situation(weights, on or network(len(weights)), epoch, accelerator, Processes(accelerator))
    return make_weighting(name, options, situation)


def learn(found: Weighting, losses: Mapping[str, float]) -> None:
    """A step in which the tasks that `losses` names are labelled."""
    labelled = torch.tensor([task in losses for task in found.tasks])
    found.step(torch.tensor([losses.get(task, 0.0) for task in found.tasks]), labelled)


def constants(losses: Mapping[str, float]) -> dict[str, Tensor]:
    return {task: torch.tensor(loss) for task, loss in losses.items()}


def steep(shared: list[Tensor], slopes: Mapping[str, float]) -> dict[str, Tensor]:
    """Losses whose gradient has exactly these norms with respect to `shared`."""
    numbers = sum(weight.numel() for weight in shared)
    total = torch.stack([weight.sum() for weight in shared]).sum()
    return {task: slope * total / math.sqrt(numbers) for task, slope in slopes.items()}


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize("weights", [{"segmentation": 1.0, "normals": 20.0}, {**THREE, "depth": 0.3}], ids=["2", "3"])
def test_every_weighting_starts_from_the_fixed_weights(name: str, weights: dict[str, float]) -> None:
    found = weighting(name, weights)
    losses = dict(zip(weights, (2.0, 3.0, 5.0), strict=False))

    # uncertainty keeps logarithms in float32
    assert found.named_factors() == approx(weights, rel=1e-6)
    if name != "gradnorm":  # which needs losses with gradients
        total = sum(weights[task] * loss for task, loss in losses.items())
        assert found.total(constants(losses)).item() == approx(total, rel=1e-6)


def test_fixed_weights_learn_nothing() -> None:
    fixed = weighting("fixed", {"segmentation": 1.0, "normals": 20.0})

    learn(fixed, {"segmentation": 5.0, "normals": 0.1})

    assert fixed.named_factors() == {"segmentation": 1.0, "normals": 20.0}
    assert not fixed.state_dict()
    assert not fixed.groups()


@pytest.mark.parametrize("losses", [{"segmentation": 4.0, "normals": 0.01}, {**TWO, "normals": 30.0, "depth": 0.2}])
def test_uncertainty_ends_at_the_logarithm_of_a_constant_loss(losses: dict[str, float]) -> None:
    uncertainty = weighting("uncertainty", dict.fromkeys(losses, 1.0))
    optimiser = make_optimiser(uncertainty.groups(), lr=0.1, momentum=0.0)

    for _ in range(400):
        learn(uncertainty, losses)
        optimiser.step()

    # a distance shrinks by 1 - lr / 2 a step near the end: 1e-4 is far more than what is left
    assert uncertainty.get_parameter("log_variances").tolist() == approx(
        [math.log(loss) for loss in losses.values()], abs=1e-4
    )
    for task, factor in uncertainty.named_factors().items():
        assert factor * losses[task] == approx(0.5, rel=1e-3)


def test_the_gradient_of_uncertainty_is_that_of_its_formula() -> None:
    uncertainty = weighting("uncertainty", {"segmentation": 1.2, "normals": 0.2})
    s = uncertainty.get_parameter("log_variances").detach().clone().requires_grad_()
    losses = torch.tensor([0.7, 1.9])
    (losses * torch.exp(-s) / 2 + s / 2).sum().backward()

    learn(uncertainty, {"segmentation": 0.7, "normals": 1.9})

    assert s.grad is not None
    assert uncertainty.get_parameter("log_variances").grad.tolist() == approx(s.grad.tolist(), rel=1e-5)  # float32


def test_a_loss_that_starts_far_too_large_does_not_drive_its_factor_to_nothing() -> None:
    uncertainty = weighting("uncertainty", {"segmentation": 100.0, "normals": 0.0001})
    optimiser = make_optimiser(uncertainty.groups(), lr=0.1, momentum=0.0)

    learn(uncertainty, {"segmentation": 5.0, "normals": 5.0})
    optimiser.step()

    # both are far from their place, on either side: a step of 0.1 / 2 in the logarithm
    factors = uncertainty.named_factors()
    assert factors["segmentation"] == approx(100.0 * math.exp(-0.05), rel=1e-5)
    assert factors["normals"] == approx(0.0001 * math.exp(0.05), rel=1e-3)  # its gradient is 0.5 - 0.0005


def test_a_task_without_labels_keeps_its_uncertainty() -> None:
    uncertainty = weighting("uncertainty", THREE)
    optimiser = make_optimiser(uncertainty.groups(), lr=0.1, momentum=0.0)

    learn(uncertainty, {"segmentation": 0.8, "depth": 0.9})
    optimiser.step()

    factors = uncertainty.named_factors()
    assert factors["normals"] == approx(1.0, rel=1e-6)
    assert factors["segmentation"] == approx(math.exp(-0.03), rel=1e-5)  # a step of 0.1 x (0.8 - 1/2) in s
    assert factors["depth"] == approx(math.exp(-0.04), rel=1e-5)


def test_uncertainties_do_not_decay_and_have_a_rate_of_their_own() -> None:
    uncertainty = weighting("uncertainty", TWO, lr_factor=7.0)
    optimiser = make_optimiser(uncertainty.groups(), lr=1.0)

    set_rate(optimiser, 0.01)

    (group,) = optimiser.param_groups
    assert group["lr"] == approx(0.07)
    assert group["weight_decay"] == 0


def test_dynamic_averages_by_hand() -> None:
    average = weighting("dwa", {"segmentation": 1.0, "normals": 10.0}, window=2)
    seen = []

    for losses in [(4.0, 1.0), (2.0, 3.0), (1.0, 2.0), (2.0, 2.0), (9.0, 9.0), (3.0, 7.0)]:
        learn(average, dict(zip(TWO, losses, strict=True)))
        seen.append(list(average.named_factors().values()))

    # windows: means (3, 2), then (1.5, 2): ratios 1/2 and 1, over the temperature 2: 1/4 and 1/2
    slow = 2 / (1 + math.exp(-0.25))
    assert seen[:3] == [[1.0, 10.0]] * 3
    assert seen[3] == approx([2 - slow, 10 * slow])
    assert seen[4] == seen[3]
    assert seen[5] == approx([1.0, 10.0])  # (6, 8) is four times the window before, both


def test_dynamic_averages_of_three_tasks_at_another_temperature() -> None:
    average = weighting("dwa", THREE, temperature=0.5, window=1)

    learn(average, {"segmentation": 1.0, "normals": 2.0, "depth": 4.0})
    learn(average, {"segmentation": 1.0, "normals": 1.0, "depth": 1.0})

    exponentials = [math.exp(ratio / 0.5) for ratio in (1.0, 0.5, 0.25)]
    assert list(average.named_factors().values()) == approx([3 * e / sum(exponentials) for e in exponentials])


def test_a_window_is_an_epoch_where_none_is_given() -> None:
    average = weighting("dwa", TWO, epoch=3)

    for step in range(1, 7):
        assert average.named_factors() == TWO, step
        learn(average, {"segmentation": 1.0 if step <= 3 else 2.0, "normals": 1.0})

    assert average.named_factors()["segmentation"] > 1.1


def test_dynamic_averages_do_without_labels_for_a_while() -> None:
    average = weighting("dwa", TWO, window=2)
    unlabelled, labelled = {"segmentation": 1.0}, {"segmentation": 1.0, "normals": 5.0}

    # a step without labels is not a step with a loss of 0: all ratios are 1
    for losses in (labelled, labelled, labelled, unlabelled):
        learn(average, losses)
    assert average.named_factors() == approx(TWO)
    for losses in (unlabelled, unlabelled, labelled, {"segmentation": 0.0, "normals": 5.0}):
        learn(average, losses)
    assert average.named_factors()["normals"] == approx(2 / (1 + math.exp(-0.25)))  # 1 for it, 1/2 for segmentation


def test_a_loss_that_was_zero_does_not_break_dynamic_averages() -> None:
    average = weighting("dwa", TWO, window=1)

    for losses in ((0.0, 1.0), (0.0, 1.0), (3.0, 1.0), (1e6, 1.0)):
        learn(average, dict(zip(TWO, losses, strict=True)))
        assert sum(average.named_factors().values()) == approx(2.0)


def test_one_step_of_gradnorm_by_hand() -> None:
    found = weighting("gradnorm", {"segmentation": 1.0, "normals": 3.0}, alpha=1.0, rate=0.1)
    shared = shared_weights(found.situation.network)

    total = found.total(steep(shared, {"segmentation": 8.0, "normals": 1.0}))
    learn(found, {"segmentation": 2.0, "normals": 0.5})

    # norms 8 and 3, mean 5.5; both losses are their first ones, so both should have 5.5
    first, second = math.exp(-0.1 * 8 / 5.5), 3 * math.exp(0.1 * 3 / 5.5)
    assert list(found.named_factors().values()) == approx([4 * first / (first + second), 4 * second / (first + second)])
    assert total.item() == approx(sum(8 * w.sum().item() + 3 * w.sum().item() for w in shared) / norm(shared), rel=1e-4)


def norm(shared: list[Tensor]) -> float:
    return math.sqrt(sum(weight.numel() for weight in shared))


def test_gradnorm_favours_the_task_that_learns_more_slowly() -> None:
    found = weighting("gradnorm", TWO, alpha=2.0, rate=0.1)
    shared = shared_weights(found.situation.network)
    found.total(steep(shared, {"segmentation": 1.0, "normals": 1.0}))
    learn(found, {"segmentation": 2.0, "normals": 2.0})
    assert found.named_factors() == approx(TWO)  # equal norms are as they should be

    found.total(steep(shared, {"segmentation": 0.4, "normals": 1.6}))
    learn(found, {"segmentation": 0.5, "normals": 1.5})

    # 1/4 and 3/4 of the first losses, over their mean: 1/2 and 3/2; norms should be 1/4 and 9/4 of the mean, 1
    fast, slow = math.exp(-0.1 * 0.4), math.exp(0.1 * 1.6)
    assert list(found.named_factors().values()) == approx([2 * fast / (fast + slow), 2 * slow / (fast + slow)])


@pytest.mark.parametrize("tasks", [2, 3])
def test_gradnorm_undoes_a_loss_that_is_a_hundred_times_too_large(tasks: int) -> None:
    torch.manual_seed(0)
    model = network(tasks)
    weights = dict.fromkeys([task.name for task in TASKS[:tasks]], 1.0)
    found = weighting("gradnorm", weights, on=model, alpha=0.0)
    scales = {"segmentation": 100.0, "normals": 1.0, "depth": 0.5}
    raw = model(torch.rand(2, 3, 32, 40))
    losses = {task: scales[task] * output.square().mean() for task, output in raw.items()}

    for _ in range(500):
        found.total(losses)
        learn(found, {task: loss.item() for task, loss in losses.items()})

    shared = shared_weights(model)
    norms = []
    for task, factor in found.named_factors().items():
        gradient = torch.autograd.grad(losses[task], shared, retain_graph=True)
        norms.append(factor * torch.cat([part.flatten() for part in gradient]).norm().item())
    # the last steps go to and fro by the rate, 2.5 %, in every factor
    assert norms == approx([sum(norms) / tasks] * tasks, rel=0.1)
    assert sum(found.named_factors().values()) == approx(tasks)


def test_gradnorm_sees_a_batch_in_parts_as_the_whole_batch() -> None:
    model = network(2)
    whole, parts = (weighting("gradnorm", TWO, on=model) for _ in range(2))
    shared = shared_weights(model)
    # two parts whose gradients point apart: the norm of the sum is far from the sum of the norms
    first = {"segmentation": 3 * shared[0].sum(), "normals": shared[1].sum()}
    second = {"segmentation": shared[1].sum(), "normals": -2 * shared[1].sum()}

    whole.total({task: first[task] + second[task] for task in TWO})
    learn(whole, {"segmentation": 1.0, "normals": 1.0})
    parts.total(first)
    parts.total(second)
    learn(parts, {"segmentation": 1.0, "normals": 1.0})

    assert parts.named_factors() == approx(whole.named_factors(), rel=1e-6)
    assert parts.named_factors()["segmentation"] < 0.99


def test_gradnorm_adds_up_the_gradients_of_processes_before_it_takes_norms() -> None:
    model = network(2)
    alone, one_of_two = (weighting("gradnorm", TWO, on=model) for _ in range(2))
    shared = shared_weights(model)
    ours, theirs = ({"segmentation": factor * shared[0].sum(), "normals": shared[0].sum()} for factor in (3.0, -1.0))
    alone.total({task: ours[task] + theirs[task] for task in TWO})
    learn(alone, {"segmentation": 1.0, "normals": 1.0})

    class Two(Processes):
        def sum(self, values: Tensor) -> Tensor:
            other = weighting("gradnorm", TWO, on=model)
            other.total(theirs)
            return values + other.gradients  # type: ignore[operator]

    one_of_two.situation = replace(one_of_two.situation, processes=Two(one_of_two.situation.accelerator))
    one_of_two.total(ours)
    learn(one_of_two, {"segmentation": 1.0, "normals": 1.0})

    assert one_of_two.named_factors() == approx(alone.named_factors(), rel=1e-6)  # float32


@pytest.mark.parametrize("name", ["uncertainty", "gradnorm"])
def test_the_scale_of_fp16_changes_no_factor(name: str) -> None:
    model, found = network(2), []
    for scale in (1.0, 1024.0):
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)  # type: ignore[attr-defined]
        weigh = weighting(name, TWO, on=model)
        weigh.situation.accelerator.scaler = scaler
        optimiser = make_optimiser([*weigh.groups(), {"params": shared_weights(model), "lr_factor": 0.0}], lr=0.1)
        set_rate(optimiser, 0.1)
        total = weigh.total(steep(shared_weights(model), {"segmentation": 5.0, "normals": 1.0}))
        scaler.scale(total).backward()
        learn(weigh, {"segmentation": 5.0, "normals": 1.0})
        scaler.step(optimiser)
        optimiser.zero_grad()
        found.append(weigh.named_factors())

    assert found[1] == approx(found[0], rel=1e-6)  # float32
    assert found[0]["segmentation"] < 0.99


def test_gradnorm_leaves_everything_where_a_task_has_no_labels_or_a_gradient_overflows() -> None:
    found = weighting("gradnorm", TWO)
    shared = shared_weights(found.situation.network)
    found.total(steep(shared, {"segmentation": 8.0, "normals": 1.0}))
    learn(found, {"segmentation": 1.0, "normals": 1.0})
    before = found.named_factors()

    found.total(steep(shared, {"segmentation": 8.0, "normals": 1.0}))
    learn(found, {"segmentation": 1.0})
    found.total(steep(shared, {"segmentation": math.inf, "normals": 1.0}))
    learn(found, {"segmentation": 1.0, "normals": 1.0})

    assert before != TWO
    assert found.named_factors() == before


def test_gradnorm_takes_no_part_in_the_gradients_of_the_network() -> None:
    torch.manual_seed(0)
    model = network(2).eval()
    images = torch.rand(1, 3, 32, 40)
    gradients = []
    for name in ("fixed", "gradnorm"):
        model.zero_grad()
        losses = {task: output.square().mean() for task, output in model(images).items()}
        weighting(name, TWO, on=model).total(losses).backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])

    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("changes", "stage"),
    [
        ({"fusion": "nddr"}, 5),
        ({"fusion": "cross_stitch", "fused_stages": [1, 3]}, 3),
        ({"fusion": "sluice", "shortcut": "per_task"}, 5),
        ({"fusion": "shared"}, 5),
    ],
)
def test_every_loss_reaches_the_weights_whose_gradients_are_compared(changes: dict[str, Any], stage: int) -> None:
    model = network(3, **changes).eval()

    shared = shared_weights(model)
    raw = model(torch.rand(1, 3, 32, 40))

    last = [model.stages_of(stream)[stage - 1].last_convolution().weight for stream in model.streams]
    assert all(ours is theirs for ours, theirs in zip(shared, last, strict=True))
    for task, output in raw.items():
        for gradient in torch.autograd.grad(output.square().sum(), shared, retain_graph=True):
            assert gradient.abs().sum() > 0, task


def test_gradnorm_refuses_a_network_that_shares_nothing() -> None:
    with pytest.raises(ConfigError, match=r"fusion 'none' they share none.*another weighting"):
        weighting("gradnorm", TWO, on=network(2, fusion="none"))


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_weighting_goes_on_from_its_state(name: str) -> None:
    def steps(found: Weighting, optimiser: torch.optim.Optimizer | None, count: range) -> None:
        shared = shared_weights(found.situation.network)
        for step in count:
            found.total(steep(shared, {"segmentation": 2.0, "normals": 2.0}))
            learn(found, {"segmentation": 3.0 / (1 + step), "normals": 1.0})
            if optimiser is not None:
                optimiser.step()

    def optimiser_of(found: Weighting) -> torch.optim.Optimizer | None:
        return make_optimiser(found.groups(), lr=0.1, momentum=0.0) if found.groups() else None

    model, options = network(2), {"window": 3} if name == "dwa" else {}
    unbroken = weighting(name, TWO, on=model, **options)
    steps(unbroken, optimiser_of(unbroken), range(11))

    broken = weighting(name, TWO, on=model, **options)
    steps(broken, optimiser_of(broken), range(4))
    resumed = weighting(name, TWO, on=model, **options)
    resumed.load_state_dict(broken.state_dict())
    steps(resumed, optimiser_of(resumed), range(4, 11))

    assert resumed.named_factors() == unbroken.named_factors()
    assert (resumed.named_factors() == TWO) == (name == "fixed")


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("gradnrom", {}, "loss.weighting: 'gradnrom'.*Did you mean 'gradnorm'"),
        ("fixed", {"alpha": 1.0}, "loss.weighting_options: 'alpha' was given, but there are no options"),
        ("gradnorm", {"alfa": 1.0}, "loss.weighting_options: 'alfa'.*Did you mean 'alpha'"),
        ("gradnorm", {"alpha": -1.0}, "alpha: expected at least 0; got -1"),
        ("gradnorm", {"rate": 0.0}, "rate: expected a positive number"),
        ("uncertainty", {"lr_factor": "fast"}, "lr_factor: expected a number"),
        ("uncertainty", {"lr_factor": math.nan}, "lr_factor: expected a positive number"),
        ("dwa", {"temperature": 0.0}, "temperature: expected a positive number"),
        ("dwa", {"window": 0}, "window: expected a number of steps"),
        ("dwa", {"window": 2.5}, "window: expected a number of steps"),
    ],
)
def test_what_cannot_weigh_is_refused(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        weighting(name, TWO, **options)


ADAPTIVE = [
    {"weighting": "uncertainty", "weighting_options": {"lr_factor": 5.0}},
    {"weighting": "dwa", "weighting_options": {"window": 2}},
    {"weighting": "gradnorm", "weighting_options": {"alpha": 0.5}},
]
adaptive = pytest.mark.parametrize("loss", ADAPTIVE, ids=[str(loss["weighting"]) for loss in ADAPTIVE])
# without BatchNorm and dropout, a batch in parts has the gradient of the whole batch
PLAIN = {
    "backbone": "vgg16_deeplab",
    "backbone_options": {"width": 0.05, "batchnorm": False},
    "fusion_options": {"order": "conv"},
    "head_options": {"width": 0.02, "dilation": 2, "batchnorm": False, "dropout": 0.0},
}

UNEVEN = {
    "network": PLAIN,
    "tasks": list(THREE),
    "data": {"options": {"sparse": True}},  # labels are not shared out evenly
    "steps": 4,
    "eval_every": 4,
    "log_every": 1,
}


def train(output: Path, *, resume: bool = False, **changes: Any) -> run.TrainReport:
    config = config_from_dict(settings(output, **{"tasks": list(THREE), "checkpoint_every": 100, **changes}))
    return run.train(config, resume=resume, console=Console(file=io.StringIO()))


def factors_on_record(folder: Path) -> list[list[float]]:
    """A row for every logged step, a column for every task."""
    with open(folder / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["loss"]]
    return [[float(value) for column, value in row.items() if column.startswith("factor/")] for row in rows]


@pytest.fixture
def tiny_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "open_dataset", open_tiny)


@adaptive
def test_a_training_stopped_between_two_windows_ends_with_the_same_bytes(
    tmp_path: Path, tiny_scenes: None, monkeypatch: pytest.MonkeyPatch, loss: dict[str, Any]
) -> None:
    changes = {"loss": {"at": "raw", **loss, "weights": {"normals": 3.0}}, "steps": 6, "eval_every": 6}
    unbroken = train(tmp_path / "unbroken", **changes)
    seen, samples = TinyScenes.__getitem__, count(1)

    def interrupt(self: TinyScenes, index: int) -> Any:
        if self.first == 0 and next(samples) == 4 * 3:  # the last sample of the third step
            os.kill(os.getpid(), signal.SIGINT)
        return seen(self, index)

    monkeypatch.setattr(TinyScenes, "__getitem__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", **changes)
    assert load_checkpoint(tmp_path / "broken" / "last.pt").training["step"] == 3

    resumed = train(tmp_path / "broken", resume=True, **changes)

    assert resumed.checkpoint.read_bytes() == unbroken.checkpoint.read_bytes()  # it holds the weighting's state, too
    found = factors_on_record(tmp_path / "broken")
    assert found == factors_on_record(tmp_path / "unbroken")
    assert len(found) == 3  # log_every is 2
    assert [factors != [1.0, 3.0, 1.0] for factors in found] == [loss["weighting"] != "dwa", True, True]
    assert all(math.isfinite(factor) and factor > 0 for factors in found for factor in factors)
    report = load_checkpoint(resumed.checkpoint)
    assert report.training["weighting"]
    assert all(torch.isfinite(weight).all() for weight in report.weights.values())
    assert resumed.scores["depth"]["AbsRel"] < 2


@adaptive
def test_factors_do_not_depend_on_the_parts_of_a_batch(tmp_path: Path, tiny_scenes: None, loss: dict[str, Any]) -> None:
    train(tmp_path / "whole", **UNEVEN, loss={"at": "raw", **loss})
    train(tmp_path / "parts", **UNEVEN, loss={"at": "raw", **loss}, accumulate=4)

    # float32 sums in another order; metrics.csv has six digits
    whole, parts = factors_on_record(tmp_path / "whole"), factors_on_record(tmp_path / "parts")
    assert parts == [approx(row, rel=2e-5) for row in whole]
    assert whole[-1] != approx([1.0, 1.0, 1.0], rel=1e-3)


def test_tensorboard_shows_the_factors(tmp_path: Path, tiny_scenes: None) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(tmp_path, loss={"at": "raw", **ADAPTIVE[0]}, steps=2, tensorboard=True)

    events = reader.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()

    assert events.Scalars("factor/normals")[0].value == approx(factors_on_record(tmp_path)[0][1], rel=1e-5)


def test_a_weighting_that_cannot_be_is_refused_before_anything_is_written(tmp_path: Path, tiny_scenes: None) -> None:
    network = {**PLAIN, "fusion": "none", "fusion_options": {}}

    with pytest.raises(ConfigError, match="gradnorm compares gradients"):
        train(tmp_path / "run", network=network, loss={"weighting": "gradnorm"})

    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def on_two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one training in each weighting."""
    folder = tmp_path_factory.mktemp("two")
    configs = [settings(folder / str(loss["weighting"]), **UNEVEN, loss={"at": "raw", **loss}) for loss in ADAPTIVE]
    outcomes = train_together(folder, [{"config": config} for config in configs])
    assert all(outcome["error"] == "" for pair in outcomes for outcome in pair), outcomes
    return folder


@adaptive
def test_two_processes_find_the_factors_of_one(
    tmp_path: Path, tiny_scenes: None, on_two_processes: Path, loss: dict[str, Any]
) -> None:
    alone = train(tmp_path, **UNEVEN, loss={"at": "raw", **loss}).checkpoint

    folder = on_two_processes / str(loss["weighting"])
    one, two = factors_on_record(tmp_path), factors_on_record(folder)
    assert two == [approx(row, rel=2e-5) for row in one]  # as for parts
    assert one[-1] != approx([1.0, 1.0, 1.0], rel=1e-3)
    ours, theirs = load_checkpoint(alone).weights, load_checkpoint(folder / "ckpt.pt").weights
    for name, weight in ours.items():
        assert torch.allclose(theirs[name], weight, rtol=1e-4, atol=1e-6), name
