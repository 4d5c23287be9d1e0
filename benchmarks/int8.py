"""What int8 costs and gives, from training to the card: the figures that nddr-quantize is held to.

    python benchmarks/int8.py                          # everything; about an hour on two cores, half of it training
    python benchmarks/int8.py --only accuracy,speed    # some of it; what is there already is not made again
    python benchmarks/int8.py --pictures ../shared/data/nyuv2/rgb --video walk.mp4       # real ones, too

Steps: train (examples/rooms.yaml), accuracy (300 unseen rooms, three targets), budgets (one that plain int8 misses, one
that nothing meets), speed (the Deeplab-VGG-16 pair, one thread, processor time), real (calibrated on pictures, judged
on a video). Each leaves its figures in OUTPUT/int8.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from nddr_deploy import export_checkpoint, run_benchmark
from nddr_deploy.card.schema import Card
from nddr_deploy.command import parse_list, run_command
from nddr_deploy.engines.machine import describe_machine
from nddr_deploy.errors import BudgetError
from nddr_deploy.files import finished_file
from nddr_deploy.quantize.recipe import best_attempt, quantize_model

CONFIG = Path(__file__).parents[1] / "examples" / "rooms.yaml"
UNSEEN = 300
# What each head may lose, at the worse end of its 95 % interval.
PROMISED = ("segmentation.mIoU=-1%", "normals.mean_angle=+0.15", "depth.AbsRel=+1%")
LEAST_AGREEMENT = 0.985
CALIBRATION: dict[str, Any] = {"calibration": "rooms", "calibration_options": {"count": 256}}


@dataclass(frozen=True)
class Work:
    """Where things lie, and what was asked for."""

    output: Path
    pictures: str | None
    video: str | None

    @property
    def model(self) -> Path:
        return self.output / "rooms.onnx"


def train(work: Work) -> dict[str, Any]:
    """The network, and how long it took."""
    folder = work.output / "training"
    began = time.monotonic()
    command = [sys.executable, "-m", "nddr_deploy.training", str(CONFIG), "--output", str(folder), "--overwrite"]
    subprocess.run(command, check=True)
    seconds = time.monotonic() - began
    exported = export_checkpoint(folder / "ckpt.pt", work.model)
    return {"config": CONFIG.name, "seconds": round(seconds), "parity": exported.parity.to_dict()}


def accuracy(work: Work) -> dict[str, Any]:
    """Every target on unseen rooms: with labels, and as agreement with the float model."""
    judged: dict[str, Any] = {"split": "test", "options": {"count": UNSEEN}, "limit": UNSEEN, "progress": True}
    found: dict[str, Any] = {}
    for target in ("cpu", "tensorrt", "tensorrt8"):
        path = work.output / f"rooms.{target}.onnx"
        try:
            done = quantize_model(
                work.model, path, target=target, data="rooms", budgets=PROMISED, sure=True, **CALIBRATION, **judged
            )
            print(done.text())
            card = done.card
        except BudgetError as error:
            print(error)
            card = Card.model_validate_json(best_attempt(path).with_suffix(".card.json").read_bytes())
        agreement = quantize_model(
            work.model, work.output / f"agreement.{target}.onnx", target=target, images="rooms", **CALIBRATION, **judged
        )
        found[target] = {
            **summary(card),
            "argmax_agreement": headline(agreement.card, "segmentation", "PAcc"),
            "least_agreement": LEAST_AGREEMENT,
        }
    return found


def budgets(work: Work) -> dict[str, Any]:
    """A budget that plain int8 misses, and one that nothing meets."""
    judged: dict[str, Any] = {"images": "rooms", "split": "val", "options": {"count": 128}, "limit": 128}
    common: dict[str, Any] = {**CALIBRATION, **judged, "search_limit": 32, "progress": True}
    plain = quantize_model(work.model, work.output / "plain.onnx", **common)
    lost = 100 * (1 - headline(plain.card, "segmentation", "PAcc"))
    wanted = f"segmentation.PAcc=-{0.75 * lost:.2f}"
    mixed = quantize_model(
        work.model,
        work.output / "mixed.onnx",
        budgets=[wanted],
        sensitivity=work.output / "sensitivity",
        report=work.output / "mixed.json",
        **common,
    )
    print(mixed.text())
    found = {"plain_loss_points": lost, "met": {"budget": wanted, **summary(mixed.card)}}
    impossible = work.output / "impossible.onnx"
    try:
        quantize_model(work.model, impossible, budgets=["segmentation.PAcc=0"], max_trials=12, **common)
        found["impossible"] = "MET"
    except BudgetError as error:
        print(error)
        found["impossible"] = {
            "status": error.exit_status,
            "final_name_appeared": impossible.exists(),
            "best_attempt": best_attempt(impossible).name if best_attempt(impossible).exists() else None,
        }
    return found


def speed(work: Work) -> dict[str, Any]:
    """The paper's network at full width in one interleaved run, one thread by processor time."""
    sys.path.insert(0, str(CONFIG.parent))
    from bench_deeplab_vgg16 import write_model

    checkpoint, model = write_model(work.output / "deeplab_vgg16", (321, 321), 1.0)
    pictures = work.output / "noise"
    write_noise(pictures)
    int8 = model.with_name("model.int8.onnx")
    quantize_model(model, int8, calibration=str(pictures))
    report = run_benchmark(
        model,
        checkpoint=checkpoint,
        int8=int8,
        against=["torch", "onnxruntime", "onnxruntime:int8", "openvino", "openvino:int8"],
        rounds=5,
        seconds_per_case=10,
        progress=True,
    )
    return {"expected": {"onnxruntime int8": 4.0, "or openvino int8": 4.5}, **report.to_dict()}


