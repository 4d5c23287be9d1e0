"""TensorRT: runs a plan that nddr-build wrote, on the GPU it was built for. No PyTorch, no pycuda."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from nddr_deploy.engines.base import Engine, PassTimes
from nddr_deploy.engines.cuda_runtime import check_first_device
from nddr_deploy.engines.device_array import DeviceArray, as_device_array
from nddr_deploy.engines.plan_file import PlanFile
from nddr_deploy.engines.trt_library import TensorRT, reason
from nddr_deploy.engines.trt_profile import open_profiler
from nddr_deploy.engines.trt_slot import INPUT, Shape, Slot
from nddr_deploy.errors import ConfigError, InputError, ModelFileError, UnsupportedError
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

SLOTS = 2
# TensorRT's names of types -> numpy's; what our graphs take and return.
TYPES = {"UINT8": np.uint8, "FLOAT": np.float32, "HALF": np.float16, "INT32": np.int32}


class TensorRTEngine(Engine):
    """Runs a TensorRT plan.

    `infer` takes images on the host, or an array that is on the GPU already (of PyTorch, CuPy, ...: whatever speaks
    DLPack or `__cuda_array_interface__`), which is read where it is; one that does not begin at a multiple of 256
    bytes, as TensorRT wants it, is copied on the GPU. One engine belongs to one thread at a time.

    Args:
        path: a plan of nddr-build, or a `PlanFile` that was read already.
        threads: there are none to set; only None.
        precision: what the plan was built in; None takes it as it is.
        slots: passes that may be in flight in `stream`; each has memory of its own.
        graph: launch a pass as one CUDA graph, where the plan takes one shape only.

    Attributes:
        notes: what did not go as it could have, in sentences.

    Raises:
        ModelFileError: the plan is not for this machine, or not what its manifest says.
        UnsupportedError: no GPU; another precision or a number of threads was asked for.
        MissingPackageError: TensorRT or cuda-bindings is not installed.
    """

    backend = "tensorrt"
    threads = 1

    def __init__(
        self,
        path: Path | PlanFile,
        *,
        threads: int | None = None,
        precision: str | None = None,
        slots: int = SLOTS,
        graph: bool = True,
    ) -> None:
        if slots < 1:
            raise ConfigError(f"slots: got {slots}; expected a whole number from 1.")
        file = path if isinstance(path, PlanFile) else PlanFile.read(path)
        about = file.about
        if threads is not None:
            raise UnsupportedError(f"{file.path}: threads cannot be set for a TensorRT engine. Leave the option out.")
        if precision not in (None, about.precision):
            raise UnsupportedError(
                f"{file.path} was built in {about.precision}; asked for {precision}. Build another engine: nddr-build "
                f"{about.onnx} --precision {precision}"
            )
        library = TensorRT()
        check_first_device()
        file.check_fits(library.version, library.gpu)
        self.manifest, self.precision, self.profile = about.model, about.precision, about.profile
        self.device = library.gpu.name
        self.notes: tuple[str, ...] = ()
        self._slots: list[Slot] | None = None
        self._library, self._file = library, file
        self._engine: Any = _deserialise(library, file)
        self._outputs = _outputs(self._engine, file)
        found = []
        with ExitStack() as opened:
            for _ in range(slots):
                found.append(self._open_slot(graph=graph and self.profile.static))
                opened.callback(found[-1].close)
            self._opened = opened.pop_all()
        self._slots = found
        if found[0].graph_refused:
            self.notes = (f"no CUDA graph: {found[0].graph_refused}",)

    @property
    def has_graph(self) -> bool:
        """Whether passes are launched as CUDA graphs."""
        return self._held(self._slots)[0].has_graph

    def infer(self, images: Any) -> dict[str, Array]:
        """`Engine.infer`; `images` may also be an array on the GPU."""
        slot = self._free_slot()
        slot.start(self._accept(images, slot))
        return slot.finish()

    def stream(self, batches: Iterable[Any]) -> Generator[dict[str, Array], None, None]:
        """`Engine.stream`: up to `slots` passes are in flight, so copies and computation overlap.

        Leave a batch on the GPU as it is until its result has come. Results of what came before an error come first.
        """
        slots = self._held(self._slots)
        self._free_slot()
        flying: deque[Slot] = deque()
        coming, error = iter(batches), None
        try:
            for slot in cycle(slots):
                try:
                    images = self._accept(next(coming), slot)
                except StopIteration:
                    break
                except Exception as found:  # of the caller's iterator, or a wrong batch
                    error = found
                    break
                if slot.busy:
                    yield flying.popleft().finish()
                slot.start(images)
                flying.append(slot)
            while flying:
                yield flying.popleft().finish()
            if error is not None:
                raise error
        finally:
            for slot in flying:
                slot.abandon()

    def time_pass(self, images: Image) -> PassTimes:
        """One pass, split into its parts by the GPU's own clock."""
        slot = self._free_slot()
        self._check(images)
        return slot.time(np.ascontiguousarray(images))

    def time_layers(self, images: Image) -> dict[str, float]:
        """One pass, layer by layer: TensorRT's name of a layer -> seconds.

        Every layer runs alone then, so all of them together take longer than a pass.
        """
        self._free_slot()
        self._check(images)
        profiler = open_profiler(self._library.trt)
        slot = self._open_slot(graph=False)
        try:
            slot.start(images)  # what happens at the first pass alone is not counted
            slot.finish()
            slot.time_layers(np.ascontiguousarray(images), profiler)
        finally:
            slot.close()
        seconds: dict[str, float] = profiler.seconds
        return seconds

    def close(self) -> None:
        if self._slots is not None:
            self._slots = None
            self._opened.close()
            self._engine = None

    def _open_slot(self, *, graph: bool) -> Slot:
        return Slot(
            _context(self._engine, self._file, self._library),
            largest=self.profile.max,
            outputs=self._outputs,
            log=self._library.log,
            profiled=not self.profile.static,
            graph=graph,
        )

    def _accept(self, images: Any, slot: Slot) -> Image | DeviceArray:
        given = as_device_array(images, stream=slot.stream_pointer)
        if given is None:
            self._check(images)
            return np.ascontiguousarray(images)
        try:
            self._check_shape(given.dtype, given.shape)
            if given.device != 0:
                raise InputError(f"The images are on GPU {given.device}; this engine runs on GPU 0. Copy them there.")
        except InputError:
            given.release()
            raise
        return given

    def _check(self, images: Any) -> None:
        if isinstance(images, np.ndarray):
            self._check_shape(images.dtype, images.shape)
        else:
            super()._check(images)

    def _check_shape(self, dtype: np.dtype[Any], shape: Shape) -> None:
        if dtype != np.uint8 or not self.profile.takes(shape):
            raise InputError(
                f"This engine takes uint8 RGB images {self.profile}; got {dtype} {shape}. Pass frames as they come "
                "from a source, or build an engine for others: nddr-build --batch MIN,OPT,MAX --size MIN,OPT,MAX."
            )

    def _free_slot(self) -> Slot:
        """The first slot, with nothing in flight in any."""
        slots = self._held(self._slots)
        if any(slot.busy for slot in slots):
            raise InputError("A stream of this engine is not finished. Read it to its end or close it, then go on.")
        return slots[0]

    def _run(self, images: Image) -> dict[str, Array]:
        return self.infer(images)


