"""Arrays that are on a GPU already: found without the library they belong to, in order, and given back once."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from nddr_deploy.engines import device_array, dlpack
from nddr_deploy.engines.device_array import DeviceArray, as_device_array
from nddr_deploy.engines.plan_file import Profile
from nddr_deploy.engines.trt import TensorRTEngine
from nddr_deploy.errors import ConfigError, InputError

OURS = 0x5000  # our stream
ADDRESS = 0x7F00_0000_0000  # on a GPU: nothing here may read it
SHAPE = (1, 2, 4, 3)
UINT8 = (1, 8, 1)  # code, bits, lanes
GPU_OF = device_array.gpu_of

_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_DESTRUCTOR = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _DESTRUCTOR)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
HANDED_OVER: list[Any] = []  # what C code may still call; Python would free it in any order


def _drop(capsule: int) -> None:
    """What owners do when a capsule goes that nobody has taken."""
    for name, layout in ((b"dltensor", dlpack.Managed), (b"dltensor_versioned", dlpack.ManagedVersioned)):
        if _is_valid(capsule, name):
            address = _pointer_of(capsule, name)
            _DELETER(layout.from_address(address).deleter)(address)


_DROP = _DESTRUCTOR(_drop)


class Handed:
    """An array of another library that speaks DLPack, and writes down what happens to it.

    Attributes:
        streams: that it was asked to order its work before.
        deleted: addresses that its deleter was called with.
    """

    def __init__(
        self,
        shape: tuple[int, ...] = SHAPE,
        *,
        strides: tuple[int, ...] | None = None,
        dtype: tuple[int, int, int] = UINT8,
        device: tuple[int, int] = (2, 0),
        announced: tuple[int, int] | None = None,
        version: tuple[int, int] | None = None,
        data: int = ADDRESS,
        offset: int = 0,
        has_deleter: bool = True,
    ) -> None:
        self.streams: list[int] = []
        self.deleted: list[int] = []
        self.announced = announced or device
        tensor = dlpack.Tensor(
            data=data,
            device=dlpack.Device(*device),
            dimensions=len(shape),
            dtype=dlpack.DataType(*dtype),
            shape=(ctypes.c_int64 * len(shape))(*shape),
            strides=(ctypes.c_int64 * len(shape))(*strides) if strides else None,
            byte_offset=offset,
        )
        self.deleter = _DELETER(self.deleted.append)
        address = ctypes.cast(self.deleter, ctypes.c_void_p).value if has_deleter else None
        if version is None:
            self.name, self.managed = b"dltensor", dlpack.Managed(tensor=tensor, deleter=address)
        else:
            self.name = b"dltensor_versioned"
            self.managed = dlpack.ManagedVersioned(*version, deleter=address, flags=1, tensor=tensor)  # read-only
        HANDED_OVER.append((self.managed, self.deleter))

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.announced

    def __dlpack__(self, *, stream: int, max_version: tuple[int, int] | None = None) -> Any:
        self.streams.append(stream)
        return _new_capsule(ctypes.addressof(self.managed), self.name, _DROP)


class HandedBefore1(Handed):
    """Its library is older than DLPack 1.0."""

    def __dlpack__(self, *, stream: int) -> Any:  # type: ignore[override]
        return super().__dlpack__(stream=stream)


class Driver:
    """libcuda, which knows GPU 2 at one address."""

    def cuInit(self, flags: int) -> int:
        return 0

    def cuPointerGetAttribute(self, value: Any, attribute: int, pointer: ctypes.c_uint64) -> int:
        assert attribute == 9  # CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        value._obj.value = 2
        return 0 if pointer.value == ADDRESS else 1  # CUDA_ERROR_INVALID_VALUE


class Described:
    """An array that speaks `__cuda_array_interface__` only."""

    def __init__(self, **entries: Any) -> None:
        given = {"shape": SHAPE, "typestr": "|u1", "data": (ADDRESS, True), "version": 3, **entries}
        self.__cuda_array_interface__ = {name: value for name, value in given.items() if value != "left out"}


@pytest.fixture(autouse=True)
def _any_address_is_on_gpu_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a driver is, it would rightly say that it knows no such address."""
    monkeypatch.setattr(device_array, "gpu_of", lambda pointer: 0)


