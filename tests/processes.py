"""What tests ask of processes that they did not start themselves."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def ended(pid: int, within_s: float = 10.0) -> bool:
    """Whether a process ends within a time: killed is not dead at once. One that does not is killed, not left behind.

    A process that ended but that nobody has waited for (a zombie) has ended.
    """
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    return False
