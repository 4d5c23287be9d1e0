"""The command: does the steps that are not done yet, each in a process of its own, and writes the report."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from gpu_steps import CHECKOUT
from gpu_steps.plan import Step, steps
from gpu_steps.report import write_report
from gpu_steps.work import Settings, Work, write_json
from nddr_deploy.command import Parser, parse_list
from nddr_deploy.engines.cuda import require_gpu
from nddr_deploy.errors import ConfigError, InputError, MissingPackageError, NddrError, UnsupportedError, unknown_choice

MORE = 3  # exit status: call again
SCRIPT = CHECKOUT / "benchmarks" / "gpu.py"
TRT_RUNTIME = Path("~/trt-runtime/bin/trt-python")
IMPORTED = {  # by the steps of each interpreter
    "torch": "nddr_deploy.export.recipe, torch",
    "tensorrt": "cv2, av, matplotlib, onnxruntime.quantization, nddr_deploy.build.recipe, tensorrt",
}
DRY_SECONDS = 15  # that a step of small networks takes at most
DRY = {"size_hw": (96, 128), "width": 0.125, "calibration": 4, "evaluation": 2, "video_frames": 12}


def main(argv: Sequence[str], description: str) -> int:
    parser = _parser(description)
    given = parser.parse_args(argv)
    if given.step:
        return run_step(Work.open(given.work), given.step)
    if given.video and not given.video.is_file():
        raise InputError(f"--video {given.video} is no file. Give a video, or leave it out: one is rendered then.")
    if not given.dry_run:
        _require_gpu()
    work = Work.start(given.work, _settings(given))
    output = given.output or (work.folder / "report" if given.dry_run else CHECKOUT / "benchmarks" / "results")
    chosen = steps(given.dry_run)
    _check_names([*given.only, *given.redo], chosen)
    for step in chosen:
        if _named(step, given.redo):
            work.forget(step.name)
    environment = _environment(work)
    versions = {"with PyTorch": check_interpreter(work.settings.python_torch, "torch", environment)}
    if work.settings.python_trt != work.settings.python_torch or not given.dry_run:
        versions["with TensorRT"] = check_interpreter(work.settings.python_trt, "tensorrt", environment)
    write_json(work.path("versions.json"), versions)
    left = do_steps(work, chosen, given.only, given.seconds, environment)
    for path in write_report(work, chosen, output):
        print(f"wrote {path}")
    if left:
        print(f"{len(left)} steps are left, the next is {left[0].name}: call the same command again.")
        return MORE
    return 0


def do_steps(
    work: Work, chosen: Sequence[Step], only: Sequence[str], seconds: float | None, environment: dict[str, str]
) -> list[Step]:
    """Do what is not done, while there is time.

    Args:
        only: names, or beginnings of names, of the steps to do; empty is all.
        seconds: after which nothing more is begun that would hardly end in time, and what runs is stopped.

    Returns:
        The steps that were asked for and are left.

    Raises:
        NddrError: a step that needs no GPU failed.
    """
    begun = time.monotonic()
    wanted = [step for step in chosen if not only or _named(step, only)]
    did_any = False
    for place, step in enumerate(wanted):
        key = step.key(work)
        if work.is_done(step.name, key):
            continue
        remaining = None if seconds is None else seconds - (time.monotonic() - begun)
        expected = min(step.seconds, DRY_SECONDS) if work.settings.dry_run else step.seconds
        if remaining is not None and (remaining <= 0 or (did_any and remaining < expected)):
            return list(wanted[place:])
        did_any = True
        if not do_step(work, step, key, remaining, environment):
            return list(wanted[place:])
    return []


def do_step(work: Work, step: Step, key: str, remaining: float | None, environment: dict[str, str]) -> bool:
    """Whether it ended, well or not, before the time was up."""
    missing = next((name for name in step.needs if work.result(name) is None), None)
    if missing is not None and work.outcome(missing) is None:
        raise ConfigError(f"{step.name} needs {missing}, which was not done yet. Name it in --only, too.")
    if missing is not None:
        work.keep(step.name, key, seconds=0.0, refused=f"it needs {missing}, which did not succeed")
        print(f"{step.name}: not run: it needs {missing}")
        return True
    python = work.settings.python_torch if step.python == "torch" else work.settings.python_trt
    print(f"{step.name} ...", flush=True)
    begun = time.monotonic()
    command = [python, str(SCRIPT), "--work", str(work.folder.resolve()), "--step", step.name]
    with work.path("logs", f"{step.name}.txt").open("w+", errors="replace") as log:
        status = run_process(command, log, remaining, environment)
        if status is None:
            print(f"{step.name} was stopped: it takes longer than the {remaining:.0f} s that were left.")
            return False
        log.seek(0)
        said = [line for line in log.read().splitlines() if line.strip()]
    taken = time.monotonic() - begun
    if status != 0:
        reason = _reason(status, said)
        if not step.gpu:
            raise NddrError(f"{step.name}: {reason}")
        work.keep(step.name, key, seconds=taken, refused=reason)
        print(f"{step.name}: refused: {reason}")
    else:
        print(f"{step.name}: {taken:.0f} s")
    return True


def run_process(
    command: Sequence[str], log: IO[str], seconds: float | None, environment: Mapping[str, str]
) -> int | None:
    """Its exit status; None where it was stopped, with all that it had started, for it took longer than `seconds`.

    What a step leaves running would spoil the times that the next one measures.
    """
    process = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        preexec_fn=os.setpgrp,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run_step(work: Work, name: str) -> int:
    """One step, here; called by the command in the interpreter that the step needs."""
    step = next((step for step in steps(work.settings.dry_run) if step.name == name), None)
    if step is None:
        raise unknown_choice("step", name, [step.name for step in steps(work.settings.dry_run)])
    key = step.key(work)
    begun = time.monotonic()
    result, files = step.run(work)
    work.keep(step.name, key, seconds=time.monotonic() - begun, files=files, result=result)
    return 0


def check_interpreter(python: str, package: str, environment: dict[str, str]) -> dict[str, str]:
    """Its versions of the packages that figures depend on.

    Raises:
        ConfigError: it cannot be run.
        MissingPackageError: it has not the package, or lacks what this project itself needs.
    """
    option = "--python-torch" if package == "torch" else "--python-trt"
    code = (
        f"import json, numba, onnxruntime, onnx_graphsurgeon, nddr_deploy.benchmark.worker, {IMPORTED[package]}; "
        "from nddr_deploy.benchmark.cases import installed_versions; print(json.dumps(installed_versions()))"
    )
    try:
        asked = subprocess.run([python, "-c", code], cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    except OSError as error:
        raise ConfigError(f"{option} {python} cannot be run ({error.strerror}). Give a Python interpreter.") from error
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise MissingPackageError(
            f"{option} {python} cannot import what its steps need ({reason}). Install it there, or give another "
            "interpreter; benchmarks/results/README.md says how where there is no package registry."
        )
    found: dict[str, str] = json.loads(asked.stdout.splitlines()[-1])
    return found


def _require_gpu() -> None:
    try:
        require_gpu()
    except UnsupportedError as error:
        raise UnsupportedError(f"{error} What needs no GPU is done with --dry-run.") from error


def _settings(given: object) -> Settings:
    values = {**vars(given)}
    usual = DRY if values["dry_run"] else {}
    asked = {"rounds": values["rounds"], "seconds": values["seconds_per_turn"]}
    return Settings(
        dry_run=values["dry_run"],
        video=str(values["video"].resolve()) if values["video"] else None,
        python_torch=_absolute(values["python_torch"]),
        python_trt=_absolute(values["python_trt"] or _python_trt(values["dry_run"])),
        **{**usual, **{name: value for name, value in asked.items() if value is not None}},  # type: ignore[arg-type]
    )


def _absolute(python: str) -> str:
    """Steps run in another folder. Links are not followed: a virtual environment is known by its own."""
    return str(Path(python).expanduser().absolute()) if os.sep in python else python


def _python_trt(dry_run: bool) -> str:
    """This interpreter, if it has TensorRT (a dry run does without); else the one that unpack_tensorrt.sh makes."""
    from importlib.util import find_spec

    packed = TRT_RUNTIME.expanduser()
    here = dry_run or find_spec("tensorrt") is not None or not packed.is_file()
    return sys.executable if here else str(packed)


def _environment(work: Work) -> dict[str, str]:
    """For every step: this package is found without being installed, and compiled kernels stay in the run's folder.

    `trt-python` takes TRT_PYTHONPATH in place of PYTHONPATH.
    """
    site = _metadata(work)
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(work.path("inductor", "x").parent.resolve())}
    environment["TRITON_CACHE_DIR"] = str(work.path("triton", "x").parent.resolve())
    for variable in ("PYTHONPATH", "TRT_PYTHONPATH"):
        paths = [str(CHECKOUT), str(site.resolve()), *filter(None, [os.environ.get(variable)])]
        environment[variable] = os.pathsep.join(paths)
    return environment


def _metadata(work: Work) -> Path:
    """A folder that tells an interpreter the version of a package that it reads from the checkout."""
    found = re.search(r'^version = "([^"]+)"', (CHECKOUT / "pyproject.toml").read_text(), re.MULTILINE)
    version = found[1] if found else "0"
    path = work.path("site", f"nddr_deploy-{version}.dist-info", "METADATA")
    path.write_text(f"Metadata-Version: 2.1\nName: nddr-deploy\nVersion: {version}\n")
    return path.parents[1]


def _reason(status: int, said: Sequence[str]) -> str:
    """What a step that failed said last; the program's own sentence where it is one."""
    last = said[-1].removeprefix("error: ") if said else "it said nothing"
    own = bool(said) and said[-1].startswith("error: ")
    return last if own else f"its process ended with status {status} ({last})"


