"""Our TensorRT and CUDA code against the true API of each version, which the real modules say on any machine.

Names and numbers of arguments are held for every line of the source, what a version lacks for each version. What is
passed and what comes back is held where the code runs: see `test_tensorrt_double.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from simulated import bindings
from simulated.api import CUDA_VERSIONS, VERSIONS, Api, true_api, true_cuda_api, why_absent
from simulated.source_names import Use, accepts, cuda_uses, tensorrt_uses

PACKAGE = Path(__file__).parents[2] / "nddr_deploy"
SOURCES = [
    PACKAGE / "engines" / f"{name}.py" for name in ("trt", "trt_build", "trt_library", "trt_progress", "trt_slot")
]
CUDA_SOURCES = [PACKAGE / "engines" / "cuda_runtime.py"]
# What each version lacks of what we name: these lines must be behind a question for the version.
FLAGS_OF_8 = {"PreviewFeature.DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805"}
ABSENT = {
    "8.6.1": {
        "IBuilderConfig.progress_monitor",
        "IProgressMonitor",
        "IProgressMonitor.__init__",
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
    },
    "10.0.1": FLAGS_OF_8,
    "10.13.3.9": FLAGS_OF_8,
    "11.4.0.106": {
        *FLAGS_OF_8,
        "Builder.platform_has_fast_fp16",
        "Builder.platform_has_fast_int8",
        "BuilderFlag.FP16",
        "BuilderFlag.INT8",
        "BuilderFlag.OBEY_PRECISION_CONSTRAINTS",
        "BuilderFlag.PREFER_PRECISION_CONSTRAINTS",
        "ILayer.precision",
        "ILayer.set_output_type",
        "NetworkDefinitionCreationFlag.EXPLICIT_BATCH",
        "PreviewFeature.PROFILE_SHARING_0806",
    },
}


def installed(version: str) -> str:
    if reason := why_absent(version):
        pytest.skip(f"TensorRT {version}: {reason}")
    return version


@pytest.fixture(params=VERSIONS)
def api(request: pytest.FixtureRequest) -> Api:
    return true_api(installed(request.param))


@pytest.fixture(params=CUDA_VERSIONS)
def cuda_version(request: pytest.FixtureRequest) -> str:
    if reason := why_absent(request.param):
        pytest.skip(f"cuda-bindings {request.param}: {reason}")
    return str(request.param)


def all_uses() -> list[Use]:
    return tensorrt_uses(SOURCES, [true_api(version) for version in VERSIONS if why_absent(version) is None])


def test_each_version_lacks_of_our_names_only_what_the_table_says(api: Api) -> None:
    absent = {use.name: use.place for use in all_uses() if not api.has(use.name)}

    assert {name: place for name, place in absent.items() if name not in ABSENT[api.version]} == {}
    assert set(absent) == ABSENT[api.version]


def test_every_call_of_our_source_has_a_number_of_arguments_that_each_version_takes(api: Api) -> None:
    wrong = [
        f"{use.place}: {use.name} {use.arguments}"
        for use in all_uses()
        if use.arguments and api.has(use.name) and not accepts(api.overloads(use.name), use)
    ]

    assert wrong == []


def test_the_source_is_really_read() -> None:
    installed(VERSIONS[-1])
    names = {use.name for use in all_uses()}

    assert {"BuilderFlag.FP16", "IBuilderConfig.set_flag", "ITimingCache.serialize", "ITensor.dtype"} <= names
    assert {"IExecutionContext.execute_async_v3", "ICudaEngine.get_tensor_name", "DataType.name"} <= names
    assert len(names) > 60


def test_a_wrong_name_a_wrong_call_and_a_name_of_one_version_are_seen(tmp_path: Path) -> None:
    source = tmp_path / "planted.py"
    source.write_text(
        "def f(library, config, builder):\n"
        "    trt = library.trt\n"
        "    config.set_flag(trt.BuilderFlag.FP16, True)\n"
        "    builder.create_network().get_layer(0).get_output(0).dtpye\n"
    )
    new = true_api(installed("11.4.0.106"))

    uses = {use.name: use for use in tensorrt_uses([source], [new])}

    assert not new.has(uses["BuilderFlag.FP16"].name)
    assert not new.has(uses["ITensor.dtpye"].name)
    assert not accepts(new.overloads("IBuilderConfig.set_flag"), uses["IBuilderConfig.set_flag"])


def test_tensorrt_is_loaded_where_this_test_looks_and_nowhere_else() -> None:
    loaders = {
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        if any(f'{call}("tensorrt"' in file.read_text() for call in ("load", "import_module"))
        or "import tensorrt" in file.read_text()
    }

    # The provider of ONNX Runtime imports it for its libraries, the doctor for its version: they name nothing of it.
    assert loaders == {"engines/trt_library.py", "engines/ort_provider.py", "doctor/probes.py"}


def test_every_name_and_call_of_cuda_is_the_same_in_each_version_we_use(cuda_version: str) -> None:
    api = true_cuda_api(cuda_version)
    uses = [*cuda_uses(CUDA_SOURCES), *cuda_uses([PACKAGE / "doctor" / "probes.py"], modules=("runtime",))]

    assert [use for use in uses if not api.has(use.name)] == []
    for use in uses:
        if use.arguments is not None:
            about = api.functions[use.name]
            assert len(about["required"]) <= use.arguments[0] <= len(about["parameters"]), use
    assert {"cudaMemcpyAsync", "cudaGetDeviceCount"} <= {use.name for use in uses}


# In a process with the real module, whose library is a stand-in.
OUR_CLASSES = """
import json, sys
import tensorrt_bindings as trt
from nddr_deploy.engines.trt_build import _network_flags
from nddr_deploy.engines.trt_library import open_log
from nddr_deploy.engines.trt_progress import BuildProgress, open_monitor

