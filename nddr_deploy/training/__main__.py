"""nddr-train: train a multi-task network from a YAML file."""

from __future__ import annotations

import os
from collections.abc import Sequence

from nddr_deploy.command import Parser, run_command
from nddr_deploy.errors import OtherProcessError

EPILOG = """settings:
  every setting of the YAML file can be changed by a key=value word; --print_config lists them all

examples:
  nddr-train examples/demo.yaml --output runs/mine
  nddr-train examples/demo.yaml optimiser.lr=0.05 network.backbone_options.width=0.5 steps=4000
  nddr-train examples/demo.yaml --output runs/mine --resume
  nddr-train data.yaml --init imported.pt                       (data.yaml: tasks, data, steps; no network)
  torchrun --nproc-per-node 4 -m nddr_deploy.training examples/demo.yaml      (or accelerate launch)

In the output folder: ckpt.pt (the finished model), last.pt (to resume from), best.pt (the best validation),
config.yaml, and the record: summary.html, metrics.csv, coupling.csv, log.txt, TensorBoard's files.
Ctrl-C saves last.pt and stops with exit status 130.
"""


def parser() -> Parser:
    parser = Parser("nddr-train", "Train a multi-task network on one or many devices.", epilog=EPILOG)
    parser.add_argument("config", metavar="CONFIG.yaml", help="the settings; examples are in examples/")
    parser.add_argument(
        "settings", nargs="*", metavar="KEY=VALUE", help="a setting to change, as in optimiser.lr=0.01 (YAML values)"
    )
    parser.add_argument("--output", metavar="DIR", help="folder of the run (default: `output` in CONFIG.yaml)")
    parser.add_argument(
        "--init",
        metavar="CKPT",
        help="start from the weights of this checkpoint (start.checkpoint), and take its network and its "
        "pre-processing where CONFIG.yaml has none",
    )
    parser.add_argument("--resume", action="store_true", help="continue from last.pt in the output folder")
    parser.add_argument("--overwrite", action="store_true", help="replace the training that the output folder holds")
    parser.add_argument("--print_config", action="store_true", help="print every setting as YAML, and stop")
    return parser


def _main(argv: Sequence[str]) -> int:
    arguments = parser().parse_intermixed_args(argv)
    # OpenMP's threads wait by spinning: on two cores that other programs also use, a step then takes ten times as long.
    # A shorter wait costs nothing measurable on a quiet machine. It is read when PyTorch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

    from nddr_deploy.training.config_file import config_to_yaml, read_config

    overrides = [*arguments.settings, *([f"output={arguments.output}"] if arguments.output else [])]
    config = read_config(arguments.config, overrides, init=arguments.init)
    if arguments.print_config:
        print(config_to_yaml(config), end="")
        return 0

    from nddr_deploy.training.run import train

    try:
        train(config, resume=arguments.resume, overwrite=arguments.overwrite)
    except OtherProcessError as error:  # which that process says
        return error.exit_status
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_command(_main, argv)


if __name__ == "__main__":
    raise SystemExit(main())
