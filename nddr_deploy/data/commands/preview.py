"""nddr-data preview: a picture of samples with their labels."""

from __future__ import annotations

import argparse

from nddr_deploy.command import parse_option

DESCRIPTION = "Draw samples of a data set, with labels."
EXAMPLE = "nddr-data preview folder mine.png --option path=my_data --split val"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="NAME", help="a data set: rooms, faces or folder")
    parser.add_argument("output", metavar="PICTURE", help="the picture to write, for example rooms.png")
    parser.add_argument("--split", default="train", help="which part of it (default: train)")
    parser.add_argument("--count", type=int, default=12, metavar="N", help="how many samples (default: 12)")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        type=parse_option,
        metavar="KEY=VALUE",
        help="an option of the data set, as a JSON value or plain text; may be given again",
    )


def run(arguments: argparse.Namespace) -> None:
    from nddr_deploy.data import open_dataset
    from nddr_deploy.data.preview import write_preview

    dataset = open_dataset(arguments.data, arguments.split, **dict(arguments.option))
    write_preview(dataset, arguments.output, arguments.count)
    print(arguments.output)
