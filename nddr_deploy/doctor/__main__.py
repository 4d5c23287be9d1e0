"""The command nddr-doctor."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nddr_deploy.command import Parser, run_command

if TYPE_CHECKING:
    from nddr_deploy.doctor.diagnosis import Diagnosis

DESCRIPTION = """Look at this machine: what nddr-deploy can do here, what is missing, and the commands that install it.

Looks at Python, packages, the NVIDIA driver and its GPUs, TensorRT and its fit with the driver and with ONNX Runtime,
OpenVINO, PyTorch, video codecs and cameras. Installs, changes and downloads nothing; takes a few seconds."""

EPILOG = """each line is one of
  ok         works
  missing    not installed; below it, the command that installs it
  problem    installed, but broken, or it contradicts something else; below it, the command that mends it
  not here   this machine has none, and needs none

exit status: 0 what is installed fits together; 1 there is a problem; 2 wrong options"""


def _main(argv: Sequence[str]) -> int:
    parser = Parser("nddr-doctor", DESCRIPTION, epilog=EPILOG)
    parser.add_argument(
        "--json", action="store_true", help="print everything as JSON; names no user, host or home folder"
    )
    arguments = parser.parse_args(argv)

    from nddr_deploy.doctor.diagnosis import diagnose

    diagnosis = diagnose()
    if arguments.json:
        print(json.dumps(diagnosis.to_dict(), indent=1))
    else:
        _show(diagnosis)
    return 0 if diagnosis.ok else 1


def _show(diagnosis: Diagnosis) -> None:
    """With colours on a terminal, and without rich, the doctor's own need, in plain text."""
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        print(_printable(diagnosis.text()))
        return
    console = Console(highlight=False, soft_wrap=True)
    for line in diagnosis.lines(console.width):
        text = Text(_printable(line.text))
        if line.colour:
            text.stylize(line.colour, line.start, line.end)
        console.print(text)


def _printable(text: str) -> str:
    """The text with marks that the terminal's encoding has."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return text.translate(str.maketrans("✓✗·", "+x ")).encode("ascii", "replace").decode()
    return text


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(_main, argv)


if __name__ == "__main__":
    sys.exit(main())
