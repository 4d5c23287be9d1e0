"""What every command shares: parse, call one library function, report an error as one line."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from nddr_deploy.errors import NddrError


class Parser(argparse.ArgumentParser):
    """An argument parser whose help keeps the line breaks of its text and shows every default."""

    def __init__(self, prog: str, description: str, *, epilog: str | None = None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )


def run_command(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Call `main` with the command line and turn its outcome into an exit status.

    0: done; 1: done, but something failed a check; 2: wrong input, said in one line on stderr;
    130: stopped by Ctrl-C. A traceback is shown only with `NDDR_TRACEBACK=1`.
    """
    try:
        return main(sys.argv[1:] if argv is None else argv) or 0
    except NddrError as error:
        if os.environ.get("NDDR_TRACEBACK") == "1":
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of our output has gone: nothing is left to say, also not by the interpreter when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parse_size(text: str) -> tuple[int, int]:
    """`"480x640"` -> (480, 640): height by width, in pixels."""
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) > 0 and int(width) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size. Write height x width, as in 480x640.")
    return int(height), int(width)


def parse_list(text: str) -> tuple[str, ...]:
    """`"a,b"` -> ("a", "b")."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_option(text: str) -> tuple[str, Any]:
    """`"count=3"` -> ("count", 3); `"path=a/b"` -> ("path", "a/b")."""
    key, equals, value = text.partition("=")
    if not (key.isidentifier() and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is no option. Write KEY=VALUE, as in count=100.")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value
