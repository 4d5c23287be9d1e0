"""From a foreign checkpoint to ours."""

from __future__ import annotations

import os
from collections.abc import Mapping

from nddr_deploy.checkpoint import save_checkpoint
from nddr_deploy.errors import ConfigError
from nddr_deploy.importers.base import Choices, Triple
from nddr_deploy.importers.read import Imported, read_checkpoint
from nddr_deploy.network.build import build_empty


def import_checkpoint(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    format: str | None = None,
    assume: Mapping[str, str] | None = None,
    mean: Triple | None = None,
    std: Triple | None = None,
    rename: Mapping[str, str] | None = None,
    size_hw: tuple[int, int] | None = None,
) -> Imported:
    """Write a checkpoint of nddr-deploy with the weights of a foreign one: the command `nddr-import`.

    >>> import_checkpoint("ckpt-20000.pth", "ckpt.pt", assume={"bn": "after-relu"})         # doctest: +SKIP

    Args:
        path: the foreign file; for TensorFlow also a folder or a prefix.
        output: the checkpoint to write, `.pt` or `.safetensors`.
        format: key of `IMPORTERS`; None recognises it.
        assume: what neither keys nor the file's own config settle, see the format's page in docs/importing.
        mean, std: (R, G, B) in the format's own value range, in place of the format's.
        rename: the format's name of a task -> another one, as data sets have it, such as {"semseg": "segmentation"}.
        size_hw: of the images in pixels; None takes what is usual for the format.

    Raises:
        ModelFileError: the file cannot be read, is incomplete, or leaves something open that `assume` does not settle.
        UnsupportedError: the file holds another network.
        ConfigError: a choice that this file does not leave, or a checkpoint that needs no import.
        InputError: the network cannot take images of that size, or the output cannot be written.
    """
    imported = read_checkpoint(path, Choices(format, assume or {}, mean, std, rename or {}, size_hw))
    if imported.format is None:
        raise ConfigError(f"{path} is a checkpoint of nddr-deploy already. Use it as it is.")
    checkpoint = imported.checkpoint
    build_empty(checkpoint.network, checkpoint.tasks).check_size(checkpoint.size_hw)
    save_checkpoint(output, checkpoint)
    return imported
