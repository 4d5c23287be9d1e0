"""`nddr-export`, `python -m nddr_deploy.export`: a checkpoint becomes an ONNX file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nddr_deploy.command import Parser, parse_list, parse_size, run_command
from nddr_deploy.importers.arguments import add_import_arguments, import_choices
from nddr_deploy.quantize.arguments import add_quantize_arguments, quantize_choices

EPILOG = """examples:
  nddr-export runs/rooms/ckpt.pt --output model.onnx --size 480x640
  nddr-export their-ckpt-20000.pth --output model.onnx --size 480x640
  nddr-export runs/rooms/ckpt.pt --output model.onnx --precision int8 --calibration photos/      (see nddr-quantize)
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = Parser(
        "nddr-export",
        "Write a checkpoint as one ONNX file: pre-processing inside, BatchNorm folded, one output per task.\n"
        "Its results are compared with PyTorch's on several images; where they differ, no file is written and the\n"
        "exit status is 1.",
        epilog=EPILOG,
    )
    parser.add_argument("checkpoint", help="a checkpoint of nddr-train (.pt), or of other public NDDR code")
    parser.add_argument("--output", metavar="FILE", help="the ONNX file (default: the checkpoint's path with .onnx)")
    parser.add_argument(
        "--size",
        type=parse_size,
        metavar="HxW",
        help="height x width of the images in pixels (default: the size that the network was trained for)",
    )
    parser.add_argument("--batch", type=int, metavar="N", help="images per pass (default: 1)")
    parser.add_argument(
        "--dynamic",
        type=parse_list,
        default=(),
        metavar="LIST",
        help="what stays open: batch, size, or batch,size (default: none)",
    )
    parser.add_argument(
        "--outputs",
        default="raw",
        metavar="FORM",
        help="raw: each head's output before resizing; decoded: full-size labels, unit normals, metres, years, "
        "probabilities (default: raw)",
    )
    parser.add_argument(
        "--tasks", type=parse_list, metavar="LIST", help="tasks to keep, in the order of the outputs (default: all)"
    )
    parser.add_argument(
        "--precision",
        default="fp32",
        metavar="P",
        help="fp32; or int8: the float model, and MODEL.int8.onnx beside it, as nddr-quantize makes it with the "
        "options below (for fp16: nddr-build) (default: fp32)",
    )
    parser.add_argument("--opset", type=int, default=17, metavar="N", help="ONNX opset, 17 to 20 (default: 17)")
    add_import_arguments(parser).add_argument(
        "--from-module",
        metavar="MODULE:FUNCTION",
        help="your own function that loads the checkpoint; see docs/importing/from_module.md",
    )
    parser.add_argument(
        "--prune-coupling",
        type=float,
        metavar="SHARE",
        help="cut what a task takes from a stream where that is less than SHARE of all it takes at that layer (see "
        "nddr-inspect), and measure what that changes for each task (default: nothing is cut)",
    )
    parser.add_argument(
        "--prune-images",
        metavar="X",
        help="your pictures for that: a folder, a pattern, a video, or a data set (default: made-up ones, which tell "
        "little; yours are better)",
    )
    parser.add_argument("--report", metavar="FILE", help="write the outcome, parity above all, as JSON (default: not)")
    parser.add_argument(
        "--verbose", action="store_true", help="show also what every BatchNorm layer became, with its difference"
    )
    add_quantize_arguments(parser)
    options = parser.parse_args(argv)
    _check_precision(options)

    from nddr_deploy.optional import load

    load("torch", extra="train")
    from nddr_deploy.export.recipe import export_checkpoint

    report = export_checkpoint(
        options.checkpoint,
        options.output,
        size_hw=options.size,
        batch=options.batch,
        dynamic=options.dynamic,
        outputs=options.outputs,
        tasks=options.tasks,
        opset=options.opset,
        **import_choices(options),
        from_module=options.from_module,
        prune_coupling=options.prune_coupling,
        prune_images=options.prune_images,
        report=options.report,
        verbose=options.verbose,
    )
    print(report.text())
    if options.precision == "int8":
        from nddr_deploy.quantize.recipe import quantize_model

        print(quantize_model(report.path, **quantize_choices(options), progress=True).text())
    return 0


def _check_precision(options: argparse.Namespace) -> None:
    """Refuse before the export what could not be quantised after it."""
    from nddr_deploy.errors import ConfigError, unknown_choice

    if options.precision not in ("fp32", "int8"):
        raise unknown_choice("precision", options.precision, ("fp32", "int8"))
    if options.precision == "int8":
        from nddr_deploy.quantize.checks import check_options

        check_options(**quantize_choices(options))
    elif options.calibration or options.budget:
        raise ConfigError("--calibration and --budget are for --precision int8. Add that, or leave them out.")


if __name__ == "__main__":
    sys.exit(main())