def _deserialise(library: TensorRT, file: PlanFile) -> Any:
    engine = library.load(file.path.read_bytes(), version_compatible=file.about.options.version_compatible)
    if engine is None:
        raise ModelFileError(f"{file.path}: TensorRT cannot load this plan ({reason(library.log)}). {file.rebuild()}")
    return engine


def _context(engine: Any, file: PlanFile, library: TensorRT) -> Any:
    context = engine.create_execution_context()
    if context is None:
        raise UnsupportedError(
            f"{file.path}: TensorRT cannot make room to run it ({reason(library.log)}). Close other programs, or "
            "build it for a smaller batch."
        )
    return context


def _outputs(engine: Any, file: PlanFile) -> dict[str, np.dtype[Any]]:
    """Task name -> type, after the plan was held against its manifest."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    modes = {name: engine.get_tensor_mode(name).name for name in names}
    inputs = [name for name in names if modes[name] == "INPUT"]
    outputs = [name for name in names if modes[name] == "OUTPUT"]
    tasks = [task.name for task in file.about.model.tasks]
    if inputs != [INPUT] or sorted(outputs) != sorted(tasks):
        raise ModelFileError(
            f"{file.path} takes {inputs} and returns {outputs}, but by its manifest it should take {[INPUT]} and "
            f"return {tasks}. {file.rebuild()}"
        )
    types = {name: engine.get_tensor_dtype(name).name for name in names}
    if types[INPUT] != "UINT8" or not set(types.values()) <= set(TYPES):
        raise ModelFileError(f"{file.path}: its tensors have the types {types}, which no export has. {file.rebuild()}")
    return {name: np.dtype(TYPES[types[name]]) for name in tasks}
