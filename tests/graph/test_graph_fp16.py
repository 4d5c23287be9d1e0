"""An FP16 graph agrees with the FP32 one, is typed as it says, and names what stays in FP32.

Outputs are compared by their range: FP16 rounds every layer's values to 11 bits, 5e-4 at most, and a network of 20 to
60 layers that each pass errors on came to 4e-3 at most here. 1e-2 is what was promised.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graph_subjects import casts, conv, exported, ranges_of, run, run_rounding, small, types_by_node
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy.errors import ConfigError, ModelFileError, UnsupportedError
from nddr_deploy.evaluate.probe_images import probe_images
from nddr_deploy.graph.fp16 import Fp16Graph, beyond_fp16, to_fp16
from nddr_deploy.graph.inference import tensor_types
from nddr_deploy.graph.roles import Flow
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

PROMISED = 1e-2
PHOTOS = Path(os.environ.get("NDDR_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "photos"


def converted(model: onnx.ModelProto, images: Image, **options: Any) -> Fp16Graph:
    count = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
    return to_fp16(model, ranges_of(model, [images[:count]]), **options)


def check_agreement(model: onnx.ModelProto, half: onnx.ModelProto, images: Image, tolerance: float = PROMISED) -> None:
    """In ONNX Runtime, and where every FP16 tensor is really rounded, as on a GPU."""
    expected = run(model)(images)
    for found in (run(half)(images), run_rounding(half)(images)):
        for name, value in expected.items():
            assert found[name].dtype == value.dtype
            assert found[name].shape == value.shape
            if value.dtype == np.uint8:  # near-ties of two classes may fall either way
                assert np.mean(found[name] != value) <= 0.005
            else:
                assert np.abs(found[name] - value).max() <= tolerance * _range(value)


def _range(value: Array) -> float:
    """Of one head's output; of a single number, its size."""
    return float(np.ptp(value)) if value.size > 1 else float(np.abs(value).max())


def check_types(half: onnx.ModelProto, kept: Sequence[str] = ()) -> None:
    """FP16 from the first to the last weighted layer but for what is kept, FP32 before and after, and no idle casts."""
    onnx.checker.check_model(half, full_check=True)
    flow, types = Flow(half), tensor_types(half)
    for number, node in enumerate(flow.nodes):
        read = {types[name] for name in node.input if name} & {TensorProto.FLOAT, TensorProto.FLOAT16}
        if node.op_type == "Cast" or not read:
            continue
        if flow.roles[number] == "network" and node.name not in kept:
            assert read == {TensorProto.FLOAT16}, f"{node.op_type} {node.name} computes in FP32"
        elif flow.roles[number] != "sizes":
            assert read == {TensorProto.FLOAT}, f"{node.op_type} {node.name} computes in FP16"
    check_casts(half)


def check_casts(half: onnx.ModelProto) -> None:
    """Each from one float type to the other, one per tensor and direction, and none of a cast."""
    types = tensor_types(half)
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16}
    changing = [cast for cast in casts(half) if types[cast.input[0]] in floats and types[cast.output[0]] in floats]
    assert all(types[cast.input[0]] != types[cast.output[0]] for cast in changing)
    assert max(Counter(cast.input[0] for cast in changing).values()) == 1
    made_by_cast = {cast.output[0] for cast in changing}
    assert not [cast.name for cast in changing if cast.input[0] in made_by_cast]
    weights = {weight.name for weight in half.graph.initializer}
    assert not [cast.name for cast in changing if cast.input[0] in weights]


