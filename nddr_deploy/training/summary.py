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
from nddr_deploy.page.markup import Html, table, tag
from nddr_deploy.tasks.base import Task
from nddr_deploy.training import summary_results
from nddr_deploy.training.config import TrainConfig
from nddr_deploy.training.config_file import changed_settings, config_to_dict
from nddr_deploy.training.folder import RunFolder
from nddr_deploy.training.history import History
from nddr_deploy.training.state import Training
from nddr_deploy.training.summary_results import metric_text


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
    def folder(self) -> RunFolder:
        return RunFolder(Path(self.config.output))

    def write(self, comparisons: Sequence[Comparison], ended: str = "") -> None:
        """Write `summary.html` into the folder of the run.

        Args:
            comparisons: the validation samples to show.
            ended: why the run ended before its last step, if it did.
        """
        page = self.render(comparisons, ended)
        with finished_file(self.folder.path / "summary.html", flushed=False) as new:
            new.write_text(page, encoding="utf-8")

    def render(self, comparisons: Sequence[Comparison], ended: str = "") -> str:
        """The page."""
        history = History.read(self.folder.path, self.config.batch_size)
        name, tasks = self.folder.path.resolve().name, self._tasks
        return document(
            f"{name}: training",
            self._title(name),
            self._result(history, ended),
            self._facts(history),
            summary_results.metrics(history, tasks, self.training.best_step, self._judged_on()),
            summary_results.losses(history, tasks, weighted=self.config.loss.weighting != "fixed"),
            summary_results.validations(history, tasks),
            summary_results.coupling(history),
            summary_results.samples(comparisons, tasks),
            self._settings(),
            self._next_steps(),
            tag("footer", f"After step {self.training.step}. Written by nddr-deploy {version('nddr-deploy')}."),
        )

    @property
    def _tasks(self) -> Sequence[Task]:
        tasks: Sequence[Task] = self.training.about["tasks"]
        return tasks

    def _judged_on(self) -> str:
        limit, split = self.config.eval_limit, self.config.data.val
        shown = "all" if limit is None or limit >= self.held_out else f"the first {limit:,} of the"
        return f"{shown} {self.held_out:,} samples of the split {split}"

    def _title(self, name: str) -> Html:
        network = self.config.network.describe()
        about = f"{network}, for {', '.join(task.name for task in self._tasks)}."
        return tag("header", tag("p", "Training", class_="over"), tag("h1", name), tag("p", about, class_="soft"))

    def _result(self, history: History, ended: str) -> Html:
        step, steps = self.training.step, self.config.steps
        if self.folder.finished.exists() and not ended:
            title, kind = f"Finished after {count(steps, 'step')}", "met"
        elif ended:
            title, kind = f"Ended after step {step} of {steps}", "missed"
        else:
            title, kind = f"Step {step} of {steps}", "none"
        items = [tag("li", ended)] if ended else []
        for task in self._tasks:
            points = history.validations(task, task.headline)
            if points:
                items.append(
                    tag(
                        "li",
                        tag("strong", task.name),
                        f" {task.headline} {metric_text(task, task.headline, points[-1][1])}",
                    )
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
            ("Waiting for data", f"{100 * history.waiting_share():.0f} %", "of the training time"),
            ("Weights", f"{weights:,}", f"{self.learn:,} samples, {self.held_out:,} to validate"),
            ("Trained on", where, count(processes, "process") if processes == 1 else f"{processes} processes"),
        ]
        items = [tag("div", tag("dt", name), tag("dd", value, tag("small", more))) for name, value, more in facts]
        return tag("dl", *items, class_="facts")

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
        folder, data = self.folder.path, self.config.data
        finished = self.folder.finished.exists()
        model = next(path for path in (self.folder.finished, self.folder.best, self.folder.last) if path.exists())
        options = {**data.options, **data.val_options}
        words = [f"--option {key}={_word(value)}" for key, value in options.items() if key != "remember"]
        commands = [] if finished else [f"nddr-train {_word(folder / 'config.yaml')} --resume"]
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
    if value in ({}, []):
        return "–"
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10_000)
    return text.strip().removesuffix("\n...")


def _word(value: Any) -> str:
    return shlex.quote(
        value if isinstance(value, str) else str(value) if isinstance(value, Path) else json.dumps(value)
    )
