"""nddr-data: bring public data sets into one layout, check a folder of one's own, look at samples."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from nddr_deploy.command import Parser, run_command

# Command -> its line of help and its module, which has DESCRIPTION, EXAMPLE, `add_arguments` and `run`.
COMMANDS = {
    "nyuv2": ("NYU Depth v2: labels, depth and normals of rooms", "nddr_deploy.data.commands.nyuv2"),
    "utkface": ("UTKFace: age and gender of faces", "nddr_deploy.data.commands.utkface"),
    "imdb-wiki": ("IMDB or WIKI: age and gender of faces, splits by person", "nddr_deploy.data.commands.imdb_wiki"),
    "folder": ("check a folder of your own", "nddr_deploy.data.commands.folder"),
    "preview": ("a picture of samples with their labels", "nddr_deploy.data.commands.preview"),
    "walkthrough": ("a video of a walk through a synthetic room", "nddr_deploy.data.commands.walkthrough"),
}


def parser() -> Parser:
    modules = {name: import_module(module) for name, (_, module) in COMMANDS.items()}
    examples = "\n".join(["examples:", *(f"  {module.EXAMPLE}" for module in modules.values())])
    parser = Parser("nddr-data", "Prepare, check and look at the data that networks learn from.", epilog=examples)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in modules.items():
        command = commands.add_parser(
            name, help=COMMANDS[name][0], description=module.DESCRIPTION, epilog=f"example:\n  {module.EXAMPLE}"
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _main(argv: Sequence[str]) -> None:
    arguments = parser().parse_args(argv)
    arguments.run(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(_main, argv)


if __name__ == "__main__":
    raise SystemExit(main())
