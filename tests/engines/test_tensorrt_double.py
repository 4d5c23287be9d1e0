"""The double of TensorRT raises what the real module raises, and our code runs on it in every version."""

from __future__ import annotations

import json
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from simulated import bindings
from simulated.api import VERSIONS, Api, checked, true_api, why_absent

# Asked of the real module and of the double: both must give the same, or raise the same.
SAME = """
trt.Logger(3)
trt.Logger(min=trt.Logger.ERROR)
int(trt.Logger(trt.Logger.WARNING).min_severity)
setattr(trt.Logger(), "min_severity", 2)
setattr(trt.Logger(), "min_severity", trt.ILogger.Severity.ERROR)
setattr(trt.Logger(), "severity", trt.ILogger.Severity.ERROR)
trt.Logger().severity
trt.Logger().log("error", "text")
trt.Logger.Severity.ERROR == trt.ILogger.Severity.ERROR
trt.Logger.ERROR == trt.ILogger.ERROR
trt.ILogger.Severity.ERROR <= trt.ILogger.Severity.WARNING
trt.BuilderFlag.FP16.name
trt.BuilderFlag.INT4.name
trt.BuilderFlag.TF32
int(trt.BuilderFlag.TF32)
trt.BuilderFlag.NONSENSE
trt.BuilderFlag["TF32"]
trt.BuilderFlag.TF32 == 6
trt.BuilderFlag.TF32 | trt.BuilderFlag.REFIT
1 << trt.BuilderFlag.TF32
1 << int(trt.TacticSource.JIT_CONVOLUTIONS)
list(trt.BuilderFlag)
len(trt.BuilderFlag.__members__)
trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH
int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
trt.DataType.HALF < trt.DataType.INT8
trt.DataType.HALF == trt.float16
trt.DataType.HALF != trt.DataType.INT8
{trt.DataType.HALF: 1}[trt.DataType(1)]
str(trt.DataType.HALF)
setattr(trt.DataType.HALF, "name", "x")
trt.bfloat16
trt.nonsense
trt.Builder(3)
trt.Builder()
trt.Builder(logger=None)
trt.Builder.nonsense
trt.Runtime("x")
trt.OnnxParser(3, 4)
trt.ICudaEngine()
trt.IHostMemory()
hasattr(trt, "IProgressMonitor")
hasattr(trt.ICudaEngine, "num_bindings")
hasattr(trt.IBuilderConfig, "progress_monitor")
hasattr(trt.IBuilderConfig, "max_workspace_size")
hasattr(trt.IExecutionContext, "execute_async_v2")
issubclass(trt.Logger, trt.ILogger)
trt.Dims((1, 2, 3))
tuple(trt.Dims([1, 2]))
trt.Dims(shape=(4,))
trt.Dims((1.5, 2))
trt.Dims("12")
trt.Dims((1, None))
trt.Dims((1, 2)) == (1, 2)
trt.Dims((1, 2)) == trt.Dims((1, 2))
trt.Dims((1, 2))[-1]
trt.Dims((1, 2))[2]
len(trt.Dims((1, 2)))
hash(trt.Dims((1, 2)))
trt.Dims((1, 2)).shape
trt.init_libnvinfer_plugins(3, "")
trt.init_libnvinfer_plugins(trt.Logger())
trt.init_libnvinfer_plugins(trt.Logger(), 3)
trt.init_libnvinfer_plugins(trt.Logger(), namespace="")
type("Log", (trt.ILogger,), {"__init__": lambda self: None})()
isinstance(type("Log", (trt.ILogger,), {})(), trt.ILogger)
""".strip().splitlines()

ANSWER = """
def answer(trt, expression):
    try:
        return repr(eval(expression))
    except Exception as error:
        return type(error).__name__
"""


class Plain:
    """What is enough of TensorRT for these tests; answers what it was given."""

    class Logger:
        def __init__(self, min_severity: Any = None) -> None:
            self.min_severity = min_severity or "WARNING"

        def log(self, severity: Any, message: str) -> None:
            pass

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, plan: Any) -> Any:
            return Engine(bytes(plan))

    class Builder:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def create_network(self, flags: int = 0) -> Any:
            return SimpleNamespace(flags=flags, num_layers=2)

        def create_builder_config(self) -> Any:
            return Config()

        def create_optimization_profile(self) -> Any:
            return Shapes()

        def build_serialized_network(self, network: Any, config: Any) -> bytes:
            return b"plan"

    def init_libnvinfer_plugins(self, logger: Any, namespace: str) -> bool:
        return False