def taken(images: object) -> DeviceArray:
    found = as_device_array(images, stream=OURS)
    assert found is not None
    return found


@pytest.mark.parametrize("version", [None, (1, 0), (1, 9)])
def test_an_array_of_dlpack_is_read_where_it_is(version: tuple[int, int] | None) -> None:
    found = taken(Handed(version=version, device=(2, 3), offset=64))

    assert found.pointer == ADDRESS + 64
    assert found.shape == SHAPE
    assert found.dtype == np.uint8
    assert found.device == 3


def test_the_owner_of_a_dlpack_array_orders_its_work_before_our_stream() -> None:
    images = Handed()

    found = taken(images)

    assert images.streams == [OURS]
    assert found.ready_stream is None  # nothing is left to wait for


def test_managed_memory_counts_as_the_gpus() -> None:
    assert taken(Handed(device=(13, 0))).device == 0


def test_a_library_older_than_dlpack_1_is_asked_without_a_version() -> None:
    images = HandedBefore1()

    assert taken(images).pointer == ADDRESS
    assert images.streams == [OURS]


@pytest.mark.parametrize("version", [None, (1, 0)])
def test_an_array_is_given_back_when_it_is_released_and_only_once(version: tuple[int, int] | None) -> None:
    images = Handed(version=version)
    found = taken(images)
    gc.collect()
    assert images.deleted == []

    found.release()
    found.release()
    del found
    gc.collect()

    assert images.deleted == [ctypes.addressof(images.managed)]


def test_an_array_that_is_forgotten_is_given_back_too() -> None:
    images = Handed()

    taken(images)
    gc.collect()

    assert images.deleted == [ctypes.addressof(images.managed)]


def test_a_process_that_ends_calls_no_deleter_whose_library_may_be_gone() -> None:
    script = (
        "import numpy; from nddr_deploy.engines.device_array import DeviceArray; "
        "kept = DeviceArray(1, (1,), numpy.dtype('uint8'), 0, free=lambda: print('called')); print('ends')"
    )

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)

    assert (run.stdout, run.stderr) == ("ends\n", "")


def test_an_owner_without_a_deleter_is_left_alone() -> None:
    images = Handed(has_deleter=False)

    taken(images).release()

    assert images.deleted == []


@pytest.mark.parametrize("make", [Handed, Described], ids=["dlpack", "interface"])
def test_the_owner_lives_until_the_array_is_released(make: type[Any]) -> None:
    images = make()
    alive = weakref.ref(images)
    found = taken(images)

    del images
    gc.collect()
    assert alive() is not None

    found.release()
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("version", [None, (1, 0)])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"strides": (24, 4, 1, 8)}, r"not in C order: their strides are \(24, 4, 1, 8\) bytes; expected \(24, 12, 3"),
        ({"strides": (48, 24, 6, 2)}, "not in C order"),
        ({"strides": (-24, -12, -3, -1)}, "not in C order"),
        ({"shape": (1, -2, 4, 3)}, "impossible layout"),
        ({"dtype": (1, 8, 4)}, "code 1, 8 bits, 4 lanes"),
        ({"dtype": (4, 16, 1)}, "code 4, 16 bits, 1 lanes"),  # bfloat16
        ({"dtype": (1, 4, 1)}, "code 1, 4 bits, 1 lanes"),
        ({"dtype": (1, 0, 1)}, "code 1, 0 bits, 1 lanes"),
        ({"dtype": (2, 8, 1)}, "code 2, 8 bits, 1 lanes"),
        ({"data": 0}, "have no address"),
        ({"device": (10, 0), "announced": (2, 0)}, "ROCm, DLPack type 10"),
        ({"device": (1, 0), "announced": (2, 0)}, "unknown, DLPack type 1"),
    ],
)
def test_what_cannot_be_read_is_given_back_at_once(
    wrong: dict[str, Any], message: str, version: tuple[int, int] | None
) -> None:
    images = Handed(version=version, **wrong)

    with pytest.raises(InputError, match=message):
        taken(images)

    gc.collect()
    assert images.deleted == [ctypes.addressof(images.managed)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dtype": (2, 32, 1)}, "got float32"),
        ({"shape": (9, 2, 4, 3)}, r"takes uint8 RGB images \(1 to 8, 2, 4, 3\); got uint8 \(9, 2, 4, 3\)"),
        ({"device": (2, 1)}, "on GPU 1"),
    ],
)
def test_what_an_engine_refuses_is_given_back_at_once(wrong: dict[str, Any], message: str) -> None:
    engine = object.__new__(TensorRTEngine)  # opening one takes a GPU; what it accepts does not
    engine.profile = Profile(min=(1, 2, 4, 3), opt=(4, 2, 4, 3), max=(8, 2, 4, 3))
    images = Handed(**wrong)

    with pytest.raises(InputError, match=message):
        engine._accept(images, SimpleNamespace(stream_pointer=OURS))  # type: ignore[arg-type]

    assert images.deleted == [ctypes.addressof(images.managed)]


