"""Many variants of one model, judged on the same samples: what each changed, and how sure that is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nddr_deploy.data.base import Dataset, Sample
from nddr_deploy.errors import InputError, unknown_choice
from nddr_deploy.evaluate.bootstrap import paired_intervals, result_of
from nddr_deploy.evaluate.change import Change
from nddr_deploy.evaluate.judged_samples import FirstSamples, LabelledSamples, NamedImages, ReferenceSamples, Samples
from nddr_deploy.evaluate.parity import Model
from nddr_deploy.evaluate.run_samples import SampleResult, run_samples
from nddr_deploy.evaluate.score import Scores, samples_to_score
from nddr_deploy.evaluate.shared_tasks import shared_tasks
from nddr_deploy.manifest import Manifest
from nddr_deploy.preprocess import FitMode
from nddr_deploy.tasks.base import Array, Task

__all__ = ["Change", "EvaluationSet", "SampleScores", "compare"]

Progress = Callable[[int], None]


@dataclass(frozen=True)
class EvaluationSet:
    """The same samples and truths for every variant of a model. Made by `labelled_data` or `against`.

    Attributes:
        manifest: of the model and all its variants.
        tasks: that are scored.
        labelled: whether the truth comes with the data; otherwise it is what the reference returned, so that a score
            is an agreement: PAcc is the share of pixels with the same argmax, mean_angle the angle between both.
        about: one line for people.
        samples: images with their truths.
        fit: how a sample is laid into the model's image.
    """

    manifest: Manifest
    tasks: tuple[Task, ...]
    labelled: bool
    about: str
    samples: Samples
    fit: FitMode = "letterbox"

    @classmethod
    def labelled_data(
        cls,
        manifest: Manifest,
        dataset: Dataset,
        *,
        limit: int | None = None,
        fit: FitMode = "letterbox",
        about: str = "",
    ) -> EvaluationSet:
        """The first `limit` samples of a data set, each at its own size. They are read anew for every variant.

        Raises:
            InputError: no samples, no task to score, or one that means something else in the data.
        """
        tasks, _ = shared_tasks(manifest, dataset)
        return cls(manifest, tasks, True, about, LabelledSamples(dataset, samples_to_score(dataset, limit)), fit)

    @classmethod
    def against(
        cls,
        manifest: Manifest,
        reference: Model,
        images: NamedImages,
        *,
        about: str = "",
        progress: Progress | None = None,
    ) -> EvaluationSet:
        """Images without labels: what the reference says of them is the truth.

        The reference's outputs are kept in memory, images are not: for each image the bytes of all outputs, which are
        4 C h w for a raw map of C channels (a 21-class and a normals head of 41 x 41: 161 kB), and for decoded ones
        H W for labels, 12 H W for normals, 4 H W for depth (640 x 480: 0.3, 3.7 and 1.2 MB).

        Args:
            manifest: of the reference and of all variants.
            reference: the float model, uint8 (N, H, W, 3) -> task name -> (N, ...).
            images: uint8 (H, W, 3) each; those that are not of the model's size are letterboxed.
            about: one line for people.
            progress: told after each image, with 1.

        Raises:
            InputError: no images.
        """
        if len(images) < 1:
            raise InputError("There is nothing to score: no images were given. Give at least one.")
        kept = []
        unlabelled = (Sample(name, image, {}) for name, image in zip(images.names, images, strict=True))
        for result in run_samples(reference, unlabelled, manifest):
            kept.append({name: np.array(output) for name, output in result.outputs.items()})
            if progress is not None:
                progress(1)
        return cls(manifest, manifest.tasks, False, about, ReferenceSamples(manifest, images, tuple(kept)))

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the samples, in their order. Reads all of them once."""
        return self._identity[0]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the samples' images, in their order, and their truths. Reads all of them once.

        Without labels, over the images alone: what the reference says of them differs in its last bits from machine to
        machine, and is told by the reference's own hash.
        """
        return self._identity[1]

    @cached_property
    def _identity(self) -> tuple[tuple[str, ...], str]:
        names, digest = [], hashlib.sha256(self.fit.encode())
        for sample in self.samples:
            names.append(sample.name)
            truths = [sample.targets[task.name] for task in self.tasks] if self.labelled else []
            for value in (sample.image, *map(np.asarray, truths)):
                digest.update(f"{value.dtype.str} {value.shape}".encode())
                digest.update(np.ascontiguousarray(value).tobytes())
        return tuple(names), digest.hexdigest()

    def first(self, count: int) -> EvaluationSet:
        """The first samples alone; all of them where there are no more.

        Raises:
            InputError: `count` is below 1.
        """
        if count < 1:
            raise InputError(f"There is nothing to score: the first {count} samples of {len(self)} were asked for.")
        if count >= len(self):
            return self
        return EvaluationSet(
            self.manifest, self.tasks, self.labelled, self.about, FirstSamples(self.samples, count), self.fit
        )

    def score(self, infer: Model, *, limit: int | None = None, progress: Progress | None = None) -> SampleScores:
        """Judge a variant, sample by sample.

        Args:
            infer: uint8 (N, H, W, 3) -> task name -> (N, ...), raw or decoded as the manifest says; N is 1, or the
                manifest's batch where that is fixed.
            limit: only the first samples; None is all of them.
            progress: told after each sample, with 1.

        Raises:
            InputError: a limit below 1, an output that is missing, or a result that cannot be scored, as one with NaN.
        """
        if limit is not None:
            return self.first(limit).score(infer, progress=progress)
        states: dict[str, list[Array]] = {task.name: [] for task in self.tasks}
        for result in run_samples(infer, self.samples, self.manifest, self.fit):
            decoded = result.decoded()
            for task in self.tasks:
                metric = task.metric()
                metric.update(decoded[task.name], np.asarray(result.sample.targets[task.name]))
                states[task.name].append(metric.state())
            if progress is not None:
                progress(1)
        return SampleScores(self.tasks, {name: np.stack(rows) for name, rows in states.items()})

    def look(self, infer: Model, place: int) -> SampleResult:
        """One sample with its truths, and what a variant returns for it."""
        return next(run_samples(infer, [self.samples.at(place)], self.manifest, self.fit))


@dataclass(frozen=True)
class SampleScores:
    """What a model achieved on each sample.

    Attributes:
        tasks: that were scored.
        states: task name -> (samples, S) float64, one `Metric.state` a sample; they may be stored and read again. S is
            C * C for C classes of segmentation, 6775 for normals, 4551 for ages, and small for others: 300 samples of
            40 classes, normals and ages take 31 MB.
    """

    tasks: tuple[Task, ...]
    states: Mapping[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.states.values())))

    def result(self) -> Scores:
        """Task name -> metric -> value over all samples, as `score` returns them.

        Sums are rounded in another order, and medians are taken from wider bins: within what their metric says.
        """
        return {task.name: result_of(task, self.states[task.name].sum(axis=0)) for task in self.tasks}

    def per_sample(self, task: str, metric: str) -> Array:
        """(samples,) float64: a metric on each sample alone; NaN where a sample has nothing valid."""
        found = self._task(task, metric)
        return np.array([result_of(found, state)[metric] for state in self.states[task]])

    def worst(self, after: SampleScores, task: str, metric: str, count: int) -> list[int]:
        """Places of the samples that lose most from these scores to `after`, the worst first.

        Samples that lose nothing are left out, and those where either side is NaN; so there may be fewer than `count`.
        """
        change = after.per_sample(task, metric) - self.per_sample(task, metric)
        lost = -change if self._task(task, metric).metrics[metric].higher_is_better else change
        order = np.argsort(-lost, kind="stable")  # NaN last
        return [int(place) for place in order if lost[place] > 0][:count]

    def first(self, count: int) -> SampleScores:
        """Of the first samples only."""
        return SampleScores(self.tasks, {name: states[:count] for name, states in self.states.items()})

    def _task(self, name: str, metric: str) -> Task:
        tasks = {task.name: task for task in self.tasks}
        if name not in tasks:
            raise unknown_choice("task", name, tasks)
        if metric not in tasks[name].metrics:
            raise unknown_choice(f"metric of {name}", metric, tasks[name].metrics)
        return tasks[name]


def compare(
    before: SampleScores,
    after: SampleScores,
    tasks: Sequence[Task],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[Change, ...]:
    """Every metric of every task before and after, with its paired bootstrap interval.

    Args:
        before, after: on the same samples.
        tasks: those to compare, in the order of the result.
        confidence, resamples, seed: see `paired_intervals`; without resamples there are no intervals, and it is quick.

    Raises:
        InputError: the two are not of the same samples and tasks.
        ConfigError: a confidence that is no share, or a negative number of resamples.
    """
    if len(before) != len(after):
        raise InputError(
            f"A change is measured on the same samples; got {len(before)} before and {len(after)} after. "
            "Score both on one evaluation set."
        )
    then, now = before.result(), after.result()
    changes = []
    for task in tasks:
        for scores in (then, now):
            if task.name not in scores:
                raise InputError(f"{task.name} was not scored; these tasks were: {', '.join(scores)}.")
        intervals = paired_intervals(
            task,
            before.states[task.name],
            after.states[task.name],
            confidence=confidence,
            resamples=resamples,
            seed=seed,
        )
        changes += [
            Change(task.name, metric, form, then[task.name][metric], now[task.name][metric], *intervals[metric])
            for metric, form in task.metrics.items()
        ]
    return tuple(changes)
