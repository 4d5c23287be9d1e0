"""Train and print the tables of the NDDR-CNN paper: `python examples/reproduce.py table4 --output runs/paper`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nddr_deploy.command import Parser, run_command
from nddr_deploy.errors import unknown_choice

TABLES = Path(__file__).parent / "tables"
NAMES = ("table1", "table2", "table3", "table4", "table5", "table6", "table7", "tableS1", "tableS2")
EPILOG = """tables:
  table1  starts of the NDDR layers        table5  ResNet-101
  table2  rate factors of the NDDR layers  table6  VGG-16 with the shortcut
  table3  pretrained against single-task   table7  age and gender from faces (needs --data, but at scale tiny)
  table4  VGG-16, five methods             tableS1 AlexNet      tableS2 rate factors of cross-stitch and sluice

scales:
  tiny   synthetic data, networks of a few channels, two steps: does everything run? seconds per table
  small  narrow networks on a CPU: tables 1-6, S1, S2 on synthetic rooms, table 7 on real faces; 75 to 115 minutes
         per seed on one core for all tables
  full   the paper's networks, sizes and steps: needs --data (nddr-data nyuv2, nddr-data imdb-wiki) and GPUs

examples:
  python examples/reproduce.py all --scale tiny --output runs/tiny
  python examples/reproduce.py table4 --scale small --seeds 3 --output runs/paper
  nddr-data utkface UTKFace.tar.gz --output data/faces
  python examples/reproduce.py table7 --scale small --seeds 3 --data data/faces --output runs/paper
  python examples/reproduce.py table4 --scale full --data data/nyuv2 --pretrained vgg16.pth --output runs/full

Stop it when you like and start it again: finished trainings are skipped, a stopped one goes on. Two of these commands
may work in one output folder at the same time.
"""


def parser() -> Parser:
    parser = Parser("reproduce.py", "Train and print the tables of the NDDR-CNN paper.", epilog=EPILOG)
    parser.add_argument("tables", nargs="+", metavar="TABLE", help="table1 ... table7, tableS1, tableS2, or all")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of trainings, results and tables")
    parser.add_argument("--scale", default="tiny", metavar="SCALE", help="tiny, small or full (default: tiny)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="train with seeds 0 .. N-1 (default: 1)")
    parser.add_argument("--data", metavar="DIR", help="real data, as nddr-data writes them")
    parser.add_argument("--pretrained", metavar="FILE", help="torchvision's ImageNet weights, for single-task networks")
    parser.add_argument(
        "--results", metavar="DIR", help="where finished trainings are noted and looked up (default: OUTPUT/results)"
    )
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="that train one network (default: 1)")
    parser.add_argument("--device", default="auto", metavar="D", help="auto, cpu or cuda (default: auto)")
    parser.add_argument("--report", action="store_true", help="train nothing; print the tables from what is there")
    return parser


def _main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)
    chosen = [name for table in arguments.tables for name in (NAMES if table == "all" else (table,))]
    for name in chosen:
        if name not in NAMES:
            raise unknown_choice("table", name, (*NAMES, "all"))
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as nddr-train does, before PyTorch is loaded

    from nddr_deploy.experiments.reproduce import reproduce

    reproduce(
        [TABLES / f"{name}.yaml" for name in dict.fromkeys(chosen)],
        Path(arguments.output),
        scale=arguments.scale,
        seeds=range(arguments.seeds),
        data=arguments.data,
        pretrained=arguments.pretrained,
        results=None if arguments.results is None else Path(arguments.results),
        processes=arguments.processes,
        device=arguments.device,
        train=not arguments.report,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(_main))
