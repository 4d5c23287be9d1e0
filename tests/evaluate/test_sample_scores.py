"""Variants of the hand-made model on one evaluation set: the same numbers as `score`, sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from nddr_deploy.data.base import Sample
from nddr_deploy.engines import open_engine
from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.evaluate.sample_scores import EvaluationSet, SampleScores, compare
from nddr_deploy.evaluate.score import Scores, score
from nddr_deploy.manifest import Manifest
from nddr_deploy.tasks import Age, Binary, Classification, Depth, Segmentation, Task
from nddr_deploy.tasks.base import Array

CLASSES = ("floor", "wall", "sofa")


@dataclass(frozen=True)
class Samples:
    """A data set in memory."""

    tasks: tuple[Task, ...]
    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


@dataclass(frozen=True)
class Images:
    """Named images that are made anew at every reading."""

    count: int
    size_hw: tuple[int, int] = (16, 24)
    seed: int = 3

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"frame{number}" for number in range(self.count))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        rng = np.random.default_rng(self.seed)
        return (rng.integers(0, 256, (*self.size_hw, 3), dtype=np.uint8) for _ in range(self.count))


def samples(tasks: tuple[Task, ...], count: int = 5, size_hw: tuple[int, int] = (19, 31)) -> Samples:
    """Noise with random truths of another size than the model's."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        labels = rng.integers(0, 3, size_hw, dtype=np.uint8)
        labels[rng.random(size_hw) < 0.2] = 255
        targets = {
            "segmentation": labels,
            "normals": rng.normal(size=(*size_hw, 3)).astype(np.float32),
            "age": np.float32(rng.uniform(0, 3)),
        }
        image = rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)
        made.append(Sample(f"s{number}", image, {task.name: targets[task.name] for task in tasks}))
    return Samples(tasks, tuple(made))


def rougher(model: Callable[[Any], Mapping[str, Array]], step: float) -> Callable[[Any], Mapping[str, Array]]:
    """A variant whose outputs are rounded to steps, as a quantised one's are."""
    return lambda images: {name: np.round(output / step) * step for name, output in model(images).items()}


def check_equal(result: Scores, expected: Scores) -> None:
    """Sums of float errors are rounded in another order; medians are taken from bins of 0.1 % (ages: 0.01 years)."""
    assert {task: list(metrics) for task, metrics in result.items()} == {
        task: list(metrics) for task, metrics in expected.items()
    }
    for task, metrics in expected.items():
        for name, value in metrics.items():
            loose = {"median_angle": {"rel": 0.001}, "MedAE": {"abs": 0.01}}.get(name, {"rel": 1e-12})
            assert result[task][name] == pytest.approx(value, **loose), (task, name)


@pytest.mark.parametrize("options", [{}, {"batch": 3}, {"dynamic": ("batch",)}], ids=["one", "three", "any"])
@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_scores_are_those_of_score_whatever_the_batch(handmade: Callable[..., Any], options: Any, fit: Any) -> None:
    model = handmade(**options)
    dataset = samples(model.manifest.tasks)

    with open_engine(model.path, threads=1) as engine:
        evaluation = EvaluationSet.labelled_data(engine.manifest, dataset, fit=fit, about="noise")
        scores = evaluation.score(engine.infer)
        expected = score(engine, dataset, fit=fit)

    assert evaluation.labelled
    assert (len(evaluation), evaluation.names) == (5, ("s0", "s1", "s2", "s3", "s4"))
    check_equal(scores.result(), expected)


def test_a_model_with_decoded_outputs_is_scored_at_the_sample_s_own_size() -> None:
    tasks = (Segmentation(classes=CLASSES), Age(classes=4))
    manifest = Manifest(tasks=tasks, size_hw=(16, 24), outputs="decoded", batch=2)
    dataset = samples(tasks, count=3, size_hw=(32, 48))

    def infer(images: Any) -> Mapping[str, Array]:
        return {"segmentation": np.ones((len(images), 16, 24), np.uint8), "age": np.full(len(images), 2, np.float32)}

    scores = EvaluationSet.labelled_data(manifest, dataset).score(infer)

    truths = np.stack([sample.targets["segmentation"] for sample in dataset.samples])
    ages = np.array([sample.targets["age"] for sample in dataset.samples])
    assert scores.result()["segmentation"]["PAcc"] == pytest.approx((truths == 1).sum() / (truths != 255).sum())
    assert scores.result()["age"]["MAE"] == pytest.approx(np.abs(ages - 2).mean())
    np.testing.assert_allclose(scores.per_sample("age", "MAE"), np.abs(ages - 2), rtol=1e-6)


