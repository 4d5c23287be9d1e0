"""Asking a library in a process of its own: one that crashes, hangs or is missing is an answer like any other."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROBES = Path(__file__).with_name("probes.py")
LIMIT_S = 20.0  # a first import of PyTorch from a slow disk takes half of it
# Folders whose paths are the same on every machine; any other path could name a person.
PUBLIC = ("/usr", "/lib", "/lib64", "/etc", "/dev", "/proc", "/sys", "/opt")


@dataclass(frozen=True)
class Answer:
    """What a probe found.

    Attributes:
        values: its answer; empty where there is none.
        problem: why there is none although the package is installed, a sentence without its end; "" otherwise.
        missing: the package is not installed.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    missing: bool = False

    @property
    def ok(self) -> bool:
        return not self.problem and not self.missing

    def get(self, key: str) -> Any:
        """One of the values; None where there is none of that name."""
        return self.values.get(key)


def ask(probe: str, *words: str, limit_s: float = LIMIT_S, script: Path = PROBES) -> Answer:
    """Run a probe of `probes.py`; never raises.

    Args:
        probe: key of `probes.PROBES`.
        words: its arguments.
        limit_s: after which it is ended and counts as hanging.
        script: another file of probes.
    """
    # A probe leaves nothing behind, not even compiled files.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        process = subprocess.Popen(
            [sys.executable, str(script), probe, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        return Answer(problem=f"no process could be started: {error.strerror}")
    try:
        output, noise = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        _end(process)
        return Answer(problem=f"gave no answer within {limit_s:g} s and was ended")
    except BaseException:  # Ctrl-C
        _end(process)
        raise
    return _read(process.returncode, output, noise)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it with all that it started."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # one that the kernel holds, in a driver that hangs, cannot be ended
        process.wait(timeout=1.0)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _read(status: int, output: bytes, noise: bytes) -> Answer:
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return Answer(problem=f"crashed its process ({name}){_last(noise)}")
    try:
        found = json.loads(output)
    except ValueError:
        return Answer(problem=f"ended its process with status {status}{_last(noise)}")
    if "missing" in found:
        return Answer(missing=True)
    if "problem" in found:
        return Answer(problem=tidy(str(found["problem"])))
    return Answer(values=found["values"])


def _last(noise: bytes) -> str:
    lines: Sequence[str] = noise.decode(errors="replace").strip().splitlines()
    return f": {tidy(lines[-1])}" if lines else ""


def tidy(text: str, longest: int = 300) -> str:
    """One line, without a path that may name a person: of such a path only the file's name stays."""

    def shorter(match: re.Match[str]) -> str:
        path = match.group()
        public = any(path == folder or path.startswith(f"{folder}/") for folder in PUBLIC)
        return path if public else ".../" + path.rstrip("/").rpartition("/")[2]

    line = " ".join(text.split())
    line = re.sub(r"(?<![\w.])(?:/[^\s/:'\"(),;]+){2,}/?", shorter, line)
    return line if len(line) <= longest else line[: longest - 3] + "..."
