from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
import pytest
from fusion_subjects import joined, named_weights, outputs_of, pictures, size_of
from graph_subjects import exported, quantised
from onnx import numpy_helper

from nddr_deploy.errors import ConfigError, UnsupportedError
from nddr_deploy.graph.flops import count_flops
from nddr_deploy.graph.fusion_layers import fusion_layers
from nddr_deploy.graph.prune_coupling import prune_coupling

SUMS = 1e-5  # of an output's range: products are added in another order
Blocks = Collection[tuple[str, str, str]]


def zeroed(model: onnx.ModelProto, blocks: Blocks) -> onnx.ModelProto:
    """The model with those columns set to zero."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    nodes = {node.name: node for node in changed.graph.node}
    weights = {weight.name: weight for weight in changed.graph.initializer}
    for layer in fusion_layers(model):
        for stream in layer.streams:
            for task, name in layer.convolutions.items():
                if (layer.name, task, stream.task) in blocks:
                    weight = weights[nodes[name].input[1]]
                    values = numpy_helper.to_array(weight).copy()
                    values[:, stream.columns] = 0
                    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    return changed


def assert_as_zeroed(model: onnx.ModelProto, pruned: onnx.ModelProto, blocks: Blocks) -> None:
    onnx.checker.check_model(pruned, full_check=True)
    images = pictures(size_of(model), 2)
    original, expected, found = (outputs_of(each, images) for each in (model, zeroed(model, blocks), pruned))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=SUMS * np.ptp(values), rtol=0, err_msg=name)
    assert any(np.abs(expected[name] - original[name]).max() > 100 * SUMS * np.ptp(original[name]) for name in expected)


@pytest.mark.parametrize(
    ("form", "count", "blocks"),
    [
        ("resnet", 2, [("fusions.1", "normals", "segmentation")]),
        ("resnet", 2, [("fusions.1", "normals", "normals"), ("fusions.3", "segmentation", "normals")]),
        ("resnet 18", 3, [("fusions.3", "depth", "depth"), ("fusions.3", "normals", "depth")]),
        ("resnet 18", 3, [(f"fusions.{n}", "depth", s) for n in range(5) for s in ("normals", "segmentation")]),
        ("resnet 18, one-sided", 3, [("fusions.2", "normals", "depth"), ("fusions.3", "normals", "normals")]),
        ("vgg, own features first", 3, [("fusions.2", "depth", "normals"), ("fusions.2", "normals", "depth")]),
        ("vgg, own features first", 3, [("fusions.0", "segmentation", "normals"), ("fusions.0", "depth", "normals")]),
    ],
)
def test_a_cut_is_what_zeros_would_be_with_less_to_compute(
    form: str, count: int, blocks: list[tuple[str, str, str]]
) -> None:
    model = exported(form, tasks=count)

    pruned = prune_coupling(model, blocks)

    assert_as_zeroed(model, pruned, blocks)
    assert count_flops(pruned, size_of(model)) < count_flops(model, size_of(model))


def test_a_task_reads_what_is_left_side_by_side() -> None:
    model = joined((1.0, 1.0, 1.0), channels=5)

    pruned = prune_coupling(model, [("fusions.0", "normals", "segmentation")])

    nodes = {node.name: node for node in pruned.graph.node}
    convolution = nodes["fusions.0.layers.normals.conv/Conv"]
    join = nodes[convolution.input[0]]
    assert list(join.input) == ["stages.0.normals.conv/Relu", "stages.0.depth.conv/Relu"]
    expected = named_weights(model)["fusions.0.layers.normals.conv.weight"][:, 5:]
    np.testing.assert_array_equal(named_weights(pruned)[convolution.input[1]], expected)
    kept = fusion_layers(pruned)
    assert {task for layer in kept for task in layer.convolutions} == {"segmentation", "normals", "depth"}
    assert {layer.name for layer in kept} == {"fusions.0"}


def test_tasks_that_lose_the_same_share_one_concat() -> None:
    model = joined((1.0, 1.0, 1.0))
    blocks = [("fusions.0", task, "depth") for task in ("segmentation", "normals")]

    pruned = prune_coupling(model, blocks)

    assert [node.op_type for node in pruned.graph.node].count("Concat") == 2
    assert_as_zeroed(model, pruned, blocks)


def test_the_one_stream_that_is_left_is_read_itself() -> None:
    model = joined((1.0, 1.0))
    blocks = [("fusions.0", "normals", "segmentation"), ("fusions.0", "segmentation", "normals")]

    pruned = prune_coupling(model, blocks)

    assert "Concat" not in [node.op_type for node in pruned.graph.node]
    assert_as_zeroed(model, pruned, blocks)


def test_a_task_may_live_on_another_ones_stream_and_its_own_is_then_removed() -> None:
    model = joined((1.0, 1.0))
    blocks = [("fusions.0", task, "normals") for task in ("segmentation", "normals")]

    pruned = prune_coupling(model, blocks)

    assert not any(node.name.startswith("stages.0.normals") for node in pruned.graph.node)
    assert not any(name.startswith("stages.0.normals") for name in named_weights(pruned))
    assert_as_zeroed(model, pruned, blocks)


def test_earlier_layers_go_with_a_stream_that_nothing_reads() -> None:
    model = exported("resnet 18", tasks=2)
    blocks = [("fusions.4", task, "normals") for task in ("segmentation", "normals")]

    pruned = prune_coupling(model, blocks)

    names = {node.name for node in pruned.graph.node}
    assert not any(name.startswith("stages.4.normals") for name in names)  # its last stage
    assert "fusions.3.layers.normals.conv/Conv" not in names  # and what fed it
    assert any(name.startswith("stages.3.normals") for name in names)  # which the other task still reads
    assert_as_zeroed(model, pruned, blocks)


def test_open_extents_stay_open() -> None:
    model = exported("resnet 18", dynamic=("batch", "size"))
    blocks = [("fusions.2", "normals", "segmentation")]
    images = [np.concatenate(pictures((71, 90), 2))]

    found = outputs_of(prune_coupling(model, blocks), images)

    for name, expected in outputs_of(zeroed(model, blocks), images).items():
        np.testing.assert_allclose(found[name], expected, atol=SUMS * np.ptp(expected), rtol=0)


def test_weights_that_tasks_share_are_cut_for_one_of_them() -> None:
    model = joined((1.0, 1.0))
    first, second = (node for node in model.graph.node if node.name.startswith("fusions.") and node.op_type == "Conv")
    second.input[1] = first.input[1]
    blocks = [("fusions.0", "normals", "segmentation")]

    pruned = prune_coupling(model, blocks)

    weights = named_weights(pruned)
    shapes = [
        weights[n.input[1]].shape[1] for n in pruned.graph.node if n.name.startswith("fusions.") and len(n.input) > 2
    ]
    assert shapes == [32, 16]


def test_the_model_is_left_as_it_was_and_the_manifest_is_kept() -> None:
    model = exported("resnet 18")
    before = model.SerializeToString()

    pruned = prune_coupling(model, [("fusions.0", "normals", "segmentation")])

    assert model.SerializeToString() == before
    assert list(pruned.metadata_props) == list(model.metadata_props)
    assert {node.name for node in model.graph.node} <= {node.name for node in pruned.graph.node}
    assert prune_coupling(model, []) == model


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([("fusions.9", "normals", "depth")], r"An NDDR layer: 'fusions\.9' is unknown"),
        ([("fusions.0", "normal", "depth")], "A task at fusions.0: 'normal' is unknown.*Did you mean 'normals'"),
        ([("fusions.0", "normals", "dept")], "A stream at fusions.0: 'dept' is unknown.*Did you mean 'depth'"),
        (
            [("fusions.0", "normals", stream) for stream in ("segmentation", "normals", "depth")],
            "Cutting segmentation, normals, depth at fusions.0 leaves normals nothing to read. Keep one of them",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused(blocks: list[tuple[str, str, str]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prune_coupling(joined((1.0, 1.0, 1.0)), blocks)


def test_a_task_that_is_not_fused_has_nothing_to_cut() -> None:
    with pytest.raises(ConfigError, match=r"A task at fusions\.0: 'depth' is unknown\. Choose one of: normals"):
        prune_coupling(exported("resnet 18, one-sided", tasks=3), [("fusions.0", "depth", "normals")])


def test_a_quantised_model_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"fusions\.0 has .*QuantizeLinear' between its Concat"):
        prune_coupling(quantised(), [("fusions.0", "normals", "segmentation")])
