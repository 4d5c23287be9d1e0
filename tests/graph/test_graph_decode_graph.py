"""Decoders appended to a graph: run by ONNX Runtime they give what `Task.decode` makes of the same raw outputs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import handmade_model
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from nddr_deploy.engines import open_engine
from nddr_deploy.errors import ConfigError, MissingPackageError, ModelFileError, UnsupportedError
from nddr_deploy.evaluate.decode import decode_batch
from nddr_deploy.graph.decode_graph import append_decoders
from nddr_deploy.graph.decoders import DECODERS
from nddr_deploy.graph.metadata import manifest_of, write_manifest
from nddr_deploy.graph.ranges import with_ranges
from nddr_deploy.graph.static import fix_input
from nddr_deploy.graph.tensorrt_lint import check_for_tensorrt
from nddr_deploy.manifest import Manifest
from nddr_deploy.resample import Taps
from nddr_deploy.resize import CONVENTIONS, Convention, Grid
from nddr_deploy.tasks import TASKS, Age, Binary, Classification, Depth, Normals, Segmentation
from nddr_deploy.tasks.base import Array, Task

SEGMENTATION = Segmentation(classes=("wall", "floor", "chair", "table", "lamp"))
NORMALS, DEPTH, EDGE, AGE = Normals(), Depth(), Binary("edge"), Age(classes=12)
GENDER = Classification("gender", ("female", "male"))
TURNED = Normals("turned", axes=("up", "left", "toward"))
UNKNOWN = Normals("unknown", axes=None)
COLOURED = Normals("coloured", coding="colour", axes=("toward", "right", "up"))
PLAIN_COLOURED = Normals("plain-coloured", coding="colour")
ALL: tuple[Task, ...] = (SEGMENTATION, NORMALS, DEPTH, EDGE, AGE, GENDER, TURNED, UNKNOWN, COLOURED, PLAIN_COLOURED)
RAW_HW, IMAGE_HW = (6, 9), (35, 61)
OPEN = ("batch", "size")
NEAR_TIE = 1e-5  # of the scores' range: what float32 coordinates may move a score by
TIES = 10e-6  # of all pixels


class Given:
    """A model whose raw outputs are what it is given, so that tests choose them.

    Args:
        dynamic: what the graph leaves open.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        batch: int = 2,
        raw_hw: tuple[int, int] = RAW_HW,
        image_hw: tuple[int, int] = IMAGE_HW,
        dynamic: Sequence[str] = (),
        resize: Convention = "half_pixel",
        opset: int = 17,
    ) -> None:
        self.manifest = Manifest(
            tasks=tuple(tasks), size_hw=image_hw, batch=batch, dynamic=tuple(dynamic), resize=resize, opset=opset
        )
        count: Any = "batch" if "batch" in dynamic else batch
        open_size = "size" in dynamic
        nodes = [helper.make_node("Cast", ["images"], ["images/Cast"], name="images/Cast", to=TensorProto.FLOAT)]
        rows = ["height", "width"] if open_size else image_hw
        inputs = [helper.make_tensor_value_info("images", TensorProto.UINT8, [count, *rows, 3])]
        outputs = []
        for task in reversed(tasks):  # in another order than in the manifest: only names may be believed
            where = [f"{task.name}_height", f"{task.name}_width"] if open_size else raw_hw
            shape = [count, task.channels, *(where if task.head == "dense" else [])]
            layer = f"heads.{task.name}"
            inputs.append(helper.make_tensor_value_info(f"given.{task.name}", TensorProto.FLOAT, shape))
            nodes.append(helper.make_node("Mul", [f"given.{task.name}", "one"], [task.name], name=f"{layer}/Mul"))
            outputs.append(helper.make_tensor_value_info(task.name, TensorProto.FLOAT, shape))
        one = numpy_helper.from_array(np.float32(1), "one")
        body = helper.make_graph(nodes, "given", inputs, outputs, [one])
        self.model = helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        write_manifest(self.model, self.manifest)

    def run(self, raw: dict[str, Array], *, image_hw: tuple[int, int] | None = None) -> dict[str, Array]:
        """Decoded by the graph, which is checked, too."""
        decoded = append_decoders(self.model)
        onnx.checker.check_model(decoded, full_check=True)
        check_for_tensorrt(decoded, precision="fp32", major=8 if self.manifest.opset == 17 else 10, source="a test")
        count = len(next(iter(raw.values())))
        images = np.zeros((count, *(image_hw or self.manifest.size_hw), 3), dtype=np.uint8)
        return run(decoded, {"images": images, **{f"given.{name}": values for name, values in raw.items()}})


