from __future__ import annotations

import numpy as np
import onnx
import pytest
from fusion_subjects import TASKS, in_int8, joined, named_weights, outputs_of, pictures, size_of, sqnr_db
from graph_subjects import exported, quantised

from nddr_deploy.errors import ConfigError, UnsupportedError
from nddr_deploy.graph.fusion_layers import fusion_layers
from nddr_deploy.graph.split_fusion import split_fusion

SUMS = 1e-5  # of an output's range: a few hundred products are added in another order


def assert_equal_outputs(model: onnx.ModelProto, split: onnx.ModelProto) -> None:
    onnx.checker.check_model(split, full_check=True)
    images = pictures(size_of(model), 2)
    found = outputs_of(split, images)
    for name, expected in outputs_of(model, images).items():
        np.testing.assert_allclose(found[name], expected, atol=SUMS * np.ptp(expected), rtol=0, err_msg=name)


@pytest.mark.parametrize(
    ("form", "count"),
    [("resnet", 2), ("resnet 18", 3), ("resnet 18, one-sided", 3), ("vgg, own features first", 3)],
)
def test_outputs_stay_equal_and_no_layer_is_left_to_split(form: str, count: int) -> None:
    model = exported(form, tasks=count)

    split = split_fusion(model)

    assert fusion_layers(model)
    assert fusion_layers(split) == ()
    assert_equal_outputs(model, split)


@pytest.mark.parametrize("count", [2, 3])
def test_a_convolution_becomes_one_per_stream_and_sums_with_the_bias_once(count: int) -> None:
    model = joined([1.0] * count, channels=5)

    split = split_fusion(model)

    nodes = {node.name: node for node in split.graph.node}
    weights, before = named_weights(split), named_weights(model)
    for task in TASKS[:count]:
        base = f"fusions.0.layers.{task}.conv"
        products = [nodes[f"{base}.{stream}/Conv"] for stream in TASKS[:count]]
        assert [node.input[0] for node in products] == [f"stages.0.{stream}.conv/Relu" for stream in TASKS[:count]]
        assert [list(node.input[2:]) for node in products] == [[f"{base}.bias"], *[[]] * (count - 1)]
        parts = [weights[node.input[1]] for node in products]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), before[f"{base}.weight"])
        sums = [f"{base}/Add", f"{base}/Add_2"][: count - 1]
        assert [name for name in nodes if name.startswith(f"{base}/Add")] == sums
        assert nodes[sums[-1]].output[0] == f"{base}/Conv"  # so readers and outputs keep their names
    assert "Concat" not in {node.op_type for node in split.graph.node}
    assert not any(f"fusions.0.layers.{task}.conv.weight" in weights for task in TASKS)
    assert_equal_outputs(model, split)


def test_only_the_layers_that_were_named_are_split() -> None:
    model = exported("resnet 18")

    split = split_fusion(model, ["fusions.1", "fusions.3"])

    assert [layer.name for layer in fusion_layers(split)] == ["fusions.0", "fusions.2", "fusions.4"]
    assert_equal_outputs(model, split)


@pytest.mark.parametrize("target", ["cpu", "tensorrt8"])
def test_a_small_stream_has_a_scale_of_its_own_in_int8(target: str) -> None:
    model = joined((1.0, 1 / 30))
    images = pictures(size_of(model), 8)
    expected = outputs_of(model, images[4:])

    plain, split = (in_int8(each, target, images[:4], images[4:]) for each in (model, split_fusion(model)))  # type: ignore[arg-type]

    assert sqnr_db(expected["normals"], split["normals"]) > sqnr_db(expected["normals"], plain["normals"]) + 6
    assert sqnr_db(expected["segmentation"], split["segmentation"]) > 30


def test_open_extents_stay_open() -> None:
    model = exported("resnet 18", dynamic=("batch", "size"))
    images = [np.concatenate(pictures((71, 90), 2))]

    found = outputs_of(split_fusion(model), images)

    for name, expected in outputs_of(model, images).items():
        np.testing.assert_allclose(found[name], expected, atol=SUMS * np.ptp(expected), rtol=0)


def test_the_model_is_left_as_it_was_and_the_manifest_is_kept() -> None:
    model = exported("resnet 18")
    before = model.SerializeToString()

    split = split_fusion(model)

    assert model.SerializeToString() == before
    assert list(split.metadata_props) == list(model.metadata_props)
    assert split.ByteSize() == pytest.approx(model.ByteSize(), rel=0.05)  # weights are not kept twice


def test_unknown_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'fusions\.7' is unknown. Choose one of: fusions\.0, fusions\.1"):
        split_fusion(exported("resnet 18"), ["fusions.7"])
    with pytest.raises(ConfigError, match=r"has no NDDR layer, so none called 'fusions\.0'"):
        split_fusion(exported("cross-stitch"), ["fusions.0"])


def test_what_is_computed_before_the_convolutions_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"fusions\.0 has 'between_0/Mul' between its Concat"):
        split_fusion(joined((1.0, 1.0), between=["Mul"]))
    with pytest.raises(UnsupportedError, match="Use the float32 file"):
        split_fusion(quantised())
