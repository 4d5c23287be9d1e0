"""`nddr-inspect`: what the parts of a multi-task model do, and what they take."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from nddr_deploy.command import Parser, parse_option, parse_size, run_command
from nddr_deploy.importers.arguments import add_import_arguments, import_choices

DESCRIPTION = """Show, per fusion layer, how much each task takes from each stream: the share of the norm of its
weights, each weight times the scale of the values that it meets. Then where arithmetic and parameters are, and
what is left of them when only some tasks are exported."""

EPILOG = """examples:
  nddr-inspect model.onnx
  nddr-inspect model.onnx --images photos/ --heatmap coupling.png
  nddr-inspect runs/rooms/ckpt.pt --data rooms --limit 100 --json report.json"""


def _main(argv: Sequence[str]) -> int:
    parser = Parser("nddr-inspect", DESCRIPTION, epilog=EPILOG)
    parser.add_argument("model", metavar="MODEL", help="an exported model (.onnx), or a checkpoint")
    measured = parser.add_argument_group("pictures to measure activations on (default: made-up ones)")
    measured.add_argument("--images", metavar="X", help="your own: a folder, a pattern, a list or a video")
    measured.add_argument("--data", metavar="NAME", help="a data set instead: rooms, faces or folder")
    measured.add_argument("--split", default="val", metavar="NAME", help="which part of it (default: val)")
    measured.add_argument(
        "--option", action="append", default=[], type=parse_option, metavar="KEY=VALUE", help="an option of --data"
    )
    measured.add_argument("--limit", type=int, default=32, metavar="N", help="at most so many (default: 32)")
    parser.add_argument(
        "--size",
        type=parse_size,
        metavar="HxW",
        help="of the images, where the model leaves it open (default: its own)",
    )
    written = parser.add_argument_group("files to write")
    written.add_argument("--json", metavar="FILE", help="everything")
    written.add_argument("--csv", metavar="FILE", help="the coupling, one line a block")
    written.add_argument("--heatmap", metavar="FILE.png", help="the coupling, drawn")
    add_import_arguments(parser)
    options = parser.parse_args(argv)

    from nddr_deploy.errors import ConfigError
    from nddr_deploy.files import check_place, finished_file
    from nddr_deploy.inspect.recipe import inspect_model

    files = list(filter(None, (options.json, options.csv, options.heatmap)))
    for path in files:
        check_place(path)
    if options.heatmap and not options.heatmap.endswith(".png"):
        raise ConfigError(f"heatmap: {options.heatmap} should end in .png; it is drawn as that.")
    report = inspect_model(
        options.model,
        images=options.images,
        data=options.data,
        split=options.split,
        options=dict(options.option),
        limit=options.limit,
        size_hw=options.size,
        **import_choices(options),
        progress=True,
    )
    print(report.text())
    if options.json:
        with finished_file(options.json) as temporary:
            temporary.write_text(json.dumps(report.to_dict(), indent=1) + "\n")
    if options.csv:
        report.write_csv(options.csv)
    if options.heatmap:
        report.write_heatmap(options.heatmap)
    print("".join(f"\nwritten: {path}" for path in files))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(_main, argv)


if __name__ == "__main__":
    sys.exit(main())
