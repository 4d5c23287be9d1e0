"""nddr-bench: how fast a model runs, in which runtime, on this machine; and which of them to take."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nddr_deploy.command import Parser, parse_list, parse_option, run_command

if TYPE_CHECKING:
    from nddr_deploy.benchmark.report import BenchmarkReport

PICTURES = (".png", ".svg", ".pdf")
EXAMPLES = """cases are RUNTIME or RUNTIME:PRECISION, with the runtimes torch, torch.compile, onnxruntime, openvino on
the CPU, and torch-cuda, torch-cuda.compile, onnxruntime-cuda, onnxruntime-tensorrt and tensorrt on a GPU:
  nddr-bench --engine model.onnx
  nddr-bench --engine model.onnx --checkpoint ckpt.pt --against torch,onnxruntime,openvino,openvino:bf16
  nddr-bench --engine model.onnx --int8 model.int8.onnx --checkpoint ckpt.pt --against torch,onnxruntime,openvino:int8
  nddr-bench --engine model.onnx --input video.mp4 --json benchmark.json --plot benchmark.png
  nddr-bench --engine model.trt --model model.onnx --checkpoint ckpt.pt --against torch-cuda.compile:fp16,tensorrt
  nddr-bench --decode
  nddr-bench model.onnx --pick
  nddr-bench model.onnx --pick --images photos/ --budget segmentation.PAcc=-1.5 --budget normals.mean_angle=+1
