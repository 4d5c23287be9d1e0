"""python -m nddr_deploy.data: look at a data set, or render a walk through a synthetic room as a video."""

from __future__ import annotations

from collections.abc import Sequence

from nddr_deploy.command import Parser, parse_option, parse_size, run_command

EXAMPLES = """examples:
  python -m nddr_deploy.data preview rooms rooms.png
  python -m nddr_deploy.data preview folder mine.png --option path=my_data --split val
  python -m nddr_deploy.data walkthrough room.mp4 --seconds 8 --size 360x480
"""


def parser() -> Parser:
    parser = Parser("python -m nddr_deploy.data", "Look at the data that networks learn from.", epilog=EXAMPLES)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    preview = commands.add_parser(
        "preview", help="a picture of samples with their labels", description="Draw samples of a data set, with labels."
    )
    preview.add_argument("data", metavar="NAME", help="a data set: rooms, faces or folder")
    preview.add_argument("output", metavar="PICTURE", help="the picture to write, for example rooms.png")
    preview.add_argument("--split", default="train", help="which part of it (default: train)")
    preview.add_argument("--count", type=int, default=12, metavar="N", help="how many samples (default: 12)")
    preview.add_argument(
        "--option",
        action="append",
        default=[],
        type=parse_option,
        metavar="KEY=VALUE",
        help="an option of the data set, as a JSON value or plain text; may be given again",
    )

    walk = commands.add_parser(
        "walkthrough",
        help="a video of a walk through a synthetic room",
        description="Render a camera's walk through one synthetic room as an H.264 video.",
    )
    walk.add_argument("output", metavar="VIDEO", help="the video to write, for example room.mp4")
    walk.add_argument("--seconds", type=float, default=12.0, metavar="S", help="its length in seconds (default: 12)")
    walk.add_argument("--rate", type=int, default=20, metavar="N", help="frames per second (default: 20)")
    walk.add_argument(
        "--size", type=parse_size, default=(240, 320), metavar="HxW", help="height x width in pixels (default: 240x320)"
    )
    walk.add_argument("--seed", type=int, default=0, metavar="N", help="another number, another room (default: 0)")
    return parser


def _main(argv: Sequence[str]) -> None:
    arguments = parser().parse_args(argv)
    if arguments.command == "preview":
        from nddr_deploy.data import open_dataset
        from nddr_deploy.data.preview import write_preview

        write_preview(
            open_dataset(arguments.data, arguments.split, **dict(arguments.option)), arguments.output, arguments.count
        )
    else:
        from nddr_deploy.data.rooms import render_walkthrough

        render_walkthrough(
            arguments.output,
            seed=arguments.seed,
            frames=round(arguments.seconds * arguments.rate),
            rate=arguments.rate,
            size_hw=arguments.size,
        )
    print(arguments.output)


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(_main, argv)


if __name__ == "__main__":
    raise SystemExit(main())
