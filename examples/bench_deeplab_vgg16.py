"""The paper's network at full width, measured: two Deeplab-VGG-16 streams, 40 classes and surface normals, 321x321.

Speed does not depend on what a network has learned, so the weights are random. Options after the folder go to
nddr-bench, as in:

    python examples/bench_deeplab_vgg16.py --output runs/deeplab_vgg16
    python examples/bench_deeplab_vgg16.py --output runs/deeplab_vgg16 --rounds 3 --against torch,openvino:bf16

Cases that this processor cannot run, such as bf16 on most, are left out and named, unless --against asks for them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nddr_deploy import NetworkConfig, build_network, export_checkpoint, save_checkpoint
from nddr_deploy.benchmark.__main__ import main as nddr_bench
from nddr_deploy.checkpoint import Checkpoint
from nddr_deploy.command import parse_size, run_command
from nddr_deploy.preprocess import Preprocess
from nddr_deploy.tasks import Normals, Segmentation

# Case -> how many times faster than PyTorch it should be, by processor time on one thread.
EXPECTED = {"onnxruntime fp32": 1.2, "openvino bf16": 2.3}


def write_model(output: Path, size_hw: tuple[int, int], width: float) -> tuple[Path, Path]:
    """A checkpoint of random weights and its export; the same bytes every time."""
    output.mkdir(parents=True, exist_ok=True)
    checkpoint, model = output / "ckpt.pt", output / "model.onnx"
    torch.manual_seed(0)
    config = NetworkConfig(
        backbone="vgg16_deeplab",
        backbone_options={"width": width, "pool_padding": "same"},
        fusion="nddr",
        head_options={"width": width},
    )
    tasks = (Segmentation(classes=tuple(f"class {index}" for index in range(40))), Normals())
    weights = build_network(config, tasks).state_dict()
    save_checkpoint(checkpoint, Checkpoint(config, tasks, Preprocess(), size_hw, weights))
    print(export_checkpoint(checkpoint, model).text())
    return checkpoint, model


def _main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/deeplab_vgg16"), help="folder (default: %(default)s)")
    parser.add_argument("--size", type=parse_size, default=(321, 321), metavar="HxW", help="pixels (default: 321x321)")
    parser.add_argument("--width", type=float, default=1.0, help="factor on all channels (default: 1, the paper's)")
    arguments, options = parser.parse_known_args(argv)
    checkpoint, model = write_model(arguments.output, arguments.size, arguments.width)
    measured = arguments.output / "benchmark.json"
    written = ["--json", str(measured), "--plot", str(arguments.output / "benchmark.png")]
    status = nddr_bench(["--engine", str(model), "--checkpoint", str(checkpoint), *options, *written])
    if status == 0:
        print_verdicts(json.loads(measured.read_text())["rows"])
    return status


def print_verdicts(rows: Sequence[Mapping[str, Any]]) -> None:
    """Which of the expected speed-ups over PyTorch were reached."""
    if rows[0]["label"] != "torch fp32":
        return
    for row in rows:
        if row["label"] in EXPECTED:
            found, expected = row["one_thread"]["speedup"], EXPECTED[row["label"]]
            verdict = "reached" if found["median"] >= expected else "NOT reached"
            spread = f"({found['min']:.2f}-{found['max']:.2f})"
            print(f"{row['label']}: {found['median']:.2f} {spread} times PyTorch; expected {expected}: {verdict}")


if __name__ == "__main__":
    raise SystemExit(run_command(_main))
