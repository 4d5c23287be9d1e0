"""The TensorRT engine on a simulated GPU, in three versions of TensorRT, under any order of work that is legal.

Every test also fails where something was not freed, or was done that CUDA or TensorRT forbid: see `simulate`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from simulated.gpu import Work
from simulated.simulate import VERSIONS, Machine, simulate

from nddr_deploy.build.recipe import build_engine
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.trt import TensorRTEngine
from nddr_deploy.errors import InputError, ModelFileError, NddrError, ParityError, UnsupportedError
from nddr_deploy.evaluate.decode import decode_batch
from nddr_deploy.graph.metadata import manifest_of, write_manifest

SEEDS = range(4)  # in some, streams run alone, in others late, or in turns
ENDS = (1, 2, 4)


class Subject:
    """A model and the plan that was built of it, in FP32.

    Attributes:
        model: writes and knows the images, as `handmade`.
        plan: its path.
    """

    def __init__(self, model: Any, plan: Path) -> None:
        self.model, self.plan = model, plan
        self._reference = open_engine(model.path, "onnxruntime", threads=1)

    def images(self, count: int = 1, seed: int = 0) -> Any:
        return self.model.images(count, seed)

    def expected(self, images: Any, *, decoded: bool = False) -> dict[str, Any]:
        """By ONNX Runtime on the CPU, decoded there."""
        outputs = self._reference.infer(images)
        return decode_batch(outputs, self._reference.manifest, images.shape[1:3]) if decoded else outputs


@pytest.fixture(scope="session")
def built(handmade: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Subject]:
    """`built(version, dynamic=("batch",), batch=(1, 2, 4), ...)`: built once each, for all tests."""

    @cache
    def subject(version: str, *, dynamic: Any = (), heads: int = 3, fixed: int = 1, **options: Any) -> Subject:
        model = handmade(dynamic=dynamic, batch=fixed)
        if heads == 2:
            drop_age(model.path)
        plan = tmp_path_factory.mktemp("plan") / "model.trt"
        with simulate(version):
            build_engine(model.path, plan, **{"precision": "fp32", "outputs": "raw", "timing_cache": None, **options})
        return Subject(model, plan)

    return subject


def drop_age(path: Path) -> None:
    """Of three heads, leave the two whose outputs have the same shape."""
    model = onnx.load(path)
    nodes, outputs = model.graph.node, model.graph.output
    for node in [node for node in nodes if node.output[0].startswith("age")]:
        nodes.remove(node)
    outputs.remove(next(output for output in outputs if output.name == "age"))
    manifest = manifest_of(model, source=str(path))
    write_manifest(model, manifest.model_copy(update={"tasks": manifest.tasks[:2]}))
    onnx.save(model, path)


def check(outputs: dict[str, Any], expected: dict[str, Any]) -> None:
    """Every head by name: labels equal, the rest within what float32 sums of a few products differ by."""
    assert list(outputs) == list(expected)
    for name, output in outputs.items():
        assert (output.dtype, output.shape) == (expected[name].dtype, expected[name].shape), name
        if output.dtype == np.uint8:
            assert np.array_equal(output, expected[name]), name
        else:
            assert np.abs(output - expected[name]).max() <= 1e-5 * max(1.0, np.ptp(expected[name])), name


def in_flight(machine: Machine) -> list[str]:
    return [entry.what for stream in machine.gpu.streams for entry in stream.queue if isinstance(entry, Work)]


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


# Images that are on the GPU already


class OnDevice:
    """An array of another library on the simulated GPU, filled by a stream of its own.

    Attributes:
        dropped: nobody holds it any more.
    """

    def __init__(self, machine: Machine, images: Any, *, offset: int = 0) -> None:
        cudart = machine.cudart
        self._cudart, self._images = cudart, images
        self._memory = int(cudart.cudaMalloc(images.nbytes + offset)[1])
        self._stream = cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking)[1]
        self._staged = int(cudart.cudaHostAlloc(images.nbytes, 0)[1])
        import ctypes

        ctypes.memmove(self._staged, images.ctypes.data, images.nbytes)
        self.__cuda_array_interface__ = {
            "version": 3,
            "shape": images.shape,
            "typestr": "|u1",
            "data": (self._memory + offset, False),
            "stream": int(self._stream),
        }
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        cudart.cudaMemcpyAsync(self._memory + offset, self._staged, images.nbytes, kind, self._stream)

    def free(self) -> None:
        self._cudart.cudaStreamDestroy(self._stream)
        self._cudart.cudaFree(self._memory)
        self._cudart.cudaFreeHost(self._staged)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
def test_images_on_the_gpu_are_read_there_once_their_own_stream_has_made_them(
    built: Callable[..., Subject], version: str, graph: bool, seed: int
) -> None:
    subject = built(version)

    with simulate(version, seed=seed) as machine, TensorRTEngine(subject.plan, graph=graph) as engine:
        arrays = [OnDevice(machine, subject.images(seed=number)) for number in range(5)]
        machine.gpu.done.clear()
        results = [engine.infer(arrays[0]), *engine.stream(arrays)]
        copies = [what for what in machine.gpu.done if what == "copy of 1152 bytes"]
        assert len(copies) == len(arrays)  # their own; none of ours
        again = engine.infer(subject.images(seed=7))  # from the host, after one from the GPU
        for array in arrays:
            array.free()

    for number, outputs in zip((0, 0, 1, 2, 3, 4), results, strict=True):
        check(outputs, subject.expected(subject.images(seed=number)))
    check(again, subject.expected(subject.images(seed=7)))


def test_images_on_the_gpu_wherever_they_begin_are_taken(built: Callable[..., Subject]) -> None:
    """TensorRT wants addresses of whole 256 bytes; a slice of a batch may begin anywhere."""
    subject = built("10.13")

    with simulate() as machine, TensorRTEngine(subject.plan) as engine:
        array = OnDevice(machine, subject.images(), offset=16 * 3)
        check(engine.infer(array), subject.expected(subject.images()))
        array.free()


def test_wrong_images_on_the_gpu_are_refused(built: Callable[..., Subject]) -> None:
    subject = built("10.13")

    with simulate() as machine, TensorRTEngine(subject.plan) as engine:
        array = OnDevice(machine, np.zeros((1, 16, 32, 3), np.uint8))
        with pytest.raises(InputError, match=r"got uint8 \(1, 16, 32, 3\)"):
            engine.infer(array)
        check(engine.infer(subject.images()), subject.expected(subject.images()))
        array.free()


# Plans that cannot be run here


def copied(subject: Subject, folder: Path) -> Path:
    for path in (subject.plan, subject.plan.with_name("model.trt.json")):
        shutil.copy(path, folder / path.name)
    return folder / "model.trt"


def sentence(path: Path, kind: type[NddrError] = ModelFileError) -> str:
    """What opening it says: one line."""
    with pytest.raises(kind) as caught:
        open_engine(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_changed_plan_a_missing_manifest_and_a_damaged_one_are_a_sentence_each(
    built: Callable[..., Subject], tmp_path: Path
) -> None:
    plan = copied(built("10.13"), tmp_path)
    content, about = plan.read_bytes(), plan.with_name("model.trt.json")

    built("10.13", heads=2)
    with simulate() as machine:
        plan.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        assert "nddr-build model.onnx --output" in sentence(plan)
        plan.write_bytes(content[: len(content) // 2])
        assert "nddr-build model.onnx --output" in sentence(plan)
        plan.write_bytes(built("10.13", heads=2).plan.read_bytes())  # a good one, but not that of the manifest
        assert "nddr-build model.onnx --output" in sentence(plan)
        plan.write_bytes(content)
        text = about.read_text()
        about.write_text(text[: len(text) // 2])
        assert "nddr-build" in sentence(plan)
        about.unlink()
        assert "nddr-build" in sentence(plan)
        plan.unlink()
        assert "does not exist" in sentence(plan)
        assert "Runtime.__init__" not in machine.api.used  # TensorRT never saw any of them


def test_a_plan_for_another_tensorrt_or_another_gpu_is_a_sentence(built: Callable[..., Subject]) -> None:
    subject = built("10.13", dynamic=("batch",), batch=ENDS, opt_level=2)
    command = (
        f"nddr-build model.onnx --output {subject.plan} --precision fp32 --batch 1,2,4 --outputs raw --opt-level 2"
    )

    with simulate("10.0"):
        text = sentence(subject.plan)
        assert "built by TensorRT 10.13.3.9; TensorRT 10.0.1 is installed" in text
        assert command in text
    for other in ({"name": "NVIDIA Other"}, {"compute_capability": (9, 0)}):
        with simulate(**other):
            text = sentence(subject.plan)
            assert "NVIDIA Simulated" in text
            assert command in text


def test_a_plan_that_tensorrt_does_not_take_after_all_is_a_sentence(
    built: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    from simulated.trt_engine import Runtime

    subject = built("10.13")
    monkeypatch.setattr(Runtime, "deserialize_cuda_engine", lambda self, content: self._refuse("cannot\nbe read"))

    with simulate():
        text = sentence(subject.plan)

    assert "cannot be read" in text
    assert "nddr-build model.onnx" in text


def test_a_machine_without_a_gpu_without_tensorrt_or_without_cuda_bindings_says_so(
    built: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    subject = built("10.13")

    with simulate(count=0):
        assert "No NVIDIA GPU" in sentence(subject.plan, UnsupportedError)
    for module, package in (("tensorrt", "tensorrt"), ("cuda.bindings.runtime", "cuda")):
        with simulate(), monkeypatch.context() as changed:
            changed.setitem(sys.modules, module, None)
            text = sentence(subject.plan, NddrError)
            assert package in text
            assert "pip install 'nddr-deploy[gpu]'" in text


def test_a_driver_that_is_too_old_is_a_sentence(built: Callable[..., Subject]) -> None:
    subject = built("11.4")

    with simulate("11.4", driver_cuda=11080):
        assert "driver" in sentence(subject.plan, UnsupportedError)


def test_full_memory_is_a_sentence_wherever_it_is_found_and_leaves_nothing(built: Callable[..., Subject]) -> None:
    subject = built("10.13")
    scratch, buffers = 1 << 20, 16 * 24 * 3 + 4 * (4 + 3 * 4 * 6 * 2)  # of one slot

    with simulate(memory_bytes=2 * (scratch + buffers)), open_engine(subject.plan) as engine:
        check(engine.infer(subject.images()), subject.expected(subject.images()))
    for slots in (0, 1):
        for more in (0, scratch, scratch + 16 * 24 * 3, scratch + buffers - 1):
            with simulate(memory_bytes=slots * (scratch + buffers) + more):
                text = sentence(subject.plan, UnsupportedError)
                assert "memory" in text or "make room" in text


@pytest.mark.parametrize("about", [{"precision": "fp16"}, {"threads": 2}])
def test_what_a_plan_cannot_give_is_refused(built: Callable[..., Subject], about: dict[str, Any]) -> None:
    subject = built("10.13")

    with (
        simulate(),
        pytest.raises(UnsupportedError, match=next(iter(about.values())) if "precision" in about else "threads"),
    ):
        open_engine(subject.plan, **about)


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
