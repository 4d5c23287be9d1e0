"""One process per case, driven from here: thread pools, memory and processor time of engines stay apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from typing_extensions import Self

from nddr_deploy import errors
from nddr_deploy.errors import NddrError

GOODBYE_S = 10.0


class Worker:
    """A process that runs `benchmark.worker` and waits for orders: one JSON object a line, answered by another.

    It sleeps between orders, so that the threads of one engine never spin while another is measured.

    Args:
        name: of the case, for errors.
        threads: for every library that reads OMP_NUM_THREADS when it loads.
        environment: other variables of the process.
        python: the interpreter that it runs; None is this one. Another one must find this package, too.
    """

    def __init__(
        self, name: str, *, threads: int, environment: Mapping[str, str] | None = None, python: str | None = None
    ) -> None:
        self.name = name
        self._said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            [python or sys.executable, "-m", "nddr_deploy.benchmark.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "NDDR_THREADS": str(threads), **(environment or {})},
        )

    def ask(self, order: str, **values: Any) -> dict[str, Any]:
        """Send an order and wait for its answer.

        Raises:
            NddrError: of the kind that the worker met; what it says names no process.
        """
        try:
            self._send({"order": order, **values})
            line = self._process.stdout.readline() if self._process.stdout else ""
        except BrokenPipeError:
            line = ""
        if not line:
            raise NddrError(f"{self.name}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise getattr(errors, answer["kind"], NddrError)(answer["error"])
        return answer

    def close(self) -> None:
        if self._process.poll() is None:
            try:
                if self._process.stdin:
                    self._process.stdin.close()  # the worker ends at the end of its orders
                self._process.wait(GOODBYE_S)
            except (BrokenPipeError, subprocess.TimeoutExpired):
                self._process.kill()
                self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._said.close()

    def _send(self, message: dict[str, Any]) -> None:
        if self._process.stdin:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _last_words(self) -> str:
        status = self._process.wait()
        self._said.seek(0)
        lines = [line for line in self._said.read().splitlines() if line.strip()]
        reason = lines[-1] if lines else "it said nothing; a process that the system kills for memory does not"
        return f"its process ended with status {status} ({reason}). Run the case alone, or choose a smaller model."

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
