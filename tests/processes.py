"""What tests ask of processes that they did not start themselves."""

from __future__ import annotations

import time

import psutil


def ended(pid: int, within_s: float = 10.0) -> bool:
    """Whether a process ends within a time: killed is not dead at once. One that does not is killed, not left behind.

    A process that ended but that nobody has waited for (a zombie) has ended.
    """
    end = time.monotonic() + within_s
    try:
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > end:
                process.kill()
                return False
            time.sleep(0.01)
    except psutil.NoSuchProcess:
        pass
    return True
