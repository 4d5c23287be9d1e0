"""The learning rate: over time, and over the parts of a network."""

from __future__ import annotations

import pytest
import torch

from nddr_deploy.errors import ConfigError
from nddr_deploy.network import NetworkConfig, build_network
from nddr_deploy.tasks import Depth, Normals
from nddr_deploy.training.optimiser import make_optimiser, parameter_groups, set_rate
from nddr_deploy.training.schedule import poly_factor

approx = pytest.approx


def network(fusion: str = "nddr", shortcut: str = "per_task") -> torch.nn.Module:
    config = NetworkConfig(
        backbone="vgg16_deeplab",
        backbone_options={"width": 0.02},
        fusion=fusion,
        shortcut=shortcut,  # type: ignore[arg-type]
        head_options={"width": 0.01},
    )
    return build_network(config, (Normals(), Depth()))


def settings_of(model: torch.nn.Module, groups: list[dict[str, object]]) -> dict[str, tuple[float, float]]:
    """Parameter name -> (rate factor, weight decay)."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [
        (names[id(parameter)], (group["lr_factor"], group["weight_decay"]))
        for group in groups
        for parameter in group["params"]  # type: ignore[attr-defined]
    ]
    assert len(found) == len(dict(found)) == len(names), "a parameter is in no group, or in two"
    return dict(found)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1.0), (50, 0.5**0.9), (99, 0.01**0.9)],
)
def test_poly_schedule_by_hand(step: int, expected: float) -> None:
    assert poly_factor(step, 100, power=0.9) == approx(expected)


def test_warm_up_rises_linearly_to_the_schedule() -> None:
    rates = [poly_factor(step, 10, power=1.0, warmup_steps=4) for step in range(6)]

    assert rates == approx([0.25 * 1.0, 0.5 * 0.9, 0.75 * 0.8, 1.0 * 0.7, 0.6, 0.5])


@pytest.mark.parametrize("wrong", [{"power": -1.0}, {"warmup_steps": 10}, {"warmup_steps": -1}])
def test_a_schedule_that_never_arrives_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="schedule"):
        poly_factor(0, 10, **wrong)  # type: ignore[arg-type]


def test_fusion_layers_and_shortcut_learn_a_hundred_times_faster() -> None:
    model = network()

    found = settings_of(model, parameter_groups(model, weight_decay=1e-4, fusion_lr_factor=100, head_lr_factor=10))

    factors = {name.partition(".")[0]: set() for name in found}
    for name, (factor, _) in found.items():
        factors[name.partition(".")[0]].add(factor)
    assert factors == {"stages": {1.0}, "fusions": {100.0}, "shortcut": {100.0}, "heads": {10.0}}


def test_weight_decay_spares_batchnorm_and_biases() -> None:
    model = network()

    found = settings_of(model, parameter_groups(model, weight_decay=1e-4, decay="weights"))

    decayed = {name for name, (_, decay) in found.items() if decay == 1e-4}
    assert decayed == {name for name, parameter in model.named_parameters() if parameter.ndim == 4}
    assert any(name.endswith(".bias") for name in set(found) - decayed)


def test_weight_decay_may_be_of_everything_or_of_fusion_weights_alone() -> None:
    model = network()

    everything = settings_of(model, parameter_groups(model, weight_decay=1e-4, decay="all"))
    fusion = settings_of(model, parameter_groups(model, weight_decay=1e-4, decay="fusion"))

    assert {decay for _, decay in everything.values()} == {1e-4}
    assert {name for name, (_, decay) in fusion.items() if decay} == {
        name
        for name, parameter in model.named_parameters()
        if name.startswith(("fusions.", "shortcut.")) and parameter.ndim == 4
    }


def test_cross_stitch_scalars_count_as_fusion_weights() -> None:
    model = network("cross_stitch", "none")

    found = settings_of(model, parameter_groups(model, weight_decay=0.0, fusion_lr_factor=7))

    assert {factor for name, (factor, _) in found.items() if name.startswith("fusions.")} == {7}


def test_one_step_moves_each_part_by_its_own_rate() -> None:
    model = network()
    optimiser = make_optimiser(parameter_groups(model, weight_decay=0.0, fusion_lr_factor=100), lr=1.0, momentum=0.0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)

    set_rate(optimiser, 1e-3)
    optimiser.step()

    for name, parameter in model.named_parameters():
        moved = (before[name] - parameter).mean().item()
        expected = 0.1 if name.startswith(("fusions.", "shortcut.")) else 1e-3
        assert moved == approx(expected, rel=1e-3), name  # float32 weights near 1


@pytest.mark.parametrize(
    "wrong",
    [{"weight_decay": -1.0}, {"weight_decay": 0.0, "fusion_lr_factor": 0.0}, {"weight_decay": 0.0, "decay": "al"}],
)
def test_groups_refuse_senseless_settings(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="optimiser"):
        parameter_groups(network(), **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"lr": 0.1, "momentum": 1.0}, {"lr": 0.1, "name": "sdg"}])
def test_the_optimiser_refuses_senseless_settings(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="optimiser"):
        make_optimiser([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr_factor": 1.0}], **wrong)  # type: ignore[arg-type]
