"""PyTorch files of other code, read without ever running code from them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from nddr_deploy.importers.restricted_pickle import NAMES, restricted_pickle
from nddr_deploy.network.weights_file import PLAIN, check_torch_file, load_checked, read_state_dict


def read_foreign_file(path: str | os.PathLike[str]) -> Any:
    """What `torch.save` (zip or legacy container) or safetensors wrote, on the CPU: plain values and tensors.

    A pickled yacs config becomes a dictionary, a numpy scalar a Python number.

    Raises:
        ModelFileError: no such file, truncated, of another kind, or it asks for an object that could run code.
    """
    if Path(path).suffix == ".safetensors":
        return read_state_dict(path)
    names = check_torch_file(path, PLAIN | NAMES)
    if names <= PLAIN:
        return load_checked(path)
    return load_checked(path, weights_only=False, pickle_module=restricted_pickle())
