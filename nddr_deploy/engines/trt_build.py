"""From an ONNX graph to a TensorRT plan, by one path for TensorRT 8.6, 10.x and 11.x.

What precision is asked for with is decided by the major version, never by looking whether a name exists: 11 has no
flags for it, and code that skips a missing flag builds FP32 without a word. 10 and 11 are given a graph that spells
every type out (`graph.fp16`, Q/DQ nodes); 8.6 an FP32 graph and flags. Features that only make a build nicer are used
where they exist; one that was asked for and is missing is refused.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from nddr_deploy.engines.plan_file import Precision, Profile
from nddr_deploy.engines.timing_cache import read_cache, write_cache
from nddr_deploy.engines.trt_library import TensorRT, reason
from nddr_deploy.engines.trt_progress import BuildProgress, open_monitor
from nddr_deploy.errors import ConfigError, ModelFileError, UnsupportedError

INPUT = "images"
DECODING = "decode."  # how `graph.decoders` begins its names
NUMBER = re.compile(r"_\d+$")
GIB = 1 << 30
POLL_S = 0.2


@dataclass(frozen=True)
class BuildOptions:
    """What is asked of a build.

    Attributes:
        precision: that its layers are to run in.
        profile: the shapes of `images`.
        kept_fp32: nodes that 8.6 must keep in FP32; later versions are told by the graph. It keeps the layers of
            decoders in FP32, too.
        workspace_gib: scratch memory that a layer may use; None is TensorRT's own choice, the whole GPU.
        timing_cache: its file; None leaves it out.
        opt_level: 0 to 5, how hard the builder tries; None is TensorRT's own choice, 3.
        aux_streams: how many streams a pass may use beside its own; None is TensorRT's own choice.
        version_compatible: also runs with later releases of the same major version.
        hardware_compatible: also runs on other GPUs from Ampere on.
    """

    precision: Precision
    profile: Profile
    kept_fp32: tuple[str, ...] = ()
    workspace_gib: float | None = None
    timing_cache: Path | None = None
    opt_level: int | None = None
    aux_streams: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False


@dataclass(frozen=True)
class Plan:
    """What a build made.

    Attributes:
        content: the plan, as TensorRT serialised it.
        layers: the inspector's account of it, JSON.
    """

    content: bytes
    layers: str


def build_plan(
    model: onnx.ModelProto, options: BuildOptions, library: TensorRT, progress: BuildProgress | None = None
) -> Plan:
    """Build, for minutes perhaps. Ctrl-C ends it at its next step.

    Args:
        model: checked by `graph.tensorrt_lint`, with its types spelled out for TensorRT 10 and later.
        options: of the build.
        library: TensorRT on this machine.
        progress: is told how far it is.

    Raises:
        ModelFileError: TensorRT cannot read the graph; its words, with the names of the nodes.
        ConfigError: the profile does not fit the graph, or the timing cache is another GPU's.
        UnsupportedError: this GPU or this TensorRT lacks what was asked for, or finds no way to build it.
    """
    trt, log, progress = library.trt, library.log, progress or BuildProgress()
    log.errors()  # of earlier builds in this process
    builder = trt.Builder(log)
    network = builder.create_network(_network_flags(trt, library.major))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model.SerializeToString()):
        raise ModelFileError(_parser_errors(parser, model))
    config = builder.create_builder_config()
    _set_precision(library, builder, network, config, options)
    _set_options(library, config, options)
    _set_profile(builder, network, config, options.profile, log)
    cache = _attach_cache(config, options.timing_cache, log) if options.timing_cache else None
    if hasattr(config, "progress_monitor"):
        config.progress_monitor = open_monitor(trt, progress)
    serialised = _interruptible(lambda: builder.build_serialized_network(network, config), progress)
    if serialised is None:
        raise UnsupportedError(f"TensorRT {library.version} found no way to build this model: {reason(log)}.")
    if cache is not None and options.timing_cache:
        write_cache(options.timing_cache, bytes(config.get_timing_cache().serialize()))
    content = bytes(serialised)
    return Plan(content, inspect_plan(content, options, library))


def inspect_plan(content: bytes, options: BuildOptions, library: TensorRT) -> str:
    """The inspector's JSON about a plan that was built with detailed verbosity.

    Where shapes are open, the types of tensors are told only for a context that was given some.
    """
    engine = library.load(content, version_compatible=options.version_compatible)
    if engine is None:
        raise UnsupportedError(f"TensorRT cannot load what it just built: {reason(library.log)}.")
    inspector = engine.create_engine_inspector()
    if not options.profile.static:
        context = engine.create_execution_context()
        if context is not None and context.set_input_shape(INPUT, options.profile.opt):
            inspector.execution_context = context
    layers: str = inspector.get_engine_information(library.trt.LayerInformationFormat.JSON)
    del inspector  # before the engine and the context, which it does not keep alive
    return layers


def _network_flags(trt: Any, major: int) -> int:
    if major == 8:
        return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _set_precision(library: TensorRT, builder: Any, network: Any, config: Any, options: BuildOptions) -> None:
    trt = library.trt
    if options.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default: fp32 with the mantissa of fp16
        return
    if library.major == 8:
        _check_fast(builder, library, options.precision)
        config.set_flag(trt.BuilderFlag.FP16)
        if options.precision == "int8":
            config.set_flag(trt.BuilderFlag.INT8)
        if _keep_fp32(trt, network, options.kept_fp32):
            # Nodes beyond FP16 must be FP32, or there is no plan. For decoders alone it is a wish: 8.6 refuses to be
            # bound where it has to fuse them, and the comparison after the build sees what that costs.
            if options.kept_fp32:
                config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
            else:
                config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)


def _check_fast(builder: Any, library: TensorRT, precision: str) -> None:
    fast = builder.platform_has_fast_fp16 if precision == "fp16" else builder.platform_has_fast_int8
    if not fast:
        raise UnsupportedError(f"{library.gpu} has no fast {precision} arithmetic. Build with --precision fp32.")


def _keep_fp32(trt: Any, network: Any, names: tuple[str, ...]) -> int:
    """Constrain the layers of these nodes and of the decoders; how many there are.

    The parser names layers after the nodes, and constants after the weights, that they come from. One that has several
    layers gets numbers behind its name: "x", "x_1". A constraint is for layers that compute with floats alone.
    """
    left, constrained = set(names), 0
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        node = layer.name if layer.name in names else NUMBER.sub("", layer.name)
        if node not in names and not layer.name.startswith(DECODING):
            continue
        left.discard(node)
        types = [layer.get_output(output).dtype for output in range(layer.num_outputs)]
        reads = layer.get_input(0).dtype if layer.num_inputs else trt.float32
        floats = (trt.float32, trt.bool)  # a comparison returns bool, a choice reads it
        if reads not in floats or not any(kind in floats for kind in types):
            continue
        layer.precision = trt.float32
        for output, kind in enumerate(types):
            if kind == trt.float32:
                layer.set_output_type(output, trt.float32)
        constrained += 1
    if left:
        raise UnsupportedError(
            f"{', '.join(sorted(left))} must stay in fp32, but TensorRT's network has no layer of that name. "
            "Build with --precision fp32."
        )
    return constrained


def _set_options(library: TensorRT, config: Any, options: BuildOptions) -> None:
    trt = library.trt
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else nobody can tell what precision it became
    if library.major == 8:
        sources = (trt.TacticSource.EDGE_MASK_CONVOLUTIONS, trt.TacticSource.JIT_CONVOLUTIONS)
        config.set_tactic_sources(sum(1 << int(source) for source in sources))  # nothing of cuDNN and cuBLAS
        config.set_preview_feature(trt.PreviewFeature.DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805, True)
        config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)  # later versions do it anyway
    if options.workspace_gib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(options.workspace_gib * GIB))
    if options.opt_level is not None:
        config.builder_optimization_level = options.opt_level
    if options.aux_streams is not None:
        config.max_aux_streams = options.aux_streams
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS


def _set_profile(builder: Any, network: Any, config: Any, profile: Profile, log: Any) -> None:
    """Every input that leaves something open gets the shapes it is to be fast at."""
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        wrong = [extent for extent in zip(shape, profile.min, profile.max, strict=True) if not _allows(*extent)]
        if tensor.name != INPUT or wrong:
            raise ConfigError(
                f"The profile {profile} does not fit the input {tensor.name!r} of shape {shape} (-1 is open): "
                f"min {profile.min}, opt {profile.opt}, max {profile.max}. Export with --dynamic, or ask for its shape."
            )
        if -1 not in shape:
            continue
        shapes = builder.create_optimization_profile()
        shapes.set_shape(INPUT, profile.min, profile.opt, profile.max)
        if config.add_optimization_profile(shapes) < 0:
            raise ConfigError(
                f"TensorRT does not take the profile min {profile.min}, opt {profile.opt}, max {profile.max}: "
                f"{reason(log)}."
            )


def _allows(extent: int, least: int, most: int) -> bool:
    return extent == -1 or least == extent == most


def _attach_cache(config: Any, path: Path, log: Any) -> Any:
    cache = config.create_timing_cache(read_cache(path))
    if cache is None or not config.set_timing_cache(cache, False):
        raise ConfigError(
            f"{path} is no timing cache of this TensorRT on this GPU ({reason(log)}). Name another file; it is "
            "made if it does not exist."
        )
    return cache


def _parser_errors(parser: Any, model: onnx.ModelProto) -> str:
    """What the parser refused, with the nodes' names and operators."""
    found = []
    for error in (parser.get_error(index) for index in range(parser.num_errors)):
        place = error.node()
        known = 0 <= place < len(model.graph.node)
        node = f"{model.graph.node[place].op_type} node {model.graph.node[place].name!r}: " if known else ""
        found.append(f"{node}{' '.join(error.desc().split())}")
    return f"TensorRT cannot read this graph: {'; '.join(found[:3]) or 'it gave no reason'}. Export the model again."


def _interruptible(build: Any, progress: BuildProgress) -> Any:
    """Run in another thread: while TensorRT works, this one hears Ctrl-C."""
    with ThreadPoolExecutor(1, "tensorrt-build") as pool:
        try:
            built = pool.submit(build)
            while not wait([built], POLL_S).done:
                pass
        except KeyboardInterrupt:
            progress.stopped.set()
            raise
        return built.result()