def real(work: Work) -> dict[str, Any]:
    """Calibrated on real pictures; agreement with the float model on the frames of a video."""
    if not work.pictures or not work.video:
        return {"not_run": "no real pictures were given (--pictures, --video)"}
    done = quantize_model(
        work.model,
        work.output / "real.onnx",
        calibration=work.pictures,
        images=work.video,
        limit=200,
        report=work.output / "real.json",
        progress=True,
    )
    print(done.text())
    return summary(done.card)


STEPS: dict[str, Callable[[Work], dict[str, Any]]] = {
    "train": train,
    "accuracy": accuracy,
    "budgets": budgets,
    "speed": speed,
    "real": real,
}


def summary(card: Card) -> dict[str, Any]:
    """The figures of a card that a table needs."""
    kept = [layer.node for layer in card.layers if layer.reason == "the budgets need it"]
    return {
        "judged_on": card.evaluation.source if card.evaluation else None,
        "samples": card.evaluation.samples if card.evaluation else None,
        "calibrated_on": card.calibration.source if card.calibration else None,
        "layers": {name: sum(layer.precision == name for layer in card.layers) for name in ("int8", "fp16", "fp32")},
        "kept_for_the_budgets": kept,
        "met": card.met,
        "heads": [head.model_dump(mode="json") for head in card.heads],
        "search": card.search.model_dump(mode="json") if card.search else None,
    }


def headline(card: Card, task: str, metric: str) -> float:
    """A metric of the int8 model; without labels that is an agreement."""
    return next(head.after for head in card.heads if (head.task, head.metric) == (task, metric)) or 0.0


def write_noise(folder: Path) -> None:
    """Pictures for a network of random weights, which no real ones suit better."""
    from PIL import Image

    from nddr_deploy.evaluate.probe_images import probe_images

    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(probe_images((321, 321), 12)):
        Image.fromarray(picture).save(folder / f"{number:02}.png")


def _main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/int8"), help="folder (default: %(default)s)")
    parser.add_argument("--only", type=parse_list, default=tuple(STEPS), metavar="STEPS", help="default: all")
    parser.add_argument("--pictures", help="a folder of real pictures to calibrate on")
    parser.add_argument("--video", help="a real video to judge on")
    arguments = parser.parse_args(argv)
    arguments.output.mkdir(parents=True, exist_ok=True)
    work, path = Work(arguments.output, arguments.pictures, arguments.video), arguments.output / "int8.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for name in arguments.only:
        print(f"== {name}", flush=True)
        began = time.monotonic()
        found[name] = STEPS[name](work)
        found[name]["step_seconds"] = round(time.monotonic() - began)
        found["machine"], found["date"] = describe_machine().to_dict(), date.today().isoformat()
        with finished_file(path) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n")
    print(f"written: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(_main))
