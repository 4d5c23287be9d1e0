"""The whole road in one script: train, export, score, run on a video, measure. `make demo` calls it.

Every step is one function of nddr_deploy, and one command; the script prints both the command and what came out.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from nddr_deploy import export_checkpoint, infer, open_dataset, open_engine, run_benchmark, score
from nddr_deploy.command import run_command
from nddr_deploy.data.base import Dataset
from nddr_deploy.data.rooms import render_walkthrough
from nddr_deploy.engines.base import Engine
from nddr_deploy.evaluate.comparison import compare
from nddr_deploy.evaluate.decode import decode_outputs
from nddr_deploy.evaluate.pixel_baseline import pixel_baseline
from nddr_deploy.files import finished_file
from nddr_deploy.preprocess import Fit
from nddr_deploy.training.config_file import read_config

console = Console(width=None if sys.stdout.isatty() else 110)
Scores = Mapping[str, Mapping[str, float]]


def demo(config: Path, output: Path, overrides: Sequence[str], unseen: int, seconds: int) -> None:
    """Leave the demo's files in `output`."""
    output.mkdir(parents=True, exist_ok=True)
    checkpoint, model = output / "ckpt.pt", output / "model.onnx"
    video, overlay = output / "walkthrough.mp4", output / "overlay.mp4"

    command = ["nddr-train", str(config), *overrides, "--output", str(output / "training"), "--overwrite"]
    with step("Train a network on synthetic rooms", shlex.join(command)):
        settings = read_config(config, overrides)
        trained = subprocess.run([sys.executable, "-m", "nddr_deploy.training", *command[1:]])
        if trained.returncode:
            raise SystemExit(trained.returncode)
        shutil.copyfile(output / "training" / "ckpt.pt", checkpoint)

    with step("Export it, and compare with PyTorch", f"nddr-export {checkpoint} --output {model}"):
        exported = export_checkpoint(checkpoint, model, report=output / "parity.json")
        console.print(exported.text(), highlight=False, soft_wrap=True)

    options = {**settings.data.options, "tasks": [task.name for task in exported.manifest.tasks]}
    test = open_dataset(settings.data.name, "test", **{**options, "count": unseen})
    command = f"nddr-eval {model} --data {settings.data.name} --split test"
    with step("Score it on rooms that it has never seen", command):
        with open_engine(model) as engine:
            scores = score(engine, test, progress=True)
            draw_comparison(engine, test, output / "overlay.png")
        with open_engine(checkpoint) as engine:
            reference = score(engine, test, progress=True)
        learn = open_dataset(settings.data.name, "train", **{**options, **settings.data.train_options})
        segmentation = next(task for task in exported.manifest.tasks if task.kind == "segmentation")
        baseline = pixel_baseline(learn, test, segmentation, limit=600)
        write_json(
            output / "metrics.json",
            {
                "data": f"{settings.data.name}, test split, {len(test)} unseen samples",
                "classes": segmentation.channels,
                "onnx": scores,
                "torch": reference,
                "pixel_classifier": {segmentation.name: baseline},
            },
        )

    command = f"nddr-infer --engine {model} --input {video} --output {overlay} --layout tiles"
    with step("Run it on a walk through another unseen room", command):
        render_walkthrough(video, seed=7, frames=seconds * 20, rate=20, size_hw=(360, 480))
        report = infer(model, video, overlay, layout="tiles")
        console.print(report.text(), highlight=False, soft_wrap=True)

    with step("Measure it", f"nddr-bench --engine {model} --checkpoint {checkpoint} --input {video}"):
        measured = run_benchmark(
            model, checkpoint=checkpoint, input=str(video), rounds=3, seconds_per_case=3, progress=True
        )
        write_json(output / "benchmark.json", measured.to_dict())

    print_report(output, scores, reference, baseline, exported.parity.to_dict(), measured.to_dict())


@contextmanager
def step(title: str, command: str) -> Iterator[None]:
    """Name a step, the command that does the same, and the time that it took."""
    console.rule(f"[bold]{title}", align="left")
    console.print(f"$ {command}", style="dim", highlight=False, soft_wrap=True)
    began = time.monotonic()
    yield
    console.print(f"({time.monotonic() - began:.0f} s)", style="dim", highlight=False)


