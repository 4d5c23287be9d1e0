"""What was measured before, kept by the content of what it was measured on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx

from nddr_deploy.errors import NddrError
from nddr_deploy.files import finished_file
from nddr_deploy.graph.calibration import Range, calibrate
from nddr_deploy.graph.statistics import Run
from nddr_deploy.inference.image_set import ImageSet

FORMAT = 2  # of what is kept; another one is measured anew


def cache_folder() -> Path | None:
    """The user's cache folder ($XDG_CACHE_HOME, else ~/.cache), with our own in it; None where it cannot be made."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root, "nddr-deploy", "quantize")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def key_of(**parts: Any) -> str:
    """One hash of what a result depends on: JSON values, and models as `digest` gives them.

    The version of this package belongs to it: another one may measure otherwise.
    """
    always = {"format": FORMAT, "nddr-deploy": version("nddr-deploy")}
    return hashlib.sha256(json.dumps({**always, **parts}, sort_keys=True).encode()).hexdigest()


def digest(model: onnx.ModelProto) -> str:
    """The same for models that compute the same from the same weights; what is in the metadata does not count."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    del plain.metadata_props[:]
    return hashlib.sha256(plain.SerializeToString(deterministic=True)).hexdigest()


def kept(folder: Path | None, key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What is kept under a key, or what `measure` returns, which is then kept.

    A damaged entry counts as none. Where nothing can be kept, everything works without.

    Args:
        folder: None keeps nothing.
        key: from `key_of`.
        measure: its result must be JSON values.
    """
    path = folder / f"{key}.json" if folder is not None else None
    if path is not None:
        with suppress(OSError, ValueError):
            found = json.loads(path.read_text())
            if isinstance(found, dict) and found.get("key") == key and isinstance(found.get("value"), dict):
                return dict(found["value"])
    value = measure()
    if path is not None:
        with suppress(OSError, NddrError), finished_file(path) as temporary:
            temporary.write_text(json.dumps({"key": key, "value": value}))
    return value


def calibrated(
    model: onnx.ModelProto,
    tensors: Collection[str],
    images: ImageSet,
    run: Run,
    *,
    batch: int,
    method: str,
    percentile: float,
    symmetric: bool,
    folder: Path | None,
    progress: Callable[[], None] | None = None,
) -> dict[str, Range]:
    """`graph.calibration.calibrate`, unless the same model was calibrated before on the same pictures.

    Args:
        batch: pictures per pass.
        folder: where results are kept; None measures anew.
    """
    wanted = tuple(tensors)
    key = key_of(
        model=digest(model),
        tensors=sorted(wanted),
        images=images.fingerprint,
        batch=batch,  # the last one is filled up, so it decides which picture counts more than once
        method=method,
        percentile=percentile if method == "percentile" else None,
        symmetric=symmetric,
    )

    def measure() -> dict[str, Any]:
        found = calibrate(
            model,
            wanted,
            images.batches(batch),
            run,
            method=method,
            percentile=percentile,
            symmetric=symmetric,
            progress=progress,
        )
        return {name: [found[name].low, found[name].high] for name in wanted}

    def whole(value: Mapping[str, Any]) -> bool:
        pairs = [value.get(name) for name in wanted]
        return all(
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, float) for x in pair) for pair in pairs
        )

    value = kept(folder, key, measure)
    if not whole(value):
        value = measure()
    return {name: Range(*value[name]) for name in wanted}
