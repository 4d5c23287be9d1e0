"""The interpreter, the processor and the disk."""

from __future__ import annotations

from nddr_deploy.doctor.facts import Facts
from nddr_deploy.doctor.finding import MISSING, NOT_HERE, OK, PROBLEM, Finding

OLDEST_PYTHON = (3, 10)
GIB = 2**30
# A TensorRT build with its temporary files and a training with its checkpoints take a few.
ENOUGH_DISK = 5 * GIB
# Docker gives 64 MiB, and worker processes that load pictures die when it is full.
ENOUGH_SHM = 1 * GIB


def examine(facts: Facts) -> list[Finding]:
    return [_version(facts), _environment(facts), *_machine(facts), _disk(facts), _shm(facts)]


def _version(facts: Facts) -> Finding:
    text = ".".join(map(str, facts.python.version))
    if facts.python.version < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return Finding(
            "Python and machine", "Python", PROBLEM, f"{text}; needs {oldest} or newer",
            ("Install a newer Python, and nddr-deploy in an environment of it: python3.12 -m venv .venv",),
        )  # fmt: skip
    return Finding("Python and machine", "Python", OK, text)


def _environment(facts: Facts) -> Finding:
    if not facts.python.environment:
        found = "none: packages go to this Python itself"
    elif facts.python.sees_system:
        found = "a virtual environment that also sees the system's packages"
    else:
        found = "a virtual environment of its own"
    return Finding("Python and machine", "environment", OK, found)


def _machine(facts: Facts) -> list[Finding]:
    machine = facts.machine
    if not machine.ok:
        return [
            Finding(
                "Python and machine", "processor", PROBLEM, f"cannot be described: {machine.problem}",
                ("pip install psutil",),
            )
        ]  # fmt: skip
    flags = " ".join(machine.get("flags") or ()) or "none of those that make networks fast"
    return [
        Finding("Python and machine", "processor", OK, f"{machine.get('cpu')}, {_cores(machine.get('cores'))} to use"),
        Finding("Python and machine", "instructions", OK, flags),
        Finding("Python and machine", "memory", OK, f"{machine.get('memory_bytes') / GIB:.0f} GiB"),
        Finding("Python and machine", "system", OK, machine.get("system") + _where(facts)),
    ]


def _cores(count: int) -> str:
    return f"{count} core" if count == 1 else f"{count} cores"


def _where(facts: Facts) -> str:
    if facts.system.tegra:
        return ", an NVIDIA Jetson"
    if facts.system.wsl:
        return ", inside Windows (WSL)"
    return ", in a container" if facts.system.container else ""


def _disk(facts: Facts) -> Finding:
    free = facts.system.free_bytes
    if free is None:
        return Finding("Python and machine", "disk", NOT_HERE, "its free space is not told")
    if free < ENOUGH_DISK:
        return Finding(
            "Python and machine", "disk", MISSING,
            f"{free / GIB:.1f} GiB free for the current folder; a build or a training takes up to {ENOUGH_DISK // GIB}",
            ("Free some space, or work on another disk.",),
        )  # fmt: skip
    return Finding("Python and machine", "disk", OK, f"{free / GIB:.0f} GiB free for the current folder")


def _shm(facts: Facts) -> Finding:
    size = facts.system.shm_bytes
    if size is None:
        return Finding("Python and machine", "shared memory", NOT_HERE, "there is no /dev/shm")
    if size < ENOUGH_SHM:
        do = (
            "Start the container with docker run --shm-size=2g."
            if facts.system.container
            else "sudo mount -o remount,size=2G /dev/shm",
            "Or train with workers=0.",
        )
        found = f"{size / 2**20:.0f} MiB in /dev/shm; nddr-train with workers needs about {ENOUGH_SHM // GIB} GiB"
        return Finding("Python and machine", "shared memory", MISSING, found, do)
    return Finding("Python and machine", "shared memory", OK, f"{size / GIB:.0f} GiB in /dev/shm")
