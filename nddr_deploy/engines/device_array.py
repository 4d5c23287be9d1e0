"""Images that are on a CUDA GPU already, of whatever library: found, checked and borrowed, never copied.

Two protocols say where such an array lies. DLPack comes first where an array speaks both, because it settles the order
of work: we name our stream, and the owner makes it wait for its own. The CUDA array interface only may name the
owner's stream, and PyTorch, for one, does not (it speaks version 2). DLPack also says which GPU it is, and tells the
owner when the array is no longer read.
"""

from __future__ import annotations

import ctypes
import operator
import weakref
from collections.abc import Callable
from dataclasses import InitVar, dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from nddr_deploy.engines import dlpack
from nddr_deploy.engines.cuda import DRIVER
from nddr_deploy.errors import ConfigError, InputError

HOST = (dlpack.CPU, dlpack.CUDA_HOST, dlpack.ROCM_HOST)  # pinned memory is the host's
INTERFACE_VERSIONS = (2, 3)
POINTER_DEVICE_ORDINAL = 9  # CUpointer_attribute, from cuda.h


@dataclass(eq=False)
class DeviceArray:
    """An array on a GPU, in C order, that is borrowed from its owner until `release`.

    Attributes:
        pointer: the address of its first element on the GPU; 0 only where it is empty.
        shape: of the array.
        dtype: of its elements; not checked here.
        device: the GPU's number among those that this process sees.
        ready_stream: the owner's stream (1 legacy default, 2 per-thread default, or a cudaStream_t), behind whose work
            ours has to wait; None where the order is right already.
        owner: kept alive until `release`.
        free: called once, by `release` or when this object is gone, whichever is first.
    """

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    device: int
    ready_stream: int | None = None
    owner: InitVar[object] = None
    free: InitVar[Callable[[], None] | None] = None

    def __post_init__(self, owner: object, free: Callable[[], None] | None) -> None:
        self._released = weakref.finalize(self, _let_go, owner, free)
        self._released.atexit = False  # a process that ends frees everything, and the owner's library may be gone

    def release(self) -> None:
        """Tell the owner that the array is no longer read. May be called twice."""
        self._released()


def as_device_array(images: object, *, stream: int) -> DeviceArray | None:
    """An array on a GPU, where `images` is one; None where it is something else: numpy, a list, pinned memory.

    Work given to `stream` after this call may read the array, once it waits for `ready_stream` where there is one.
    The owner must not write into the array before that work is done.

    Args:
        images: anything; an array on a GPU speaks DLPack or `__cuda_array_interface__` (version 2 or 3).
        stream: what will read it: 1 (legacy default), 2 (per-thread default) or a cudaStream_t.

    Raises:
        InputError: it is on another kind of device, not in C order, or not to be had; nothing is held then.
        ConfigError: the stream is 0, which may mean either default stream, or negative.
    """
    if stream < 1:
        raise ConfigError(
            f"stream: got {stream}; expected 1 (legacy default), 2 (per-thread default) or a stream's pointer."
        )
    if isinstance(images, np.ndarray):
        return None
    if hasattr(images, "__dlpack__") and hasattr(images, "__dlpack_device__"):
        kind = dlpack.device_type_of(images)
        if kind in HOST:
            return None
        _refuse_other_devices(kind)
        return _from_dlpack(images, stream)
    interface = getattr(images, "__cuda_array_interface__", None)
    return None if interface is None else _from_interface(interface, images, stream)


def _from_dlpack(images: object, stream: int) -> DeviceArray:
    borrowed = dlpack.take(dlpack.ask(images, stream))
    try:
        tensor = borrowed.tensor
        _refuse_other_devices(tensor.device.type)
        shape, dtype = dlpack.shape_of(tensor), dlpack.dtype_of(tensor)
        _check_order(shape, dlpack.strides_of(tensor), dtype.itemsize)
        pointer = (tensor.data or 0) + tensor.byte_offset if 0 not in shape else 0
        _check_pointer(pointer, shape)
        return DeviceArray(pointer, shape, dtype, tensor.device.number, owner=images, free=borrowed.give_back)
    except BaseException:
        borrowed.give_back()
        raise


