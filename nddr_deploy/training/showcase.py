"""A few fixed validation samples, on which a training shows what it has learnt so far."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from nddr_deploy.data.base import Dataset, Sample
from nddr_deploy.evaluate.comparison import Comparison, compare
from nddr_deploy.evaluate.run_samples import run_samples
from nddr_deploy.page.panels import narrowed
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.drawing import draw_badge, side_by_side
from nddr_deploy.training.coupling import Share, coupling, meetings, stream_power
from nddr_deploy.training.state import Training
from nddr_deploy.training.validate import NetworkInTraining

SAMPLES = 4
READABLE = 240  # pixels wide: a smaller picture of a strip is enlarged, so that its title can be read


class Showcase:
    """Samples that are spread over a split, and what the network makes of them.

    `nddr-inspect --data NAME --split SPLIT --limit 4` takes the same ones, so its shares are those of `coupling`.

    Args:
        training: whose `model` is looked at; it is left in training mode.
        dataset: the validation split.
        count: of samples.
    """

    def __init__(self, training: Training, dataset: Dataset, count: int = SAMPLES) -> None:
        self._training = training
        self._dataset = dataset
        self._count = min(count, len(dataset))

    @cached_property
    def samples(self) -> list[Sample]:
        """Read when they are first wanted."""
        places = np.linspace(0, len(self._dataset) - 1, self._count).astype(int)
        return [self._dataset[int(place)] for place in places]

    def comparisons(self) -> tuple[Comparison, ...]:
        """Prediction beside truth of each sample."""
        tasks = self._training.about["tasks"]
        with NetworkInTraining(self._training, batch=len(self.samples)) as engine:
            found = list(run_samples(engine.infer, self.samples, engine.manifest))
        return tuple(compare(result.sample, result.decoded(), tasks) for result in found)

    def coupling(self) -> tuple[Share, ...]:
        """What each task takes from each stream on these samples; empty where no streams meet."""
        model = self._training.model
        if not meetings(model):
            return ()
        with NetworkInTraining(self._training, batch=len(self.samples)) as engine, stream_power(model) as power:
            list(run_samples(engine.infer, self.samples, engine.manifest))
        return coupling(model, power)


def strip(comparison: Comparison) -> Image:
    """A comparison as one picture: its views side by side, with their titles; pooled tasks in words on the image.

    Returns:
        RGB uint8 (H, W, 3).
    """
    pictures = []
    for number, view in enumerate(comparison.views):
        picture = narrowed(view.picture, smooth=view.smooth)
        times = -(-READABLE // picture.shape[1])
        picture = picture.repeat(times, axis=0).repeat(times, axis=1)
        pictures.append(draw_badge(picture, [comparison.name, *comparison.words] if number == 0 else [view.title]))
    return side_by_side(pictures)
