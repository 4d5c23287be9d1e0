"""What nddr-train's loop costs: against a plain loop of PyTorch, stage by stage, and how long it waits for data.

    python benchmarks/train.py                                     # examples/: pixels and demo, on a CPU
    python benchmarks/train.py --cases paper --device cuda --amp bf16 --backbone vgg16_deeplab --width 1 \\
        --size 321x321 --batch 10 --workers 0,4,8                  # a GPU
    python benchmarks/train.py --cases paper --device cuda --workers 0,4,8 --data folder --path data/nyuv2
    python benchmarks/train.py --dry-run                           # does it run? In seconds; the figures mean nothing

Both loops take turns in short rounds on the same prepared batches. Ratios of processor time (with one thread: of all
work) are what to look at on a machine that does other things, too; the file says how busy it was.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

from train_steps import CHECKOUT  # first: it makes the package of this checkout importable

from nddr_deploy.command import parse_list, parse_size, run_command
from nddr_deploy.engines.machine import describe_machine
from nddr_deploy.errors import ConfigError
from nddr_deploy.files import check_place, finished_file


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One case: the loops in turns, the stages, and what happens between steps."""
    from train_steps.cases import BATCHES, case_config
    from train_steps.loop import Loop, in_training
    from train_steps.plain import PlainLoop
    from train_steps.rounds import compare, losses_of_both
    from train_steps.stages import apart, stages

    from nddr_deploy.training.config_file import changed_settings

    with tempfile.TemporaryDirectory() as folder:
        config = case_config(name, arguments.changes, Path(folder), threads=arguments.threads)

        def work(loop: Loop) -> dict[str, Any]:
            tasks, network = loop.training.about["tasks"], loop.training.network
            plain = PlainLoop(config, tasks, network.state_dict(), loop.device)
            batches = list(islice(loop.loader, BATCHES))
            first = losses_of_both(loop, plain, batches[0])
            return {
                "tasks": [task.name for task in tasks],
                "weights": sum(parameter.numel() for parameter in network.parameters()),
                "first_loss": dict(zip(("nddr-train", "plain"), first, strict=True)),
                **compare(loop, plain, batches, rounds=arguments.rounds, steps=arguments.steps),
                "stages": stages(loop, batches, steps=arguments.steps * max(2, arguments.rounds // 3)),
                "between_steps_s": apart(loop),
            }

        found = in_training(config, work)
        settings = changed_settings(config)
        del settings["output"]
        if arguments.path is not None:  # folders of this machine are nobody's business
            settings["data"]["options"]["path"] = Path(arguments.path).name
        return {"settings": settings, **found}


def waiting(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """How much of the time nddr-train waits for data, by number of workers."""
    from train_steps.cases import case_config
    from train_steps.loop import Loop, in_training

    found = {}
    for workers in arguments.workers:
        with tempfile.TemporaryDirectory() as folder:
            config = case_config(name, arguments.changes, Path(folder), threads=arguments.threads, workers=workers)

            def work(loop: Loop) -> dict[str, float]:
                loop.run(loop.loader, 8)  # workers start, and fill their queues
                return loop.run(loop.loader, arguments.steps * max(2, arguments.rounds // 3)).speed()

            found[str(workers)] = {key: round(value, 4) for key, value in in_training(config, work).items()}
    return found


def summary(found: dict[str, Any]) -> str:
    """What one reads first."""
    lines = []
    for clock in ("processor", "wall"):
        ours, plain = (found["images_per_s"][loop][clock]["median"] for loop in ("nddr-train", "plain"))
        ratio = found["ratio"][clock]
        lines.append(
            f"by {clock} time: {ours:.1f} images/s, plain {plain:.1f}: {ratio['median']:.3f} "
            f"(half of the rounds {ratio['quarter']:.3f} to {ratio['three_quarters']:.3f})"
        )
    step = found["stages"]["step"]["wall_ms"]
    shares = (f"{stage} {times['wall_ms'] / step:.1%}" for stage, times in found["stages"].items() if stage != "step")
    lines.append(f"of a step of {step:.1f} ms: {', '.join(shares)}")
    for workers, speed in found["by_workers"].items():
        lines.append(
            f"{workers} workers: {speed['images_per_s']:.1f} images/s, {speed['waiting_share']:.1%} waiting for data"
        )
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=parse_list, default=("pixels", "demo"), help="pixels, demo, paper")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default: %(default)s)")
    parser.add_argument("--amp", choices=("none", "bf16"), help="in place of the case's")
    parser.add_argument("--backbone", help="in place of the case's")
    parser.add_argument("--width", type=float, help="of the backbone, in place of the case's")
    parser.add_argument("--size", type=parse_size, metavar="HxW", help="of images, in place of the case's")
    parser.add_argument("--batch", type=int, metavar="N", help="images per step, in place of the case's")
    parser.add_argument("--compile", action="store_true", help="both loops with torch.compile")
    parser.add_argument("--ema", type=float, metavar="DECAY", help="what averaged weights cost: see its stage")
    parser.add_argument("--data", choices=("rooms", "folder"), default="rooms", help="(default: %(default)s)")
    parser.add_argument("--path", metavar="DIR", help="of --data folder")
    parser.add_argument("--workers", type=parse_counts, default=(0,), metavar="N,N", help="(default: 0)")
    parser.add_argument("--rounds", type=int, default=20, help="of each loop (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=8, help="in a round (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on the CPU (default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="default: benchmarks/results/DATE-train.json")
    parser.add_argument("--dry-run", action="store_true", help="a tiny case, and no file unless --output names one")
    return parser


def parse_counts(text: str) -> tuple[int, ...]:
    """`"0,2"` -> (0, 2)."""
    parts = parse_list(text)
    if not parts or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} are no counts. Write whole numbers, as in 0,2.")
    return tuple(int(part) for part in parts)


def _main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as in nddr-train
    if min(arguments.rounds, arguments.steps) < 1:
        raise ConfigError(f"--rounds and --steps must be at least 1; got {arguments.rounds} and {arguments.steps}.")
    path = arguments.output
    if arguments.dry_run:
        arguments.cases, arguments.rounds, arguments.steps = ("tiny",), 2, 2
    elif path is None:
        path = CHECKOUT / "benchmarks" / "results" / f"{date.today().isoformat()}-train.json"
    if path is not None:
        check_place(path)
    import torch
    from train_steps.cases import Changes, case_config

    arguments.changes = Changes(
        **{
            name: getattr(arguments, name) for name in ("device", "amp", "backbone", "width", "batch", "compile", "ema")
        },
        size_hw=arguments.size,
        data=arguments.data,
        path=arguments.path,
    )
    for name in arguments.cases:  # a wrong one is said before the first is measured
        case_config(name, arguments.changes, Path(), threads=arguments.threads)
    report: dict[str, Any] = {"date": date.today().isoformat(), "machine": describe_machine().to_dict()}
    report |= {"torch": torch.__version__, "threads": arguments.threads, "device": arguments.device}
    report |= {"load_average": {"before": os.getloadavg()[0]}, "cases": {}}
    for name in arguments.cases:
        print(f"== {name}", flush=True)
        found = measure(name, arguments)
        found["by_workers"] = waiting(name, arguments)
        report["cases"][name] = found
        if arguments.device == "cuda":
            report["gpu"] = torch.cuda.get_device_name()
        print(summary(found), flush=True)
        report["load_average"]["after"] = os.getloadavg()[0]
        if path is not None:  # after every case: the next may take long
            with finished_file(path) as temporary:
                temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            print(f"written: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(_main))
