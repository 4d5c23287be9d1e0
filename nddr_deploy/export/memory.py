"""Memory that is free but still held, handed back to the system."""

from __future__ import annotations

import ctypes
import gc


def give_back_memory() -> None:
    """What was freed since the start, to the system, so that the peak of what follows is lower.

    The exporter leaves cycles of objects, and glibc keeps freed blocks of some hundred megabytes for later use.
    Other C libraries have no such call; there nothing is done.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
