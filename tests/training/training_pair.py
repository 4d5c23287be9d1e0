"""Two processes that train `TinyScenes` together on this CPU, without a launcher; a list of trainings, one by one."""

from __future__ import annotations

import gc
import io
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from training_fakes import TinyScenes, open_tiny

PROCESSES = 2
Outcome = dict[str, str]


def train_together(folder: Path, trainings: list[dict[str, Any]]) -> list[tuple[Outcome, Outcome]]:
    """Run trainings on two processes.

    Args:
        folder: for the files in which they are told what to do and say how it went.
        trainings: "config"; "resume"; "interrupt": (process, n), which gets Ctrl-C at its n-th training sample.

    Returns:
        For each training what became of it in each process: "error", a class or "", its "sentence", what was "printed",
        and how many "threads" of gloo were left.
    """
    plan = folder / "plan.json"
    ports = free_ports(len(trainings))
    plan.write_text(json.dumps([{**training, "port": port} for training, port in zip(trainings, ports, strict=True)]))
    rank_files = [folder / f"process-{rank}.json" for rank in range(PROCESSES)]
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, str(plan), str(rank_files[rank])],
            env=dict(
                os.environ,
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                WORLD_SIZE=str(PROCESSES),
                LOCAL_WORLD_SIZE=str(PROCESSES),
                MASTER_ADDR="127.0.0.1",
                OMP_NUM_THREADS="1",
            ),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(PROCESSES)
    ]
    try:
        for worker in workers:
            _, errors = worker.communicate(timeout=300)
            assert worker.returncode == 0, errors
    finally:
        for worker in workers:
            worker.kill()
    return list(zip(*(json.loads(file.read_text()) for file in rank_files), strict=True))


def free_ports(count: int) -> list[int]:
    """Below those that Linux gives to whoever asks for any port, for they are used only later."""
    return list(itertools.islice(filter(is_free, random.sample(range(20_000, 32_000), 200)), count))


def is_free(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


def work(plan: Path, outcome: Path) -> None:
    """One of the two processes."""
    import torch.distributed

    import nddr_deploy.training.run as run
    from nddr_deploy.errors import NddrError
    from nddr_deploy.training.config_file import config_from_dict

    run.open_dataset = open_tiny
    said = []
    for training in json.loads(plan.read_text()):
        gc.collect()  # what is left of the training before
        os.environ["MASTER_PORT"] = str(training["port"])
        process, count = training.get("interrupt", (None, 0))
        if process == int(os.environ["RANK"]):
            interrupt_at(count)
        printed, error, sentence = io.StringIO(), "", ""
        try:
            config = config_from_dict(training["config"])
            run.train(config, resume=training.get("resume", False), console=Console(file=printed))
        except (NddrError, KeyboardInterrupt) as met:
            error, sentence = type(met).__name__, str(met)
        left = sum(name.read_text().startswith("pt_gloo") for name in Path("/proc/self/task").glob("*/comm"))
        if torch.distributed.is_initialized():  # a command would end here
            torch.distributed.destroy_process_group()
        said.append({"error": error, "sentence": sentence, "printed": printed.getvalue(), "threads": str(left)})
    outcome.write_text(json.dumps(said))


def interrupt_at(count: int) -> None:
    """Ctrl-C for this process while it reads its `count`-th training sample."""
    read, seen = TinyScenes.__getitem__, []

    def interrupted(self: TinyScenes, index: int) -> Any:
        if self.first == 0:
            seen.append(index)
            if len(seen) == count:
                signal.raise_signal(signal.SIGINT)
        return read(self, index)

    TinyScenes.__getitem__ = interrupted  # type: ignore[method-assign]


if __name__ == "__main__":
    work(Path(sys.argv[1]), Path(sys.argv[2]))