def _from_interface(interface: Any, images: object, stream: int) -> DeviceArray:
    try:
        version = operator.index(interface["version"])
        shape = tuple(operator.index(extent) for extent in interface["shape"])
        dtype = np.dtype(interface["typestr"])
        pointer = operator.index(interface["data"][0])
        strides = interface.get("strides")
        strides = strides if strides is None else tuple(operator.index(stride) for stride in strides)
        ready = interface.get("stream")
        ready = ready if ready is None else operator.index(ready)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"The __cuda_array_interface__ of {type(images).__name__} is not what it should be "
            f"({type(error).__name__}: {error}). Expected a dict with shape, typestr, data and version."
        ) from error
    if version not in INTERFACE_VERSIONS:
        raise InputError(
            f"{type(images).__name__} speaks version {version} of __cuda_array_interface__; expected 2 or 3. "
            "Pass it as an array of PyTorch or CuPy."
        )
    if interface.get("mask") is not None:
        raise InputError(f"{type(images).__name__} has a mask. Pass images that are whole.")
    if ready is not None and ready < 1:
        raise InputError(
            f"{type(images).__name__} names stream {ready} in its __cuda_array_interface__, which is ambiguous; "
            "expected none, 1 (legacy default), 2 (per-thread default) or a stream's pointer."
        )
    _check_order(shape, strides, dtype.itemsize)
    _check_pointer(pointer, shape)
    device = gpu_of(pointer) if pointer else 0
    ready_stream = None if ready == stream else ready
    return DeviceArray(pointer, shape, dtype, device, ready_stream, owner=images)


def gpu_of(pointer: int) -> int:
    """The number of the GPU that an address belongs to, asked from the driver; 0 where there is no driver to ask.

    Raises:
        InputError: the driver does not know the address.
    """
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return 0
    if driver.cuInit(0) != 0:
        return 0
    number = ctypes.c_int(0)
    error = driver.cuPointerGetAttribute(ctypes.byref(number), POINTER_DEVICE_ORDINAL, ctypes.c_uint64(pointer))
    if error != 0:
        raise InputError(
            f"The images should be on a GPU at {pointer:#x}, but the NVIDIA driver knows nothing there (CUDA error "
            f"{error}). Were they freed?"
        )
    return number.value


def _refuse_other_devices(kind: int) -> None:
    if kind not in (dlpack.CUDA, dlpack.CUDA_MANAGED):
        name = dlpack.DEVICE_NAMES.get(kind, "unknown")
        raise InputError(
            f"The images are on a device of another kind ({name}, DLPack type {kind}). Pass them on a CUDA GPU, or on "
            "the host as a numpy array."
        )


def _check_order(shape: tuple[int, ...], strides: tuple[int, ...] | None, size: int) -> None:
    """C order: each axis steps over all that the later ones span. An axis of one element is never stepped along."""
    if min(shape, default=0) < 0 or (strides is not None and len(strides) != len(shape)):
        raise InputError(f"The images on the GPU have an impossible layout: shape {shape}, strides {strides}.")
    if not strides or 0 in shape:
        return
    expected = tuple(accumulate((size, *shape[:0:-1]), operator.mul))[::-1]
    if any(extent > 1 and found != right for extent, found, right in zip(shape, strides, expected, strict=True)):
        raise InputError(
            f"The images on the GPU, {shape}, are not in C order: their strides are {strides} bytes; expected "
            f"{expected}. Copy them first, with .contiguous() in PyTorch or cupy.ascontiguousarray."
        )


def _check_pointer(pointer: int, shape: tuple[int, ...]) -> None:
    if not pointer and 0 not in shape:
        raise InputError(f"The images on the GPU, {shape}, have no address. Were they freed?")


def _let_go(owner: object, free: Callable[[], None] | None) -> None:
    """The owner was held until now: `__cuda_array_interface__` by itself keeps nothing alive."""
    if free is not None:
        free()