def run(model: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    declared = {output.name: output.shape for output in session.get_outputs()}
    results = dict(zip(names, session.run(names, feeds), strict=True))
    for name, value in results.items():
        fits = (
            not isinstance(said, int) or said == found for said, found in zip(declared[name], value.shape, strict=True)
        )
        assert all(fits), f"{name} was declared as {declared[name]} and is {value.shape}"
    return results


def raw_of(tasks: Sequence[Task], *, batch: int = 2, raw_hw: tuple[int, int] = RAW_HW, seed: int = 3) -> Any:
    """Large, small and negative values, different in every task and sample; zeros in a corner of every map."""
    generator = np.random.default_rng(seed)
    raw = {}
    for task in tasks:
        values = generator.normal(0, 4, (batch, task.channels, *(raw_hw if task.head == "dense" else ())))
        if task.head == "dense":
            values[:, :, :2, :2] = 0
        raw[task.name] = values.astype(np.float32)
    return raw


def scores_at(scores: Array, grid: Grid, pixels: Array) -> Array:
    """(C, h, w), (P, 2) -> float64 (P, C): the resized scores at some pixels."""
    rows, columns = Taps.of(grid.rows, grid.source_hw[0]), Taps.of(grid.columns, grid.source_hw[1])
    y, x = pixels.T
    fine = scores.astype(np.float64)
    south, east = (grid.rows - rows.first)[y], (grid.columns - columns.first)[x]
    first = fine[:, rows.first[y], columns.first[x]] * (1 - east) + fine[:, rows.first[y], columns.second[x]] * east
    second = fine[:, rows.second[y], columns.first[x]] * (1 - east) + fine[:, rows.second[y], columns.second[x]] * east
    result: Array = (first * (1 - south) + second * south).T
    return result


def check_labels(found: Array, expected: Array, scores: Array, resize: Convention) -> None:
    """Equal but where the two best scores are near to each other, and that is rare."""
    assert (found.dtype, found.shape) == (np.uint8, expected.shape)
    differ = np.argwhere(found != expected)
    assert len(differ) <= max(1, TIES * found.size)
    for sample, *pixel in differ:
        grid = Grid.between(scores.shape[2:], expected.shape[1:], resize)
        best = np.sort(scores_at(scores[sample], grid, np.array([pixel]))[0])[::-1]
        assert best[0] - best[1] <= NEAR_TIE * np.ptp(scores[sample])


def check(given: Given, raw: dict[str, Array], found: dict[str, Array]) -> None:
    """Every result against the CPU's decoder."""
    size_hw = next((v.shape[1:3] for v in found.values() if v.ndim > 2), given.manifest.size_hw)
    expected = decode_batch(raw, given.manifest, (size_hw[0], size_hw[1]))
    assert found.keys() == expected.keys()
    for task in given.manifest.tasks:
        one, other = found[task.name], expected[task.name]
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert np.isfinite(one).all()
        if task.kind == "segmentation":
            check_labels(one, other, raw[task.name], given.manifest.resize)
            continue
        scale = max(1.0, float(np.abs(other).max())) if task.kind == "depth" else 1.0  # metres may be any number
        difference = np.abs(one.astype(np.float64) - other) / scale
        assert difference.max() <= 1e-3
        # Float32's rounding of coordinates and sums; a short vector magnifies it, and the root of a colour does.
        assert np.quantile(difference, 0.99 if task.kind == "normals" else 1.0) <= 2e-5
        if task.kind == "normals":
            np.testing.assert_allclose(np.linalg.norm(one, axis=-1), 1, atol=1e-6)


@pytest.mark.parametrize("dynamic", [(), ("batch",), ("size",), OPEN], ids="-".join)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("resize", CONVENTIONS)
@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
def test_the_graph_decodes_like_the_task(task: Task, resize: Convention, batch: int, dynamic: tuple[str, ...]) -> None:
    given = Given([task], batch=batch, resize=resize, dynamic=dynamic)
    raw = raw_of([task], batch=batch)

    check(given, raw, given.run(raw))


@pytest.mark.parametrize("tasks", [ALL[:2], (AGE, SEGMENTATION), (DEPTH, EDGE, TURNED), ALL], ids=len)
@pytest.mark.parametrize("dynamic", [(), OPEN], ids="-".join)
def test_several_tasks_are_each_decoded_as_their_own_kind(tasks: tuple[Task, ...], dynamic: tuple[str, ...]) -> None:
    given = Given(tasks, dynamic=dynamic)
    raw = raw_of(tasks)

    found = given.run(raw)

    assert list(found) == [task.name for task in reversed(tasks)]  # the order that the graph had
    check(given, raw, found)


def test_heads_of_equal_shape_keep_their_own_results() -> None:
    tasks = (Depth("near"), Depth("far"), Depth("sky"))
    given, raw = Given(tasks), raw_of(tasks)

    found = given.run(raw)

    check(given, raw, found)
    assert np.abs(found["near"] - found["far"]).max() > 1


@pytest.mark.parametrize("resize", CONVENTIONS)
@pytest.mark.parametrize("image_hw", [(36, 54), (6, 9), (7, 9), (1, 1), (5, 4), (131, 163)], ids=str)
def test_any_size_is_decoded_whether_it_was_fixed_or_open(image_hw: tuple[int, int], resize: Convention) -> None:
    tasks = (SEGMENTATION, NORMALS, DEPTH)
    raw = raw_of(tasks)

    for given in (Given(tasks, image_hw=image_hw, resize=resize), Given(tasks, dynamic=OPEN, resize=resize)):
        check(given, raw, given.run(raw, image_hw=image_hw))


@pytest.mark.parametrize("resize", CONVENTIONS)
@pytest.mark.parametrize("dynamic", [(), OPEN], ids="-".join)
def test_forty_classes_are_decoded_at_full_size(resize: Convention, dynamic: tuple[str, ...]) -> None:
    tasks = (Segmentation(classes=tuple(map(str, range(40)))), NORMALS, DEPTH)
    raw_hw = (61, 81) if resize == "align_corners" else (60, 80)
    given = Given(tasks, batch=1, raw_hw=raw_hw, image_hw=(480, 640), resize=resize, dynamic=dynamic)
    raw = raw_of(tasks, batch=1, raw_hw=raw_hw)

    check(given, raw, given.run(raw))


def test_255_classes_are_told_apart() -> None:
    task = Segmentation(classes=tuple(map(str, range(255))))
    given, raw = Given([task], batch=1, raw_hw=(17, 15), image_hw=(17, 15)), raw_of([task], batch=1, raw_hw=(17, 15))
    raw[task.name].reshape(255, 255)[np.arange(255), np.arange(255)] = 100  # pixel p shows class p

    labels = given.run(raw)[task.name]

    assert np.array_equal(labels.ravel(), np.arange(255))


def test_of_equal_scores_the_lowest_class_wins() -> None:
    given = Given([SEGMENTATION])

    labels = given.run({"segmentation": np.ones((2, 5, *RAW_HW), dtype=np.float32)})["segmentation"]

    assert not labels.any()


@pytest.mark.parametrize("task", [SEGMENTATION, EDGE, DEPTH, AGE, GENDER], ids=lambda task: task.name)
@pytest.mark.parametrize("size", [1e4, 1e30, 1e37])
def test_large_logits_do_not_overflow(task: Task, size: float) -> None:
    given, raw = Given([task]), raw_of([task])
    values = raw[task.name] * np.float32(size / 20)
    if task in (EDGE, DEPTH):  # where a large number meets one of the other sign, any rounding of 0 is large
        values = (np.abs(values) + np.float32(size / 20)) * np.float32([1, -1]).reshape(2, 1, 1, 1)
    raw[task.name] = values

    check(given, raw, given.run(raw))


@pytest.mark.parametrize("task", [NORMALS, TURNED, UNKNOWN, COLOURED, PLAIN_COLOURED], ids=lambda task: task.name)
@pytest.mark.parametrize("size", [1e-37, 1e-25, 1.0, 1e25, 3e37])
def test_the_length_of_a_vector_does_not_matter(task: Task, size: float) -> None:
    given, raw = Given([task]), raw_of([task])
    raw[task.name] = raw[task.name] * np.float32(size)

    check(given, raw, given.run(raw))


@pytest.mark.parametrize("task", [NORMALS, TURNED, COLOURED, PLAIN_COLOURED], ids=lambda task: task.name)
def test_a_vector_without_a_direction_points_toward_the_camera_and_no_number_is_lost_on_the_way(task: Task) -> None:
    raw = raw_of([task])
    raw[task.name][0] = 0
    if task in (COLOURED, PLAIN_COLOURED):
        raw[task.name][0] = -1  # no colour has a component below 0
    given = Given([task])

    found = given.run(raw)[task.name]
    feeds = {"images": np.zeros((2, *IMAGE_HW, 3), dtype=np.uint8), f"given.{task.name}": raw[task.name]}
    ranges = run(with_ranges(append_decoders(given.model)), feeds)

    assert np.array_equal(found[0], np.broadcast_to(np.float32([0, 0, -1]), found[0].shape))
    assert all(np.isfinite(value) for value in ranges.values())  # the ranges of a model are scanned with its decoders


def test_negative_depths_become_0() -> None:
    given, raw = Given([DEPTH]), raw_of([DEPTH])

    metres = given.run(raw)["depth"]

    assert metres.min() == 0
    assert np.count_nonzero(metres == 0) > 0.3 * metres.size  # half of the raw values are negative


@pytest.mark.parametrize("opset", [17, 18, 19, 20])
@pytest.mark.parametrize("dynamic", [(), OPEN], ids="-".join)
def test_every_opset_of_the_exporter_can_be_decoded(opset: int, dynamic: tuple[str, ...]) -> None:
    given, raw = Given(ALL, opset=opset, dynamic=dynamic), raw_of(ALL)

    check(given, raw, given.run(raw))


def test_a_whole_model_of_open_batch_and_size_gives_the_results_of_its_images(tmp_path: Path) -> None:
    handmade = handmade_model.write(tmp_path, dynamic=OPEN)
    onnx.save(append_decoders(onnx.load(handmade.path)), tmp_path / "decoded.onnx")
    images = np.random.default_rng(0).integers(0, 256, (3, 21, 30, 3), dtype=np.uint8)

    with open_engine(handmade.path) as engine:
        expected = decode_batch(engine.infer(images), engine.manifest, (21, 30))
    with open_engine(tmp_path / "decoded.onnx") as engine:
        assert engine.manifest.outputs == "decoded"
        found = engine.infer(images)

    assert np.mean(found["segmentation"] != expected["segmentation"]) < 1e-3  # of 1890 pixels: a tie
    np.testing.assert_allclose(found["normals"], expected["normals"], atol=1e-3)
    np.testing.assert_allclose(found["age"], expected["age"], atol=1e-5)


def test_fixing_an_open_model_before_or_after_gives_the_same_graph() -> None:
    given = Given((SEGMENTATION, DEPTH), dynamic=OPEN)

    before = append_decoders(fix_input(given.model, batch=2, size_hw=IMAGE_HW))
    after = fix_input(append_decoders(given.model), batch=2, size_hw=IMAGE_HW)

    kinds = [
        [node.op_type for node in model.graph.node if node.name.startswith("decode.")] for model in (before, after)
    ]
    assert kinds[0] == kinds[1]
    assert "Shape" not in kinds[0]
    assert [value.SerializeToString() for value in before.graph.output] == [
        value.SerializeToString() for value in after.graph.output
    ]


# What the graph is made of


def decoders_of(given: Given) -> list[onnx.NodeProto]:
    return [node for node in append_decoders(given.model).graph.node if node.name.startswith("decode.")]


def test_labels_leave_through_float_and_their_planes_are_read_once() -> None:
    nodes = decoders_of(Given([SEGMENTATION]))

    assert [node.op_type for node in nodes] == ["Resize", "ArgMax", "Cast", "Cast"]
    assert [helper.get_attribute_value(node.attribute[0]) for node in nodes[2:]] == [
        TensorProto.FLOAT,
        TensorProto.UINT8,
    ]


@pytest.mark.parametrize("task", [NORMALS, TURNED, COLOURED], ids=lambda task: task.name)
def test_normals_are_turned_to_channels_last_at_the_end_alone(task: Task) -> None:
    operations = [node.op_type for node in decoders_of(Given([task]))]

    assert operations.index("Transpose") == len(operations) - 1
    assert (
        operations[: operations.index("Resize")]
        == {
            "normals": [],
            "turned": ["Gather", "Mul"],  # on the small map
            "coloured": ["Gather"],
        }[task.name]
    )


def test_open_extents_are_read_once_for_all_tasks_and_never_from_uint8() -> None:
    nodes = decoders_of(Given(ALL, dynamic=OPEN))

    shapes = [node for node in nodes if node.op_type == "Shape"]
    assert [list(node.input) for node in shapes] == [["images/Cast"]]  # TensorRT lets only a Cast read UINT8
    assert sum(node.op_type == "Slice" for node in nodes) == 2


@pytest.mark.parametrize("dynamic", [(), OPEN], ids="-".join)
def test_a_raw_map_of_the_images_size_is_resized_only_where_the_size_may_be_another(dynamic: tuple[str, ...]) -> None:
    nodes = decoders_of(Given([DEPTH], image_hw=RAW_HW, dynamic=dynamic))

    assert [node.op_type for node in nodes].count("Resize") == (1 if dynamic else 0)


def test_extents_that_are_open_without_a_name_are_not_taken_for_equal() -> None:
    given = Given([DEPTH], dynamic=OPEN)
    for value in (*given.model.graph.input, *given.model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")
    raw = raw_of([DEPTH])

    check(given, raw, given.run(raw))


def test_no_decoder_multiplies_matrices_or_leaves_float32() -> None:
    model = append_decoders(Given(ALL, dynamic=OPEN).model)

    kinds = {weight.data_type for weight in model.graph.initializer}
    assert kinds == {TensorProto.FLOAT, TensorProto.INT64}  # INT64: sizes and axes
    assert not {"MatMul", "Gemm", "Conv", "Einsum"} & {node.op_type for node in model.graph.node}


def test_nodes_and_tensors_have_clear_names_and_a_raw_output_has_that_of_its_node() -> None:
    model = append_decoders(Given((SEGMENTATION, DEPTH), dynamic=OPEN).model)

    nodes = {node.name: node for node in model.graph.node}
    assert len(nodes) == len(model.graph.node)
    assert list(nodes["heads.depth/Mul"].output) == ["heads.depth/Mul"]
    assert nodes["decode.depth/Resize"].input[0] == "heads.depth/Mul"
    assert list(nodes["decode.segmentation/Cast_2"].output) == ["segmentation"]
    assert {"decode.images/Shape", "decode.segmentation/ArgMax", "decode.depth/Relu"} <= nodes.keys()


def test_outputs_say_which_extents_are_open() -> None:
    model = append_decoders(Given(ALL, dynamic=OPEN).model)

    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.output
    }
    assert shapes["segmentation"] == shapes["depth"] == shapes["edge"] == ["batch", "height", "width"]
    assert shapes["normals"] == ["batch", "height", "width", 3]
    assert (shapes["age"], shapes["gender"]) == (["batch"], ["batch", 2])


# What stays


def test_everything_else_of_the_model_stays_as_it_was() -> None:
    given = Given((SEGMENTATION, AGE))
    given.model.producer_name, given.model.producer_version, given.model.doc_string = "maker", "3", "a text"
    given.model.metadata_props.add(key="author", value="somebody")
    weights = [numpy_helper.from_array(np.float32([number]), name) for number, name in enumerate("zyx")]
    given.model.graph.initializer.extend(weights)
    before = given.model.SerializeToString()

    decoded = append_decoders(given.model)

    assert given.model.SerializeToString() == before
    assert (decoded.producer_name, decoded.producer_version, decoded.doc_string) == ("maker", "3", "a text")
    assert (decoded.ir_version, list(decoded.opset_import)) == (given.model.ir_version, list(given.model.opset_import))
    assert (decoded.graph.name, list(decoded.graph.input)) == (given.model.graph.name, list(given.model.graph.input))
    assert list(decoded.graph.initializer)[: len(weights) + 1] == list(given.model.graph.initializer)
    assert [entry.key for entry in decoded.metadata_props] == ["nddr_deploy.manifest", "author"]
    assert manifest_of(decoded, source="") == given.manifest.model_copy(update={"outputs": "decoded"})
    kept = [node for node in decoded.graph.node if not node.name.startswith("decode.")]
    assert [node.name for node in kept] == [node.name for node in given.model.graph.node]


def test_a_raw_output_that_other_nodes_read_is_still_read_by_them() -> None:
    given = Given((DEPTH,))
    given.model.graph.node.append(helper.make_node("Relu", ["depth"], ["unused"], name="other/Relu"))

    nodes = {node.name: node for node in append_decoders(given.model).graph.node}

    assert list(nodes["other/Relu"].input) == ["heads.depth/Mul"]


# What is refused


def test_a_decoded_model_is_not_decoded_again() -> None:
    with pytest.raises(ConfigError, match=r"decoded already\. Use it as it is"):
        append_decoders(append_decoders(Given((DEPTH,)).model))


def test_raw_outputs_of_another_type_are_refused() -> None:
    given = Given((DEPTH,))
    given.model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16

    with pytest.raises(ModelFileError, match="depth: the raw output is float16; decoders are appended to float32"):
        append_decoders(given.model)


def test_an_output_that_the_manifest_does_not_describe_is_refused() -> None:
    given = Given((DEPTH, NORMALS))
    write_manifest(given.model, given.manifest.model_copy(update={"tasks": (DEPTH, EDGE)}))

    with pytest.raises(ModelFileError, match="outputs are normals, depth; its manifest describes depth, edge"):
        append_decoders(given.model)


@pytest.mark.parametrize("other", [Segmentation("depth", classes=("a", "b")), Age("depth")], ids=["channels", "pooled"])
def test_a_raw_output_of_another_form_is_refused(other: Task) -> None:
    given = Given((DEPTH,))
    write_manifest(given.model, given.manifest.model_copy(update={"tasks": (other,)}))

    with pytest.raises(ModelFileError, match=r"depth: expected a raw output \(N, \d+.*\); found \(2, 1, 6, 9\)"):
        append_decoders(given.model)


def test_a_model_without_images_or_of_an_older_opset_is_refused() -> None:
    nameless, old = Given((DEPTH,)).model, Given((DEPTH,)).model
    nameless.graph.input[0].name = "x"
    old.opset_import[0].version = 16

    with pytest.raises(ModelFileError, match=r"Expected a graph whose input is `images`.* takes x, given\.depth"):
        append_decoders(nameless)
    with pytest.raises(UnsupportedError, match="has opset 16; decoders are written for 17 and later"):
        append_decoders(old)


def test_every_kind_of_task_has_a_decoder_and_an_unknown_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(DECODERS) == set(TASKS)
    monkeypatch.delitem(DECODERS, "depth")

    with pytest.raises(UnsupportedError, match=r"far: tasks of kind 'depth' .* Export with --outputs raw"):
        append_decoders(Given((Depth("far"),)).model)


def test_without_graphsurgeon_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx_graphsurgeon", None)

    with pytest.raises(MissingPackageError, match=r"'onnx_graphsurgeon' is not installed.*nddr-deploy\[gpu\]"):
        append_decoders(Given((DEPTH,)).model)


@pytest.mark.parametrize("dynamic", [(), OPEN], ids=["fixed", "open"])
@pytest.mark.parametrize("count", [2, 255])
def test_labels_by_comparison_are_those_of_argmax_also_where_classes_tie(count: int, dynamic: tuple[str, ...]) -> None:
    task = Segmentation(classes=tuple(map(str, range(count))))
    given = Given((task,), dynamic=dynamic)
    raw = raw_of((task,))["segmentation"]
    raw[0] = np.round(raw[0])  # many equal scores
    raw[1, :, 3:] = -5e30  # one value for all classes, and a huge one
    feeds = {"images": np.zeros((2, *IMAGE_HW, 3), np.uint8), "given.segmentation": raw}

    by_argmax = run(append_decoders(given.model), feeds)["segmentation"]
    compared = append_decoders(given.model, labels="compare")

    assert "ArgMax" not in [node.op_type for node in compared.graph.node]
    check_for_tensorrt(compared, precision="fp32", major=8, source="a test")
    found = run(compared, feeds)["segmentation"]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, by_argmax)
