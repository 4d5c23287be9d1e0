"""What the command line says about a foreign file: shared by nddr-import and nddr-export."""

from __future__ import annotations

import argparse
import math
from typing import Any

from nddr_deploy.importers.table import IMPORTERS


def add_import_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("foreign checkpoints")
    group.add_argument(
        "--format", metavar="NAME", help=f"one of {', '.join(IMPORTERS)} (default: recognised by the file's keys)"
    )
    group.add_argument(
        "--assume",
        action="append",
        default=[],
        type=_pair,
        metavar="KEY=VALUE",
        help="what the file leaves open, as in bn=after-relu; the error that asks for it names the choices",
    )
    group.add_argument(
        "--mean", type=_triple, metavar="R,G,B", help="in the format's own value range (default: the format's)"
    )
    group.add_argument("--std", type=_triple, metavar="R,G,B", help="likewise")
    group.add_argument(
        "--rename",
        action="append",
        default=[],
        type=_pair,
        metavar="TASK=NAME",
        help="call a task as your data set does, as in semseg=segmentation",
    )
    return group


def import_choices(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `import_checkpoint` that the group sets."""
    return {
        "format": options.format,
        "assume": dict(options.assume),
        "mean": options.mean,
        "std": options.std,
        "rename": dict(options.rename),
    }


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is no pair. Write KEY=VALUE, as in bn=after-relu.")
    return key, value


def _triple(text: str) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        red = math.nan
    if math.isnan(red) or not all(map(math.isfinite, (red, green, blue))):
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers. Write R,G,B, as in 122.7,116.7,104.0.")
    return red, green, blue