class Config(SimpleNamespace):
    def set_flag(self, flag: Any) -> None:
        self.flag = flag.name

    def get_flag(self, flag: Any) -> bool:
        return 1  # type: ignore[return-value]  # a mistake of this implementation

    def create_timing_cache(self, content: Any) -> Any:
        return SimpleNamespace(content=bytes(content))


class Shapes:
    def set_shape(self, *given: Any) -> None:
        self.given = given

    def get_shape(self, name: str) -> list[Any]:
        return [self.given[1], self.given[2], self.given[3]]


class Engine(SimpleNamespace):
    def __init__(self, plan: bytes) -> None:
        super().__init__(plan=plan, num_io_tensors=2, num_bindings=2)

    def get_tensor_dtype(self, name: str) -> str:
        return "UINT8"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 480, 640, 3)


def double(version: str) -> tuple[Any, Api]:
    if reason := why_absent(version):
        pytest.skip(f"TensorRT {version}: {reason}")
    api = true_api(version)
    return checked(api, Plain()), api


@pytest.fixture(params=VERSIONS)
def trt(request: pytest.FixtureRequest) -> ModuleType:
    return double(request.param)[0]


@pytest.fixture
def builder(trt: Any) -> Any:
    return trt.Builder(trt.Logger())


@pytest.mark.parametrize("version", VERSIONS)
def test_the_double_answers_as_the_real_module(version: str) -> None:
    trt, _ = double(version)
    program = (
        f"import json, tensorrt_bindings as trt\n{ANSWER}\n"
        f"print(json.dumps([answer(trt, expression) for expression in {SAME!r}]))"
    )
    real = json.loads(bindings.ask(version, program).splitlines()[-1])
    space: dict[str, Any] = {}
    exec(ANSWER, space)  # noqa: S102  # the same words for both

    ours = [space["answer"](trt, expression) for expression in SAME]

    assert dict(zip(SAME, ours, strict=True)) == dict(zip(SAME, real, strict=True))


def test_what_a_version_lacks_raises_and_is_told() -> None:
    old, old_api = double("8.6.1")
    new, new_api = double("11.4.0.106")

    assert old.BuilderFlag.FP16.name == "FP16"
    with pytest.raises(AttributeError, match=r"'FP16' .TensorRT 11"):
        new.BuilderFlag.FP16  # noqa: B018
    with pytest.raises(AttributeError, match="EXPLICIT_BATCH"):
        new.NetworkDefinitionCreationFlag.EXPLICIT_BATCH  # noqa: B018
    with pytest.raises(AttributeError, match="STRONGLY_TYPED"):
        old.NetworkDefinitionCreationFlag.STRONGLY_TYPED  # noqa: B018
    assert new_api.missed == {"BuilderFlag.FP16", "NetworkDefinitionCreationFlag.EXPLICIT_BATCH"}
    assert old_api.missed == {"NetworkDefinitionCreationFlag.STRONGLY_TYPED"}
    assert "BuilderFlag.FP16" in old_api.used
    assert "BuilderFlag.FP16" not in new_api.used


@pytest.mark.parametrize(("version", "known"), [("8.6.1", True), ("10.0.1", False), ("11.4.0.106", False)])
def test_an_attribute_of_an_object_is_there_only_where_the_version_has_it(version: str, known: bool) -> None:
    trt, _ = double(version)
    engine = trt.Runtime(trt.Logger()).deserialize_cuda_engine(b"plan")

    assert engine.num_io_tensors == 2
    assert hasattr(engine, "num_bindings") is known


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [(("1",), {}), ((1, 2), {}), ((1.0,), {}), ((), {"flag": 1}), ((None,), {}), ((1,), {"flags": 1})],
)
def test_a_call_that_fits_no_signature_raises(builder: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"create_network.*incompatible function arguments"):
        builder.create_network(*args, **kwargs)