def _named(step: Step, names: Sequence[str]) -> bool:
    """Whether a name, or the beginning of one up to a dot, means this step."""
    return any(step.name == name or step.name.startswith(f"{name}.") for name in names)


def _check_names(names: Sequence[str], known: Sequence[Step]) -> None:
    for name in names:
        if not any(_named(step, [name]) for step in known):
            raise unknown_choice("step", name, [step.name for step in known])


def _parser(description: str) -> Parser:
    parser = Parser("benchmarks/gpu.py", description)
    add = parser.add_argument
    add("--work", type=Path, default=Path("runs/gpu"), metavar="DIR", help="where steps are kept (%(default)s)")
    add("--output", type=Path, metavar="DIR", help="for the JSON and the table (benchmarks/results)")
    add("--video", type=Path, metavar="FILE", help="the video; without it, one of the same length is rendered")
    add("--python-torch", default=sys.executable, metavar="FILE", help="an interpreter with PyTorch (this one)")
    add("--python-trt", metavar="FILE", help=f"one with TensorRT (this one if it has it, else {TRT_RUNTIME})")
    add("--seconds", type=float, metavar="S", help="stop in time before so many seconds are over")
    add("--only", type=parse_list, default=(), metavar="STEP,...", help="these steps alone: floor, build.deeplab, ...")
    add("--redo", type=parse_list, default=(), metavar="STEP,...", help="do these steps again")
    add("--rounds", type=int, metavar="N", help="how often contenders take turns (5)")
    add("--seconds-per-turn", type=float, metavar="S", help="of measuring, per contender, round and kind (1)")
    add("--dry-run", action="store_true", help="what needs no GPU, small")
    add("--step", metavar="NAME", help="do one step of --work here; the command calls itself so")
    return parser