@pytest.mark.parametrize(
    ("form", "tasks", "batch", "size_hw", "outputs"),
    [
        ("vgg", 2, 1, (65, 97), "raw"),
        ("vgg", 3, 2, (71, 103), "raw"),
        ("vgg, padded as TensorFlow pads", 2, 1, (65, 97), "decoded"),
        ("resnet 18", 2, 1, (97, 65), "raw"),
        ("resnet", 3, 3, (65, 97), "raw"),
        ("resnet 18", 3, 1, (65, 97), "decoded"),
        ("alexnet", 5, 2, (131, 163), "raw"),
        ("cross-stitch", 4, 1, (65, 97), "raw"),
    ],
)
def test_a_network_in_fp16_agrees_with_fp32(
    form: str, tasks: int, batch: int, size_hw: tuple[int, int], outputs: str
) -> None:
    model = exported(form, tasks=tasks, batch=batch, size_hw=size_hw, outputs=outputs)
    before = model.SerializeToString()
    images = probe_images(size_hw, 3 * batch)

    half = converted(model, images[:batch])

    assert model.SerializeToString() == before
    assert half.kept == ()
    check_types(half.model)
    for start in range(0, 3 * batch, batch):  # the first was scanned, the others were not
        check_agreement(model, half.model, images[start : start + batch])
    kinds = [(value.name, value.type.tensor_type.elem_type) for value in (*model.graph.input, *model.graph.output)]
    both = (*half.model.graph.input, *half.model.graph.output)
    assert [(value.name, value.type.tensor_type.elem_type) for value in both] == kinds
    assert half.model.metadata_props == model.metadata_props


def test_weights_become_fp16_under_their_own_names_and_the_file_halves() -> None:
    model = exported("vgg")

    half = converted(model, probe_images((65, 97), 1)).model

    weights = {weight.name: weight for weight in half.graph.initializer}
    for weight in model.graph.initializer:
        if weight.name.endswith(".weight"):
            assert weights[weight.name].data_type == TensorProto.FLOAT16
            rounded = numpy_helper.to_array(weight).astype(np.float16)
            assert np.array_equal(numpy_helper.to_array(weights[weight.name]), rounded)
    assert half.ByteSize() < 0.6 * model.ByteSize()  # names and nodes stay


def test_a_raw_network_has_one_cast_in_and_one_out_per_head() -> None:
    half = converted(exported("vgg"), probe_images((65, 97), 1)).model

    first, before, *after = casts(half)

    assert first.input[0] == "images"
    assert before.output[0] == f"{before.input[0]}/fp16"
    assert [cast.output[0] for cast in after] == ["segmentation", "normals"]


def test_open_extents_stay_open_and_right_at_sizes_never_seen() -> None:
    model = exported("vgg", dynamic=("batch", "size"), size_hw=(140, 150))

    half = converted(model, probe_images((65, 97), 1))

    check_types(half.model, [entry.node for entry in half.kept])
    # How many values the pyramid's mean adds up is open, so nobody can say that the sum stays small.
    assert {entry.node.rpartition("/")[2] for entry in half.kept} == {"GlobalAveragePool", "GlobalAveragePool_2"}
    check_agreement(model, half.model, probe_images((97, 131), 2))


@pytest.mark.parametrize("tasks", [3, 5])
def test_decoding_stays_in_fp32_down_to_the_expected_age(tasks: int) -> None:
    model = exported("alexnet", tasks=tasks, size_hw=(131, 163), outputs="decoded")
    images = probe_images((131, 163), 1)

    half = converted(model, images).model

    check_types(half)
    check_agreement(model, half, images)
    decoding = {"Resize", "ArgMax", "Softmax", "Sqrt", "Div", "MatMul", "ReduceSum", "Where"}
    types = types_by_node(half)
    for node in half.graph.node:
        if node.op_type in decoding:
            assert "FLOAT16" not in types[node.name][0] + types[node.name][1]


