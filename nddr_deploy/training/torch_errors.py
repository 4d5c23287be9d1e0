"""PyTorch's errors that a user can do something about, as one of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed

from nddr_deploy.errors import TrainingError, UnsupportedError


@contextmanager
def in_our_words(batch_size: int) -> Iterator[None]:
    """
    Args:
        batch_size: of the training inside.

    Raises:
        UnsupportedError: this machine, or the settings, cannot do what was asked for.
        TrainingError: another process of this training is gone.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UnsupportedError(
            f"The GPU's memory is too small for batches of {batch_size} images. Lower batch_size, raise accumulate, "
            "or set augment.crop_hw."
        ) from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UnsupportedError(
            "A BatchNorm of this network saw one value per channel, of one image, and cannot normalise it. Raise "
            "batch_size, lower accumulate, or choose batchnorm=frozen."
        ) from error
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
            raise TrainingError(
                "Another process of this training ended, or cannot be reached any more; where it could, it said why. "
                "Go on with --resume."
            ) from error
        if "deterministic" not in str(error):
            raise
        raise UnsupportedError(
            f"PyTorch: {str(error).partition('.')[0]}. Set deterministic=false to allow it."
        ) from error
