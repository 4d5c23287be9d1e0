"""What is done where NDDR joins streams of different range."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import onnx
import pytest
from colour_network import Colours, layer, network

from nddr_deploy.engines.run_bytes import run_bytes
from nddr_deploy.errors import ConfigError, UnsupportedError
from nddr_deploy.evaluate.change import Change
from nddr_deploy.graph.calibration import Range, calibrate
from nddr_deploy.graph.fusion_layers import fusion_layers
from nddr_deploy.quantize.streams import Form, choose_form, disagreement_of
from nddr_deploy.tasks import Normals, Segmentation

UNEQUAL = (1.0, 30.0)
IMAGES = [Colours("train")[place].image[None] for place in range(4)]


def ranges(graph: onnx.ModelProto, tensors: Sequence[str]) -> Mapping[str, Range]:
    return calibrate(graph, tensors, IMAGES, run_bytes)


def kind(graph: onnx.ModelProto) -> str:
    """Which form a colour network was given."""
    if not fusion_layers(graph):
        return "split"
    return "plain" if graph.graph == network(scales=UNEQUAL).graph else "equalised"


class Told:
    """Disagreements by form, as a test gives them."""

    def __init__(self, **values: float) -> None:
        self.values = {"float": 9.0, **values}
        self.asked: list[str] = []

    def __call__(self, graph: onnx.ModelProto, keep: Collection[str]) -> float:
        self.asked.append("float" if keep else kind(graph))
        return self.values[self.asked[-1]]


def chosen(told: Told, asked: str = "auto", keep: Sequence[str] = (), **options: Any) -> tuple[Form, tuple[Form, ...]]:
    return choose_form(network(**{"scales": UNEQUAL, **options}), asked, ranges, told, keep)


@pytest.mark.parametrize(
    ("equalised", "plain", "split", "expected"),
    [
        (1.0, 9.0, 1.0, "equalised"),
        (1.0, 0.95, 0.9, "equalised"),  # not clearly better
        (1.0, 0.5, 0.5, "plain"),
        (1.0, 0.5, 0.3, "split"),
        (1.0, 9.0, 0.7, "split"),
        (1.0, 9.0, 0.8, "equalised"),  # a fifth less is not worth the nodes
        (0.0, 0.0, 0.0, "equalised"),
        (0.002, 0.002, 0.001, "equalised"),  # half of next to nothing is noise
    ],
)
def test_equalised_streams_are_taken_unless_another_form_is_clearly_better(equalised, plain, split, expected):
    form, forms = chosen(Told(equalised=equalised, plain=plain, split=split))

    assert form.name == expected
    assert kind(form.model) == expected
    assert {each.name: each.disagreement for each in forms} == {
        "equalised": equalised,
        "plain": plain,
        "split": split,
        "float": 9.0,
    }


def test_a_search_that_follows_decides_about_nddr_layers_one_by_one() -> None:
    told = Told(equalised=1.0, plain=1.0, split=1.0, float=0.1)

    form, forms = choose_form(network(scales=UNEQUAL), "auto", ranges, told, searched=True)

    assert form.name == "equalised"
    assert "float" not in [each.name for each in forms]


@pytest.mark.parametrize(("left", "expected"), [(0.4, "float"), (0.6, "equalised")])
def test_nddr_layers_stay_in_float_where_that_halves_what_is_lost(left, expected):
    form, _ = chosen(Told(equalised=1.0, plain=1.0, split=1.0, float=left))

    assert form.name == expected
    assert form.keep == ((layer("fusion", "segmentation"), layer("fusion", "normals")) if left < 0.5 else ())


def test_a_form_in_which_nothing_is_quantised_is_none():
    form, forms = chosen(Told(equalised=1.0, plain=1.0, split=1.0, float=float("inf")))

    assert form.name == "equalised"
    assert "float" not in [each.name for each in forms]


def test_layers_and_factors_of_the_equalised_form_are_told():
    form, _ = chosen(Told(equalised=0.1, plain=1.0, split=1.0))

    (equalised,) = form.layers
    assert equalised.name == "fusions.0"
    assert equalised.applied
    assert equalised.ratio_before == pytest.approx(30, rel=0.2)  # so it was built, but for noise and pictures
    assert equalised.ratio_after == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("asked", ["plain", "equalised", "split", "float"])
def test_what_is_asked_for_is_done_and_nothing_else_is_measured(asked):
    told = Told()

    form, forms = chosen(told, asked)

    assert form.name == asked
    assert kind(form.model) == ("plain" if asked == "float" else asked)
    assert bool(form.keep) == (asked == "float")
    assert forms == (form,)
    assert form.disagreement is None
    assert told.asked == []


@pytest.mark.parametrize("asked", ["auto", "plain"])
def test_without_an_nddr_layer_there_is_only_the_plain_form(asked):
    told = Told()

    form, _ = choose_form(network(1), asked, ranges, told)

    assert form.model.graph == network(1).graph
    assert told.asked == []


@pytest.mark.parametrize("asked", ["equalised", "split", "float"])
def test_without_an_nddr_layer_nothing_else_can_be_had(asked):
    with pytest.raises(ConfigError, match=f"'{asked}' was asked for, but nothing joins streams"):
        choose_form(network(1), asked, ranges, Told())


def test_what_cannot_be_split_is_not_split_by_itself():
    told = Told(plain=1.0)

    form, forms = choose_form(with_something_between(), "auto", ranges, lambda graph, keep: 1.0)

    assert form.name == "plain"
    assert [each.name for each in forms] == ["plain", "float"]
    with pytest.raises(UnsupportedError, match="between"):
        choose_form(with_something_between(), "split", ranges, told)


def with_something_between() -> onnx.ModelProto:
    """A Relu after the Concat, which changes nothing."""
    model = network()
    place = next(place for place, node in enumerate(model.graph.node) if node.op_type == "Concat")
    for node in model.graph.node:
        node.input[:] = ["between" if name == "stages.1/Concat" else name for name in node.input]
    model.graph.node.insert(
        place + 1, onnx.helper.make_node("Relu", ["stages.1/Concat"], ["between"], name="fusions.0/Relu")
    )
    return model


def test_streams_of_one_range_are_not_equalised_by_themselves():
    form, forms = choose_form(network(), "auto", ranges, lambda graph, keep: 1.0)

    assert form.name == "plain"
    assert [each.name for each in forms] == ["plain", "split", "float"]


def test_layers_that_are_to_be_kept_are_not_split():
    told = Told(equalised=1.0, plain=2.0)

    form, _ = chosen(told, keep=[layer("fusion", "normals")])

    assert form.name == "equalised"
    assert "split" not in told.asked


def test_an_unknown_form_is_refused():
    with pytest.raises(ConfigError, match=r"equalized.*Did you mean 'equalised'"):
        chosen(Told(), "equalized")


def test_the_model_that_was_given_is_left_as_it_was():
    model = network(scales=UNEQUAL)

    choose_form(model, "auto", ranges, Told(equalised=1.0, plain=1.0, split=0.1))

    assert model == network(scales=UNEQUAL)


def change(task: Any, metric: str, loss: float) -> Change:
    form = task.metrics[metric]
    return Change(task.name, metric, form, 0.0, -loss if form.higher_is_better else loss, 0.0, 0.0)


def test_disagreement_is_the_mean_over_tasks_in_points_and_half_degrees():
    segmentation, normals = Segmentation(classes=("a", "b")), Normals()

    assert disagreement_of([change(segmentation, "mIoU", 0.02), change(segmentation, "PAcc", 0.01)]) == pytest.approx(
        1.5
    )
    assert disagreement_of([change(normals, "mean_angle", 0.5)]) == pytest.approx(1.0)
    assert disagreement_of(
        [change(segmentation, "mIoU", 0.03), change(normals, "mean_angle", 0.5), change(normals, "within_30", -0.5)]
    ) == pytest.approx((3.0 + 0.5) / 2)  # what became better is no gain to set off


def test_what_nothing_is_known_of_does_not_decide():
    segmentation, normals = Segmentation(classes=("a", "b")), Normals()
    unknown = change(normals, "mean_angle", float("nan"))

    assert disagreement_of([change(segmentation, "mIoU", 0.02), unknown]) == pytest.approx(2.0)
    assert disagreement_of([unknown]) == 0.0