def test_a_later_major_version_is_given_back_unread() -> None:
    images = Handed(version=(2, 0))
    images.managed.tensor.dimensions = -1  # it may mean anything there

    with pytest.raises(InputError, match=r"DLPack 2\.0; expected 1\.x"):
        taken(images)

    gc.collect()
    assert images.deleted == [ctypes.addressof(images.managed)]


def test_a_capsule_that_somebody_took_already_is_refused() -> None:
    class Twice(Handed):
        def __dlpack__(self, **options: Any) -> Any:
            capsule = super().__dlpack__(**options)
            dlpack.take(capsule).give_back()
            return capsule

    images = Twice()

    with pytest.raises(InputError, match='nobody has used yet; got <capsule object "used_dltensor"'):
        taken(images)

    assert len(images.deleted) == 1  # by the first taker


def test_an_owner_that_refuses_says_why() -> None:
    class Refusing(Handed):
        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("Can't export tensors that require gradient.")

    with pytest.raises(InputError, match="Refusing cannot be handed over on the GPU: Can't export tensors"):
        taken(Refusing())


def test_other_types_are_left_to_the_engine() -> None:
    assert taken(Handed(dtype=(2, 32, 1))).dtype == np.float32
    assert taken(Handed(dtype=(6, 8, 1))).dtype == np.bool_
    assert taken(Described(typestr="<f2")).dtype == np.float16


@pytest.mark.parametrize("strides", [None, (24, 12, 3, 1), (999, 12, 3, 1)])
def test_strides_in_c_order_are_fine_and_those_of_a_single_element_do_not_matter(strides: Any) -> None:
    assert taken(Handed(strides=strides)).shape == SHAPE
    assert taken(Described(strides=strides)).shape == SHAPE


def test_strides_of_dlpack_count_elements_and_those_of_the_interface_bytes() -> None:
    assert taken(Handed((2, 3), dtype=(2, 32, 1), strides=(3, 1))).shape == (2, 3)
    assert taken(Described(shape=(2, 3), typestr="<f4", strides=(12, 4))).shape == (2, 3)
    with pytest.raises(InputError, match="not in C order"):
        taken(Described(shape=(2, 3), typestr="<f4", strides=(3, 1)))


def test_an_empty_array_needs_no_address() -> None:
    assert taken(Handed((0, 2, 4, 3), data=0, strides=(1, 1, 1, 1))).pointer == 0
    assert taken(Described(shape=(0, 2, 4, 3), data=(0, False))).pointer == 0


@pytest.mark.parametrize("version", [2, 3])
def test_an_array_of_the_cuda_array_interface_is_read_where_it_is(version: int) -> None:
    found = taken(Described(version=version))

    assert (found.pointer, found.shape, found.dtype, found.device) == (ADDRESS, SHAPE, np.uint8, 0)


def test_the_driver_is_asked_on_which_gpu_an_array_of_the_interface_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_array, "gpu_of", GPU_OF)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())

    assert taken(Described()).device == 2
    with pytest.raises(InputError, match=r"knows nothing there \(CUDA error 1\)\. Were they"):
        taken(Described(data=(ADDRESS + 1, False)))


