"""nddr-data utkface: the faces of UTKFace with age and gender, as a folder to train on."""

from __future__ import annotations

import argparse

DESCRIPTION = "Bring UTKFace into a folder that trains with data.name=folder: age and gender, fixed splits."
EXAMPLE = "nddr-data utkface UTKFace.tar.gz --output data/utkface"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="a tar file, a zip file or a folder of pictures")
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder to write; a stopped run goes on")


def run(arguments: argparse.Namespace) -> None:
    from nddr_deploy.data.prepare.utkface import prepare_utkface

    print(prepare_utkface(arguments.source, arguments.output, show_progress=True).text())
    print(arguments.output)
