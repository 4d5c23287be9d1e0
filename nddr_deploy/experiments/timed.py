"""One training, and a note in its folder of what it took: stopped and gone on with, it is timed as a whole.

`python -m nddr_deploy.experiments.timed SETTINGS.yaml [--resume]` is what each of several processes runs;
with `--processes N` it starts them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path

from rich.console import Console

from nddr_deploy.command import Parser, run_command
from nddr_deploy.errors import DivergedError, OtherProcessError
from nddr_deploy.files import finished_file
from nddr_deploy.training.config import TrainConfig
from nddr_deploy.training.config_file import read_config
from nddr_deploy.training.run import train

NOTE = "spent.json"


@dataclass(frozen=True)
class Spent:
    """What a run's training took.

    Attributes:
        seconds: of all its parts; those that were stopped count with the time to begin. A killed part is not known.
        images_per_s: of the last part.
        failed: why it cannot go on, as a loss that became NaN; "" where it can.
    """

    seconds: float = 0.0
    images_per_s: float = 0.0
    failed: str = ""


def read_spent(folder: Path) -> Spent:
    """The note of a run; nothing spent where there is none that can be read: it is for people only."""
    try:
        return Spent(**json.loads((folder / NOTE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Spent()


def train_timed(config: TrainConfig, *, resume: bool, console: Console) -> None:
    """`train`, with a note of what was spent, however it ends. Of several processes, each calls this.

    Raises:
        NddrError, KeyboardInterrupt: as `train`.
    """
    folder = Path(config.output)
    before = read_spent(folder).seconds if resume else 0.0
    began, rate, failed, writes = time.monotonic(), 0.0, "", os.environ.get("RANK", "0") == "0"
    seconds = None
    try:
        report = train(config, resume=resume, console=console)
        seconds, rate = report.seconds, report.images_per_s
    except DivergedError as error:
        failed, writes = str(error), True  # one process raises it
        raise
    finally:
        if writes and folder.is_dir():
            spent = before + (time.monotonic() - began if seconds is None else seconds)
            with finished_file(folder / NOTE) as new:
                new.write_text(json.dumps(asdict(Spent(round(spent, 3), rate, failed))), encoding="utf-8")


def console_of(*, terminal: bool) -> Console:
    """Progress and tables of a training are for a terminal; elsewhere there is one line per run."""
    return Console() if terminal else Console(file=StringIO())


def _launch(processes: int, words: Sequence[str]) -> int:
    """The exit status of several processes that train together: PyTorch's launcher, without its tracebacks."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    try:
        main(["--standalone", "--nproc-per-node", str(processes), "-m", "nddr_deploy.experiments.timed", *words])
    except SignalException:  # the processes got the signal from it, and have ended
        return 128 + signal.SIGINT
    except ChildFailedError:  # of which that process says the reason
        return 1
    return 0


def _main(argv: Sequence[str]) -> int:
    parser = Parser("nddr_deploy.experiments.timed", "Train one network of a table.")
    parser.add_argument("settings", metavar="SETTINGS.yaml")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="that train it together (default: 1)")
    arguments = parser.parse_args(argv)
    if arguments.processes > 1:
        return _launch(arguments.processes, [arguments.settings, *(["--resume"] if arguments.resume else [])])
    console = console_of(terminal=sys.stdout.isatty())
    try:
        train_timed(read_config(arguments.settings), resume=arguments.resume, console=console)
    except OtherProcessError as error:  # which that process says
        return error.exit_status
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(_main))
