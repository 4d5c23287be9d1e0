"""nddr-data imdb-wiki: the faces of IMDB-WIKI with age and gender, as a folder to train on."""

from __future__ import annotations

import argparse

DESCRIPTION = "Bring IMDB or WIKI into a folder that trains with data.name=folder: age and gender, splits by person."
EXAMPLE = "nddr-data imdb-wiki wiki.mat --output data/wiki --images wiki_crop"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mat", metavar="MAT", help="imdb.mat or wiki.mat, as published")
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder to write; a stopped run goes on")
    parser.add_argument(
        "--images",
        metavar="DIR",
        help="the folder of pictures, for example wiki_crop: checked and linked, not copied (default: OUTPUT/images, "
        "where that is there; else the lists are written without pictures)",
    )


def run(arguments: argparse.Namespace) -> None:
    from nddr_deploy.data.prepare.imdb_wiki import prepare_imdb_wiki

    summary = prepare_imdb_wiki(arguments.mat, arguments.output, images=arguments.images, show_progress=True)
    print(summary.text())
    print(arguments.output)