def test_each_sample_s_own_score_is_that_of_a_set_of_one(handmade: Callable[..., Any]) -> None:
    model = handmade()
    dataset = samples(model.manifest.tasks)

    with open_engine(model.path, threads=1) as engine:
        scores = EvaluationSet.labelled_data(engine.manifest, dataset).score(engine.infer)
        alone = [score(engine, Samples(dataset.tasks, (sample,))) for sample in dataset.samples]

    for task, metric in (("segmentation", "mIoU"), ("normals", "within_30"), ("age", "MAE")):
        expected = [each[task][metric] for each in alone]
        np.testing.assert_allclose(scores.per_sample(task, metric), expected, rtol=1e-12)


def test_against_itself_a_model_is_perfect_and_a_rougher_one_is_not(handmade: Callable[..., Any]) -> None:
    model = handmade(batch=2)

    with open_engine(model.path, threads=1) as engine:
        evaluation = EvaluationSet.against(engine.manifest, engine.infer, Images(7), about="7 frames")
        itself = evaluation.score(engine.infer)
        rough = evaluation.score(rougher(engine.infer, 0.3))

    assert not evaluation.labelled
    assert evaluation.tasks == model.manifest.tasks
    assert evaluation.names == Images(7).names
    for task in evaluation.tasks:
        for metric, form in task.metrics.items():
            assert itself.result()[task.name][metric] == (1 if form.higher_is_better else 0)
    changes = {(change.task, change.metric): change for change in compare(itself, rough, evaluation.tasks)}
    assert changes["segmentation", "PAcc"].high < 0
    assert changes["normals", "mean_angle"].low > 0


def test_without_labels_pacc_is_the_share_of_pixels_with_the_same_argmax() -> None:
    manifest = Manifest(tasks=(Segmentation(classes=CLASSES),), size_hw=(6, 8))
    rng = np.random.default_rng(8)
    raw = {name: rng.normal(size=(1, 3, 6, 8)).astype(np.float32) for name in ("reference", "variant")}

    evaluation = EvaluationSet.against(manifest, lambda _: {"segmentation": raw["reference"]}, Images(4, (6, 8)))
    scores = evaluation.score(lambda _: {"segmentation": raw["variant"]})

    agree = (raw["reference"].argmax(1) == raw["variant"].argmax(1)).mean()
    assert scores.result()["segmentation"]["PAcc"] == pytest.approx(agree)


def test_probabilities_of_the_reference_become_decisions_to_agree_with() -> None:
    tasks = (Binary("edge"), Classification("gender", ("female", "male")))
    manifest = Manifest(tasks=tasks, size_hw=(1, 4))
    raw = {"edge": np.float32([[[[-1, 2, 3, -4]]]]), "gender": np.float32([[0.1, 0.2]])}

    evaluation = EvaluationSet.against(manifest, lambda _: raw, Images(1, (1, 4)))
    scores = evaluation.score(lambda _: {"edge": raw["edge"] * [1, -1, 1, 1], "gender": -raw["gender"]})

    assert scores.result()["edge"]["IoU"] == 0.5
    assert scores.result()["gender"]["accuracy"] == 0


def test_the_first_samples_are_a_set_and_a_limit_of_their_own(handmade: Callable[..., Any]) -> None:
    model = handmade()
    labelled = samples(model.manifest.tasks)

    with open_engine(model.path, threads=1) as engine:
        for evaluation in (
            EvaluationSet.labelled_data(engine.manifest, labelled),
            EvaluationSet.against(engine.manifest, engine.infer, Images(5)),
        ):
            variant = rougher(engine.infer, 0.3)
            first = evaluation.first(2)
            scored, limited = first.score(variant), evaluation.score(variant, limit=2)
            assert (len(first), first.names) == (2, evaluation.names[:2])
            assert first.fingerprint != evaluation.fingerprint
            assert evaluation.first(99) is evaluation
            for scores in (limited, evaluation.score(variant).first(2)):
                check_equal(scores.result(), scored.result())
            with pytest.raises(InputError, match="nothing to score: the first 0 samples of 5"):
                evaluation.score(variant, limit=0)
        only = EvaluationSet.labelled_data(engine.manifest, labelled, limit=2)

    assert only.fingerprint == EvaluationSet.labelled_data(model.manifest, labelled).first(2).fingerprint


def test_the_fingerprint_tells_images_truths_and_their_order_apart(handmade: Callable[..., Any]) -> None:
    manifest = handmade().manifest
    dataset = samples(manifest.tasks, count=3)
    first, second, third = dataset.samples
    image, labels = second.image.copy(), second.targets["segmentation"].copy()
    image[3, 4, 1] ^= 1
    labels[3, 4] = 0 if labels[3, 4] else 1

    def fingerprint(*kept: Sample, **options: Any) -> str:
        return EvaluationSet.labelled_data(manifest, Samples(dataset.tasks, kept), **options).fingerprint

    found = [
        fingerprint(first, second, third),
        fingerprint(first, third, second),
        fingerprint(first, replace(second, image=image), third),
        fingerprint(first, replace(second, targets={**second.targets, "segmentation": labels}), third),
        fingerprint(first, second, third, fit="stretch"),
    ]
    assert len(set(found)) == 5
    assert found[0] == fingerprint(first, replace(second, name="renamed"), third)


