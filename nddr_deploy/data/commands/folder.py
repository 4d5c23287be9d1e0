"""nddr-data folder: is a user's own folder of pictures and labels as it should be?"""

from __future__ import annotations

import argparse
import sys

from nddr_deploy.errors import ConfigError, InputError

DESCRIPTION = """Open every picture and label of a folder, list what is wrong and sum up what is there.

How to lay out a folder: python -c "import nddr_deploy.data.folder as f; print(f.__doc__)" """.rstrip()
EXAMPLE = "nddr-data folder my_data"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="DIR", help="the folder that holds `images`")
    parser.add_argument(
        "--problems", type=int, default=10, metavar="N", help="list at most so many of them (default: 10)"
    )


def run(arguments: argparse.Namespace) -> None:
    from nddr_deploy.data.prepare.check_folder import check_folder

    if arguments.problems < 1:
        raise ConfigError(f"--problems must be at least 1; got {arguments.problems}.")
    report = check_folder(arguments.path, show_progress=True)
    print(report.text(), flush=True)
    listed = report.problems[: arguments.problems]
    for problem in listed:
        print(f"wrong: {problem}", file=sys.stderr)
    if report.problems:
        raise InputError(
            f"{arguments.path} has {len(report.problems):,} problems; listed above: {len(listed):,}. Mend the files or "
            f"take their names out of the lists, then check again."
        )