def test_an_expected_value_is_decoding_though_it_is_a_matrix_product() -> None:
    nodes = [
        conv("middle", "first", "middle.weight"),
        helper.make_node("GlobalAveragePool", ["middle"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["chances"], axis=1),
        helper.make_node("MatMul", ["chances", "years"], ["age"]),
    ]
    rng = np.random.default_rng(6)
    weights = {
        "middle.weight": rng.normal(0, 1, (4, 4, 1, 1)).astype(np.float32),
        "matrix": rng.normal(0, 1, (4, 90)).astype(np.float32),
        "years": np.arange(90, dtype=np.float32),
    }
    model = chain(nodes, weights, "middle", outputs={"age": TensorProto.FLOAT})

    half = converted(model, IMAGES).model

    check_types(half)
    types = tensor_types(half)
    assert types["scores"] == TensorProto.FLOAT16
    assert types["chances"] == types["years"] == TensorProto.FLOAT
    check_agreement(model, half, IMAGES[1:2])


@pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"no pictures in {PHOTOS}")
def test_real_pictures_agree_with_others_having_been_scanned() -> None:
    import cv2

    size_hw = (241, 321)
    pictures = []
    for path in sorted(PHOTOS.iterdir()):
        if path.suffix in (".jpg", ".png"):
            picture = cv2.imread(str(path))[..., ::-1]
            pictures.append(cv2.resize(picture, size_hw[::-1], interpolation=cv2.INTER_AREA))
    images = np.stack(pictures)
    assert len(images) >= 4
    for form in ("vgg", "resnet"):
        model = exported(form, size_hw=size_hw)

        half = converted(model, images[:1])

        for number in range(1, len(images)):
            check_agreement(model, half.model, images[number : number + 1])


# What FP16 cannot hold


def with_loud_layer(model: onnx.ModelProto, layer: str, factor: float) -> list[str]:
    """Multiply a convolution's results, and divide the next one's weights: the outputs stay. The nodes in between."""
    weights = {weight.name: weight for weight in model.graph.initializer}

    def scale(name: str, by: float) -> None:
        weights[name].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights[name]) * np.float32(by), name))

    (node,) = [node for node in model.graph.node if node.name == layer]
    for name in node.input[1:]:
        scale(name, factor)
    loud, names = node.output[0], [layer]
    while True:
        (node,) = [node for node in model.graph.node if loud in node.input]
        names.append(node.name)
        if node.op_type == "Conv":
            scale(node.input[1], 1 / factor)
            return names
        assert node.op_type in ("Relu", "MaxPool")
        loud = node.output[0]


def test_a_layer_beyond_fp16_stays_in_fp32_with_its_neighbours_and_nothing_else() -> None:
    model, images = exported("vgg", tasks=2), probe_images((65, 97), 2)
    truth = run(model)(images[:1])
    needed = with_loud_layer(model, "stages.0.segmentation.features.0/Conv", 4e4)
    ranges = ranges_of(model, [images[:1]])
    assert ranges[needed[1]] > 65504  # behind the ReLU; weights and biases are below

    half = to_fp16(model, ranges)

    assert [entry.node for entry in half.kept] == needed
    assert str(half.kept[1]).startswith(f"{needed[1]}: '{needed[0]}' reaches ")
    check_types(half.model, needed)
    check_agreement(model, half.model, images[1:])
    for name, value in run(half.model)(images[:1]).items():
        assert np.abs(value - truth[name]).max() <= PROMISED * np.ptp(truth[name])
    assert [entry.node for entry in beyond_fp16(model, ranges)] == needed

    naive = to_fp16(model, dict.fromkeys(ranges, 1.0)).model  # as if nobody had looked
    assert not np.isfinite(run_rounding(naive)(images[:1])["segmentation"]).all()


def chain(nodes: Sequence[onnx.NodeProto], weights: Mapping[str, Any], last: str, **options: Any) -> onnx.ModelProto:
    """x -> Conv `first` (4 channels) -> the nodes -> Conv `y`, so that the nodes lie inside the network."""
    rng = np.random.default_rng(0)
    kernels = {
        "first.weight": rng.normal(0, 1, (4, 3, 1, 1)).astype(np.float32),
        "last.weight": rng.normal(0, 1, (2, options.pop("channels", 4), 1, 1)).astype(np.float32),
    }
    return small(
        [conv("first", "x", "first.weight"), *nodes, conv("y", last, "last.weight")], {**kernels, **weights}, **options
    )


