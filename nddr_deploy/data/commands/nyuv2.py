"""nddr-data nyuv2: NYU Depth v2 with labels, depth and normals, as a folder to train on."""

from __future__ import annotations

import argparse

from nddr_deploy.command import parse_list

DESCRIPTION = "Bring NYU Depth v2 into a folder that trains with data.name=folder: labels, depth and normals."
EXAMPLE = "nddr-data nyuv2 nyu_depth_v2_labeled.mat --output data/nyuv2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="nyu_depth_v2_labeled.mat, or a folder in a public form: list files, NYUD_MT, rgb + depth_mm + seg40, npz",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder to write; a stopped run goes on")
    parser.add_argument(
        "--meta",
        metavar="DIR",
        help="the folder with splits.mat, classMapping40.mat and class13Mapping.mat (default: beside SOURCE)",
    )
    parser.add_argument(
        "--normals-axes",
        type=parse_list,
        metavar="A,B,C",
        help="the directions that the components (or red, green, blue) of the source's normals stand for, as in "
        "right,up,toward",
    )


def run(arguments: argparse.Namespace) -> None:
    from nddr_deploy.data.prepare.nyuv2 import prepare_nyuv2

    summary = prepare_nyuv2(
        arguments.source,
        arguments.output,
        meta=arguments.meta,
        normals_axes=arguments.normals_axes,
        show_progress=True,
    )
    print(summary.text())
    print(arguments.output)
