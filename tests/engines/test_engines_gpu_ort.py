"""ONNX Runtime's GPU providers, as far as a CPU can show: what is asked of them, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from simulated.simulate import simulate

from nddr_deploy.engines import cuda, open_engine, ort_binding, ort_gpu, ort_provider
from nddr_deploy.engines.base import PassTimes
from nddr_deploy.engines.cuda import Gpu
from nddr_deploy.engines.cuda_runtime import Stream
from nddr_deploy.engines.ort import open_session
from nddr_deploy.engines.ort_binding import BoundSession
from nddr_deploy.engines.ort_gpu import OrtCudaEngine, OrtTensorRTEngine, open_gpu_session
from nddr_deploy.errors import InputError, ModelFileError, UnsupportedError

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
BACKENDS = ("onnxruntime-cuda", "onnxruntime-tensorrt")
HOPPER = Gpu("NVIDIA H100", "9.0", 80 << 30, "12.8")
TURING = Gpu("Tesla T4", "7.5", 16 << 30, "12.8")
# What onnxruntime-gpu 1.23.2 says where CUDA's libraries are missing.
LOG = (
    "[E:onnxruntime:Default, provider_bridge_ort.cc:2251 TryGetProviderInfo_CUDA] [ONNXRuntimeError] : 1 : FAIL : "
    "Failed to load library libonnxruntime_providers_cuda.so with error: libcublasLt.so.12: cannot open shared object "
    "file: No such file or directory\n"
)
ON_CPU = (
    "[ONNXRuntimeError] : 1 : FAIL : This session contains graph nodes that are assigned to the default CPU EP, but "
    "fallback to CPU EP has been explicitly disabled by the user."
)


class FakeStream:
    """Our stream, without a GPU."""

    handle, pointer = object(), 4711

    def __init__(self) -> None:
        self.waits = 0
        self.closed = False

    def wait(self) -> None:
        self.waits += 1

    def close(self) -> None:
        self.closed = True


class FakeSession:
    """What ONNX Runtime returns for a provider, and how it was asked."""

    asked: dict[str, Any]
    refuses: Exception | None = None
    chooses: str | None = None
    takes: dict[str, str] | None = None

    def __init__(
        self, model: str, options: Any, *, providers: Any, enable_fallback: int, disabled_optimizers: list[str]
    ) -> None:
        [(self.provider, self.settings)] = providers
        FakeSession.asked = {
            "provider": self.provider,
            "options": self.settings,
            "no_fallback": options.get_session_config_entry("session.disable_cpu_ep_fallback"),
            "enable_fallback": enable_fallback,
            "disabled_optimizers": disabled_optimizers,
        }
        if self.refuses is not None:
            raise self.refuses

    def disable_fallback(self) -> None:
        self.asked["disabled"] = True

    def get_providers(self) -> list[str]:
        return [self.chooses or self.provider, "CPUExecutionProvider"]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return {self.provider: {**self.settings, **(self.takes or {})}}

    def io_binding(self) -> None:
        return None


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., type[FakeSession]]:
    """A machine with a GPU and an ONNX Runtime whose sessions are recorded: `gpu(HOPPER, refuses=...)`."""

    def install(found: Gpu = HOPPER, **behaviour: Any) -> type[FakeSession]:
        session = type("Session", (FakeSession,), behaviour)
        monkeypatch.setattr(ort_gpu, "describe_gpu", lambda: found)
        monkeypatch.setattr(ort_gpu, "check_installed", lambda provider: None)
        monkeypatch.setattr(ort_gpu, "load_libraries", lambda provider: None)
        monkeypatch.setattr(ort_gpu, "missing_library", lambda provider: behaviour.get("missing"))
        monkeypatch.setattr(ort_gpu, "Stream", FakeStream)
        monkeypatch.setattr(ort_gpu.onnxruntime, "InferenceSession", session)
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
        return session

    return install


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "count_gpus", lambda: 0)


@pytest.fixture
def write(handmade: Callable[..., Any], tmp_path: Path) -> Callable[[str], Path]:
    """The model made by hand as a file of another precision: only what tells the precision is changed."""

    def written(precision: str) -> Path:
        path = Path(handmade().path)
        model = onnx.load_model(path)
        if precision in ("fp16", "mixed"):
            model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 1), np.float16), "half"))
        if precision in ("int8", "mixed"):
            model.graph.initializer.append(helper.make_tensor("step", TensorProto.FLOAT, [], [1.0]))
            model.graph.node.append(helper.make_node("QuantizeLinear", ["scaled", "step"], ["quantised"]))
        changed = tmp_path / f"model.{precision}.onnx"
        onnx.save_model(model, changed)
        return changed

    return written


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_gpu_there_is_one_sentence(backend: str, handmade: Callable[..., Any], no_gpu: None) -> None:
    with pytest.raises(UnsupportedError, match="No NVIDIA GPU can be used here"):
        open_engine(handmade().path, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_damaged_file_is_named_before_the_missing_gpu(backend: str, tmp_path: Path, no_gpu: None) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a graph")

    with pytest.raises(ModelFileError, match=r"model\.onnx is no ONNX file"):
        open_engine(tmp_path / "model.onnx", backend)


@pytest.mark.parametrize(("backend", "provider"), [("onnxruntime-cuda", CUDA), ("onnxruntime-tensorrt", TENSORRT)])
def test_a_wheel_for_cpus_is_named_with_the_command_that_replaces_it(
    backend: str, provider: str, handmade: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_gpu, "describe_gpu", lambda: HOPPER)
    monkeypatch.setattr(ort_provider.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])

    with pytest.raises(UnsupportedError, match=f"has no {provider}, only CPUExec") as caught:
        open_engine(handmade().path, backend)

    assert "pip uninstall --yes onnxruntime && pip install --force-reinstall 'nddr-deploy[gpu]'" in str(caught.value)


def test_a_session_is_asked_for_one_provider_and_no_fallback(
    gpu: Callable[..., type[FakeSession]], handmade: Callable[..., Any]
) -> None:
    session = gpu()

    engine = OrtCudaEngine(handmade().path)

    assert (engine.backend, engine.precision, engine.device) == ("onnxruntime-cuda", "fp32", "NVIDIA H100")
    assert session.asked == {
        "provider": CUDA,
        "options": {
            "use_tf32": "0",
            "cudnn_conv_algo_search": "EXHAUSTIVE",
            "device_id": "0",
            "user_compute_stream": "4711",
        },
        "no_fallback": "1",
        "enable_fallback": 0,
        "disabled_optimizers": ["WeightBiasQuantization"],
        "disabled": True,
    }


@pytest.mark.parametrize(
    ("written", "precision", "halves", "integers", "realised"),
    [
        ("fp32", None, "0", "0", "fp32"),
        ("fp32", "fp16", "1", "0", "fp16"),
        ("fp16", None, "1", "0", "fp16"),
        ("int8", None, "0", "1", "int8"),
        ("mixed", "int8", "1", "1", "int8"),
    ],
)
def test_tensorrt_is_told_the_precision_of_the_file_or_the_one_asked_for(
    gpu: Callable[..., type[FakeSession]],
    write: Callable[[str], Path],
    written: str,
    precision: str | None,
    halves: str,
    integers: str,
    realised: str,
) -> None:
    session = gpu()

    engine = OrtTensorRTEngine(write(written), precision=precision)

    options = session.asked["options"]
    assert (options["trt_fp16_enable"], options["trt_int8_enable"]) == (halves, integers)
    assert engine.precision == realised


@pytest.mark.parametrize(
    ("backend", "written", "precision", "sentence"),
    [
        ("onnxruntime-cuda", "fp32", "fp16", r"in fp16\. Possible: fp32"),
        ("onnxruntime-cuda", "fp32", "bf16", r"in bf16\. Possible: fp32"),
        ("onnxruntime-cuda", "fp16", "fp32", r"in fp32\. Possible: fp16"),
        ("onnxruntime-cuda", "int8", None, "cannot run this int8 file in int8"),
        ("onnxruntime-tensorrt", "fp32", "int8", r"in int8\. Possible: fp32 or fp16"),
        ("onnxruntime-tensorrt", "int8", "fp16", r"in fp16\. Possible: int8"),
    ],
)
def test_a_precision_that_cannot_be_had_is_refused(
    write: Callable[[str], Path], backend: str, written: str, precision: str | None, sentence: str, no_gpu: None
) -> None:
    with pytest.raises(UnsupportedError, match=sentence):
        open_engine(write(written), backend, precision=precision)


def test_fp32_in_tensorrt_needs_tf32_switched_off_from_outside(
    gpu: Callable[..., type[FakeSession]], handmade: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = handmade().path
    gpu(HOPPER)
    OrtTensorRTEngine(path)  # it is off
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")

    with pytest.raises(UnsupportedError, match="Set NVIDIA_TF32_OVERRIDE=0"):
        OrtTensorRTEngine(path)

    OrtTensorRTEngine(path, precision="fp16")  # says nothing about fp32
    monkeypatch.setattr(ort_gpu, "describe_gpu", lambda: TURING)
    OrtTensorRTEngine(path)  # a GPU without TF32


def test_from_tensorrt_11_on_an_fp32_graph_cannot_become_fp16(
    gpu: Callable[..., type[FakeSession]],
    handmade: Callable[..., Any],
    write: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu()
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="11.4.0.106"))

    with pytest.raises(UnsupportedError, match=r"TensorRT 11\.4\.0\.106 takes the precision from the graph"):
        OrtTensorRTEngine(handmade().path, precision="fp16")

    OrtTensorRTEngine(write("fp16"))
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.13.3.9"))
    OrtTensorRTEngine(handmade().path, precision="fp16")


@pytest.mark.parametrize(
    ("behaviour", "sentence"),
    [
        ({"chooses": "CPUExecutionProvider"}, f"expected ONNX Runtime's {CUDA}; it chose CPUExecutionProvider"),
        ({"takes": {"use_tf32": "1"}}, f"does not take use_tf32 for its {CUDA}"),
        ({"refuses": RuntimeError('Unknown provider option: "use_tf32".')}, "is too old for its CUDAExecutionProvider"),
        ({"refuses": RuntimeError(ON_CPU)}, "would run some of its nodes on the CPU instead"),
        (
            {"refuses": RuntimeError(ON_CPU), "missing": "libcudnn.so.9"},
            r"cannot load its CUDAExecutionProvider: libcudnn\.so\.9 is missing\. It belongs to CUDA or cuDNN",
        ),
        (
            {"refuses": RuntimeError("cannot"), "missing": "libnvinfer.so.10"},
            r"It belongs to TensorRT 10: pip install 'tensorrt==10\.\*'",
        ),
    ],
)
def test_what_would_run_elsewhere_is_refused_with_the_reason(
    gpu: Callable[..., type[FakeSession]], handmade: Callable[..., Any], behaviour: dict[str, Any], sentence: str
) -> None:
    gpu(**behaviour)

    with pytest.raises(UnsupportedError, match=sentence) as caught:
        OrtCudaEngine(handmade().path)

    assert "\n" not in str(caught.value)


def test_a_model_that_the_provider_cannot_load_is_a_model_file_error_and_the_stream_is_closed(
    gpu: Callable[..., type[FakeSession]], handmade: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    streams: list[FakeStream] = []

    class Kept(FakeStream):
        def __init__(self) -> None:
            super().__init__()
            streams.append(self)

    gpu(refuses=RuntimeError("Type 'tensor(x)' is unknown\nat line 3"))
    monkeypatch.setattr(ort_gpu, "Stream", Kept)

    with pytest.raises(ModelFileError, match=r"cannot load it \(Type 'tensor\(x\)' is unknown\)\. Export it again"):
        OrtCudaEngine(handmade().path)

    assert [stream.closed for stream in streams] == [True]


def test_a_real_onnx_runtime_without_the_provider_runs_nothing_on_the_cpu_instead(handmade: Callable[..., Any]) -> None:
    if CUDA in ort_provider.onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has the CUDA provider")

    with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(UnsupportedError, match="on the CPU"):
        open_gpu_session(handmade().path, CUDA, {"use_tf32": "0"}, threads=1)


def test_the_missing_library_is_read_from_the_log_of_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **options: Any) -> Any:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, stdout="", stderr=LOG)

    monkeypatch.setattr(subprocess, "run", run)

    assert ort_provider.missing_library(CUDA) == "libcublasLt.so.12"
    assert CUDA in asked[0][-1]


def test_where_no_library_is_missing_none_is_named() -> None:
    assert ort_provider.missing_library("CPUExecutionProvider") is None  # a real process


class Clock:
    """Time that passes only where a test says so; the events of a fake GPU go by it, too."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def slow(self, step: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        def slow(*arguments: Any) -> Any:
            self.now += seconds
            return step(*arguments)

        return slow

    def event(self, *, timed: bool) -> Any:
        assert timed
        event = SimpleNamespace(close=lambda: None)
        event.record = lambda stream: setattr(event, "at", self.now)
        event.seconds_since = lambda earlier: event.at - earlier.at
        return event


