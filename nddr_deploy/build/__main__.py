"""`nddr-build`: an exported model becomes a TensorRT engine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nddr_deploy.command import Parser, parse_list, parse_size, run_command

DESCRIPTION = """Build a TensorRT engine of an exported model, for this machine's GPU.
MODEL.trt is a plain TensorRT plan; MODEL.trt.json beside it says what it takes, returns and was built for. Both appear
only when the engine really runs in the precision asked for and agrees with ONNX Runtime, head by head."""

EPILOG = """examples:
  nddr-build model.onnx --precision fp16
  nddr-build model.onnx --output door.trt --precision fp16 --images photos/
  nddr-build model.onnx --batch 1,4,8                  (of an export with --dynamic batch)
  nddr-build model.onnx --graph model.fp16.onnx        (only the graph that TensorRT would get; needs no GPU)

exit status: 0 done; 1 it does not agree with ONNX Runtime; 2 wrong options, wrong model, no GPU, no such precision"""


def _main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    shared = {name: getattr(arguments, name) for name in ("precision", "size", "batch", "outputs", "images", "keep")}
    if arguments.graph:
        _check_graph_alone(arguments)
        return _graph(arguments, shared)
    from nddr_deploy.build.recipe import LEAST_SHARE, build_engine

    report = build_engine(
        arguments.model,
        arguments.output,
        **shared,
        workspace_gib=arguments.workspace,
        timing_cache=None if arguments.no_timing_cache else arguments.timing_cache or "default",
        opt_level=arguments.opt_level,
        aux_streams=arguments.aux_streams,
        version_compatible=arguments.version_compatible,
        hardware_compatible=arguments.hardware_compatible,
        least_share=LEAST_SHARE if arguments.least_share is None else arguments.least_share,
        differing=arguments.differing,
        report=arguments.report,
        progress=True,
    )
    print(report.text())
    return 0


def _check_graph_alone(arguments: argparse.Namespace) -> None:
    """Refuse what only a build has."""
    from nddr_deploy.errors import ConfigError

    of_a_build = (
        *("output", "workspace", "timing_cache", "no_timing_cache", "opt_level", "aux_streams", "version_compatible"),
        *("hardware_compatible", "least_share", "differing", "report"),
    )
    given = [name for name in of_a_build if getattr(arguments, name) not in (None, False)]
    if given:
        option = "--" + given[0].replace("_", "-")
        raise ConfigError(f"{option} is for building an engine; --graph writes the graph only. Leave one of them out.")


def _graph(arguments: argparse.Namespace, shared: dict[str, object]) -> int:
    from nddr_deploy.build.recipe import write_graph

    typed = write_graph(arguments.model, arguments.graph, major=arguments.tensorrt, **shared)  # type: ignore[arg-type]
    for reason in typed.reasons:
        print(f"kept     in fp32: {reason}")
    print(f"wrote    {arguments.graph}: {arguments.precision}, for TensorRT {arguments.tensorrt}")
    return 0


def _parser() -> Parser:
    parser = Parser("nddr-build", DESCRIPTION, epilog=EPILOG)
    parser.add_argument("model", metavar="MODEL.onnx", help="an exported model, from nddr-export")
    what = parser.add_argument_group("what")
    what.add_argument("--output", metavar="FILE", help="the engine (default: the model's path with .trt)")
    what.add_argument(
        "--precision",
        default="fp16",
        metavar="P",
        help="fp32 (without TF32), fp16, or int8 (of a model with Q/DQ nodes; its other layers in fp16); default: fp16",
    )
    what.add_argument(
        "--size",
        type=_sizes,
        metavar="HxW[,HxW,HxW]",
        help="of the images, where the model leaves it open: one, or smallest, usual, largest (default: the model's)",
    )
    what.add_argument(
        "--batch",
        type=_numbers,
        metavar="N[,N,N]",
        help="images per pass, likewise: min,opt,max (default: the model's)",
    )
    what.add_argument(
        "--outputs",
        default="decoded",
        metavar="FORM",
        help="decoded: full-size labels, normals, metres, ..., made on the GPU; raw: as exported; default: decoded",
    )
    what.add_argument(
        "--images",
        metavar="X",
        help="pictures that number ranges and the comparison are taken on: a folder, a pattern, a video "
        "(default: made-up ones; your own are better)",
    )
    what.add_argument(
        "--keep", type=parse_list, default=(), metavar="A,B", help="nodes to keep in fp32 (default: none)"
    )
    how = parser.add_argument_group("how it is built")
    how.add_argument(
        "--workspace", type=float, metavar="GiB", help="scratch memory of a layer (default: the whole GPU)"
    )
    cache = how.add_mutually_exclusive_group()
    cache.add_argument(
        "--timing-cache",
        metavar="FILE",
        help="what was measured in earlier builds (default: one per TensorRT version and GPU, in ~/.cache/nddr-deploy)",
    )
    cache.add_argument("--no-timing-cache", action="store_true", help="measure everything anew, keep nothing")
    how.add_argument("--opt-level", type=int, metavar="N", help="how hard to try, 0 to 5 (default: TensorRT's, 3)")
    how.add_argument(
        "--aux-streams", type=int, metavar="N", help="streams that a pass may use beside its own (default: TensorRT's)"
    )
    how.add_argument(
        "--version-compatible", action="store_true", help="also for later releases of this major version; slower"
    )
    how.add_argument("--hardware-compatible", action="store_true", help="also for other GPUs from Ampere on; slower")
    how.add_argument(
        "--least-share",
        type=float,
        metavar="S",
        help="refuse when fewer of the layers than this share run in the precision asked for (default: 0.8)",
    )
    how.add_argument(
        "--differing",
        type=float,
        metavar="S",
        help="share of a head's values that may differ from ONNX Runtime's by more than rounding "
        "(default: fp32 0.001, fp16 0.02, int8 0.1)",
    )
    how.add_argument("--report", metavar="FILE", help="write the outcome as JSON, also when the comparison fails")
    graph = parser.add_argument_group("without a GPU")
    graph.add_argument("--graph", metavar="FILE", help="write the graph that TensorRT would be given as ONNX, and stop")
    graph.add_argument(
        "--tensorrt",
        type=int,
        default=10,
        metavar="N",
        help="the TensorRT that --graph is for: 8, 10 or 11 (default: 10)",
    )
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    parts = parse_list(text)
    if not parts or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of images, nor three. Write 4, or 1,4,8.")
    return tuple(map(int, parts))


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    return tuple(parse_size(part) for part in parse_list(text)) or (parse_size(text),)


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(_main, argv)


if __name__ == "__main__":
    sys.exit(main())
