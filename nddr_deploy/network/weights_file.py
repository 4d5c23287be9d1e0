"""Files that PyTorch wrote, read without ever running code from them."""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nddr_deploy import optional
from nddr_deploy.errors import ModelFileError
from nddr_deploy.network.container import check_container, check_tensors


def read_torch_file(path: str | os.PathLike[str]) -> Any:
    """What `torch.save` wrote, on the CPU: plain values and tensors only.

    Raises:
        ModelFileError: no such file, a truncated or foreign file, or one that asks for code when it is loaded.
    """
    file = checked_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what cannot be read raises
            values = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file makes the readers raise almost anything
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and wanted:
            raise ModelFileError(
                f"{path} asks for the Python object {wanted[1]!r} when it is loaded, which could run code: refused. "
                "Expected only plain values and tensors: save its state dict alone."
            ) from error
        raise ModelFileError(
            f"{path} cannot be read as a PyTorch file: it is truncated, damaged or of another kind. Copy it again."
        ) from error
    check_tensors(values, file)
    return values


def checked_file(path: str | os.PathLike[str]) -> Path:
    """The path of a file that `torch.load` may be given.

    Raises:
        ModelFileError: no such file, or one that PyTorch would not just read.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelFileError(f"{path} is no file. Give the path of a checkpoint or a weight file.")
    check_container(file)
    return file


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
