"""The double of cuda-bindings takes and returns what the real functions do."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from simulated import bindings
from simulated.api import CUDA_VERSIONS, checked_cuda, true_cuda_api, why_absent


class Plain:
    """A CUDA of five functions; streams are numbers."""

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        return ("cudaSuccess", 7)

    def cudaStreamSynchronize(self, stream: Any) -> tuple[Any, ...]:
        return (0,) if stream == 7 else ("cudaErrorInvalidResourceHandle",)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        return ("cudaErrorMemoryAllocation", 1) if size > 100 else (0, 4096)

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: Any, stream: Any) -> tuple[Any, ...]:
        return (0,)

    def cudaEventCreate(self) -> tuple[Any, ...]:
        return (0,)  # a mistake of this implementation: the event is missing

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        return (0, SimpleNamespace(name=b"GPU", clockRate=1))


@pytest.fixture(params=CUDA_VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    if reason := why_absent(request.param):
        pytest.skip(f"cuda-bindings {request.param}: {reason}")
    return str(request.param)


@pytest.fixture
def cudart(version: str) -> Any:
    return checked_cuda(true_cuda_api(version), Plain())


def test_a_stream_is_an_object_that_becomes_a_number_only_on_request(cudart: Any) -> None:
    error, stream = cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking)

    assert error == cudart.cudaError_t.cudaSuccess
    assert isinstance(stream, cudart.cudaStream_t)
    assert int(stream) == 7
    with pytest.raises(TypeError):
        stream + 1
    assert cudart.cudaStreamSynchronize(stream) == (cudart.cudaError_t.cudaSuccess,)
    assert cudart.cudaStreamSynchronize(8)[0].name == "cudaErrorInvalidResourceHandle"


def test_an_event_is_not_taken_for_a_stream(cudart: Any) -> None:
    with pytest.raises(TypeError, match=r"stream is a cudaStream_t"):
        cudart.cudaStreamSynchronize(cudart.cudaEvent_t(7))


def test_errors_come_first_and_do_not_raise(cudart: Any) -> None:
    error, pointer = cudart.cudaMalloc(101)

    assert (error.name, int(error), pointer) == ("cudaErrorMemoryAllocation", 2, None)


@pytest.mark.parametrize("size", ["8", 8.0, None])
def test_a_size_is_an_integer(cudart: Any, size: Any) -> None:
    with pytest.raises(TypeError, match="size"):
        cudart.cudaMalloc(size)


def test_a_kind_of_copy_is_a_member_of_its_enum(cudart: Any) -> None:
    stream = cudart.cudaStreamCreateWithFlags(1)[1]

    assert cudart.cudaMemcpyAsync(1, 2, 3, cudart.cudaMemcpyKind.cudaMemcpyHostToDevice, stream)[0] == 0
    with pytest.raises(TypeError, match="cudaMemcpyKind"):
        cudart.cudaMemcpyAsync(1, 2, 3, 1, stream)


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2), {}), ((), {"bytes": 1}), ((1,), {"size": 1})])
def test_a_call_with_other_arguments_raises(cudart: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="cudaMalloc"):
        cudart.cudaMalloc(*args, **kwargs)


# Asked of the real module, on a machine with or without a GPU: what the double relies on.
SAME = """
cudart.cudaStream_t(7) == cudart.cudaStream_t(7)
cudart.cudaStream_t(7) == 7
cudart.cudaStream_t(7) + 1
int(cudart.cudaStream_t(7))
hash(cudart.cudaEvent_t(7))
bool(cudart.cudaStream_t(0))
cudart.cudaStream_t(7).getPtr() == 7
cudart.cudaError_t(2).name
cudart.cudaError_t.cudaSuccess == 0
isinstance(cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost, int)
int(cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
cudart.cudaEventBlockingSync | cudart.cudaEventDisableTiming
cudart.cudaMalloc("8")
cudart.cudaMalloc(None)
cudart.cudaMalloc()
cudart.cudaMalloc(1, 2)
cudart.cudaMalloc(bytes=2)
cudart.cudaMalloc(1 << 62)[1]
len(cudart.cudaMalloc(1 << 62))
cudart.cudaStreamSynchronize("x")
cudart.cudaNonsense
cudart.cudaMemcpyKind.Nonsense
""".strip().splitlines()


def test_a_name_that_a_version_lacks_raises(version: str, cudart: Any) -> None:
    with pytest.raises(AttributeError, match="cudaMallocNonsense"):
        cudart.cudaMallocNonsense  # noqa: B018
    properties = cudart.cudaGetDeviceProperties(0)[1]
    assert properties.name == b"GPU"
    assert hasattr(properties, "clockRate") is (version == "12.9.10")  # CUDA 13 took it away


def test_an_implementation_that_returns_too_little_is_found_out(cudart: Any) -> None:
    with pytest.raises(TypeError, match="the simulation returned"):
        cudart.cudaEventCreate()


ANSWER = """
def answer(cudart, expression):
    try:
        return repr(eval(expression))
    except Exception as error:
        return type(error).__name__
"""


def test_the_double_answers_as_the_real_module(version: str, cudart: Any) -> None:
    program = (
        f"import json\nfrom cuda.bindings import runtime as cudart\n{ANSWER}\n"
        f"print(json.dumps([answer(cudart, expression) for expression in {SAME!r}]))"
    )
    real = json.loads(bindings.ask(version, program))
    space: dict[str, Any] = {}
    exec(ANSWER, space)  # noqa: S102  # the same words for both

    ours = [space["answer"](cudart, expression) for expression in SAME]

    assert dict(zip(SAME, ours, strict=True)) == dict(zip(SAME, real, strict=True))
