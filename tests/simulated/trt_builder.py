"""A simulated TensorRT's builder: the rules that networks and profiles must keep, and what precision comes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx

from simulated import onnx_rules, plan
from simulated.trt_config import BuilderConfig, Profile
from simulated.trt_layers import describe_layers
from simulated.trt_network import Network

if TYPE_CHECKING:
    from simulated.tensorrt import World

NARROW = {"FP16", "BF16", "INT8", "FP8"}


@dataclass(frozen=True)
class Build:
    """What a build was asked for, for tests to look at.

    Attributes:
        flags: names of builder flags that were set.
        strongly_typed: the graph decides the types.
        profiles: of each, input -> (min, opt, max).
        measured: how many kernels had to be measured, because the timing cache did not know them.
        config: all the rest.
    """

    flags: frozenset[str]
    strongly_typed: bool
    profiles: list[dict[str, Any]]
    measured: int
    config: BuilderConfig


class Builder:
    """See `Builder`."""

    def __init__(self, world: World, logger: Any) -> None:
        if world.gpu.kind.count == 0:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._world, self._logger = world, logger
        major, minor = world.gpu.kind.compute_capability
        self.platform_has_tf32 = major >= 8
        self.platform_has_fast_fp16 = (major, minor) >= (5, 3) and (major, minor) != (6, 1)
        self.platform_has_fast_int8 = (major, minor) >= (6, 1) and (major, minor) != (6, 2)
        self.max_threads = 1

    def create_network(self, flags: int = 0) -> Network:
        names = self._world.set_bits("NetworkDefinitionCreationFlag", flags)
        major = self._world.major
        return Network(
            explicit=major > 8 or "EXPLICIT_BATCH" in names,
            strongly_typed=major >= 11 or "STRONGLY_TYPED" in names,
        )

    def create_builder_config(self) -> BuilderConfig:
        return BuilderConfig(self._world, self._logger)

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: BuilderConfig) -> bytes | None:
        """The plan; None, and why in the log, where there is none."""
        problems = list(_problems(network, config))
        if problems:
            for problem in problems:
                self._world.say_error(self._logger, problem)
            return None
        assert network.model is not None
        entries = config.cache.entries if config.cache is not None else {}
        measured = self._measure(network, config, entries)
        if measured is None:
            self._world.say_error(self._logger, "the build was cancelled by the progress monitor")
            return None
        kind = self._world.gpu.kind
        profiles = [{name: list(shapes) for name, shapes in profile.shapes.items()} for profile in config.profiles]
        header = plan.Header(
            tensorrt=self._world.version,
            gpu=kind.name,
            compute_capability=kind.compute_capability,
            profiles=profiles,
            detailed=_name(config.profiling_verbosity) == "DETAILED",
            layers=describe_layers(network, config.flags_set, self._world.pretend),
            version_compatible="VERSION_COMPATIBLE" in config.flags_set,
            hardware_compatible=_name(config.hardware_compatibility_level) == "AMPERE_PLUS",
            profile_sharing=self._world.major > 8 or "PROFILE_SHARING_0806" in config.previews,
            aux_streams=max(0, config.max_aux_streams),
        )
        self._world.builds.append(
            Build(frozenset(config.flags_set), network.strongly_typed, profiles, measured, config)
        )
        return plan.write(header, network.model.SerializeToString())

    def _measure(self, network: Network, config: BuilderConfig, entries: dict[str, float]) -> int | None:
        """How many kernels were not in the cache; None where the progress monitor stopped it."""
        monitor, count = config.progress_monitor, 0
        flags = " ".join(sorted(config.flags_set & NARROW))
        steps = len(network.layers)
        if monitor is not None:
            monitor.phase_start("Building Engine", None, 2)
            monitor.phase_start("Measuring Tactics", "Building Engine", steps)
        stopped = False
        for step, layer in enumerate(network.layers):
            types = [tensor.dtype for tensor in (*layer.inputs, *layer.outputs)]
            key = hashlib.sha256(f"{layer.operator} {types} {flags}".encode()).hexdigest()
            if key not in entries:
                entries[key] = 1e-3
                count += 1
            if monitor is not None and not monitor.step_complete("Measuring Tactics", step):
                stopped = True
                break
        if monitor is not None:
            monitor.phase_finish("Measuring Tactics")
            for step in range(0 if stopped else 2):
                stopped = not monitor.step_complete("Building Engine", step)
            monitor.phase_finish("Building Engine")
        return None if stopped else count


def _problems(network: Network, config: BuilderConfig) -> Iterator[str]:
    if network.model is None or not network.outputs:
        yield "Network must have at least one output"
        return
    narrow = config.flags_set & NARROW
    quantised = any(layer.type in ("QUANTIZE", "DEQUANTIZE") for layer in network.layers)
    if network.strongly_typed:
        if narrow:
            yield f"A strongly typed network takes no precision from flags; got {', '.join(sorted(narrow))}"
        for name in onnx_rules.mixed_types(network.model, network.types):
            yield f"{name}: input types must be the same in a strongly typed network"
    elif quantised and "INT8" not in narrow:
        yield "Int8 precision has been set for a layer, but int8 is not configured in the builder"
    elif "INT8" in narrow and not quantised:
        yield "Calibration failure: no calibrator is set, and no scales are known"
    try:
        onnx.checker.check_model(network.model)
    except onnx.checker.ValidationError as error:
        yield str(error).splitlines()[0]
    yield from _profile_problems(network, config.profiles)


def _profile_problems(network: Network, profiles: list[Profile]) -> Iterator[str]:
    open_inputs = [tensor for tensor in network.inputs if -1 in tensor.shape]
    if open_inputs and not profiles:
        yield "Network has dynamic or shape inputs, but no optimization profile has been defined."
    for index, profile in enumerate(profiles):
        for tensor in open_inputs:
            if tensor.name not in profile.shapes:
                yield f"Dynamic input tensor {tensor.name} is missing dimensions in profile {index}."
        for tensor in network.inputs:
            for shape in profile.shapes.get(tensor.name, ()):
                fits = len(shape) == len(tensor.shape) and all(
                    wanted in (-1, found) for wanted, found in zip(tensor.shape, shape, strict=True)
                )
                if not fits:
                    yield f"{tensor.name}: dimensions {shape} in profile {index} do not fit network's {tensor.shape}"


def _name(value: Any) -> str:
    """Of a member that was set, or of the default."""
    return str(getattr(value, "name", value))
