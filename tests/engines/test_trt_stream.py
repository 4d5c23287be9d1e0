"""Passes of the TensorRT engine that overlap, on a simulated GPU, in any order of work that is legal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from simulated.simulate import VERSIONS, simulate
from trt_subject import ENDS, SEEDS, Subject, check, in_flight

from nddr_deploy.engines import open_engine
from nddr_deploy.engines.trt import TensorRTEngine
from nddr_deploy.errors import InputError


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_stream_gives_every_result_in_order(
    built: Callable[..., Subject], version: str, slots: int, seed: int
) -> None:
    subject = built(version)

    for count in (0, 1, 2, 3, 7):
        batches = [subject.images(seed=number) for number in range(count)]
        with simulate(version, seed=seed) as machine, TensorRTEngine(subject.plan, slots=slots) as engine:
            results = list(engine.stream(iter(batches)))

        assert len(results) == count
        for images, outputs in zip(batches, results, strict=True):
            check(outputs, subject.expected(images))
        assert machine.cuda.pageable == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_stream_takes_batches_of_changing_size(built: Callable[..., Subject], version: str, seed: int) -> None:
    subject = built(version, dynamic=("batch",), batch=ENDS)
    batches = [subject.images(count, seed=count) for count in (4, 1, 2, 4, 3)]

    with simulate(version, seed=seed), open_engine(subject.plan) as engine:
        results = list(engine.stream(batches))

    for images, outputs in zip(batches, results, strict=True):
        check(outputs, subject.expected(images))


def test_the_next_batch_is_given_to_the_gpu_before_the_last_result_is_waited_for(
    built: Callable[..., Subject],
) -> None:
    subject = built("10.13")
    batches = [subject.images(seed=seed) for seed in range(5)]

    with simulate() as machine, TensorRTEngine(subject.plan, slots=3) as engine:
        machine.gpu.most_in_flight = 0
        engine.infer(batches[0])
        alone = machine.gpu.most_in_flight
        list(engine.stream(batches))

    assert alone == 1
    assert machine.gpu.most_in_flight == 3


def test_a_stream_takes_no_more_batches_than_it_has_slots_for(built: Callable[..., Subject]) -> None:
    subject = built("10.13")
    taken: list[int] = []

    def camera() -> Iterator[Any]:
        for number in range(100):
            taken.append(number)
            yield subject.images(seed=number)

    with simulate(), TensorRTEngine(subject.plan, slots=2) as engine:
        results = engine.stream(camera())
        next(results)
        assert len(taken) <= 3
        results.close()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("read", [0, 1, 2])
def test_a_stream_that_is_given_up_leaves_the_engine_free(built: Callable[..., Subject], read: int, seed: int) -> None:
    subject = built("10.13")

    with simulate(seed=seed) as machine, open_engine(subject.plan) as engine:
        results = engine.stream(subject.images(seed=number) for number in range(5))
        for _ in range(read):
            next(results)
        results.close()

        assert in_flight(machine) == []
        check(engine.infer(subject.images(seed=9)), subject.expected(subject.images(seed=9)))
        assert len(list(engine.stream([subject.images()] * 3))) == 3


@pytest.mark.parametrize("error", [InputError("unplugged"), KeyboardInterrupt("unplugged")])
@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_an_error_of_the_source_comes_through_and_leaves_the_engine_free(
    built: Callable[..., Subject], before: int, error: BaseException
) -> None:
    subject = built("10.13")
    results: list[Any] = []

    def camera() -> Iterator[Any]:
        for number in range(before):
            yield subject.images(seed=number)
        raise error

    with simulate() as machine, open_engine(subject.plan) as engine:
        with pytest.raises(type(error), match="unplugged"):
            results.extend(engine.stream(camera()))

        if isinstance(error, InputError):  # what came before it is not lost; Ctrl-C is not kept waiting
            assert len(results) == before
        assert in_flight(machine) == []
        check(engine.infer(subject.images()), subject.expected(subject.images()))


def test_wrong_images_in_a_stream_are_refused_and_leave_the_engine_free(built: Callable[..., Subject]) -> None:
    subject = built("10.13")

    with simulate() as machine, open_engine(subject.plan) as engine:
        with pytest.raises(InputError, match=r"got uint8 \(1, 16, 32, 3\)"):
            list(engine.stream([subject.images(), subject.images(), np.zeros((1, 16, 32, 3), np.uint8)]))

        assert in_flight(machine) == []
        check(engine.infer(subject.images()), subject.expected(subject.images()))


def test_an_engine_with_an_open_stream_refuses_anything_else(built: Callable[..., Subject]) -> None:
    subject = built("10.13")

    with simulate(), open_engine(subject.plan) as engine:
        results = engine.stream([subject.images()] * 4)
        first = next(results)
        for other in (engine.infer, engine.time_pass, lambda images: next(engine.stream([images]))):  # type: ignore[attr-defined]
            with pytest.raises(InputError, match="stream of this engine is not finished"):
                other(subject.images())
        rest = list(results)
        assert len([first, *rest]) == 4
        for outputs in (first, *rest):
            check(outputs, subject.expected(subject.images()))


@pytest.mark.parametrize("seed", SEEDS)
def test_closing_an_engine_with_work_in_flight_waits_for_it(built: Callable[..., Subject], seed: int) -> None:
    subject = built("10.13")

    with simulate(seed=seed):
        engine = TensorRTEngine(subject.plan)
        results = engine.stream([subject.images()] * 4)
        next(results)
        engine.close()
        with pytest.raises(InputError, match="closed"):
            next(results)