def test_arguments_arrive_as_plain_values_and_results_are_of_the_true_class(trt: Any, builder: Any) -> None:
    shapes = builder.create_optimization_profile()

    shapes.set_shape("images", (1, 2, 2, 3), opt=[np.int64(2), 2, 2, 3], max=trt.Dims((4, 2, 2, 3)))

    assert isinstance(shapes, trt.IOptimizationProfile)
    least, usual, most = shapes.get_shape("images")
    assert isinstance(usual, trt.Dims)
    assert (tuple(least), tuple(usual), tuple(most)) == ((1, 2, 2, 3), (2, 2, 2, 3), (4, 2, 2, 3))
    assert builder.create_network(flags=3).num_layers == 2


def test_enums_are_no_numbers_and_no_other_enum(trt: Any, builder: Any) -> None:
    config = builder.create_builder_config()

    config.set_flag(trt.BuilderFlag.TF32)

    for wrong in (int(trt.BuilderFlag.TF32), trt.DataType.FLOAT, "TF32"):
        with pytest.raises(TypeError, match=r"takes: \(flag: BuilderFlag\)"):
            config.set_flag(wrong)


def test_properties_are_set_only_where_they_can_be_and_to_what_they_are(trt: Any, builder: Any) -> None:
    config, network = builder.create_builder_config(), builder.create_network()

    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.max_aux_streams = 0

    assert config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    with pytest.raises(TypeError, match="max_aux_streams"):
        config.max_aux_streams = "none"
    with pytest.raises(TypeError, match="profiling_verbosity"):
        config.profiling_verbosity = 2
    with pytest.raises(AttributeError):
        config.profilling_verbosity = trt.ProfilingVerbosity.DETAILED
    with pytest.raises(AttributeError):
        network.num_layers = 3


def test_host_memory_is_a_buffer_and_nothing_more(trt: Any, builder: Any) -> None:
    network, config = builder.create_network(), builder.create_builder_config()

    plan = builder.build_serialized_network(network, config)

    assert isinstance(plan, trt.IHostMemory)
    assert bytes(plan) == memoryview(plan).tobytes() == b"plan"
    assert plan.nbytes == 4
    for misuse in (len, list, lambda memory: memory[0], lambda memory: memory + b"", lambda memory: memory.hex()):
        with pytest.raises((TypeError, AttributeError)):
            misuse(plan)
    runtime = trt.Runtime(trt.Logger())
    for content in (plan, b"plan", bytearray(b"plan"), np.frombuffer(b"plan", np.uint8)):
        assert runtime.deserialize_cuda_engine(content).get_tensor_dtype("images") == trt.DataType.UINT8
    with pytest.raises(TypeError, match="deserialize_cuda_engine"):
        runtime.deserialize_cuda_engine("plan")
    with pytest.raises(TypeError, match="build_serialized_network"):
        builder.build_serialized_network(config, network)


def test_a_users_logger_reaches_the_implementation_as_it_is_once_its_base_was_made(trt: Any) -> None:
    class Log(trt.ILogger):
        def __init__(self, made: bool) -> None:
            if made:
                trt.ILogger.__init__(self)
            self.told: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            self.told.append(message)

    log = Log(made=True)

    trt.Builder(log)._inner.logger.log(trt.ILogger.Severity.ERROR, "heard")

    assert log.told == ["heard"]
    with pytest.raises(TypeError, match=r"__init__.* must be called when overriding __init__"):
        Log(made=False)
    with pytest.raises(TypeError, match="must be called"):
        trt.Builder(Log.__new__(Log))
    with pytest.raises(TypeError, match="incompatible constructor"):
        trt.Builder(SimpleNamespace(log=log.log))


def test_an_implementation_that_returns_another_type_is_found_out(trt: Any, builder: Any) -> None:
    with pytest.raises(TypeError, match=r"returned 1 from IBuilderConfig.get_flag; expected bool"):
        builder.create_builder_config().get_flag(trt.BuilderFlag.TF32)


def test_what_the_implementation_lacks_is_not_taken_for_missing_in_tensorrt(builder: Any) -> None:
    config = builder.create_builder_config()

    with pytest.raises(NotImplementedError, match=r"the simulation has no IBuilderConfig.engine_capability"):
        config.engine_capability  # noqa: B018
    with pytest.raises(NotImplementedError, match=r"the simulation has no IBuilderConfig.reset"):
        config.reset()
