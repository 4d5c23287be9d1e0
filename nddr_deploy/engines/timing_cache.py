"""TensorRT's timing cache: how fast each kernel was on this GPU, so that the next build need not measure again."""

from __future__ import annotations

import os
import re
from pathlib import Path

from nddr_deploy.engines.cuda import Gpu
from nddr_deploy.errors import InputError
from nddr_deploy.files import finished_file


def default_path(tensorrt: str, gpu: Gpu) -> Path:
    """One file per TensorRT version and GPU, in the user's cache folder (XDG_CACHE_HOME, else ~/.cache).

    Raises:
        InputError: that folder cannot be made.
    """
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = re.sub(r"[^A-Za-z0-9]+", "-", gpu.name).strip("-").lower()
    folder = Path(root, "nddr-deploy")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {folder} for timing caches cannot be made ({error.strerror}). Name a file with "
            "--timing-cache, or use --no-timing-cache."
        ) from error
    return folder / f"timing-tensorrt-{tensorrt}-{name}-sm{gpu.compute_capability}.cache"


def read_cache(path: Path) -> bytes:
    """What was kept; empty where nothing was yet.

    Raises:
        InputError: there is something of that name that cannot be read.
    """
    try:
        return path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise InputError(f"The timing cache {path} cannot be read ({error.strerror}). Choose another file.") from error


def write_cache(path: Path, content: bytes) -> None:
    """Keep it, whole or not at all.

    Raises:
        InputError: the folder cannot be written to.
    """
    with finished_file(path) as temporary:
        temporary.write_bytes(content)