def test_without_labels_the_fingerprint_is_of_the_images_whatever_the_reference_says(
    handmade: Callable[..., Any],
) -> None:
    model = handmade()
    with open_engine(model.path, threads=1) as engine:
        infers = engine.infer, rougher(engine.infer, 0.3)
        one, other = (EvaluationSet.against(engine.manifest, infer, Images(3)) for infer in infers)
        elsewhere = EvaluationSet.against(engine.manifest, engine.infer, Images(3, seed=4))

    assert one.fingerprint == other.fingerprint != elsewhere.fingerprint


def test_the_worst_samples_are_those_that_lose_most_and_only_those_that_lose() -> None:
    tasks = (Age(), Segmentation(classes=CLASSES))

    def scores(errors: list[float], hits: list[int]) -> SampleScores:
        ages, parts = [], []
        for error, hit in zip(errors, hits, strict=True):
            metric = tasks[0].metric()
            metric.update(np.float32(30 + error), np.float32(30))
            ages.append(metric.state())
            metric = tasks[1].metric()
            truth = np.full((1, 10), 255 if hit < 0 else 1, np.uint8)
            metric.update(np.uint8([[1] * max(hit, 0) + [0] * (10 - max(hit, 0))]), truth)
            parts.append(metric.state())
        return SampleScores(tasks, {"age": np.stack(ages), "segmentation": np.stack(parts)})

    before = scores([1, 1, 1, 1, 1], [10, 10, 10, 10, -1])
    after = scores([1, 4, 0, 9, 2], [7, 10, 2, 9, -1])

    assert before.worst(after, "age", "MAE", 2) == [3, 1]
    assert before.worst(after, "age", "MAE", 99) == [3, 1, 4]
    assert before.worst(after, "segmentation", "PAcc", 99) == [2, 0, 3]  # the last has nothing labelled
    with pytest.raises(ConfigError, match="Did you mean 'MAE'"):
        before.worst(after, "age", "MAEE", 1)
    with pytest.raises(ConfigError, match="task: 'ages' is unknown"):
        before.per_sample("ages", "MAE")


def test_a_sample_can_be_looked_at_alone(handmade: Callable[..., Any]) -> None:
    model = handmade(batch=2)
    with open_engine(model.path, threads=1) as engine:
        labelled = EvaluationSet.labelled_data(engine.manifest, samples(model.manifest.tasks))
        against = EvaluationSet.against(engine.manifest, engine.infer, Images(5))
        looks = [evaluation.look(engine.infer, 3) for evaluation in (labelled, against)]

    assert [look.sample.name for look in looks] == ["s3", "frame3"]
    np.testing.assert_array_equal(looks[1].sample.image, list(Images(5))[3])
    np.testing.assert_array_equal(looks[1].decoded()["segmentation"], looks[1].sample.targets["segmentation"])
    assert looks[0].decoded()["segmentation"].shape == (19, 31)


def test_progress_is_told_of_every_sample(handmade: Callable[..., Any]) -> None:
    told: list[int] = []
    with open_engine(handmade(batch=2).path, threads=1) as engine:
        evaluation = EvaluationSet.against(engine.manifest, engine.infer, Images(5), progress=told.append)
        assert sum(told) == 5
        evaluation.score(engine.infer, limit=3, progress=told.append)

    assert sum(told) == 8


def test_no_images_and_missing_outputs_are_refused(handmade: Callable[..., Any]) -> None:
    manifest = Manifest(tasks=(Depth(),), size_hw=(16, 24))

    with pytest.raises(InputError, match="no images were given"):
        EvaluationSet.against(manifest, lambda _: {}, Images(0))
    with pytest.raises(InputError, match="no output 'depth'; it returned depths"):
        EvaluationSet.against(manifest, lambda _: {"depths": np.zeros((1, 1, 4, 6))}, Images(1))
    with pytest.raises(InputError, match="nothing to score"):
        EvaluationSet.labelled_data(handmade().manifest, samples(handmade().manifest.tasks, count=0))


def test_samples_are_read_one_pass_at_a_time(handmade: Callable[..., Any]) -> None:
    model = handmade()
    read: list[int] = []

    class Watched(Samples):
        def __getitem__(self, index: int) -> Sample:
            read.append(index)
            return self.samples[index]

    made = samples(model.manifest.tasks)
    evaluation = EvaluationSet.labelled_data(model.manifest, Watched(made.tasks, made.samples))
    seen: list[list[int]] = []

    def infer(images: Any) -> Mapping[str, Array]:
        seen.append(list(read))
        return {name: value.astype(np.float32) for name, value in model.expected(images).items()}

    evaluation.score(infer)

    assert seen == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]]
