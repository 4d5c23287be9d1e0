"""Folding BatchNorm: where it is exact it happens, where it is not it does not, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from export_networks import config, network_of, trained_looking
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nddr_deploy.errors import UnsupportedError
from nddr_deploy.export.equivalence import layer_differences
from nddr_deploy.export.fold import Folded, ScaleShift, fold_batchnorm
from nddr_deploy.export.trace import trace
from nddr_deploy.network.resize import Resize

BEFORE, AFTER, KEPT = "into the layer before", "into the layer after", "kept as multiply-add"


def maps(channels: int = 6) -> Tensor:
    return torch.randn(2, channels, 9, 11, generator=torch.Generator().manual_seed(1))


def folded_like(network: nn.Module, x: Tensor) -> dict[str, Folded]:
    """Fold; check that no BatchNorm is left and the result is the same to float32's rounding. Layer -> its fate."""
    trained_looking(network)
    with torch.no_grad():
        expected = network(x)
        folded, report = fold_batchnorm(network, [x])
        found = folded(x)
    assert not any(isinstance(layer, _BatchNorm) for layer in folded.modules())
    # Weights are rounded once more than in the original: a few units in the last place of sums over up to 200 products.
    assert (found - expected).abs().max() <= 2e-6 * (expected.max() - expected.min())
    return {entry.layer: entry for entry in report}


def actions(network: nn.Module, x: Tensor) -> dict[str, str]:
    return {layer: entry.action for layer, entry in folded_like(network, x).items()}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "convolution",
    [{"padding": 1}, {"groups": 3, "padding": 1}, {"dilation": 2, "padding": 2}, {"stride": 2, "padding": "valid"}],
    ids=str,
)
def test_a_batchnorm_folds_into_the_convolution_before(convolution: dict[str, object], bias: bool) -> None:
    network = nn.Sequential(nn.Conv2d(6, 9, 3, bias=bias, **convolution), nn.BatchNorm2d(9), nn.ReLU())

    assert actions(network, maps()) == {"1": BEFORE}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "convolution",
    [
        {"kernel_size": 1},
        {"kernel_size": 3},
        {"kernel_size": 3, "groups": 3},
        {"kernel_size": 3, "dilation": 2},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},  # the padding is normalised, too
    ],
    ids=str,
)
def test_a_batchnorm_folds_into_the_convolution_after_where_no_zeros_are_padded(
    convolution: dict[str, object], bias: bool
) -> None:
    network = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(6), nn.Conv2d(6, 9, bias=bias, **convolution))

    assert actions(network, maps()) == {"1": AFTER}


@pytest.mark.parametrize("padding", [1, "same"])
def test_before_a_convolution_that_pads_with_zeros_it_becomes_a_multiply_add(padding: int | str) -> None:
    network = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(6), nn.Conv2d(6, 9, 3, padding=padding))

    (entry,) = folded_like(network, maps()).values()

    assert entry.action == KEPT
    assert "comes after ReLU 0" in entry.reason
    assert "the next convolution 2 pads with zeros" in entry.reason


def test_a_batchnorm_without_weights_and_one_after_another_fold() -> None:
    network = nn.Sequential(nn.Conv2d(6, 9, 3), nn.BatchNorm2d(9, affine=False), nn.BatchNorm2d(9), nn.ReLU())

    assert actions(network, maps()) == {"1": BEFORE, "2": BEFORE}


def test_a_convolution_takes_one_from_the_front_and_one_from_behind() -> None:
    network = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(6), nn.Conv2d(6, 9, 1), nn.BatchNorm2d(9), nn.ReLU())

    assert actions(network, maps()) == {"1": AFTER, "3": BEFORE}


def test_fully_connected_layers_take_it_like_convolutions() -> None:
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = nn.Sequential(
        nn.ReLU(), nn.BatchNorm2d(6), *pooled, nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 4), nn.BatchNorm1d(4)
    )

    assert actions(network, maps()) == {"1": AFTER, "5": BEFORE, "7": BEFORE}


def test_a_batchnorm_over_another_dimension_than_the_linear_layers_stays_apart() -> None:
    network = nn.Sequential(nn.Linear(11, 9), nn.BatchNorm1d(9), nn.Linear(9, 4))  # normalises 9 rows, not 9 outputs

    (entry,) = folded_like(network, torch.randn(2, 9, 11)).values()

    assert entry.action == KEPT
    assert "another dimension" in entry.reason


