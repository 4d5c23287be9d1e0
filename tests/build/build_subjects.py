"""Models for builds on a simulated GPU, and ways to make such a build fail."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import handmade_model
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from simulated import onnx_rules
from simulated.plan import read
from simulated.trt_builder import Builder
from simulated.trt_engine import Engine
from simulated.trt_network import Network

CONVOLUTIONS = ("segmentation.conv", "normals.conv", "age.conv")
Change = Callable[[onnx.GraphProto], None]


def write(folder: Path, change: Change = lambda graph: None, **options: Any) -> handmade_model.HandMade:
    """The handmade model whose nodes have names: `age.conv`, `age.globalaveragepool`, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    made = handmade_model.write(folder, **options)
    model = onnx.load(made.path)
    for node in model.graph.node:
        node.name = f"{node.output[0].split('.')[0]}.{node.op_type.lower()}"
    change(model.graph)
    onnx.save(model, made.path)
    return made


def large(graph: onnx.GraphProto) -> None:
    """Make the head `age` reach 260,000, four times beyond FP16's range."""
    for weight in graph.initializer:
        if weight.name == "age.weight":
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.3e5), weight.name))


def quantise(graph: onnx.GraphProto) -> None:
    """Q/DQ around what every convolution takes: 0..1 and the weights, each over 127."""
    zero = numpy_helper.from_array(np.int8(0), "zero")
    weights = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    nodes = []
    for node in graph.node:
        for place, name in enumerate(node.input if node.op_type == "Conv" else ()):
            scale = np.float32(np.abs(weights[name]).max() if name in weights else 1) / np.float32(127)
            pair = [f"{node.name}.scale{place}", "zero"]
            graph.initializer.append(numpy_helper.from_array(scale, pair[0]))
            small, back = f"{node.name}.small{place}", f"{node.name}.back{place}"
            nodes.append(helper.make_node("QuantizeLinear", [name, *pair], [small], name=small))
            nodes.append(helper.make_node("DequantizeLinear", [small, *pair], [back], name=back))
            node.input[place] = back
        nodes.append(node)
    graph.initializer.append(zero)
    del graph.node[:]
    graph.node.extend(nodes)


def pair(plan: Path) -> dict[str, bytes]:
    """Everything in the plan's folder, hidden files too."""
    return {path.name: path.read_bytes() for path in sorted(plan.parent.iterdir()) if path.is_file()}


def built_plans(patch: pytest.MonkeyPatch) -> list[bytes]:
    """What the builder returns from now on, byte by byte."""
    found: list[bytes] = []
    build = Builder.build_serialized_network

    def spied(self: Builder, network: Any, config: Any) -> bytes | None:
        plan = build(self, network, config)
        found.append(plan or b"")
        return plan

    patch.setattr(Builder, "build_serialized_network", spied)
    return found


def swap_heads(patch: pytest.MonkeyPatch) -> None:
    """As if the plan's outputs had been bound the wrong way round; the two heads have one shape."""
    run = Engine.run

    def swapped(self: Engine, inputs: dict[str, Any]) -> dict[str, Any]:
        found = run(self, inputs)
        return {**found, "segmentation": found["normals"], "normals": found["segmentation"]}

    patch.setattr(Engine, "run", swapped)


def no_plan(patch: pytest.MonkeyPatch) -> None:
    def build(self: Builder, network: Any, config: Any) -> None:
        self._world.say_error(self._logger, "[optimizer.cpp] Could not find any implementation for node age.conv.")

    patch.setattr(Builder, "build_serialized_network", build)


def refuse_pooling(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(onnx_rules, "UNKNOWN", {*onnx_rules.UNKNOWN, "GlobalAveragePool"})


def press_ctrl_c(patch: pytest.MonkeyPatch) -> list[int]:
    """While TensorRT builds; it goes on until its monitor tells it to stop, if any. Returns the steps done."""
    steps: list[int] = []

    def build(self: Builder, network: Any, config: Any) -> None:
        time.sleep(0.05)  # until the build is being waited for
        os.kill(os.getpid(), signal.SIGINT)
        until = time.monotonic() + 10
        monitor = config.progress_monitor
        if monitor is not None:
            monitor.phase_start("Building", None, 1000)
        while time.monotonic() < until:
            steps.append(len(steps))
            if monitor is None or not monitor.step_complete("Building", len(steps)):
                return
            time.sleep(0.01)

    patch.setattr(Builder, "build_serialized_network", build)
    return steps


def press_ctrl_c_while_comparing(patch: pytest.MonkeyPatch) -> None:
    def run(self: Engine, inputs: dict[str, Any]) -> dict[str, Any]:
        raise KeyboardInterrupt

    patch.setattr(Engine, "output_shapes", run)


def fill_the_disk(patch: pytest.MonkeyPatch, suffix: str) -> None:
    """Nothing more can be written to files of that suffix."""
    write_bytes, write_text = Path.write_bytes, Path.write_text

    def full(path: Path) -> None:
        if path.suffix == suffix:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def bytes_(self: Path, data: Any) -> int:
        full(self)
        return write_bytes(self, data)

    def text(self: Path, data: str, **options: Any) -> int:
        full(self)
        return write_text(self, data, **options)

    patch.setattr(Path, "write_bytes", bytes_)
    patch.setattr(Path, "write_text", text)


def break_the_disk_at_the_end(patch: pytest.MonkeyPatch, suffix: str) -> None:
    """Where the temporary file is to take its place."""
    replace = Path.replace

    def broken(self: Path, target: Any) -> Path:
        if Path(target).suffix == suffix:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(target))
        return replace(self, target)

    patch.setattr(Path, "replace", broken)


def copy_pair(plan: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for path in (plan, plan.with_name(f"{plan.name}.json")):
        shutil.copy(path, folder / path.name)
    return folder / plan.name


def graph_of(plan: Path) -> onnx.ModelProto:
    """What the simulated TensorRT was given."""
    found = read(plan.read_bytes())
    assert found is not None
    return onnx.load_model_from_string(found[1])


def networks(patch: pytest.MonkeyPatch) -> list[Network]:
    """Those that are made from now on."""
    made: list[Network] = []
    create = Builder.create_network

    def spied(self: Builder, flags: int = 0) -> Network:
        made.append(create(self, flags))
        return made[-1]

    patch.setattr(Builder, "create_network", spied)
    return made