def scaled(name: str, source: str, factor: float) -> tuple[onnx.NodeProto, dict[str, Any]]:
    return helper.make_node("Mul", [source, f"{name}.factor"], [name]), {f"{name}.factor": np.float32(factor)}


IMAGES = probe_images((8, 10), 3)


@pytest.mark.parametrize(
    ("largest", "kept"),
    [(30000.0, []), (35000.0, ["up", "down"]), (1e9, ["up", "down"])],
)
def test_half_of_what_fp16_holds_is_the_limit(largest: float, kept: list[str]) -> None:
    up, by = scaled("up", "first", 1.0)
    down, back = scaled("down", "up", 0.5)
    model = chain([up, down], {**by, **back}, "down")
    ranges = {**ranges_of(model, [IMAGES[:1]]), "up": largest}

    assert [entry.node for entry in to_fp16(model, ranges).kept] == kept
    assert [entry.node for entry in beyond_fp16(model, ranges)] == kept


def test_weights_that_vanish_keep_their_layer_in_fp32() -> None:
    up, by = scaled("up", "tiny", 2.0**30)
    weight = np.random.default_rng(1).normal(0, 2.0**-28, (4, 4, 1, 1)).astype(np.float32)  # 4e-9
    model = chain([conv("tiny", "first", "tiny.weight"), up], {**by, "tiny.weight": weight}, "up")

    half = converted(model, IMAGES)

    assert [entry.node for entry in half.kept] == ["tiny", "up"]  # and what they are brought back by
    assert "'tiny.weight' loses 100.0% to rounding in FP16" in half.kept[0].reason
    check_agreement(model, half.model, IMAGES[1:2])


