"""nddr-eval: the metrics of a model on labelled data."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nddr_deploy.command import Parser, parse_option, run_command

if TYPE_CHECKING:
    from nddr_deploy.evaluate.score import Scores

EXAMPLES = """examples:
  nddr-eval runs/demo/ckpt.pt --data rooms
  nddr-eval runs/demo/model.onnx --data rooms --option count=100 --json metrics.json
  nddr-eval model.onnx --backend openvino --precision bf16 --data folder --option path=../data/nyuv2 --split test
"""


def parser() -> Parser:
    parser = Parser(
        "nddr-eval",
        "Print the metrics of a checkpoint, an exported model or an engine on labelled data.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a checkpoint (.pt), a model (.onnx) or a TensorRT engine (.trt)"
    )
    parser.add_argument("--data", required=True, metavar="NAME", help="a data set: rooms, faces or folder")
    parser.add_argument("--split", default="val", help="which part of it (default: val)")
    parser.add_argument("--limit", type=int, metavar="N", help="score only the first N samples (default: all)")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        type=parse_option,
        metavar="KEY=VALUE",
        help="an option of the data set, as a JSON value or plain text; may be given again",
    )
    parser.add_argument(
        "--fit",
        default="letterbox",
        choices=("letterbox", "stretch"),
        help="how a picture is laid into the model's image (default: letterbox, which keeps its shape)",
    )
    parser.add_argument("--backend", help="as for nddr-infer (default: by the file's suffix)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of a pass (default: every core)")
    parser.add_argument("--precision", help="fp32, bf16, fp16 or int8 (default: the file's own)")
    parser.add_argument("--json", metavar="FILE", help="also write the metrics to FILE")
    return parser


def _main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)

    from nddr_deploy.data import open_dataset
    from nddr_deploy.engines import open_engine
    from nddr_deploy.evaluate.score import score
    from nddr_deploy.evaluate.shared_tasks import shared_tasks

    backend, threads, precision = arguments.backend, arguments.threads, arguments.precision
    with open_engine(arguments.model, backend, threads=threads, precision=precision) as engine:
        dataset = open_dataset(arguments.data, arguments.split, **dict(arguments.option))
        _, skipped = shared_tasks(engine.manifest, dataset)
        for name, reason in skipped.items():
            print(f"{name} is left out: {reason}.", file=sys.stderr)
        scores = score(engine, dataset, limit=arguments.limit, fit=arguments.fit, progress=True)
        samples = len(dataset) if arguments.limit is None else min(arguments.limit, len(dataset))
        facts = {
            "backend": engine.backend,
            "precision": engine.precision,
            "data": arguments.data,
            "split": arguments.split,
            "samples": samples,
            "fit": arguments.fit,
        }
    print(f"{samples} samples of {arguments.data} ({arguments.split}), {facts['backend']} {facts['precision']}")
    _print_table(scores)
    if arguments.json:
        _write_json(arguments.json, {**facts, "metrics": scores})
        print(f"written: {arguments.json}")
    return 0


def _print_table(scores: Scores) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("task", "metric", box=None)
    table.add_column("value", justify="right")
    for task, metrics in scores.items():
        for metric, value in metrics.items():
            table.add_row(task, metric, f"{value:.4g}")
    Console().print(table)


def _write_json(path: str, report: dict[str, Any]) -> None:
    from nddr_deploy.files import finished_file

    metrics = {
        task: {metric: None if math.isnan(value) else value for metric, value in values.items()}
        for task, values in report["metrics"].items()
    }
    with finished_file(path) as temporary:
        temporary.write_text(json.dumps({**report, "metrics": metrics}, indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(_main, argv)


if __name__ == "__main__":
    raise SystemExit(main())
