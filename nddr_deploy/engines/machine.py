"""The machine that models run on: what may be used of it, and what it is able to do."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nddr_deploy.errors import ConfigError

# Flags of /proc/cpuinfo that decide how fast a precision is: avx2 and avx512f for fp32, the others for what they name.
SPEED_FLAGS = (
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_bf16", "amx_fp16", "amx_int8"),
)
SPEED_FLAGS_ARM = ("asimd", "asimddp", "bf16", "i8mm", "sve")


@dataclass(frozen=True)
class Machine:
    """What figures were measured on.

    Attributes:
        cpu: the processor's name.
        cores: physical cores that this process may use.
        memory_bytes: of the whole machine.
        flags: the instruction sets among `SPEED_FLAGS` that it has.
        system: operating system and architecture.
        python: version.
    """

    cpu: str
    cores: int
    memory_bytes: int
    flags: tuple[str, ...]
    system: str
    python: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def describe_machine() -> Machine:
    """This machine. Nothing in it names a user, a host or a path."""
    import psutil

    info = _cpuinfo()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return Machine(
        cpu=info.get("model name") or platform.processor() or platform.machine(),
        cores=available_cores(),
        memory_bytes=psutil.virtual_memory().total,
        flags=tuple(flag for flag in (*SPEED_FLAGS, *SPEED_FLAGS_ARM) if flag in flags),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
    )


def default_threads() -> int:
    """Threads of an engine that was not told: the environment variable NDDR_THREADS, else `available_cores()`.

    Raises:
        ConfigError: NDDR_THREADS is no whole number from 1.
    """
    text = os.environ.get("NDDR_THREADS", "")
    if not text:
        return available_cores()
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"NDDR_THREADS: got {text!r}; expected a whole number from 1.")
    return int(text)


def available_cores(system: Path = Path("/sys")) -> int:
    """Physical cores that this process may use: its affinity, less twin hyper-threads, within the container's quota.

    More threads than that halve the speed of a network: twins share one multiplier, and a quota stops all threads at
    once.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = set()
    for cpu in allowed:
        try:
            twins = (system / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
        except OSError:
            twins = str(cpu)  # not Linux, or hidden: every logical processor counts
        cores.add(twins)
    return max(1, min(len(cores), _quota(system)))


def _quota(system: Path) -> int:
    """Whole cores that control groups (version 2) grant, rounded up; as good as endless where there is no limit."""
    try:
        quota, period = (system / "fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return 1 << 30
    return 1 << 30 if quota == "max" else math.ceil(int(quota) / int(period))


def _cpuinfo() -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo; empty elsewhere than on Linux."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