@pytest.mark.parametrize(
    ("node", "largest", "expected"),
    [
        # 4 channels of 8x10 places: sums of 80, and of 4
        (helper.make_node("GlobalAveragePool", ["first"], ["op"]), 400.0, ""),
        (helper.make_node("GlobalAveragePool", ["first"], ["op"]), 420.0, "sum of 80 values of up to 420"),
        (helper.make_node("ReduceMean", ["first"], ["op"], axes=[1], keepdims=1), 8000.0, ""),
        (helper.make_node("ReduceMean", ["first"], ["op"], axes=[1], keepdims=1), 9000.0, "sum of 4 values"),
        (helper.make_node("ReduceL2", ["first"], ["op"], axes=[1]), 80.0, ""),
        (helper.make_node("ReduceL2", ["first"], ["op"], axes=[1]), 100.0, "sum of 4 squares of values of up to 100"),
        (helper.make_node("AveragePool", ["first"], ["op"], kernel_shape=[3, 3]), 3000.0, ""),
        (helper.make_node("AveragePool", ["first"], ["op"], kernel_shape=[3, 3]), 4000.0, "sum of 9 values"),
        (helper.make_node("LRN", ["first"], ["op"], size=3), 100.0, ""),
        (helper.make_node("LRN", ["first"], ["op"], size=3), 120.0, "sum of 3 squares"),
        (helper.make_node("ReduceLogSumExp", ["first"], ["op"], axes=[1]), 1.0, "no scan sees"),
        (helper.make_node("Softmax", ["first"], ["op"], axis=1), 3000.0, ""),
        (helper.make_node("Div", ["first", "first"], ["op"]), 1.0, "divides by values that may vanish"),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else str(value),
)
def test_what_adds_up_is_judged_by_what_the_sum_may_be(node: onnx.NodeProto, largest: float, expected: str) -> None:
    node.name = "op"
    channels = 1 if node.op_type in ("ReduceMean", "ReduceL2", "ReduceLogSumExp") else 4
    model = chain([node], {}, "op", channels=channels)
    ranges = dict.fromkeys(tensor_types(model), 1.0) | {"first": largest}

    kept = to_fp16(model, ranges).kept

    assert [entry.node for entry in kept] == (["op"] if expected else [])
    if expected:
        assert expected in kept[0].reason


def test_a_node_between_nodes_in_fp32_stays_there_too() -> None:
    up, by = scaled("up", "first", 1e6)
    down, back = scaled("down", "up", 1e-6)
    relu = helper.make_node("Relu", ["down"], ["relu"])
    again, more = scaled("again", "relu", 1e6)
    lower, last = scaled("lower", "again", 1e-6)
    model = chain([up, down, relu, again, lower], {**by, **back, **more, **last}, "lower")

    half = converted(model, IMAGES)

    assert [entry.node for entry in half.kept] == ["up", "down", "relu", "again", "lower"]
    assert half.kept[2].reason == "it stands between nodes in FP32"
    check_casts(half.model)
    check_agreement(model, half.model, IMAGES[1:2])


def test_what_the_user_names_stays_in_fp32_and_an_unknown_name_is_refused() -> None:
    model, images = exported("resnet 18"), probe_images((65, 97), 1)
    ranges = ranges_of(model, [images])
    name = "heads.segmentation.conv/Conv"

    half = to_fp16(model, ranges, keep=[name])

    assert [(entry.node, entry.reason) for entry in half.kept] == [(name, "it was asked to stay in FP32")]
    check_types(half.model, [name])
    with pytest.raises(
        ConfigError, match=r"keep: 'heads.segmentation.conv' is no node of this graph. Near are: heads\.seg"
    ):
        to_fp16(model, ranges, keep=["heads.segmentation.conv"])


# Operators one by one

ROW = np.random.default_rng(2).normal(0, 1, (1, 4, 1, 1)).astype(np.float32)
FLAT = ROW.reshape(4)
HALVES = numpy_helper.from_array(np.float32([0.5]))
CROPPING = {"coordinate_transformation_mode": "tf_crop_and_resize"}
OPERATORS: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], int]] = {
    "clip": (
        [helper.make_node("Clip", ["first", "low", "high"], ["op"])],
        {"low": np.float32(-1), "high": np.float32(1)},
        17,
    ),
    "clip without an end": (
        [helper.make_node("Clip", ["first", "low", "high"], ["op"])],
        {"low": np.float32(0), "high": np.float32(3.4e38)},
        17,
    ),
    "pad": (
        [helper.make_node("Pad", ["first", "pads", "value"], ["op"])],
        {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "value": np.float32(0.5)},
        17,
    ),
    "pad with infinity": (
        [
            helper.make_node("Pad", ["first", "pads", "value"], ["padded"]),
            helper.make_node("MaxPool", ["padded"], ["op"], kernel_shape=[3, 3]),
        ],
        {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "value": np.float32(-np.inf)},
        17,
    ),
    "where": (
        [
            helper.make_node("Greater", ["first", "zero"], ["positive"]),
            helper.make_node("Where", ["positive", "first", "row"], ["op"]),
        ],
        {"zero": np.float32(0), "row": ROW},
        17,
    ),
    "concat and split": (
        [
            helper.make_node("Concat", ["first", "first", "wide"], ["joined"], axis=1),
            helper.make_node("Split", ["joined", "parts"], ["op", "rest"], axis=1),
        ],
        {"wide": np.ones((1, 1, 8, 10), np.float32), "parts": np.array([4, 5])},
        17,
    ),
    "sum": ([helper.make_node("Sum", ["first", "row", "first"], ["op"])], {"row": ROW}, 17),
    "batch norm": (
        [helper.make_node("BatchNormalization", ["first", "flat", "flat", "flat", "variance"], ["op"])],
        {"flat": FLAT, "variance": np.abs(FLAT) + 0.5},
        17,
    ),
    "matmul": ([helper.make_node("MatMul", ["first", "square"], ["op"])], {"square": np.eye(10, dtype=np.float32)}, 17),
    "gemm": (
        [
            helper.make_node("Flatten", ["first"], ["rows"], axis=2),
            helper.make_node("Gemm", ["rows", "matrix", "bias"], ["product"], transB=1),
            helper.make_node("Reshape", ["product", "shape"], ["op"]),
        ],
        {
            "matrix": np.eye(80, dtype=np.float32)[:20],
            "bias": np.ones(20, np.float32),
            "shape": np.array([1, 4, 4, 5]),
        },
        17,
    ),
    "power": ([helper.make_node("Pow", ["first", "two"], ["op"])], {"two": np.float32(2)}, 17),
    "power of a whole number": ([helper.make_node("Pow", ["first", "two"], ["op"])], {"two": np.int64(2)}, 17),
    "prelu": ([helper.make_node("PRelu", ["first", "slope"], ["op"])], {"slope": np.float32([[[0.1]]] * 4)}, 17),
    "layer norm": (
        [helper.make_node("LayerNormalization", ["first", "ten", "ten"], ["op"], axis=-1)],
        {"ten": np.linspace(0.5, 1.5, 10, dtype=np.float32)},
        17,
    ),
    "gelu of old": (
        [
            helper.make_node("Mul", ["first", "root"], ["inner"]),
            helper.make_node("Erf", ["inner"], ["erf"]),
            helper.make_node("Add", ["erf", "one"], ["more"]),
            helper.make_node("Mul", ["first", "more"], ["op"]),
        ],
        {"root": np.float32(0.7071), "one": np.float32(1)},
        17,
    ),
    "gelu": ([helper.make_node("Gelu", ["first"], ["op"])], {}, 20),
    "hard swish and sigmoid": (
        [
            helper.make_node("HardSwish", ["first"], ["swish"]),
            helper.make_node("Sigmoid", ["first"], ["gate"]),
            helper.make_node("Mul", ["swish", "gate"], ["op"]),
        ],
        {},
        17,
    ),
    "resize by scales": (
        [helper.make_node("Resize", ["first", "", "scales"], ["op"], mode="linear")],
        {"scales": np.float32([1, 1, 1.5, 2])},
        17,
    ),
    "resize with a region": (
        [
            helper.make_node(
                "Resize", ["first", "roi", "", "sizes"], ["op"], coordinate_transformation_mode="tf_crop_and_resize"
            )
        ],
        {"roi": np.float32([0, 0, 0.1, 0.1, 1, 1, 0.9, 0.9]), "sizes": np.array([1, 4, 6, 7])},
        17,
    ),
    "a constant node": (
        [
            helper.make_node("Constant", [], ["made"], value=numpy_helper.from_array(ROW)),
            helper.make_node("Constant", [], ["number"], value_float=0.5),
            helper.make_node("Add", ["first", "made"], ["added"]),
            helper.make_node("Mul", ["added", "number"], ["op"]),
        ],
        {},
        17,
    ),
    "a filled constant": (
        [
            helper.make_node("Shape", ["first"], ["shape"]),
            helper.make_node("ConstantOfShape", ["shape"], ["filled"], value=HALVES),
            helper.make_node("Add", ["first", "filled"], ["op"]),
        ],
        {},
        17,
    ),
    "a mask cast to float": (
        [
            helper.make_node("Greater", ["first", "zero"], ["positive"]),
            helper.make_node("Cast", ["positive"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["first", "mask"], ["op"]),
        ],
        {"zero": np.float32(0)},
        17,
    ),
    "an index and an expansion": (
        [
            helper.make_node("Gather", ["first", "order"], ["ordered"], axis=1),
            helper.make_node("ReduceMax", ["ordered"], ["most"], axes=[2, 3]),
            helper.make_node("Expand", ["most", "size"], ["wide"]),
            helper.make_node("Sub", ["ordered", "wide"], ["op"]),
        ],
        {"order": np.array([3, 1, 0, 2]), "size": np.array([1, 4, 8, 10])},
        17,
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_inside_the_network_is_valid_and_right_in_fp16(name: str) -> None:
    nodes, weights, opset = OPERATORS[name]
    model = chain(nodes, weights, "op", opset=opset)
    before = model.SerializeToString()

    half = converted(model, IMAGES)

    assert model.SerializeToString() == before
    assert half.kept == ()
    onnx.checker.check_model(half.model, full_check=True)
    check_casts(half.model)
    check_agreement(model, half.model, IMAGES[1:2])
    types = tensor_types(half.model)
    assert types["op"] == TensorProto.FLOAT16
    for tensor in ("scales", "roi"):
        assert types.get(tensor, TensorProto.FLOAT) == TensorProto.FLOAT
    for tensor in ("two", "shape", "order", "sizes", "parts", "pads"):
        if tensor in types and types[tensor] != TensorProto.FLOAT16:
            assert types[tensor] == TensorProto.INT64


def test_sizes_computed_in_float_stay_exact() -> None:
    """2051 is no FP16 number: it would become 2052."""
    nodes = [
        helper.make_node("Shape", ["first"], ["shape"]),
        helper.make_node("Slice", ["shape", "two", "four"], ["size"]),
        helper.make_node("Cast", ["size"], ["float size"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float size", "once"], ["same"]),
        helper.make_node("Cast", ["same"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Concat", ["front", "whole"], ["sizes"], axis=0),
        helper.make_node("Resize", ["first", "", "", "sizes"], ["op"]),
    ]
    weights = {"two": np.array([2]), "four": np.array([4]), "once": np.float32(1), "front": np.array([1, 4])}
    model = chain(nodes, weights, "op", images=(1, "height", "width", 3))
    images = probe_images((3, 2051), 1)

    half = converted(model, images)

    assert run(half.model)(images)["y"].shape == (1, 2, 3, 2051)
    assert tensor_types(half.model)["same"] == TensorProto.FLOAT


def test_a_tensor_read_in_both_types_is_cast_once_and_may_be_an_output_too() -> None:
    nodes = [
        conv("middle", "first", "middle.weight"),
        helper.make_node("Relu", ["middle"], ["left"]),
        helper.make_node("Sigmoid", ["middle"], ["right"]),
        helper.make_node("Add", ["left", "right"], ["both"]),
    ]
    outputs = {"y": TensorProto.FLOAT, "middle": TensorProto.FLOAT}
    weight = np.random.default_rng(4).normal(0, 1, (4, 4, 1, 1)).astype(np.float32)
    model = chain(nodes, {"middle.weight": weight}, "both", outputs=outputs)

    half = converted(model, IMAGES, keep=["left", "right"])

    check_casts(half.model)
    check_agreement(model, half.model, IMAGES[1:2])
    assert [cast.output[0] for cast in casts(half.model) if cast.input[0] == "middle/fp16"] == ["middle"]


# What is refused


def test_a_graph_that_is_no_float32_graph_is_refused() -> None:
    model = exported("resnet 18")
    ranges = ranges_of(model, [probe_images((65, 97), 1)])

    with pytest.raises(UnsupportedError, match="is FLOAT16; expected a float32 graph"):
        to_fp16(to_fp16(model, ranges).model, ranges)
    wide = chain([helper.make_node("Cast", ["first"], ["op"], to=TensorProto.DOUBLE)], {}, "first")
    with pytest.raises(UnsupportedError, match="'op' is DOUBLE; expected a float32 graph"):
        to_fp16(wide, {})


def test_a_tensor_without_a_range_is_refused() -> None:
    model = exported("resnet 18")
    ranges = ranges_of(model, [probe_images((65, 97), 1)])
    del ranges["stages.0.segmentation.conv1/Conv"]

    with pytest.raises(ConfigError, match=r"nothing is known of 'stages.0.segmentation.conv1/Conv' at Conv node"):
        to_fp16(model, ranges)


def test_branches_and_weights_in_other_files_are_refused() -> None:
    inner = helper.make_graph([], "inner", [], [])
    branch = helper.make_node("If", ["condition"], ["y"], name="choice", then_branch=inner, else_branch=inner)
    with pytest.raises(UnsupportedError, match="If node 'choice' holds a graph of its own"):
        to_fp16(small([branch], {"condition": np.bool_(True)}), {})

    model = exported("resnet 18")
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")
    with pytest.raises(ModelFileError, match="is in another file"):
        to_fp16(model, {})
