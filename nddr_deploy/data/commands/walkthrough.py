"""nddr-data walkthrough: a video of a walk through a synthetic room."""

from __future__ import annotations

import argparse

from nddr_deploy.command import parse_size

DESCRIPTION = "Render a camera's walk through one synthetic room as an H.264 video."
EXAMPLE = "nddr-data walkthrough room.mp4 --seconds 8 --size 360x480"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="VIDEO", help="the video to write, for example room.mp4")
    parser.add_argument("--seconds", type=float, default=12.0, metavar="S", help="its length in seconds (default: 12)")
    parser.add_argument("--rate", type=int, default=20, metavar="N", help="frames per second (default: 20)")
    parser.add_argument(
        "--size", type=parse_size, default=(240, 320), metavar="HxW", help="height x width in pixels (default: 240x320)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another number, another room (default: 0)")


def run(arguments: argparse.Namespace) -> None:
    from nddr_deploy.data.rooms import render_walkthrough

    render_walkthrough(
        arguments.output,
        seed=arguments.seed,
        frames=round(arguments.seconds * arguments.rate),
        rate=arguments.rate,
        size_hw=arguments.size,
    )
    print(arguments.output)
