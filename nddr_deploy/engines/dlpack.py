"""DLPack: the capsule in which another library hands over an array, read as its header (dlpack.h) lays it out.

Nothing is copied, and no library is needed: a capsule is an object of Python itself, its content a C structure.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nddr_deploy.errors import InputError

MAX_VERSION = (1, 0)  # of the structures below; a newer minor version lays them out in the same way
NAMES = {b"dltensor": b"used_dltensor", b"dltensor_versioned": b"used_dltensor_versioned"}
# DLDeviceType: where the data is
CPU, CUDA, CUDA_HOST, ROCM_HOST, CUDA_MANAGED = 1, 2, 3, 11, 13
DEVICE_NAMES = {4: "OpenCL", 7: "Vulkan", 8: "Metal", 10: "ROCm", 14: "oneAPI", 15: "WebGPU"}
# DLDataTypeCode -> numpy's letter; all others (bfloat16, the 8-bit floats, ...) have no numpy type
KINDS = {0: "i", 1: "u", 2: "f", 5: "c", 6: "b"}


class Device(ctypes.Structure):
    """DLDevice."""

    _fields_ = (("type", ctypes.c_int32), ("number", ctypes.c_int32))


class DataType(ctypes.Structure):
    """DLDataType: one element has `lanes` values of `bits` bits."""

    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class Tensor(ctypes.Structure):
    """DLTensor: strides count elements, and are NULL where the array is in C order."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", Device),
        ("dimensions", ctypes.c_int32),
        ("dtype", DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class Managed(ctypes.Structure):
    """DLManagedTensor, of DLPack before 1.0."""

    _fields_ = (("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class ManagedVersioned(ctypes.Structure):
    """DLManagedTensorVersioned, of DLPack 1.x. All but `tensor` stays where it is in every later version."""

    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    )


# Functions of our own: setting the types of `ctypes.pythonapi`'s shared ones would change them for everybody.
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", ctypes.pythonapi))
# The interpreter's lock stays held, as when Python deletes a capsule itself: every deleter has to work like that.
_DELETER = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)


@dataclass(frozen=True)
class Borrowed:
    """An array that belongs to another library.

    Attributes:
        tensor: what it is; not to be read after `give_back`.
        give_back: tells the owner that it is no longer needed. Call it once.
    """

    tensor: Tensor
    give_back: Callable[[], None]


def device_type_of(images: Any) -> int:
    """Where the array says that it is, as a DLDeviceType.

    Raises:
        InputError: it cannot say, as PyTorch's "meta" tensors.
    """
    try:
        return int(images.__dlpack_device__()[0])
    except Exception as error:  # whatever another library raises
        raise InputError(
            f"{type(images).__name__} does not say where it is: {error} Pass images on the host or on a CUDA GPU."
        ) from error


def ask(images: Any, stream: int) -> object:
    """The array's capsule. Its owner makes `stream` wait for what it is still computing.

    Raises:
        InputError: the owner refuses; nothing is held then.
    """
    try:
        try:
            capsule: object = images.__dlpack__(stream=stream, max_version=MAX_VERSION)
        except TypeError:  # it is older than DLPack 1.0, and does not know the second keyword
            capsule = images.__dlpack__(stream=stream)
    except Exception as error:  # whatever another library raises: BufferError by the standard, but many more
        raise InputError(
            f"{type(images).__name__} cannot be handed over on the GPU: {error} Pass a plain array of images, or bring "
            "it to the host as a numpy array."
        ) from error
    return capsule


def take(capsule: object) -> Borrowed:
    """Take over what a capsule holds: from now on `give_back` has to be called, and the capsule is empty.

    Raises:
        InputError: it is no capsule of DLPack, was taken before, or has a later version; nothing is held then.
    """
    name = next((name for name in NAMES if _is_valid(capsule, name)), None)
    if name is None:
        raise InputError(f"Expected a DLPack capsule that nobody has used yet; got {capsule!r}. Pass another array.")
    address = _pointer_of(capsule, name)
    versioned = name == b"dltensor_versioned"
    managed = ManagedVersioned.from_address(address) if versioned else Managed.from_address(address)
    deleter = managed.deleter
    _rename(capsule, NAMES[name])

    def give_back() -> None:
        if deleter:  # an owner without one frees the array by itself
            _DELETER(deleter)(address)

    if isinstance(managed, ManagedVersioned) and managed.major != MAX_VERSION[0]:
        found = f"{managed.major}.{managed.minor}"
        give_back()
        raise InputError(f"The images were handed over as DLPack {found}; expected {MAX_VERSION[0]}.x, or before 1.0.")
    return Borrowed(managed.tensor, give_back)


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape[: tensor.dimensions])


def strides_of(tensor: Tensor) -> tuple[int, ...] | None:
    """Between elements along each axis, in bytes; None: C order."""
    if not tensor.strides:
        return None
    size = tensor.dtype.bits // 8
    return tuple(stride * size for stride in tensor.strides[: tensor.dimensions])


def dtype_of(tensor: Tensor) -> np.dtype[Any]:
    """
    Raises:
        InputError: numpy has no such type.
    """
    code, bits, lanes = tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes
    try:
        if lanes != 1 or bits % 8 or code not in KINDS:
            raise TypeError
        return np.dtype(f"{KINDS[code]}{bits // 8}")
    except TypeError:
        raise InputError(
            f"The images on the GPU have a type that is not supported (DLPack code {code}, {bits} bits, "
            f"{lanes} lanes). Expected uint8: code 1, 8 bits, 1 lane."
        ) from None
