"""Our code builds, opens and runs engines with each version of TensorRT, through a double that knows its true API.

The same calls run in all of them; what the source names and no run here uses is in a short table.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import handmade_model
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from simulated.api import VERSIONS, true_api, why_absent
from simulated.simulate import Machine, simulate
from simulated.source_names import tensorrt_uses
from test_tensorrt_api import SOURCES

from nddr_deploy.build.recipe import build_engine
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.plan_file import Profile
from nddr_deploy.engines.trt_build import BuildOptions, build_plan
from nddr_deploy.engines.trt_library import TensorRT
from nddr_deploy.errors import ConfigError, ModelFileError

KEPT = "Conv_3"
# Named in the source, there in the version, and not run here: nothing. A name goes here with the reason.
NOT_RUN: dict[str, str] = {}
# What our code asks for with `hasattr`: its answer is False in these versions.
ASKED = {"8.6.1": {"IBuilderConfig.progress_monitor"}}


@pytest.fixture(params=VERSIONS)
def machine(request: pytest.FixtureRequest) -> Any:
    if reason := why_absent(request.param):
        pytest.skip(f"TensorRT {request.param}: {reason}")
    with simulate(request.param) as found:
        yield found


def named(folder: Path, change: Callable[[onnx.GraphProto], None] = lambda graph: None) -> handmade_model.HandMade:
    """The handmade model with open batch, whose nodes have names."""
    made = handmade_model.write(folder, dynamic=("batch",), batch=2)
    model = onnx.load(made.path)
    for count, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{count}"
    change(model.graph)
    onnx.save(model, made.path)
    return made


def quantise(graph: onnx.GraphProto) -> None:
    """Q/DQ before every convolution, on what comes in and on the weights."""
    weights = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    graph.initializer.append(numpy_helper.from_array(np.int8(0), "zero"))
    nodes = []
    for node in graph.node:
        for index, name in enumerate(node.input if node.op_type == "Conv" else ()):
            scale = float(np.abs(weights[name]).max()) / 127 if name in weights else 1 / 127
            graph.initializer.append(numpy_helper.from_array(np.float32(scale), f"{node.name}.{index}.scale"))
            rest = [f"{node.name}.{index}.scale", "zero"]
            inner, outer = f"{node.name}.{index}.q", f"{node.name}.{index}.dq"
            nodes.append(helper.make_node("QuantizeLinear", [name, *rest], [inner], name=inner))
            nodes.append(helper.make_node("DequantizeLinear", [inner, *rest], [outer], name=outer))
            node.input[index] = outer
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def build_and_run(made: handmade_model.HandMade, precision: str, **options: Any) -> dict[str, Any]:
    """Build an engine, pass images through it one by one and as a stream, and return the first pass's results."""
    done = build_engine(made.path, precision=precision, outputs="raw", timing_cache=None, **options)
    with open_engine(done.path) as engine:
        first = engine.infer(made.images(2))
        streamed = list(engine.stream(made.images(2, seed) for seed in range(4)))
        engine.time_pass(made.images(2))  # type: ignore[attr-defined]
        assert set(engine.time_layers(made.images(2)).values()) == {0.25e-3}  # type: ignore[attr-defined]
    assert len(streamed) == 4
    for name, value in first.items():
        assert (streamed[0][name] == value).all()
    return first


