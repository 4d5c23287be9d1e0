"""nddr-import: a checkpoint that other code trained becomes one of ours."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nddr_deploy.command import Parser, parse_size, run_command
from nddr_deploy.importers.arguments import add_import_arguments, import_choices
from nddr_deploy.importers.table import IMPORTERS

EPILOG = f"""formats:
  {", ".join(IMPORTERS)}; docs/importing.md has a page for each

examples:
  nddr-import ckpt-20000.pth --output ckpt.pt
  nddr-import state_dict.pth --format nddrpytorch --assume bn=after-relu --output ckpt.pt
  nddr-import logs/nddr_vgg16/ --output ckpt.pt                  (a folder of TensorFlow checkpoints)

No code from the file is run. nddr-eval, nddr-export and nddr-train --init go on from the checkpoint that is written.
"""


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        "nddr-import",
        "Write a checkpoint of nddr-deploy from one that other public NDDR-CNN code trained.",
        epilog=EPILOG,
    )
    parser.add_argument("file", metavar="THEIR_FILE", help="the file; for TensorFlow also a folder or a prefix")
    parser.add_argument("--output", required=True, metavar="FILE", help="the checkpoint to write: .pt or .safetensors")
    parser.add_argument(
        "--size",
        type=parse_size,
        metavar="HxW",
        help="height x width of the images in pixels (default: what is usual for the format's data)",
    )
    add_import_arguments(parser)
    return parser


def _main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)

    from nddr_deploy.optional import load

    load("torch", extra="train")
    from nddr_deploy.importers.write import import_checkpoint

    imported = import_checkpoint(options.file, options.output, size_hw=options.size, **import_choices(options))
    print("\n".join(imported.lines()))
    print(f"wrote    {options.output}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(_main, argv)


if __name__ == "__main__":
    raise SystemExit(main())
