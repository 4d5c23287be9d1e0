"""Everything that TensorRT engines are worth on this machine's GPU: one command, one JSON, one Markdown table.

    python benchmarks/gpu.py --video walk.mp4                 # on a machine with an NVIDIA GPU
    python benchmarks/gpu.py --dry-run                        # what needs no GPU, small, within a minute

It exports the two-task Deeplab-VGG-16 and a dilated ResNet-18, builds engines in FP32, FP16 and INT8, compares them
with PyTorch, measures them against torch.compile and ONNX Runtime in alternating rounds and against what the GPU can do
at most, and runs a video from end to end. Steps are kept in the folder --work: call it again (exit status 3 says so)
until all are done.
"""

from __future__ import annotations

from collections.abc import Sequence

import gpu_steps  # noqa: F401 - it makes the package of this checkout importable

from nddr_deploy import optional
from nddr_deploy.command import run_command


def main(argv: Sequence[str]) -> int:
    """The steps need packages; if one is missing, that is one sentence."""
    status: int = optional.load("gpu_steps.command:main")(argv, __doc__)
    return status


if __name__ == "__main__":
    raise SystemExit(run_command(main))
