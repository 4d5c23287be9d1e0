"""The TensorRT engine on a simulated GPU, in three versions of TensorRT: one pass.

Every test also fails where something was not freed, or was done that CUDA or TensorRT forbid: see `simulate`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated.simulate import VERSIONS, simulate
from trt_subject import ENDS, Subject, check

from nddr_deploy.build.recipe import build_engine
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.trt import TensorRTEngine
from nddr_deploy.errors import InputError, NddrError, ParityError, UnsupportedError


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("heads", [2, 3])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_head_comes_by_name_and_is_that_of_onnx_runtime(
    built: Callable[..., Subject], version: str, heads: int, decoded: bool
) -> None:
    subject = built(version, heads=heads, outputs="decoded" if decoded else "raw")
    images = subject.images()

    with simulate(version) as machine, open_engine(subject.plan) as engine:
        outputs = engine.infer(images)
        assert engine.manifest.outputs == ("decoded" if decoded else "raw")

    assert len(outputs) == heads
    check(outputs, subject.expected(images, decoded=decoded))
    assert machine.cuda.pageable == []
    assert machine.world.contexts == 0


def test_heads_that_are_exchanged_are_seen(
    built: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from simulated.trt_engine import Engine

    def exchanged(self: Engine, inputs: dict[str, Any]) -> dict[str, Any]:
        outputs = run(self, inputs)
        return {**outputs, "segmentation": outputs["normals"], "normals": outputs["segmentation"]}

    subject, run = built("10.13"), Engine.run
    monkeypatch.setattr(Engine, "run", exchanged)

    with simulate(), open_engine(subject.plan) as engine:
        outputs = engine.infer(subject.images())
    with pytest.raises(AssertionError, match="segmentation"):
        check(outputs, subject.expected(subject.images()))
    with simulate(), pytest.raises(ParityError, match="does not agree with ONNX Runtime"):
        build_engine(subject.model.path, tmp_path / "model.trt", outputs="raw", timing_cache=None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_batches_within_the_profile_are_taken_and_others_refused(built: Callable[..., Subject], version: str) -> None:
    subject = built(version, dynamic=("batch",), batch=ENDS)

    with simulate(version), open_engine(subject.plan) as engine:
        for count in (1, 4, 3, 1, 2):
            images = subject.images(count, seed=count)
            check(engine.infer(images), subject.expected(images))
        for shape in ((5, 16, 24, 3), (0, 16, 24, 3), (1, 16, 32, 3), (16, 24, 3)):
            with pytest.raises(InputError, match=r"takes uint8 RGB images \(1 to 4, 16, 24, 3\); got uint8"):
                engine.infer(np.zeros(shape, np.uint8))
        with pytest.raises(InputError, match="got float32"):
            engine.infer(np.zeros((1, 16, 24, 3), np.float32))
        with pytest.raises(InputError, match="list"):
            engine.infer([[0]])  # type: ignore[arg-type]


def test_sizes_within_the_profile_are_taken(built: Callable[..., Subject]) -> None:
    subject = built("10.13", dynamic=("batch", "size"), batch=ENDS, size=((8, 16), (16, 24), (32, 48)))

    with simulate(), open_engine(subject.plan) as engine:
        for height, width in ((16, 24), (8, 16), (32, 48), (20, 40)):
            images = np.tile(subject.images(2), (1, 2, 2, 1))[:, :height, :width]
            check(engine.infer(images), subject.expected(images))


def test_a_fixed_batch_of_three_is_taken(built: Callable[..., Subject]) -> None:
    subject = built("10.13", fixed=3)

    with simulate(), open_engine(subject.plan) as engine:
        check(engine.infer(subject.images(3)), subject.expected(subject.images(3)))


def test_views_and_read_only_images_are_taken_and_left_as_they_are(built: Callable[..., Subject]) -> None:
    subject = built("10.13")
    images = subject.images()
    images.flags.writeable = False

    with simulate(), open_engine(subject.plan) as engine:
        check(engine.infer(images), subject.expected(images))
        mirrored = images[:, :, ::-1]
        check(engine.infer(mirrored), subject.expected(mirrored.copy()))


@pytest.mark.parametrize("graph", [True, False])
def test_results_are_the_callers_to_keep_and_to_write_to(built: Callable[..., Subject], graph: bool) -> None:
    subject = built("10.13")

    with simulate(), TensorRTEngine(subject.plan, graph=graph) as engine:
        first = engine.infer(subject.images(seed=1))
        for output in engine.infer(subject.images(seed=2)).values():
            output[...] = 0
        streamed = list(engine.stream([subject.images(seed=seed) for seed in range(4)]))

    check(first, subject.expected(subject.images(seed=1)))
    for seed, outputs in enumerate(streamed):
        check(outputs, subject.expected(subject.images(seed=seed)))


def test_closing_twice_is_fine_and_a_closed_engine_says_so(built: Callable[..., Subject]) -> None:
    subject = built("10.13")

    with simulate() as machine:
        engine = TensorRTEngine(subject.plan)
        engine.close()
        engine.close()

        assert list(machine.cuda.leaks()) == []
        for use in (engine.infer, engine.time_pass, lambda images: next(engine.stream([images]))):
            with pytest.raises(InputError, match="engine is closed"):
                use(subject.images())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_graph_gives_the_same_bits(built: Callable[..., Subject], version: str) -> None:
    subject = built(version)
    batches = [subject.images(seed=number) for number in range(5)]
    found = {}

    for graph in (True, False):
        with simulate(version) as machine, TensorRTEngine(subject.plan, graph=graph) as engine:
            assert engine.has_graph is graph
            machine.gpu.done.clear()
            found[graph] = [engine.infer(batches[0]), *engine.stream(batches)]
            launched = [what for what in machine.gpu.done if "graph" in what]
            assert len(launched) == (6 if graph else 0)

    for with_graph, without in zip(found[True], found[False], strict=True):
        for name, output in with_graph.items():
            np.testing.assert_array_equal(output, without[name])


def test_a_plan_with_open_extents_runs_without_a_graph(built: Callable[..., Subject]) -> None:
    subject = built("10.13", dynamic=("batch",), batch=ENDS)

    with simulate(), TensorRTEngine(subject.plan) as engine:
        assert not engine.has_graph
        assert engine.notes == ()


def test_a_graph_that_cannot_be_captured_is_noted_and_done_without(
    built: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    from simulated.trt_context import ExecutionContext

    def always_sets_up(self: ExecutionContext, handle: int) -> bool:
        self._ran_with = None
        return run(self, handle)

    subject, run = built("10.13"), ExecutionContext.execute_async_v3
    monkeypatch.setattr(ExecutionContext, "execute_async_v3", always_sets_up)

    with simulate(), TensorRTEngine(subject.plan) as engine:
        assert not engine.has_graph
        assert [note for note in engine.notes if note.startswith("no CUDA graph")]
        check(engine.infer(subject.images()), subject.expected(subject.images()))
        assert len(list(engine.stream([subject.images()] * 3))) == 3


def test_a_pass_is_split_by_the_gpus_clock(built: Callable[..., Subject]) -> None:
    subject = built("10.13")

    with simulate() as machine, TensorRTEngine(subject.plan) as engine:
        times = [engine.time_pass(subject.images()) for _ in range(3)]
        costs = machine.gpu.kind.costs

    for time in times:  # the host takes 2 us for each call; the waits of the GPU for it are in the parts
        assert time.compute_s == pytest.approx(costs.compute_s, abs=2e-5)
        assert time.h2d_s == pytest.approx(costs.start_s, abs=2e-5)
        assert time.d2h_s == pytest.approx(3 * costs.start_s, abs=2e-5)
        assert time.enqueue_s > 0


def test_two_engines_in_one_process_do_not_disturb_each_other(built: Callable[..., Subject]) -> None:
    one, other = built("10.13"), built("10.13", dynamic=("batch",), batch=ENDS)

    with simulate(), open_engine(one.plan) as first, open_engine(other.plan) as second:
        left, right = first.stream([one.images(seed=1)] * 3), second.stream([other.images(3, seed=2)] * 3)
        for _ in range(3):
            check(next(left), one.expected(one.images(seed=1)))
            check(next(right), other.expected(other.images(3, seed=2)))
        left.close()
        right.close()


def test_an_engine_says_what_it_is(built: Callable[..., Subject]) -> None:
    subject = built("10.13")

    with simulate(), open_engine(subject.plan) as engine:
        assert (engine.backend, engine.precision, engine.threads) == ("tensorrt", "fp32", 1)
        assert "NVIDIA Simulated" in engine.device
        assert [task.name for task in engine.manifest.tasks] == ["segmentation", "normals", "age"]


def test_a_gpu_that_breaks_down_is_a_sentence_and_closing_still_ends(built: Callable[..., Subject]) -> None:
    subject = built("10.13")

    with simulate() as machine:
        engine = TensorRTEngine(subject.plan)
        machine.gpu.broken = "cudaErrorIllegalAddress"
        with pytest.raises(UnsupportedError, match="cudaErrorIllegalAddress") as caught:
            engine.infer(subject.images())
        assert "\n" not in str(caught.value)
        with pytest.raises(NddrError):
            engine.close()
        engine.close()
        machine.gpu.broken = ""
        for handle in list(machine.cuda._handles):  # nothing can be freed on a broken GPU
            machine.cuda._forget(handle)
        for allocation in list(machine.gpu.memory.live()):
            allocation.freed = True
