"""summary.html: a whole training on one page that needs nothing else."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from nddr_deploy.engines.machine import describe_machine
from nddr_deploy.evaluate.comparison import Comparison
from nddr_deploy.files import finished_file
from nddr_deploy.page.document import document
from nddr_deploy.page.elements import count, pairs, section
from nddr_deploy.page.figures import value_text
from nddr_deploy.page.lines import Line, line_chart
from nddr_deploy.page.markup import Html, table, tag, together
from nddr_deploy.page.panels import beside, legend, panel
from nddr_deploy.tasks.base import Task
from nddr_deploy.training.config import TrainConfig
from nddr_deploy.training.config_file import changed_settings, config_to_dict
from nddr_deploy.training.history import History
from nddr_deploy.training.state import Training

FEW = 30  # points of a curve, each of which is marked


@dataclass(frozen=True)
class Summary:
    """Writes the page of a run from its tables, as often as it is wanted.

    Attributes:
        config: of the run.
        training: its network, and the step and the best validation so far.
        learn, held_out: samples to learn from, and to validate on.
    """

    config: TrainConfig
    training: Training
    learn: int
    held_out: int

    @property
    def folder(self) -> Path:
        return Path(self.config.output)

    def write(self, comparisons: Sequence[Comparison], ended: str = "") -> None:
        """Write `summary.html` into the folder of the run.

        Args:
            comparisons: the validation samples to show.
            ended: why the run ended before its last step, if it did.
        """
        page = self.render(comparisons, ended)
        with finished_file(self.folder / "summary.html", flushed=False) as new:
            new.write_text(page, encoding="utf-8")

    def render(self, comparisons: Sequence[Comparison], ended: str = "") -> str:
        """The page."""
        history = History.read(self.folder, self.config.batch_size)
        name = self.folder.resolve().name
        return document(
            f"{name}: training",
            self._title(name),
            self._result(history, ended),
            self._facts(history),
            self._metrics(history),
            self._losses(history),
            self._validations(history),
            _coupling(history, self._tasks),
            _samples(comparisons, self._tasks),
            self._settings(),
            self._next_steps(),
            tag("footer", f"After step {self.training.step}. Written by nddr-deploy {version('nddr-deploy')}."),
        )

    @property
    def _tasks(self) -> Sequence[Task]:
        tasks: Sequence[Task] = self.training.about["tasks"]
        return tasks

    @property
    def _finished(self) -> bool:
        return self.training.step == self.config.steps

    def _title(self, name: str) -> Html:
        network = self.config.network.describe()
        about = f"{network}, for {', '.join(task.name for task in self._tasks)}."
        return tag("header", tag("p", "Training", class_="over"), tag("h1", name), tag("p", about, class_="soft"))

    def _result(self, history: History, ended: str) -> Html:
        step, steps = self.training.step, self.config.steps
        if self._finished:
            title, kind = f"Finished after {count(steps, 'step')}", "met"
        elif ended:
            title, kind = f"Ended after step {step} of {steps}", "missed"
        else:
            title, kind = f"Step {step} of {steps}", "none"
        items = [tag("li", ended)] if ended and not self._finished else []
        for task in self._tasks:
            points = history.validations(task, task.headline)
            if points:
                items.append(
                    tag("li", tag("strong", task.name), f" {task.headline} {_text(task, task.headline, points[-1][1])}")
                )
        return tag("section", tag("h2", title), tag("ul", *items) if items else None, class_=f"verdict {kind}")

    def _facts(self, history: History) -> Html:
        seconds = history.training_s()
        network, device = self.training.network, self.training.accelerator.device
        weights = sum(parameter.numel() for parameter in network.parameters())
        images = self.training.step * self.config.batch_size
        processes = self.training.processes.count
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
        facts = [
            ("Training time", clock_text(seconds), "validation and saving left out"),
            ("Speed", f"{images / seconds:.1f} images/s" if seconds else "–", f"{images:,} images seen"),
            ("Waiting for data", f"{history.waiting_share():.0%}", "of the training time"),
            ("Weights", f"{weights:,}", f"{self.learn:,} samples, {self.held_out:,} to validate"),
            ("Trained on", where, count(processes, "process") if processes == 1 else f"{processes} processes"),
        ]
        items = [tag("div", tag("dt", name), tag("dd", value, tag("small", more))) for name, value, more in facts]
        return tag("dl", *items, class_="facts")

    def _metrics(self, history: History) -> Html | None:
        rows: list[tuple[str, ...]] = []
        last = 0.0
        chosen = self.training.best_step
        for task in self._tasks:
            for metric in task.metrics:
                points = history.validations(task, metric)
                best = history.best(task, metric)
                if not points:
                    continue
                last, value = points[-1]
                kept = dict(points).get(chosen)
                rows.append(
                    (
                        task.name,
                        tag("strong", metric) if metric == task.headline else metric,
                        _text(task, metric, value),
                        "–" if kept is None else _text(task, metric, kept),
                        "–" if best is None else _text(task, metric, best[1]),
                        "–" if best is None else f"{best[0]:g}",
                    )
                )
        if not rows:
            return None
        head = ("Head", "Metric", f"Last (step {last:g})", f"best.pt (step {chosen})", "Best of all", "at step")
        shown = "all" if self.config.eval_limit is None else f"the first {self.config.eval_limit:,}"
        split = self.config.data.val
        about = f"On {shown} of the {self.held_out:,} samples of the split {split}. Bold: the headline metric."
        return section("Metrics", about, table("Metrics of every head", head, rows, numbers=(2, 3, 4, 5)))

    def _losses(self, history: History) -> Html | None:
        charts = [
            line_chart("Weighted sum of losses", [Line("loss", history.curve("loss"))]),
            *(
                line_chart(f"Loss of {task.name}", [Line("loss", history.curve(f"loss/{task.name}"), place + 1)])
                for place, task in enumerate(self._tasks)
            ),
            line_chart("Learning rate", [Line("rate", history.curve("lr"), 7)]),
        ]
        factors = [
            Line(task.name, history.curve(f"factor/{task.name}"), place + 1) for place, task in enumerate(self._tasks)
        ]
        if self.config.loss.weighting != "fixed":
            charts.append(line_chart("Factors of the losses", factors))
        return _charts("Losses", "Means over each log interval, by step.", charts)

    def _validations(self, history: History) -> Html | None:
        charts = []
        for place, task in enumerate(self._tasks):
            for metric in task.metrics:
                points = history.validations(task, metric)
                unit = task.metrics[metric].unit
                charts.append(
                    line_chart(
                        f"{task.name}: {metric}",
                        [Line(metric, points, place + 1)],
                        value=lambda value, unit=unit: value_text(value, unit),  # type: ignore[misc]
                        dots=len(points) <= FEW,
                    )
                )
        return _charts("Validation", "By step.", charts)

    def _settings(self) -> Html:
        defaults = config_to_dict(TrainConfig())
        changed = changed_settings(self.config)
        changed.pop("output", None)
        rows = [(tag("code", key), _yaml(value), _yaml(usual)) for key, value, usual in _leaves(changed, defaults)]
        counts = self.training.network.parameter_counts()
        machine = describe_machine()
        about = pairs(
            ("Network", self.config.network.describe()),
            ("Weights", ", ".join(f"{part} {number:,}" for part, number in counts.items())),
            ("Machine", f"{machine.cpu}, {count(machine.cores, 'core')}, {machine.system}"),
            ("Software", f"Python {machine.python}, PyTorch {torch.__version__}"),
        )
        head = ("Setting", "Here", "Default")
        shown = table("Settings that differ from the defaults", head, rows, sentences=(1, 2))
        return section("Settings", "Those that differ from the defaults; config.yaml has all.", about, shown)

    def _next_steps(self) -> Html:
        folder, data = self.folder, self.config.data
        options = {**data.options, **data.val_options}
        words = [f"--option {key}={_word(value)}" for key, value in options.items() if key != "remember"]
        model = folder / ("ckpt.pt" if self._finished else "best.pt")
        commands = [] if self._finished else [f"nddr-train {_word(folder / 'config.yaml')} --resume"]
        commands += [
            " ".join([f"nddr-eval {_word(model)} --data {data.name} --split {_word(data.val)}", *words]),
            f"nddr-export {_word(model)} --output {_word(folder / 'model.onnx')}",
            f"nddr-inspect {_word(model)}",
        ]
        if self.config.tensorboard:
            commands.append(f"tensorboard --logdir {_word(folder / 'tensorboard')}")
        return section("How to go on", None, tag("ul", *(tag("li", tag("code", line)) for line in commands)))


def clock_text(seconds: float) -> str:
    """`0:02:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _coupling(history: History, tasks: Sequence[Task]) -> Html | None:
    """What each task takes from the others, over time and at last."""
    shares = history.shares()
    if not shares:
        return None
    layers = list(dict.fromkeys(layer for layer, _, _ in shares))
    charts, rows = [], []
    names = list(dict.fromkeys(stream for _, _, stream in shares))
    for task in dict.fromkeys(task for _, task, _ in shares):
        lines = []
        for place, layer in enumerate(layers):
            own = shares.get((layer, task, task), [])
            lines.append(Line(layer, [(step, 1 - share) for step, share in own], place))
        charts.append(line_chart(f"{task} takes from others", lines, value=_percent, bounds=(0.0, 1.0)))
        for layer in layers:
            last = [shares[layer, task, name][-1][1] if (layer, task, name) in shares else None for name in names]
            if any(value is not None for value in last):
                rows.append((layer, task, *("–" if value is None else _percent(value) for value in last)))
    rows.sort(key=lambda row: layers.index(row[0]))
    about = (
        "Per fusion layer, the share of what a task's stream goes on with that comes from the streams of others: norms "
        "of the weights, each times the scale of the values that it meets on the samples below, as nddr-inspect says "
        "of the exported model."
    )
    columns = range(2, 2 + len(names))
    head = ("Layer", "Task", *(f"from {name}" for name in names))
    return section(
        "What tasks share",
        about,
        tag("div", *charts, class_="charts"),
        tag("h3", "At last"),
        table("Shares of every stream", head, rows, numbers=tuple(columns)),
    )


def _samples(comparisons: Sequence[Comparison], tasks: Sequence[Task]) -> Html | None:
    if not comparisons:
        return None
    parts: list[Html] = []
    for task in tasks:
        if task.head == "dense" and task.legend():
            parts.append(together((tag("strong", task.name), legend(task.legend()))))
    for each in comparisons:
        said = f": {'; '.join(each.words)}" if each.words else ""
        panels = [
            panel(view.picture, view.title, f"{each.name}, {view.title}", smooth=view.smooth) for view in each.views
        ]
        caption = tag("figcaption", tag("strong", each.name), said)
        parts.append(tag("figure", caption, beside(panels), class_="worst"))
    return section("Validation samples", "What the heads make of them, beside the truth.", *parts)


def _charts(title: str, about: str, charts: Sequence[Html | None]) -> Html | None:
    return section(title, about, tag("div", *charts, class_="charts")) if any(charts) else None


def _text(task: Task, metric: str, value: float) -> str:
    return value_text(value if value == value else None, task.metrics[metric].unit)


def _percent(share: float) -> str:
    return "–" if share != share else f"{share:.0%}" if round(share, 3) == round(share, 2) else f"{share:.1%}"


def _leaves(changed: Mapping[str, Any], defaults: Mapping[str, Any], before: str = "") -> list[tuple[str, Any, Any]]:
    """(key, value, default) of every setting; options count as one."""
    found: list[tuple[str, Any, Any]] = []
    for key, value in changed.items():
        usual = defaults.get(key)
        if isinstance(value, Mapping) and isinstance(usual, Mapping) and usual:
            found += _leaves(value, usual, f"{before}{key}.")
        else:
            found.append((before + key, value, usual))
    return found


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("...\n").strip()


def _word(value: Any) -> str:
    return shlex.quote(
        value if isinstance(value, str) else str(value) if isinstance(value, Path) else json.dumps(value)
    )