@pytest.mark.parametrize(
    ("named", "waits_for"), [("left out", None), (None, None), (1, 1), (2, 2), (0x6000, 0x6000), (OURS, None)]
)
def test_the_stream_of_the_interface_is_what_our_stream_has_to_wait_for(named: Any, waits_for: int | None) -> None:
    assert taken(Described(stream=named)).ready_stream == waits_for


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stream": 0}, "names stream 0 .* which is ambiguous"),
        ({"version": 1}, "speaks version 1 .* expected 2 or 3"),
        ({"version": 4}, "speaks version 4"),
        ({"mask": object()}, "has a mask"),
        ({"strides": (24, 4, 1, 8)}, "not in C order"),
        ({"strides": (24, 12, 3)}, "impossible layout"),
        ({"data": (0, False)}, "have no address"),
        ({"shape": "left out"}, "not what it should be .KeyError: 'shape'"),
        ({"typestr": "uint9"}, "not what it should be .TypeError"),
        ({"data": None}, "not what it should be .TypeError"),
    ],
)
def test_a_wrong_interface_is_one_sentence(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        taken(Described(**wrong))


def test_dlpack_comes_first_because_it_settles_the_order_of_work() -> None:
    class Both(Handed, Described):
        def __init__(self) -> None:
            Handed.__init__(self)
            Described.__init__(self, data=(0xBAD, False), stream="never read")

    images = Both()

    assert taken(images).pointer == ADDRESS
    assert images.streams == [OURS]


@pytest.mark.parametrize(
    "images",
    [
        np.zeros(SHAPE, np.uint8),
        torch.zeros(SHAPE, dtype=torch.uint8),
        np.zeros(SHAPE, np.uint8).tolist(),
        None,
        Handed(device=(1, 0)),
        Handed(device=(3, 0)),
    ],
    ids=["numpy", "torch on the CPU", "lists", "nothing", "DLPack on the CPU", "DLPack in pinned memory"],
)
def test_what_is_on_the_host_is_not_touched(images: Any) -> None:
    assert as_device_array(images, stream=OURS) is None
    assert getattr(images, "streams", []) == []


def test_devices_of_other_makers_are_refused_before_anything_is_handed_over() -> None:
    images = Handed(device=(10, 0))

    with pytest.raises(InputError, match="ROCm, DLPack type 10"):
        taken(images)

    assert images.streams == []


def test_an_array_that_has_no_memory_is_refused() -> None:
    with pytest.raises(InputError, match="does not say where it is"):
        taken(torch.zeros(SHAPE, dtype=torch.uint8, device="meta"))


@pytest.mark.parametrize("stream", [0, -1])
def test_an_ambiguous_stream_of_ours_is_refused(stream: int) -> None:
    with pytest.raises(ConfigError, match=f"got {stream}; expected 1"):
        as_device_array(Handed(), stream=stream)


@pytest.mark.parametrize("options", [{}, {"max_version": (1, 0)}], ids=["before 1.0", "1.0"])
def test_capsules_of_real_libraries_are_read_as_they_lay_them_out(options: dict[str, Any]) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(SHAPE)
    tensor = torch.from_numpy(array.astype(np.float32))

    for images, address in ((array, array.ctypes.data), (tensor, tensor.data_ptr())):
        try:
            capsule = images.__dlpack__(**options)
        except TypeError:
            pytest.skip(f"this {type(images).__module__} is older than DLPack 1.0")
        borrowed = dlpack.take(capsule)
        assert borrowed.tensor.data == address
        assert dlpack.shape_of(borrowed.tensor) == SHAPE
        assert dlpack.dtype_of(borrowed.tensor) == np.dtype(str(images.dtype).removeprefix("torch."))
        assert borrowed.tensor.device.type == dlpack.CPU
        borrowed.give_back()


def test_memory_of_a_real_library_lives_until_it_is_given_back() -> None:
    array = np.arange(24, dtype=np.uint8)
    alive = weakref.ref(array)
    borrowed = dlpack.take(array.__dlpack__())

    del array
    gc.collect()
    assert alive() is not None

    borrowed.give_back()
    assert alive() is None