class TwoReaders(nn.Module):
    """The convolution's output is normalised, and also used as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.skip = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.bn(y).relu() + self.skip(y)


def test_a_convolution_that_something_else_reads_is_left_alone() -> None:
    entry = folded_like(TwoReaders(), maps())["bn"]

    assert entry.action == KEPT
    assert "conv is also read by Conv2d skip" in entry.reason


class Concatenated(nn.Module):
    """The last layer of one stream in the shortcut: ReLU -> BatchNorm -> resize -> cat -> 1x1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.shallow = nn.Sequential(nn.Conv2d(6, 4, 1), nn.ReLU(), nn.BatchNorm2d(4))
        self.deep = nn.Sequential(nn.Conv2d(6, 5, 3, stride=2), nn.ReLU(), nn.BatchNorm2d(5))
        self.resize = Resize("align_corners")
        self.reduce = nn.Conv2d(9, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        deep = self.deep(x)
        return self.reduce(torch.cat([self.resize(self.shallow(x), deep), deep], dim=1))


def test_resizing_and_concatenating_are_seen_through() -> None:
    assert actions(Concatenated(), maps()) == {"shallow.2": AFTER, "deep.2": AFTER}


class PaperOrder(nn.Module):
    """One BatchNorm on the concatenation, read by one 1x1 convolution per task."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.a, self.b = nn.BatchNorm2d(12), nn.Conv2d(12, 6, 1), nn.Conv2d(12, 6, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        joined = self.bn(torch.cat([x, x.flip(2)], dim=1))
        return self.a(joined) * self.b(joined)


def test_a_batchnorm_folds_into_every_convolution_that_reads_it() -> None:
    entry = folded_like(PaperOrder(), maps())["bn"]

    assert (entry.action, entry.into) == (AFTER, ("a", "b"))


class Shared(nn.Module):
    """One convolution and one BatchNorm for two streams, as in a shared shortcut."""

    def __init__(self, *, same: bool) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(6, 5, 1), nn.BatchNorm2d(5)
        self.other = self.bn if same else nn.BatchNorm2d(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu() + self.other(self.conv(x.flip(3))).relu()


def test_layers_used_twice_fold_once() -> None:
    assert actions(Shared(same=True), maps()) == {"bn": BEFORE}


def test_a_convolution_used_twice_cannot_take_two_different_batchnorms() -> None:
    report = folded_like(Shared(same=False), maps())

    assert {entry.action for entry in report.values()} == {KEPT}
    assert report["bn"].reason.startswith("conv is also read by BatchNorm2d other")


class SharedNext(nn.Module):
    """One 1x1 convolution reads a normalised and a plain map."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(6), nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.bn(x.relu())) + self.conv(x)


def test_the_next_convolution_must_read_nothing_else() -> None:
    entry = folded_like(SharedNext(), maps())["bn"]

    assert entry.action == KEPT
    assert "conv is also used on other features" in entry.reason


class NormAct(nn.BatchNorm2d):
    """BatchNorm and activation in one layer, as timm writes it: the tracer sees a function call."""

    def forward(self, x: Tensor) -> Tensor:
        torch._assert(x.ndim == 4, "expected 4D input")
        statistics = (self.running_mean, self.running_var)
        x = nn.functional.batch_norm(x, *statistics, self.weight, self.bias, self.training, 0.1, self.eps)
        return x.relu()


def test_a_batchnorm_that_is_called_as_a_function_folds_too() -> None:
    network = nn.Sequential(nn.Conv2d(6, 9, 1), NormAct(9, eps=1e-2), nn.Conv2d(9, 4, 3, padding=1), NormAct(4))

    assert actions(network, maps()) == {"1.batchnorm": BEFORE, "3.batchnorm": BEFORE}


class ChangedInPlace(nn.Module):
    """After the BatchNorm has read the map, an in-place ReLU overwrites it; the convolution comes later."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.conv, self.relu = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 1), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = x + 1
        normalised = self.bn(y)
        return self.relu(y) + self.conv(normalised)


def test_a_layer_that_works_in_place_does_not_change_what_a_fold_reads() -> None:
    assert actions(ChangedInPlace(), maps()) == {"bn": AFTER}


def test_the_network_that_is_folded_stays_as_it_was() -> None:
    network = trained_looking(nn.Sequential(nn.Conv2d(6, 9, 1), nn.BatchNorm2d(9), nn.Dropout(), nn.ReLU(inplace=True)))
    network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}

    fold_batchnorm(network, [maps()])

    assert network.training
    assert network[3].inplace
    assert all(weight.requires_grad for weight in network.parameters())
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_a_batchnorm_without_statistics_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(6, 9, 1), nn.BatchNorm2d(9, track_running_stats=False))

    with pytest.raises(UnsupportedError, match=r"^1 is a BatchNorm without running statistics"):
        fold_batchnorm(network, [maps()])


def test_a_forward_that_looks_at_values_is_refused_in_a_sentence() -> None:
    class Looks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(UnsupportedError, match="Looks cannot be exported: its forward depends on values"):
        fold_batchnorm(Looks(), [maps()])


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("bn-conv", {AFTER}),
        ("conv-bn-relu", {BEFORE}),
        ("conv-bn", {BEFORE}),
        ("conv-relu-bn", {KEPT, AFTER}),  # the last one goes into the 1x1 head
    ],
)
def test_the_orders_of_nddr_fold_as_their_definition_says(order: str, expected: set[str]) -> None:
    network = network_of(config("vgg16_deeplab", f"nddr {order}"))

    _, report = fold_batchnorm(network, [torch.rand(1, 3, 64, 96)])

    fusions = [entry for entry in report if entry.layer.startswith("fusions.")]
    assert len(fusions) == 10
    assert {entry.action for entry in fusions} == expected
    assert sum(entry.action == KEPT for entry in fusions) == (8 if order == "conv-relu-bn" else 0)
    others = [entry for entry in report if not entry.layer.startswith("fusions.")]
    assert {entry.action for entry in others} == {BEFORE}


def test_the_equivalence_is_shown_for_every_layer_and_finds_the_one_that_is_wrong() -> None:
    network = network_of(config("vgg16_deeplab", "nddr conv-relu-bn", shortcut="per_task"))
    example = [torch.rand(1, 3, 64, 96)]
    folded, report = fold_batchnorm(network, example)
    traced = trace(network, example)

    right = layer_differences(traced, folded, report, example)
    spoilt = folded.get_submodule("fusions.1.layers.normals.bn")
    assert isinstance(spoilt, ScaleShift)
    spoilt.bias.data.add_(0.1)
    wrong = layer_differences(traced, folded, report, example)

    assert list(right) == [entry.layer for entry in report]
    assert max(right.values()) < 1e-5
    assert wrong["fusions.1.layers.normals.bn"] > 1e-3
    assert wrong["fusions.0.layers.normals.bn"] == right["fusions.0.layers.normals.bn"]
