"""Samples of any size through a model: laid into its image, in its batches, and what it returned for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

from nddr_deploy.data.base import Sample
from nddr_deploy.errors import InputError
from nddr_deploy.evaluate.decode import decode_outputs
from nddr_deploy.evaluate.parity import Model
from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import Fit, FitMode
from nddr_deploy.tasks.base import Array


@dataclass(frozen=True)
class SampleResult:
    """What a model returned for one sample.

    Attributes:
        sample: as it was given.
        outputs: task name -> the model's output for it, (1, ...), raw or decoded.
        manifest: of the model.
        fit: how the sample lay in the model's image.
    """

    sample: Sample
    outputs: Mapping[str, Array]
    manifest: Manifest
    fit: Fit

    def decoded(self) -> dict[str, Array]:
        """Task name -> result in the task's unit, at the sample's own size."""
        return decode_outputs(self.outputs, 0, self.manifest, self.fit)


def run_samples(
    infer: Model, samples: Iterable[Sample], manifest: Manifest, mode: FitMode = "letterbox"
) -> Iterator[SampleResult]:
    """Run samples through a model, reading only as many at a time as one pass takes.

    Args:
        infer: uint8 (N, H, W, 3) -> task name -> (N, ...).
        samples: of any size.
        manifest: of the model. A fixed batch is filled up with the last sample; what comes out for that is left.
        mode: how a sample is laid into the model's image.

    Raises:
        InputError: the model lacks an output that its manifest names, or an image is none.
    """
    remaining = iter(samples)
    size = 1 if "batch" in manifest.dynamic else manifest.batch
    while batch := list(islice(remaining, size)):
        fits = [Fit.of((sample.image.shape[0], sample.image.shape[1]), manifest.size_hw, mode) for sample in batch]
        padding = manifest.preprocess.mean_pixel
        images = [fit.apply(sample.image, padding) for fit, sample in zip(fits, batch, strict=True)]
        images += [images[-1]] * (size - len(images))
        outputs = infer(np.stack(images))
        missing = [task.name for task in manifest.tasks if task.name not in outputs]
        if missing:
            raise InputError(f"The model has no output {missing[0]!r}; it returned {', '.join(outputs)}.")
        for index, (sample, fit) in enumerate(zip(batch, fits, strict=True)):
            own = {task.name: outputs[task.name][index : index + 1] for task in manifest.tasks}
            yield SampleResult(sample, own, manifest, fit)
