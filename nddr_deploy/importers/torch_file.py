"""PyTorch files of other code, read without ever running code from them."""

from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from nddr_deploy.errors import ModelFileError
from nddr_deploy.importers.restricted_pickle import Refused, restricted_pickle
from nddr_deploy.network.container import check_tensors
from nddr_deploy.network.weights_file import checked_file, read_state_dict


def read_foreign_file(path: str | os.PathLike[str]) -> Any:
    """What `torch.save` (zip or legacy container) or safetensors wrote, on the CPU: plain values and tensors.

    A pickled yacs config becomes a dictionary, a numpy scalar a Python number.

    Raises:
        ModelFileError: no such file, truncated, of another kind, or it asks for an object that could run code.
    """
    if Path(path).suffix == ".safetensors":
        return read_state_dict(path)
    file = checked_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what cannot be read raises
            values = _load(file)
    except Refused as error:
        raise ModelFileError(
            f"{path} asks for the Python object {error.name!r} when it is loaded, which could run code: refused. "
            "Where you trust it, load it in its own repository and save its state dict alone."
        ) from error
    except Exception as error:  # a broken file makes the readers raise almost anything
        reason = str(error).splitlines()[0] if isinstance(error, pickle.UnpicklingError) and str(error) else ""
        raise ModelFileError(
            f"{path} cannot be read as a PyTorch file{f' ({reason[:100]})' if reason else ''}: it is truncated, "
            "damaged or of another kind. Copy it again."
        ) from error
    check_tensors(values, file)
    return values


def _load(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # it needs more than plain values: a config, numpy scalars, or something hostile
        return torch.load(file, map_location="cpu", weights_only=False, pickle_module=restricted_pickle())