def assert_near(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    for name, value in expected.items():
        assert np.abs(found[name] - value).max() <= tolerance * np.ptp(value), name


def test_an_engine_with_every_option_is_built_and_runs(machine: Machine, tmp_path: Path) -> None:
    made = named(tmp_path)
    options = {"workspace_gib": 1.0, "opt_level": 2, "aux_streams": 0, "hardware_compatible": True}

    found = build_and_run(made, "fp32", batch=(1, 2, 3), version_compatible=True, **options)

    assert_near(found, made.expected(made.images(2)), made.tolerance)
    assert machine.api.missed == ASKED.get(machine.api.version, set())


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_each_precision_is_asked_for_in_the_way_of_the_version(
    machine: Machine, tmp_path: Path, precision: str
) -> None:
    made = named(tmp_path, quantise if precision == "int8" else lambda graph: None)

    found = build_and_run(made, precision, **({"keep": [KEPT]} if precision == "fp16" else {}))

    # fp16 keeps 11 bits; int8 steps of 1/127 twice, summed over three channels.
    assert_near(found, made.expected(made.images(2)), 2e-3 if precision == "fp16" else 3e-2)
    assert machine.api.missed == ASKED.get(machine.api.version, set())
    flags = machine.world.builds[0].flags & {"FP16", "INT8"}
    assert flags == ({"fp16": {"FP16"}, "int8": {"FP16", "INT8"}}[precision] if machine.api.major == 8 else set())
    assert machine.world.builds[0].strongly_typed is (machine.api.major > 8)


def test_a_graph_that_is_refused_is_told_with_its_node(machine: Machine) -> None:
    shape = ["N", 4, 4, 3]
    graph = helper.make_graph(
        [helper.make_node("Unique", ["images"], ["age"], name="odd")],
        "odd",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("age", TensorProto.UINT8, ["M"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    only = (1, 4, 4, 3)

    with pytest.raises(ModelFileError, match="Unique node 'odd': "):
        build_plan(model, BuildOptions("fp32", Profile(min=only, opt=only, max=only)), TensorRT())


def test_a_foreign_timing_cache_is_refused_in_the_librarys_own_words(machine: Machine, tmp_path: Path) -> None:
    made = named(tmp_path)
    cache = tmp_path / "timing.cache"
    cache.write_bytes(b"of another program")

    with pytest.raises(ConfigError, match=r"timing.cache is no timing cache .* \(createTimingCache: "):
        build_engine(made.path, precision="fp32", outputs="raw", timing_cache=cache)


def test_what_the_library_said_of_one_model_is_not_told_of_the_next(machine: Machine, tmp_path: Path) -> None:
    test_a_graph_that_is_refused_is_told_with_its_node(machine)

    test_a_foreign_timing_cache_is_refused_in_the_librarys_own_words(machine, tmp_path)


def test_every_name_in_the_source_is_used_by_a_run(tmp_path: Path) -> None:
    used: set[str] = set()
    wanted: set[str] = set()
    for version in (VERSIONS[0], VERSIONS[-1]):  # what neither of them needs, no version needs
        if reason := why_absent(version):
            pytest.skip(f"TensorRT {version}: {reason}")
        for precision in ("fp32", "fp16", "int8"):
            folder = tmp_path / version / precision
            folder.mkdir(parents=True)
            with simulate(version) as machine:
                made = named(folder, quantise if precision == "int8" else lambda graph: None)
                compatible = precision == "fp32"
                build_engine(
                    made.path,
                    precision=precision,
                    batch=(1, 2, 3),
                    workspace_gib=1.0,
                    opt_level=2,
                    aux_streams=0,
                    keep=[KEPT] if precision == "fp16" else (),
                    version_compatible=compatible,
                    hardware_compatible=compatible,
                    timing_cache=folder / "timing.cache",
                )
                with open_engine(made.path.with_suffix(".trt")) as engine:
                    engine.time_layers(made.images(1))  # type: ignore[attr-defined]
                used |= machine.api.used
        with simulate(version) as machine:
            test_a_foreign_timing_cache_is_refused_in_the_librarys_own_words(machine, tmp_path / version)
            test_a_graph_that_is_refused_is_told_with_its_node(machine)
            used |= machine.api.used
        api = true_api(version)
        found = {use.name for use in tensorrt_uses(SOURCES, [api])}
        # An enum's own attributes, classes and the version are told by their members and objects.
        wanted |= {name for name in found if not name.endswith((".name", "__")) and name not in api.classes}

    assert wanted - used == set(NOT_RUN)
