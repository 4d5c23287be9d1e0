"""The simulated GPU finds the mistakes that a real one may hide: what is tested on it can fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from simulated.simulate import Machine, Misuse, simulate
from simulated.small_engine import SmallEngine, build, done

SEEDS = range(4)  # at least one each in which streams run alone, late, and in turns


@pytest.fixture(scope="module")
def subject(handmade: Callable[..., Any]) -> Any:
    return handmade()


@pytest.fixture(scope="module")
def model(subject: Any) -> onnx.ModelProto:
    return onnx.load(subject.path)


def opened(machine: Machine, model: onnx.ModelProto) -> SmallEngine:
    return SmallEngine(machine, build(machine, model))


def right(outputs: dict[str, Any], subject: Any, images: Any) -> bool:
    """Within float32 sums of a few products."""
    expected = subject.expected(images)
    return all(np.allclose(outputs[name], expected[name], atol=1e-5) for name in expected)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("version", ["8.6", "10.13", "11.4"])
def test_a_correct_program_gets_what_it_should(model: onnx.ModelProto, subject: Any, version: str, seed: int) -> None:
    with simulate(version, seed=seed) as machine:
        engine = opened(machine, model)

        for number in range(3):
            images = subject.images(seed=number)
            assert right(engine.infer(images), subject, images)

        engine.free()


def test_without_waiting_nothing_has_happened(model: onnx.ModelProto, subject: Any) -> None:
    with simulate() as machine:
        engine = opened(machine, model)
        engine.write(subject.images())
        engine.upload()
        engine.compute()
        engine.download()

        early = engine.read()
        engine.wait()

        assert not right(early, subject, subject.images())
        assert right(engine.read(), subject, subject.images())
        engine.free()


def test_a_pinned_buffer_that_is_written_before_its_copy_is_done_gives_other_images(
    model: onnx.ModelProto, subject: Any
) -> None:
    first, second = subject.images(seed=1), subject.images(seed=2)
    with simulate() as machine:
        engine = opened(machine, model)
        engine.write(first)
        engine.upload()
        engine.compute()
        engine.download()
        engine.write(second)
        engine.wait()

        assert right(engine.read(), subject, second)
        engine.free()


def test_streams_that_wait_for_nothing_run_in_an_order_that_is_wrong_for_some_seed(
    model: onnx.ModelProto, subject: Any
) -> None:
    def runs(seed: int, *, ordered: bool) -> bool:
        with simulate(seed=seed) as machine:
            cudart, engine = machine.cudart, opened(machine, model)
            copies, copied = engine.make_stream(), done(machine.cudart.cudaEventCreateWithFlags(2))
            engine.write(subject.images())
            engine.upload(copies)
            done(cudart.cudaEventRecord(copied, copies))
            if ordered:
                done(cudart.cudaStreamWaitEvent(engine.stream, copied, 0))
            engine.compute()
            engine.download()
            engine.wait()
            found = right(engine.read(), subject, subject.images())
            done(cudart.cudaDeviceSynchronize())
            done(cudart.cudaEventDestroy(copied))
            done(cudart.cudaStreamDestroy(copies))
            engine.free()
        return found

    assert all(runs(seed, ordered=True) for seed in SEEDS)
    assert not all(runs(seed, ordered=False) for seed in SEEDS)


def test_one_context_in_two_streams_is_misuse_unless_one_waits_for_the_other(model: onnx.ModelProto) -> None:
    def run(*, ordered: bool) -> None:
        with simulate() as machine:
            cudart, engine = machine.cudart, opened(machine, model)
            other, first = engine.make_stream(), done(machine.cudart.cudaEventCreateWithFlags(2))
            engine.compute()
            done(cudart.cudaEventRecord(first, engine.stream))
            if ordered:
                done(cudart.cudaStreamWaitEvent(other, first, 0))
            engine.compute(other)
            done(cudart.cudaEventDestroy(first))
            done(cudart.cudaDeviceSynchronize())
            done(cudart.cudaStreamDestroy(other))
            engine.free()

    run(ordered=True)
    with pytest.raises(Misuse, match="use the same execution context"):
        run(ordered=False)


def test_a_graph_reads_the_addresses_that_it_was_captured_with(model: onnx.ModelProto, subject: Any) -> None:
    with simulate() as machine:
        cudart, engine = machine.cudart, opened(machine, model)
        before = engine.infer(subject.images(seed=1))
        executable = engine.capture()
        old = engine.device["images"]
        engine.device["images"] = done(cudart.cudaMalloc(engine.sizes["images"]))
        engine.context.set_tensor_address("images", engine.device["images"])

        def launched() -> dict[str, Any]:
            engine.write(subject.images(seed=2))
            engine.upload()
            done(cudart.cudaGraphLaunch(executable, engine.stream))
            engine.download()
            engine.wait()
            return engine.read()

        found = launched()
        again = engine.infer(subject.images(seed=2))

        assert all((found[name] == before[name]).all() for name in found)
        assert right(again, subject, subject.images(seed=2))
        engine.device["images"], new = old, engine.device["images"]
        assert right(launched(), subject, subject.images(seed=2))
        done(cudart.cudaGraphExecDestroy(executable))
        done(cudart.cudaFree(new))
        engine.free()


def test_what_may_not_be_captured_loses_the_capture(model: onnx.ModelProto) -> None:
    with simulate() as machine:
        cudart, engine = machine.cudart, opened(machine, model)
        mode = cudart.cudaStreamCaptureMode

        def captured(forbidden: Callable[[], Any], how: Any) -> tuple[str, str]:
            done(cudart.cudaStreamBeginCapture(engine.stream, how))
            result = forbidden()
            name = result[0].name if isinstance(result, tuple) else str(result)
            return name, cudart.cudaStreamEndCapture(engine.stream)[0].name

        refused, lost = "cudaErrorStreamCaptureUnsupported", "cudaErrorStreamCaptureInvalidated"
        local = mode.cudaStreamCaptureModeThreadLocal
        assert captured(engine.compute, local) == ("False", lost)  # TensorRT has to run once before
        engine.compute()
        engine.wait()
        assert captured(lambda: cudart.cudaStreamSynchronize(engine.stream), local) == (refused, lost)
        assert captured(lambda: cudart.cudaStreamQuery(engine.stream), local) == (refused, lost)
        assert captured(lambda: cudart.cudaMalloc(8), local) == (refused, lost)
        done(cudart.cudaStreamBeginCapture(engine.stream, mode.cudaStreamCaptureModeRelaxed))
        done(cudart.cudaFree(done(cudart.cudaMalloc(8))))
        done(cudart.cudaGraphDestroy(done(cudart.cudaStreamEndCapture(engine.stream))))
        assert cudart.cudaStreamEndCapture(engine.stream)[0].name == "cudaErrorIllegalState"
        engine.free()


@pytest.mark.parametrize(
    ("mistake", "found"),
    [
        (lambda cudart: cudart.cudaMalloc(8), "not freed: device memory of 8 bytes"),
        (lambda cudart: cudart.cudaHostAlloc(8, 0), "not freed: pinned memory of 8 bytes"),
        (lambda cudart: cudart.cudaStreamCreate(), "not freed: stream"),
        (lambda cudart: cudart.cudaEventCreate(), "not freed: event"),
        (lambda cudart: _twice(cudart, cudart.cudaMalloc(8)[1], cudart.cudaFree), "was freed before"),
        (lambda cudart: _twice(cudart, cudart.cudaHostAlloc(8, 0)[1], cudart.cudaFreeHost), "was freed before"),
        (lambda cudart: cudart.cudaFree(0x1234), "no device memory begins at"),
        (
            lambda cudart: _twice(cudart, cudart.cudaStreamCreate()[1], cudart.cudaStreamDestroy),
            "stream was used after",
        ),
        (lambda cudart: _twice(cudart, cudart.cudaEventCreate()[1], cudart.cudaEventDestroy), "event was used after"),
    ],
)
def test_what_is_left_behind_or_destroyed_twice_is_told(mistake: Callable[[Any], Any], found: str) -> None:
    with pytest.raises(Misuse, match=found), simulate() as machine:
        mistake(machine.cudart)


def _twice(cudart: Any, made: Any, destroy: Callable[[Any], Any]) -> None:
    assert destroy(made)[0] == cudart.cudaError_t.cudaSuccess
    assert destroy(made)[0] != cudart.cudaError_t.cudaSuccess


def test_memory_that_is_freed_under_a_copy_breaks_the_device(model: onnx.ModelProto, subject: Any) -> None:
    def run() -> None:
        with simulate() as machine:
            engine = opened(machine, model)
            engine.write(subject.images())
            engine.upload()
            engine.free()
            assert machine.cudart.cudaDeviceSynchronize()[0].name == "cudaErrorIllegalAddress"
            assert machine.cudart.cudaMalloc(8)[0].name == "cudaErrorIllegalAddress"  # it stays so

    with pytest.raises(Misuse, match=r"copy of 1152 bytes: device memory .* was freed"):
        run()


def test_a_copy_beyond_its_buffer_or_in_the_wrong_direction_is_refused() -> None:
    def copy(size: int, kind: str) -> None:
        with simulate() as machine:
            cudart = machine.cudart
            small, large = done(cudart.cudaMalloc(8)), done(cudart.cudaHostAlloc(16, 0))
            error = cudart.cudaMemcpyAsync(small, large, size, getattr(cudart.cudaMemcpyKind, kind), 0)[0]
            assert error.name == "cudaErrorInvalidValue"

    with pytest.raises(Misuse, match=r"16 bytes from .* reach beyond device memory of 8 bytes"):
        copy(16, "cudaMemcpyHostToDevice")
    with pytest.raises(Misuse, match="the source of a copy is on the host, not on the device"):
        copy(8, "cudaMemcpyDeviceToHost")


def test_a_context_that_is_gone_before_its_work_is_done_is_told(model: onnx.ModelProto) -> None:
    def run() -> None:
        with simulate() as machine:
            engine = opened(machine, model)
            engine.compute()
            engine.context = None
            engine.wait()
            engine.free()

    with pytest.raises(Misuse, match="context was destroyed while"):
        run()


def test_events_tell_simulated_time_once_the_gpu_has_passed_them() -> None:
    with simulate() as machine:
        cudart = machine.cudart
        stream = done(cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking))
        first, last = (done(cudart.cudaEventCreate()) for _ in range(2))
        memory = done(cudart.cudaMalloc(1 << 20))
        done(cudart.cudaEventRecord(first, stream))
        done(cudart.cudaMemsetAsync(memory, 0, 1 << 20, stream))
        done(cudart.cudaEventRecord(last, stream))

        early = cudart.cudaEventElapsedTime(first, last)[0].name
        polls = 1
        while cudart.cudaEventQuery(last)[0].name == "cudaErrorNotReady":
            polls += 1

        assert early == "cudaErrorNotReady"
        assert polls > 1
        # 5 us to start, and 1 MiB at 10 GB/s; the host needs 2 us for each call
        assert done(cudart.cudaEventElapsedTime(first, last)) == pytest.approx(0.005 + (1 << 20) / 1e7, abs=0.004)
        for event in (first, last):
            done(cudart.cudaEventDestroy(event))
        done(cudart.cudaStreamDestroy(stream))
        done(cudart.cudaFree(memory))


def test_machines_without_a_gpu_with_an_old_driver_or_full_memory_say_so() -> None:
    with simulate(count=0) as machine:
        assert machine.cudart.cudaGetDeviceCount()[0].name == "cudaErrorNoDevice"
        with pytest.raises(TypeError, match="factory function returned nullptr"):
            machine.trt.Builder(machine.trt.Logger())
    with simulate("11.4", driver_cuda=11080) as machine:
        error = machine.cudart.cudaMalloc(8)[0]
        assert error.name == "cudaErrorInsufficientDriver"
        assert machine.cudart.cudaGetErrorString(error)[1] == b"simulated cudaErrorInsufficientDriver"
    with simulate(memory_bytes=100) as machine:
        assert machine.cudart.cudaMalloc(101)[0].name == "cudaErrorMemoryAllocation"
        done(machine.cudart.cudaFree(done(machine.cudart.cudaMalloc(100))))