def draw_comparison(engine: Engine, test: Dataset, path: Path, rows: int = 6) -> None:
    """A picture of unseen samples: the image, then each head's prediction beside the truth."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    tasks = engine.manifest.tasks
    columns = 1 + 2 * len(tasks)
    height, width = test[0].image.shape[:2]
    figure = Figure(figsize=(2.2 * columns, 2.2 * rows * height / width + 1.0), layout="compressed")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for row, index in zip(axes, np.linspace(0, len(test) - 1, rows).astype(int), strict=True):
        sample = test[int(index)]
        fit = Fit.of((height, width), engine.manifest.size_hw)
        outputs = engine.infer(fit.apply(sample.image, engine.manifest.preprocess.mean_pixel)[None])
        decoded = decode_outputs(outputs, 0, engine.manifest, fit)
        for axis, view in zip(row, compare(sample, decoded, tasks).views, strict=True):
            axis.imshow(view.picture)
            axis.set_axis_off()
            if axis in axes[0]:
                axis.set_title(view.title.replace(", ", "\n"), fontsize=10)
    legend = [row for task in tasks if task.kind == "segmentation" for row in task.legend()]
    handles = [Patch(color=np.asarray(colour) / 255, label=text) for text, colour in legend]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 2 * columns), frameon=False)
    with finished_file(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def print_report(
    output: Path,
    scores: Scores,
    reference: Scores,
    baseline: Mapping[str, float],
    parity: Mapping[str, Any],
    measured: Mapping[str, Any],
) -> None:
    """Three short tables and where to look."""
    console.rule("[bold]Report", align="left")
    table = Table("head", "metric on unseen rooms", title="How good", title_justify="left")
    for name in ("PyTorch", "exported", "colour + position only"):
        table.add_column(name, justify="right")
    for head, metrics in scores.items():
        for metric, value in metrics.items():
            alone = baseline.get(metric) if head == "segmentation" else None
            cells = [reference[head][metric], value, alone]
            table.add_row(head, metric, *("" if cell is None else f"{cell:.3f}" for cell in cells))
    console.print(table)

    table = Table("head", title="Exported model against PyTorch", title_justify="left")
    for name in ("largest difference", "of the output's range", "verdict"):
        table.add_column(name, justify="right")
    for head in parity["heads"]:
        verdict = "equal" if head["passed"] else "DIFFERS"
        table.add_row(head["task"], f"{head['max_abs']:.1e}", f"{head['relative']:.1e}", verdict)
    console.print(table)

    table = Table("runtime", title="How fast", title_justify="left")
    for name in ("1 thread, ms of CPU", "times PyTorch", "all cores, ms", "frames/s, end to end"):
        table.add_column(name, justify="right")
    for row in measured["rows"]:
        alone, cores, whole = row["one_thread"], row["all_cores"], row["end_to_end"]
        table.add_row(
            row["label"],
            f"{alone['cpu_s']['p50'] * 1e3:.1f}",
            f"{alone['speedup']['median']:.2f}",
            f"{cores['wall_s']['p50'] * 1e3:.1f}",
            f"{whole['frames_per_s']['median']:.0f}" if whole else "",
        )
    console.print(table)
    for case, reason in measured["not_run"].items():
        console.print(f"not run: {case}: {reason}", style="dim", highlight=False)
    console.print(f"\nLook at {output / 'overlay.mp4'} and {output / 'overlay.png'}.", highlight=False, soft_wrap=True)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    with finished_file(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1, default=float) + "\n")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config",
        type=Path,
        default=Path(os.path.relpath(Path(__file__).with_name("demo.yaml"))),
        help="what to train",
    )
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="folder for the results (%(default)s)")
    parser.add_argument("--unseen", type=int, default=200, help="how many unseen rooms to score on (%(default)s)")
    parser.add_argument("--seconds", type=int, default=12, help="length of the video (%(default)s s)")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of the training to change")
    arguments = parser.parse_intermixed_args(argv)
    demo(arguments.config, arguments.output, arguments.settings, arguments.unseen, arguments.seconds)
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
