"""The paper's network at full width, measured: two Deeplab-VGG-16 streams, 40 classes and surface normals, 321x321.

Speed does not depend on what a network has learned, so the weights are random. Options after the folder go to
nddr-bench, as in:

    python examples/bench_deeplab_vgg16.py --output runs/deeplab_vgg16
    python examples/bench_deeplab_vgg16.py --output runs/deeplab_vgg16 --rounds 3 --against torch,openvino:bf16
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from nddr_deploy import NetworkConfig, build_network, export_checkpoint, save_checkpoint
from nddr_deploy.benchmark.__main__ import main as nddr_bench
from nddr_deploy.checkpoint import Checkpoint
from nddr_deploy.command import parse_size, run_command
from nddr_deploy.preprocess import Preprocess
from nddr_deploy.tasks import Normals, Segmentation

AGAINST = "torch,onnxruntime,openvino,openvino:bf16"


def write_model(output: Path, size_hw: tuple[int, int], width: float) -> tuple[Path, Path]:
    """A checkpoint of random weights and its export; the same bytes every time."""
    output.mkdir(parents=True, exist_ok=True)
    checkpoint, model = output / "ckpt.pt", output / "model.onnx"
    torch.manual_seed(0)
    config = NetworkConfig(
        backbone="vgg16_deeplab", backbone_options={"width": width}, fusion="nddr", head_options={"width": width}
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
    written = ["--json", str(arguments.output / "benchmark.json"), "--plot", str(arguments.output / "benchmark.png")]
    named = ["--engine", str(model), "--checkpoint", str(checkpoint), "--against", AGAINST]
    return nddr_bench([*named, *written, *options])


if __name__ == "__main__":
    raise SystemExit(run_command(_main))
