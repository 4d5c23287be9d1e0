"""The command nddr-infer."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError
from collections.abc import Sequence

from nddr_deploy.command import Parser, parse_list, run_command

DESCRIPTION = """Run a model on videos, pictures or live sources: every task from one pass.

INPUT                                     OUTPUT
  a video (.mp4, .mkv, ...)                 .mp4, .mov, .mkv: a video with the results drawn on it
  a picture, or a list of them (.txt)       .png, .jpg, .npz: of a single picture
  a folder, or a pattern ('*.jpg')          .jsonl: one line of figures per frame
  camera:0, rtsp://..., http(s)://...       a folder: one result per frame; see --format"""

EPILOG = """examples:
  nddr-infer --engine model.onnx --input walk.mp4 --output overlay.mp4
  nddr-infer --engine model.trt --input walk.mp4 --output overlay.mp4       (on an NVIDIA GPU, from nddr-build)
  nddr-infer --engine model.onnx --input photos/ --output out/ --layout tiles
  nddr-infer --engine model.onnx --input walk.mp4 --output arrays/ --format npz --tasks depth
  nddr-infer --engine model.onnx --input camera:0 --output recording.mkv     (Ctrl-C ends and keeps the recording)

exit status: 0 done; 1 done, but some input could not be read; 2 wrong options, wrong model; 130 stopped by Ctrl-C"""


def _main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)

    from nddr_deploy.inference.progress import progress_bar
    from nddr_deploy.inference.run import infer

    with progress_bar(quiet=arguments.quiet, limit=arguments.limit) as watch:
        report = infer(
            arguments.engine,
            arguments.input,
            arguments.output,
            backend=arguments.backend,
            threads=arguments.threads,
            precision=arguments.precision,
            layout=arguments.layout,
            alpha=arguments.alpha,
            fit=arguments.fit,
            tasks=arguments.tasks,
            format=arguments.format,
            audio=not arguments.no_audio,
            batch=arguments.batch,
            limit=arguments.limit,
            reconnect_s=arguments.reconnect,
            report=arguments.report,
            watch=watch,
        )
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    for problem in report.problems:
        print(f"error: {problem}", file=sys.stderr)
    if not arguments.quiet:
        print(report.text())
    return 1 if report.problems else 0


def _parser() -> Parser:
    parser = Parser("nddr-infer", DESCRIPTION, epilog=EPILOG)
    main = parser.add_argument_group("what")
    main.add_argument(
        "--engine",
        required=True,
        metavar="MODEL",
        help="a model (.onnx), a TensorRT engine (.trt) or a checkpoint (.pt)",
    )
    main.add_argument("--input", required=True, metavar="X", help="what to run it on; see above")
    main.add_argument("--output", required=True, metavar="Y", help="where results go; overwritten if it exists")
    main.add_argument("--limit", type=_count, metavar="N", help="do at most N frames of each source (default: all)")
    main.add_argument("--tasks", type=parse_list, metavar="A,B", help="draw and store these tasks only (default: all)")
    look = parser.add_argument_group("how it looks")
    look.add_argument(
        "--layout",
        default="overlay",
        metavar="L",
        help="overlay (colours over the frame, other maps as insets), grid (all in the frame's size), "
        "or tiles (all at full size, a larger picture); default: overlay",
    )
    look.add_argument("--alpha", type=float, default=0.5, metavar="W", help="colours' weight, 0 to 1 (default: 0.5)")
    look.add_argument(
        "--format",
        metavar="F",
        help="of an output folder: pictures (drawn), npz (every task's array), png16 (labels in 8 bits, depth in "
        "millimetres and normals in 16 bits), jsonl (figures per frame); default: pictures",
    )
    look.add_argument("--no-audio", action="store_true", help="leave a video's audio out (default: copied)")
    run = parser.add_argument_group("how it runs")
    run.add_argument(
        "--backend",
        metavar="B",
        help="what runs it (default: by the model's suffix, .onnx and .pt on the CPU): "
        "onnxruntime, onnxruntime-as-written (slow, nothing fused), onnxruntime-cuda, onnxruntime-tensorrt or "
        "openvino; torch or torch-cuda; tensorrt",
    )
    run.add_argument("--threads", type=_count, metavar="N", help="threads of one pass (default: all cores)")
    run.add_argument("--precision", metavar="P", help="fp32, bf16, fp16, int8 or int8+bf16 (default: the model's own)")
    run.add_argument(
        "--fit",
        default="letterbox",
        metavar="M",
        help="bring frames to the model's size by letterbox (keeps shapes) or stretch; default: letterbox",
    )
    run.add_argument(
        "--batch", type=_count, metavar="N", help="frames per pass, where the model leaves it open (default: 1)"
    )
    run.add_argument(
        "--reconnect",
        type=float,
        default=60.0,
        metavar="S",
        help="seconds to try to get a lost stream back (default: 60)",
    )
    run.add_argument("--report", metavar="FILE.json", help="also write frames, fps and time per stage to a file")
    run.add_argument("--quiet", action="store_true", help="print errors and notes only")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1.")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(_main, argv)


if __name__ == "__main__":
    sys.exit(main())