log = open_log(trt)
log.log(trt.ILogger.Severity.ERROR, " out of\\n memory ")
log.log(trt.ILogger.Severity.INFO, "chatter")
found = {"log": isinstance(log, trt.ILogger), "errors": log.errors()}
trt.init_libnvinfer_plugins(log, "")  # the real conversion of our object
found["flags"] = _network_flags(trt, int(trt.__version__.split(".")[0]))
if hasattr(trt, "IProgressMonitor"):
    told, progress = [], BuildProgress(lambda *what: told.append(what))
    monitor = open_monitor(trt, progress)
    monitor.phase_start("tactics", None, 2)
    went_on = monitor.step_complete("tactics", 0)
    progress.stopped.set()
    found["monitor"] = [isinstance(monitor, trt.IProgressMonitor), went_on, monitor.step_complete("tactics", 1)]
    found["told"] = told
print(json.dumps(found))
"""


def test_our_logger_and_progress_monitor_are_what_the_real_module_takes(api: Api) -> None:
    found = json.loads(bindings.ask(api.version, OUR_CLASSES))

    assert found["log"] is True
    assert found["errors"] == ["out of\n memory"]
    assert found["flags"] == (
        1 << api.classes["NetworkDefinitionCreationFlag"].members["STRONGLY_TYPED"] if api.major > 8 else 1
    )
    if api.major > 8:
        assert found["monitor"] == [True, True, False]
        assert found["told"] == [["tactics", 0, 2], ["tactics", 1, 2], ["tactics", 2, 2]]
    else:
        assert "monitor" not in found


def test_the_real_module_has_no_class_whose_base_was_not_made(api: Api) -> None:
    program = (
        "import tensorrt_bindings as trt\n"
        "class Log(trt.ILogger):\n"
        "    def __init__(self): pass\n"
        "try: Log()\n"
        "except TypeError as error: print(error)"
    )

    assert "ILogger.__init__() must be called when overriding __init__" in bindings.ask(api.version, program)


def test_stand_ins_define_what_the_real_library_would(api: Api) -> None:
    libraries = sorted(path.name for path in (bindings.folder(api.version) / "libraries").glob("*.so*"))

    assert f"libnvinfer.so.{api.major}" in libraries
    assert f"libnvonnxparser.so.{api.major}" in libraries