"""
# What a comparison alone takes, and what a pick alone takes.
OF_COMPARING = ("model", "checkpoint", "input", "plot", "markdown", "decode")
OF_PICKING = ("budget", "sure", "data", "option", "images", "limit")


def parser() -> Parser:
    parser = Parser(
        "nddr-bench",
        "Compare runtimes on one exported model, in interleaved rounds, each in a process of its own.",
        epilog=EXAMPLES,
    )
    parser.add_argument("file", nargs="?", metavar="MODEL", help="the same as --engine")
    parser.add_argument(
        "--engine", metavar="FILE", help="the exported model (.onnx) or TensorRT engine (.trt) to measure"
    )
    parser.add_argument(
        "--model", metavar="FILE", help="the exported model of a .trt; the onnxruntime and openvino cases run it"
    )
    parser.add_argument("--checkpoint", metavar="FILE", help="what it was exported from; the torch cases run it")
    parser.add_argument(
        "--int8",
        metavar="FILE",
        help="the same model, quantised; the onnxruntime:int8 and openvino:int8 cases run it (default: none; with "
        "--pick MODEL.int8.onnx, or the file whose card names the model)",
    )
    parser.add_argument(
        "--against",
        type=parse_list,
        metavar="CASES",
        help="comma-separated cases; the others are compared with the first, and all must run "
        "(default: torch, onnxruntime, openvino, openvino:bf16, and for a .trt all on a GPU, as far as they can run; "
        "with --pick all but torch)",
    )
    parser.add_argument("--input", metavar="X", help="also measure end to end on a video, a folder, ... (default: no)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of every case (default: 5)")
    parser.add_argument(
        "--seconds-per-case",
        type=float,
        default=15.0,
        metavar="S",
        help="seconds of measuring per case and section, spread over the rounds (default: 15)",
    )
    parser.add_argument(
        "--frames", type=int, default=24, metavar="N", help="frames of the input per case and round (default: 24)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help='what "all cores" means (default: every core)')
    parser.add_argument("--json", metavar="FILE", help="also write everything to FILE")
    parser.add_argument("--plot", metavar="FILE", help="also draw the speed-ups as FILE (.png, .svg or .pdf)")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument(
        "--decode",
        action="store_true",
        help="measure the decoding of 40 classes to 480x640 against Resize + ArgMax in the graph instead of a model",
    )
    _add_pick(parser)
    return parser


def _add_pick(parser: Parser) -> None:
    group = parser.add_argument_group(
        "picking: the fastest file, runtime and precision that keeps every budget; written into the model's card"
    )
    group.add_argument("--pick", action="store_true", help="judge and time every case that this machine can run")
    group.add_argument(
        "--budget",
        action="append",
        default=[],
        metavar="TASK.METRIC=CHANGE",
        help="what a head may lose against FP32, as for nddr-quantize; may be given again (default: the card's)",
    )
    group.add_argument(
        "--sure", action="store_true", help="budgets must hold at the worse end of the 95 %% interval, too"
    )
    group.add_argument(
        "--data", metavar="NAME", help="labelled data to judge on (default: what the card was judged on)"
    )
    group.add_argument("--split", default="val", metavar="NAME", help="which part of it (default: val)")
    group.add_argument(
        "--option",
        action="append",
        default=[],
        type=parse_option,
        metavar="KEY=VALUE",
        help="an option of that data set",
    )
    group.add_argument(
        "--images",
        metavar="X",
        help="pictures, or a data set's, without labels instead; the FP32 model's results are then the truth",
    )
    group.add_argument(
        "--limit", type=int, metavar="N", help="at most so many samples (default: as many as the card's, else 300)"
    )


def _main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)
    _check(arguments)
    if arguments.pick:
        return _pick(arguments)
    return _decode(arguments) if arguments.decode else _compare(arguments)


def _check(arguments: argparse.Namespace) -> None:
    """Refuse before minutes of measuring what could not be used after them."""
    from pathlib import Path

    from nddr_deploy.errors import ConfigError

    if arguments.file and arguments.engine:
        raise ConfigError(f"{arguments.file} and --engine {arguments.engine} both name the model. Give it once.")
    arguments.engine = arguments.engine or arguments.file
    if bool(arguments.engine) == arguments.decode:
        raise ConfigError("nddr-bench measures either a model (--engine model.onnx or .trt) or decoding (--decode).")
    for name in OF_COMPARING if arguments.pick else OF_PICKING:
        if getattr(arguments, name):
            raise ConfigError(f"--{name} goes {'without' if arguments.pick else 'with'} --pick. See nddr-bench --help.")
    if arguments.plot and (arguments.decode or Path(arguments.plot).suffix.lower() not in PICTURES):
        raise ConfigError(f"--plot draws a model's figures as {' or '.join(PICTURES)}; got {arguments.plot}.")
    for path in (arguments.json, arguments.plot):
        if path and not Path(path).parent.is_dir():
            raise ConfigError(f"The folder of {path} does not exist. Create it, or choose another output.")


def _compare(arguments: argparse.Namespace) -> int:
    from nddr_deploy.benchmark.run import run_benchmark

    report = run_benchmark(
        arguments.engine,
        against=arguments.against,
        model=arguments.model,
        checkpoint=arguments.checkpoint,
        int8=arguments.int8,
        input=arguments.input,
        rounds=arguments.rounds,
        seconds_per_case=arguments.seconds_per_case,
        frames=arguments.frames,
        threads=arguments.threads,
        progress=True,
    )
    _print(report, markdown=arguments.markdown)
    if arguments.json:
        _write_json(arguments.json, report.to_dict())
    if arguments.plot:
        from nddr_deploy.benchmark.plot import draw
        from nddr_deploy.files import finished_file

        with finished_file(arguments.plot) as temporary:
            draw(report, temporary)
        print(f"written: {arguments.plot}")
    return 0


def _pick(arguments: argparse.Namespace) -> int:
    from nddr_deploy.benchmark import pick_report
    from nddr_deploy.benchmark.pick import pick

    report = pick(
        arguments.engine,
        budgets=arguments.budget,
        sure=arguments.sure,
        int8=arguments.int8,
        against=arguments.against,
        data=arguments.data,
        split=arguments.split,
        options=dict(arguments.option),
        images=arguments.images,
        limit=arguments.limit,
        threads=arguments.threads,
        rounds=arguments.rounds,
        seconds_per_case=arguments.seconds_per_case,
        progress=True,
    )
    pick_report.show(report)
    if arguments.json:
        _write_json(arguments.json, report.to_dict())
    return 0


def _decode(arguments: argparse.Namespace) -> int:
    from nddr_deploy.benchmark import decode, table

    found = decode.compare_decoding(rounds=arguments.rounds)
    drawn = decode.as_table(found)
    if arguments.markdown:
        print(table.markdown(drawn))
    else:
        table.show([drawn])
    if arguments.json:
        _write_json(arguments.json, decode.to_dict(found))
    return 0


def _print(report: BenchmarkReport, *, markdown: bool) -> None:
    from nddr_deploy.benchmark import table
    from nddr_deploy.benchmark.bottleneck import sentences

    found = table.tables(report)
    if markdown:
        print("\n\n".join([_listed(table.facts(report)), *map(table.markdown, found), _listed(sentences(report))]))
    else:
        print("\n".join(table.facts(report)), end="\n\n")
        table.show(found)
        print("\n".join(sentences(report)))
    print("\n".join(table.legend(report)))


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _write_json(path: str, values: dict[str, object]) -> None:
    import json

    from nddr_deploy.files import finished_file

    with finished_file(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n")
    print(f"written: {path}")


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(_main, argv)


if __name__ == "__main__":
    raise SystemExit(main())
