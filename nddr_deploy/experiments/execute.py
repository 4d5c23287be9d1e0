"""Train what a plan asks for, one run after another; what is finished is skipped, what was stopped goes on."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from nddr_deploy.data import open_dataset
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.machine import describe_machine
from nddr_deploy.errors import DivergedError, InputError, ModelFileError
from nddr_deploy.evaluate.score import Scores, score
from nddr_deploy.experiments.plan import Run
from nddr_deploy.experiments.results import Result, Results, made_folder
from nddr_deploy.experiments.spec import merged
from nddr_deploy.experiments.timed import console_of, read_spent, train_timed
from nddr_deploy.files import finished_file
from nddr_deploy.training.config import TrainConfig
from nddr_deploy.training.config_file import changed_settings, config_from_dict, config_to_yaml
from nddr_deploy.training.folder import RunFolder
from nddr_deploy.training.stop import StopSignals

WAIT_S = 2.0  # between looks at runs that another process trains
POLL_S = 0.2  # between looks at Ctrl-C, while several processes train


@dataclass(frozen=True)
class Workshop:
    """Where and how runs are trained.

    Attributes:
        runs: folder with one folder per run.
        results: where finished ones are noted, and looked up.
        processes: that train one run together; 1 trains in this process.
        device: in place of "auto".
        console: where one line per run goes.
    """

    runs: Path
    results: Results
    processes: int
    device: str
    console: Console

    def folder(self, run: Run) -> Path:
        return self.runs / run.key

    def checkpoint(self, run: Run) -> Path:
        return RunFolder(self.folder(run)).finished


def execute(runs: Sequence[Run], shop: Workshop) -> list[Result]:
    """The results of all runs, in their order. Several of these may work on one folder at the same time.

    Raises:
        NddrError: settings, data or files are wrong. A training whose loss becomes NaN is a result,
            and what starts from it is one that failed, too.
        KeyboardInterrupt: stopped; the next call goes on.
    """
    todo = _missing(runs, shop)
    total, waiting = len(todo), False
    while todo:
        for run in todo:
            if not all(shop.checkpoint(start).exists() or _failed(start, shop) for start in run.starts.values()):
                continue
            with _claimed(shop.folder(run)) as mine:
                if mine:
                    if run in _missing(runs, shop):  # another process may have finished it meanwhile
                        _run(run, shop, f"{total - len(todo) + 1}/{total}")
                    waiting = False
                    break
        else:
            if not waiting:
                shop.console.print("Waiting for runs that another process trains.", highlight=False)
            waiting = True
            time.sleep(WAIT_S)
        still = {run.digest for run in _missing(runs, shop)}
        todo = [run for run in todo if run.digest in still]
    found = [shop.results.find(run) for run in runs]
    return [result for result in found if result is not None]


def _missing(runs: Sequence[Run], shop: Workshop) -> list[Run]:
    """The runs to train, each after what it starts from: those without a result, and starts whose weights are gone."""
    wanted = {run.digest: run for run in runs if shop.results.find(run) is None}
    starts = [
        start
        for run in wanted.values()
        for start in run.starts.values()
        if not (shop.checkpoint(start).exists() or _failed(start, shop))
    ]
    return list({run.digest: run for run in (*starts, *wanted.values())}.values())


def _failed(run: Run, shop: Workshop) -> bool:
    """Whether its training was tried and failed: with the same settings it would fail again."""
    result = shop.results.find(run)
    return result is not None and bool(result.failed)


@contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Whether the run is this process's now. The claim ends with the process, however that ends."""
    made_folder(folder, "Choose another --output.")
    with open(folder / ".claim", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _run(run: Run, shop: Workshop, number: str) -> None:
    config = _config(run, shop)
    shop.console.print(f"[{number}] {run.key}", end="", highlight=False, markup=False)
    began = time.monotonic()
    scores: Scores = {}
    failed = next(
        (f"{start.key}, which it starts from, failed." for start in run.starts.values() if _failed(start, shop)), ""
    )
    if not failed:
        try:
            _train(config, shop)
            scores = _score(run, shop, config)
        except DivergedError as error:
            failed = str(error)
        except BaseException as error:
            shop.console.print()  # the line of this run ends here
            if isinstance(error, ModelFileError) and str(shop.runs) in str(error):
                raise ModelFileError(f"{error} Or remove that folder: its network is then trained again.") from error
            raise
    headline = "; ".join(f"{task} " + _first(metrics) for task, metrics in scores.items()) or f"failed: {failed}"
    shop.console.print(f": {headline} ({time.monotonic() - began:.0f} s)", highlight=False, markup=False)
    if shop.results.find(run) is None:
        shop.results.write(run, _result(run, config, shop, scores, failed))


def _config(run: Run, shop: Workshop) -> TrainConfig:
    starts = {name: str(shop.checkpoint(start)) for name, start in run.starts.items()}
    start: dict[str, Any] = starts if "streams" in starts else {"single_task": starts} if starts else {}
    settings = merged(run.settings, {"output": str(shop.folder(run)), "device": shop.device})
    return config_from_dict(merged(settings, {"start": start}) if start else settings)


def _train(config: TrainConfig, shop: Workshop) -> None:
    """To the last step, from the first one or from where it was stopped; what that took is noted in the folder.

    Raises:
        DivergedError: a loss or a weight became infinite or NaN.
    """
    folder = RunFolder(Path(config.output))
    if folder.finished.exists():
        return
    resume = folder.last.exists()
    if shop.processes == 1:
        train_timed(config, resume=resume, console=console_of(terminal=shop.console.is_terminal))
        return
    path = folder.path / "settings.yaml"
    with finished_file(path) as new:
        new.write_text(config_to_yaml(config), encoding="utf-8")
    words = ["-m", "nddr_deploy.experiments.timed", str(path), "--processes", str(shop.processes)]
    status = _wait_for([sys.executable, *words, *(["--resume"] if resume else [])])
    failed = read_spent(folder.path).failed
    if status and failed:
        raise DivergedError(failed)
    if status:
        raise InputError(f"The training in {folder.path} ended with status {status}; its reason is above.")


def _wait_for(words: Sequence[str]) -> int:
    """A program's exit status. Ctrl-C and SIGTERM reach it once, through here, and it has time to save its state.

    Raises:
        KeyboardInterrupt: after it has ended.
    """
    # A session of its own: a terminal's Ctrl-C would reach it, too, and the second one would cut its saving short.
    with StopSignals() as stop, subprocess.Popen(words, start_new_session=True) as program:
        told = False
        while program.poll() is None:
            if stop.received and not told:
                program.send_signal(signal.SIGINT)
                told = True
            with suppress(subprocess.TimeoutExpired):
                program.wait(POLL_S)
    if stop.received:
        raise KeyboardInterrupt
    return program.returncode


def _score(run: Run, shop: Workshop, config: TrainConfig) -> Scores:
    """The finished network on the judged split, in fp32."""
    data = config.data
    options = {**data.options, **run.judged_on.get("options", {}), "tasks": list(config.tasks)}
    dataset = open_dataset(data.name, run.judged_on["split"], **options)
    with open_engine(shop.checkpoint(run)) as engine:
        return score(engine, dataset)


def _result(run: Run, config: TrainConfig, shop: Workshop, scores: Scores, failed: str) -> Result:
    spent = read_spent(shop.folder(run))
    machine = describe_machine().to_dict()
    gpu = config.device != "cpu" and torch.cuda.is_available()
    machine["device"] = torch.cuda.get_device_name() if gpu else "cpu"
    machine["threads"] = config.threads or torch.get_num_threads()
    machine["processes"] = shop.processes
    settings = changed_settings(config)
    settings.pop("output", None)
    settings.pop("start", None)
    settings.get("data", {}).get("options", {}).pop("path", None)
    return Result(
        digest=run.digest,
        name=run.name,
        seed=run.seed,
        settings=settings,
        starts={task: start.digest for task, start in run.starts.items()},
        metrics=scores,
        failed=failed,
        steps=config.steps,
        seconds=round(spent.seconds, 3),
        images_per_s=round(spent.images_per_s, 1),
        machine=machine,
        versions={"nddr-deploy": version("nddr-deploy"), "commit": _commit(), "torch": str(torch.__version__)},
        date=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%MZ"),
        judged_on=run.judged_on,
    )


def _commit() -> str:
    """Of the source, where it is a git checkout."""
    found = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() if found.returncode == 0 else ""


def _first(metrics: dict[str, float]) -> str:
    name, value = next(iter(metrics.items()))
    return f"{name} {value:.4g}"