def bound(subject: Any) -> tuple[BoundSession, FakeStream]:
    stream: Any = FakeStream()
    session = open_session(subject.path, threads=1)
    return BoundSession(session, [task.name for task in subject.manifest.tasks], stream, device="cpu"), stream


def test_a_bound_session_returns_what_the_model_computes_whatever_the_size(handmade: Callable[..., Any]) -> None:
    subject = handmade(dynamic=("batch", "size"))
    session, stream = bound(subject)
    usual, large = subject.images(), np.tile(subject.images(count=2, seed=1), (1, 2, 2, 1))

    first = session.infer(usual)
    before = {name: output.copy() for name, output in first.items()}

    for images in (large, usual, subject.images(seed=5)):
        outputs = session.infer(images)
        for name, expected in subject.expected(images).items():
            assert list(outputs) == ["segmentation", "normals", "age"]
            np.testing.assert_allclose(outputs[name], expected, atol=subject.tolerance * np.ptp(expected))
    assert stream.waits == 4  # a pass is over when its outputs are read
    for name, output in first.items():  # and they are the caller's to keep
        np.testing.assert_array_equal(output, before[name])


def test_the_parts_of_a_pass_are_where_the_time_goes(
    handmade: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(ort_binding, "time", clock)
    monkeypatch.setattr(ort_binding, "Event", clock.event)
    subject = handmade()
    session, stream = bound(subject)
    for name, seconds in {"_upload": 3, "_enqueue": 5, "_download": 7}.items():
        monkeypatch.setattr(session, name, clock.slow(getattr(session, name), seconds))
    monkeypatch.setattr(stream, "wait", clock.slow(stream.wait, 100))  # belongs to no part: the events lie before it

    assert session.time(subject.images()) == PassTimes(h2d_s=3, enqueue_s=5, compute_s=5, d2h_s=7)


def test_streams_and_events_are_used_as_cuda_wants_it_and_closed(handmade: Callable[..., Any]) -> None:
    subject = handmade()
    session = open_session(subject.path, threads=1)

    with simulate("10.13"), closing(Stream()) as stream:  # what is left open or misused is an error at the end
        bound_session = BoundSession(session, ["segmentation", "normals", "age"], stream, device="cpu")
        first = bound_session.time(subject.images())
        second = bound_session.time(subject.images())
        bound_session.close()

    for times in (first, second):
        assert times.compute_s >= 0
        assert min(times.h2d_s, times.enqueue_s, times.d2h_s) > 0


def test_time_pass_checks_its_images_and_a_closed_engine_says_so(
    gpu: Callable[..., type[FakeSession]], handmade: Callable[..., Any]
) -> None:
    gpu()
    subject = handmade()
    engine = OrtCudaEngine(subject.path)

    with pytest.raises(InputError, match="takes uint8 RGB images"):
        engine.time_pass(np.zeros((1, 3, 16, 24), np.uint8))
    engine.close()
    engine.close()
    with pytest.raises(InputError, match="engine is closed"):
        engine.time_pass(subject.images())
    with pytest.raises(InputError, match="engine is closed"):
        engine.infer(subject.images())
