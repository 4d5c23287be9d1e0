"""`nddr-quantize`: an exported model becomes an int8 one, with a card that says what it costs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from nddr_deploy.command import Parser, run_command
from nddr_deploy.quantize.arguments import add_quantize_arguments, quantize_choices

DESCRIPTION = """Write an int8 form of an exported model, and say what it costs each task.
Beside MODEL.int8.onnx lie MODEL.int8.card.json and .card.html: every head before and after with 95 % intervals,
which layers stayed in float and why, hashes, speed, and the pictures that lost most. Needs no PyTorch."""

EPILOG = """examples:
  nddr-quantize model.onnx --calibration photos/
  nddr-quantize model.onnx --calibration rooms --data rooms --split test --budget segmentation.mIoU=-0.5
  nddr-quantize model.onnx --calibration walk.mp4 --images other.mp4 --budget segmentation.PAcc=-1.5
  nddr-quantize model.onnx --calibration photos/ --target tensorrt        (then nddr-build --precision int8)

exit status: 0 done; 1 a budget cannot be met (the best attempt is kept beside, and named); 2 wrong input"""


def _main(argv: Sequence[str]) -> int:
    parser = Parser("nddr-quantize", DESCRIPTION, epilog=EPILOG)
    parser.add_argument("model", metavar="MODEL.onnx", help="a float32 model, from nddr-export")
    parser.add_argument("--output", metavar="FILE", help="the int8 model (default: MODEL.int8.onnx)")
    parser.add_argument("--report", metavar="FILE", help="write the outcome as JSON, also when a budget is missed")
    add_quantize_arguments(parser)
    arguments = parser.parse_args(argv)

    from nddr_deploy.quantize.recipe import quantize_model

    done = quantize_model(
        arguments.model, arguments.output, **quantize_choices(arguments), report=arguments.report, progress=True
    )
    print(done.text())
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(_main, argv)


if __name__ == "__main__":
    sys.exit(main())
