"""nddr-verify: does a model still keep what its card promises, on this machine?"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nddr_deploy.command import Parser, parse_option, run_command

if TYPE_CHECKING:
    from nddr_deploy.card.verification import Verification

EXAMPLES = """examples:
  nddr-verify model.int8.onnx
  nddr-verify model.int8.onnx --reference model.onnx --backend openvino
  nddr-verify model.trt --card model.int8.card.json --images ../data/frames --reference model.onnx
"""


def parser() -> Parser:
    parser = Parser(
        "nddr-verify",
        "Check a model file against its card (model.card.json) on this machine: hashes, results on probe images,\n"
        "distance to FP32, metrics and latency. The exit status is 1 where something changed; latency is only told.",
        epilog=EXAMPLES,
    )
    parser.add_argument("model", metavar="MODEL", help="a model (.onnx) or a TensorRT engine (.trt)")
    parser.add_argument("--card", metavar="FILE", help="its card (default: the one beside it)")
    parser.add_argument("--reference", metavar="FILE", help="the FP32 model, for parity and the ratio of times")
    parser.add_argument("--backend", help="as for nddr-infer (default: the card's)")
    parser.add_argument("--precision", help="fp32, bf16, fp16, int8 or int8+bf16 (default: the file's own)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of a pass (default: every core)")
    parser.add_argument("--data", metavar="NAME", help="a data set instead of the card's: rooms, faces or folder")
    parser.add_argument("--split", default="val", help="which part of --data (default: val)")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        type=parse_option,
        metavar="KEY=VALUE",
        help="an option of --data, as a JSON value or plain text; may be given again",
    )
    parser.add_argument("--images", metavar="PATH", help="pictures instead; FP32's results are the truth (--reference)")
    parser.add_argument("--limit", type=int, metavar="N", help="use only the first N images (default: the card's)")
    parser.add_argument("--no-latency", action="store_true", help="do not measure the time of a pass")
    parser.add_argument("--json", metavar="FILE", help="also write what was found to FILE")
    return parser


def _main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)

    from nddr_deploy.card.verify import verify
    from nddr_deploy.files import check_place, finished_file

    if arguments.json:
        check_place(arguments.json)
    found = verify(
        arguments.model,
        arguments.card,
        backend=arguments.backend,
        precision=arguments.precision,
        threads=arguments.threads,
        reference=arguments.reference,
        data=arguments.data,
        split=arguments.split,
        options=dict(arguments.option),
        images=arguments.images,
        limit=arguments.limit,
        latency=not arguments.no_latency,
        progress=True,
    )
    print(f"{found.model} against {found.card}, {found.runs_on}")
    _print_table(found)
    print(found.summary)
    if arguments.json:
        with finished_file(arguments.json) as temporary:
            temporary.write_text(json.dumps(found.to_dict(), indent=1) + "\n")
        print(f"written: {arguments.json}")
    return 1 if found.changed else 0


def _print_table(found: Verification) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from nddr_deploy.card.verification import PARTS

    styles = {"same": "green", "changed": "bold red", "note": "", "skipped": "dim"}
    console = Console() if sys.stdout.isatty() else Console(width=200)
    for part, title in PARTS.items():
        checks = [check for check in found.checks if check.part == part]
        if not checks:
            continue
        table = Table("", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("then", justify="right")
        table.add_column("now", justify="right")
        table.add_column("")
        table.add_column("", overflow="fold")
        said = ""
        for check in checks:
            detail = "" if check.detail == said else check.detail
            said = check.detail
            verdict = Text(check.verdict, style=styles[check.verdict])
            table.add_row(Text(f"  {check.what}"), Text(check.then), Text(check.now), verdict, Text(detail))
        console.print(Text(f"\n{title}", style="bold"))
        console.print(table)
    console.print()


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(_main, argv)


if __name__ == "__main__":
    raise SystemExit(main())
