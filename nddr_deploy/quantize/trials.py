"""The variants of one model: each leaves other layers in float, all are judged on the same samples and remembered."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx

from nddr_deploy.errors import unknown_choice
from nddr_deploy.evaluate.sample_scores import Change, EvaluationSet, SampleScores, compare
from nddr_deploy.graph.calibration import Range
from nddr_deploy.graph.lint_rule import Target
from nddr_deploy.graph.quantize import QuantisedGraph, quantisable, quantize
from nddr_deploy.graph.statistics import Run
from nddr_deploy.quantize.cache import digest, kept, key_of

RESAMPLES = 500  # of a trial's interval, where one is asked for


class Trials:
    """Quantised variants of a model, told apart by the layers that stay in float.

    A trial's outcome is kept in memory and, under the content of the quantised graph and of everything else that it
    depends on, in a folder: a search that was stopped goes on where it was.

    Args:
        model: the float32 graph, as it is quantised: equalised, if it is.
        ranges: of the tensors in `graph.quantize.observed`, of this model.
        target: that it is quantised for.
        evaluation: what trials are judged on.
        run: loads a serialised model and returns what computes its outputs from images.
        fixed: layers that stay in float in every trial.
        reduce_range: as for `quantize`.
        sure: also measure intervals, which budgets that must hold surely are held against.
        folder: where outcomes are kept; None keeps them in memory only.
        runtime: what `run` runs models with, and on what: kept outcomes are those of the same one.
        reference: what computes the outputs that trials are compared with; None is `model` itself.
        run_reference: as `run`, for the reference; None is `run` itself.

    Attributes:
        layers: that may be quantised, in the graph's order, but for the fixed ones.
        judged: how many variants were really run; those found in the folder do not count.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        ranges: Mapping[str, Range],
        target: Target,
        evaluation: EvaluationSet,
        run: Run,
        *,
        fixed: Collection[str] = (),
        reduce_range: bool = False,
        sure: bool = False,
        folder: Path | None = None,
        runtime: str = "",
        reference: onnx.ModelProto | None = None,
        run_reference: Run | None = None,
    ) -> None:
        able = quantisable(model, target)
        self.model = model
        self.ranges = ranges
        self.target: Target = target
        self.evaluation = evaluation
        self.fixed = frozenset(fixed)
        self.layers = tuple(name for name in able if name not in self.fixed)
        self.judged = 0
        self._reduce_range = reduce_range
        self._run = run
        self._resamples = RESAMPLES if sure else 0
        self._folder = folder
        self._runtime = runtime
        self._reference = reference or model
        self._run_reference = run_reference or run
        self._baseline: SampleScores | None = None
        self._known: dict[frozenset[str], tuple[Change, ...]] = {}
        self._about: dict[str, Any] | None = None

    def graph(self, keep: Collection[str] = ()) -> QuantisedGraph:
        """The variant in which these layers, and the fixed ones, stay in float.

        Raises:
            ConfigError: there is no such layer.
        """
        for name in keep:
            if name not in self.layers:
                raise unknown_choice("keep", name, self.layers)
        return quantize(
            self.model, self.ranges, self.target, keep=self.fixed.union(keep), reduce_range=self._reduce_range
        )

    def baseline(self, progress: Callable[[int], None] | None = None) -> SampleScores:
        """What the float model achieves."""
        if self._baseline is None:
            infer = self._run_reference(self._reference.SerializeToString())
            self._baseline = self.evaluation.score(infer, progress=progress)
        return self._baseline

    def score(self, keep: Collection[str] = (), progress: Callable[[int], None] | None = None) -> SampleScores:
        """What a variant achieves, sample by sample."""
        return self._score(self.graph(keep).model, progress)

    def _score(self, model: onnx.ModelProto, progress: Callable[[int], None] | None = None) -> SampleScores:
        infer = self._run(model.SerializeToString())
        scores = self.evaluation.score(infer, progress=progress)
        self.judged += 1
        return scores

    def changes(self, keep: Iterable[str] = ()) -> tuple[Change, ...]:
        """Every metric of every task, float against a variant; measured once."""
        chosen = frozenset(keep)
        if chosen not in self._known:
            self._known[chosen] = self._remembered(chosen)
        return self._known[chosen]

    def _remembered(self, keep: frozenset[str]) -> tuple[Change, ...]:
        forms = {(task.name, metric): form for task in self.evaluation.tasks for metric, form in task.metrics.items()}
        model = self.graph(keep).model

        def measure() -> dict[str, Any]:
            found = compare(self.baseline(), self._score(model), self.evaluation.tasks, resamples=self._resamples)
            return {"changes": [[change.task, change.metric, *map(_plain, _values(change))] for change in found]}

        rows: list[Any] = kept(self._folder, self._key(model), measure).get("changes", [])
        if not _whole(rows, forms):
            rows = measure()["changes"]
        return tuple(Change(task, metric, forms[task, metric], *map(_number, values)) for task, metric, *values in rows)

    def _key(self, model: onnx.ModelProto) -> str:
        """Of everything that decides a variant's outcome; the quantised graph itself says what became of ranges and
        layers, by whichever version of the quantiser."""
        if self._about is None:
            manifest = self.evaluation.manifest.model_dump(
                mode="json", exclude={"hashes", "versions", "notes", "network"}
            )
            self._about = {
                "reference": digest(self._reference),
                "samples": [self.evaluation.fingerprint, len(self.evaluation), self.evaluation.labelled],
                "manifest": manifest,
                "resamples": self._resamples,
                "runtime": self._runtime,
            }
        return key_of(quantised=digest(model), **self._about)


def _values(change: Change) -> tuple[float, float, float, float]:
    return change.before, change.after, change.low, change.high


def _plain(value: Any) -> Any:
    """As JSON has it: None for what is no number."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _whole(rows: Any, forms: Collection[tuple[str, str]]) -> bool:
    """Whether an entry that was kept has what it should."""
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 6 for row in rows):
        return False
    numbers = all(value is None or type(value) in (int, float) for row in rows for value in row[2:])
    return numbers and [(row[0], row[1]) for row in rows] == list(forms)
