"""Files that PyTorch wrote, read without ever running code from them."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from nddr_deploy import optional
from nddr_deploy.errors import ModelFileError
from nddr_deploy.network.container import check_container, check_tensors
from nddr_deploy.network.pickled import pickled_names

# What state dicts and plain values ask for, those from PyTorch of 2016 among them.
PLAIN = frozenset(
    {
        "collections.OrderedDict",
        "torch.Size",
        "torch.device",
        "torch.nn.parameter.Parameter",
        *(f"torch._utils._rebuild_{kind}" for kind in ("tensor", "tensor_v2", "parameter")),
        *(f"torch.{kind}" for kind in ("float16", "bfloat16", "float32", "float64", "int32", "int64", "uint8", "bool")),
    }
)


def read_torch_file(path: str | os.PathLike[str]) -> Any:
    """What `torch.save` wrote, on the CPU: plain values and tensors only.

    Raises:
        ModelFileError: no such file, a truncated or foreign file, or one that asks for code when it is loaded.
    """
    check_torch_file(path, PLAIN)
    return load_checked(path)


def check_torch_file(path: str | os.PathLike[str], allowed: Collection[str]) -> set[str]:
    """Check a file as far as that goes without loading it; gives the Python objects that it asks for.

    Raises:
        ModelFileError: no such file, one that PyTorch would not just read, or one that asks for others than `allowed`.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelFileError(f"{path} is no file. Give the path of a checkpoint or a weight file.")
    check_container(file)
    return pickled_names(file, allowed)


def load_checked(path: str | os.PathLike[str], **options: Any) -> Any:
    """`torch.load` of a file that `check_torch_file` accepted. Without options, plain values and tensors only.

    Raises:
        ModelFileError: the file or one of its tensors is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what cannot be read raises
            values = torch.load(path, map_location="cpu", **(options or {"weights_only": True}))
    except Exception as error:  # a broken file makes the readers raise almost anything
        reason = f" ({error})" if options and isinstance(error, pickle.UnpicklingError) else ""
        raise ModelFileError(
            f"{path} cannot be read as a PyTorch file{reason}: it is truncated, damaged or of another kind. "
            "Copy it again."
        ) from error
    check_tensors(values, Path(path))
    return values


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """A state dict from a PyTorch file or a `.safetensors` file, such as torchvision's ImageNet weights.

    Raises:
        ModelFileError: the file cannot be read, or holds something else.
    """
    if Path(path).suffix == ".safetensors":
        if not Path(path).is_file():
            raise ModelFileError(f"{path} is no file. Give the path of a checkpoint or a weight file.")
        load_file = optional.load("safetensors.torch:load_file", extra="train")
        try:
            return dict(load_file(path))
        except Exception as error:  # the reader's own error class is not public in every version
            raise ModelFileError(
                f"{path} cannot be read as a safetensors file: {error}. Copy or save it again."
            ) from error
    values = read_torch_file(path)
    if not isinstance(values, Mapping) or not values or not all(isinstance(v, torch.Tensor) for v in values.values()):
        raise ModelFileError(
            f"{path} holds no state dict. Expected a file that maps names to tensors and nothing else."
        )
    return dict(values)
