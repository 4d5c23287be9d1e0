"""What the command line says about quantising: shared by nddr-quantize and nddr-export."""

from __future__ import annotations

import argparse
from typing import Any

from nddr_deploy.command import parse_list, parse_option


def add_quantize_arguments(parser: argparse.ArgumentParser) -> None:
    calibration = parser.add_argument_group("calibration: pictures that the ranges of activations are measured on")
    calibration.add_argument(
        "--calibration",
        metavar="X",
        help="a folder, a pattern, a video, or a data set (rooms, faces, folder); its pictures take no part in judging",
    )
    calibration.add_argument(
        "--calibration-option",
        action="append",
        default=[],
        type=parse_option,
        metavar="KEY=VALUE",
        help="an option of that data set, as in path=../data/nyuv2 (default: those of --option, where both are of one "
        "data set)",
    )
    calibration.add_argument(
        "--calibration-split", default="train", metavar="NAME", help="which part of the data set (default: train)"
    )
    calibration.add_argument(
        "--calibration-limit", type=int, default=256, metavar="N", help="at most so many pictures (default: 256)"
    )
    calibration.add_argument(
        "--method",
        default="minmax",
        metavar="NAME",
        help="of choosing a range: minmax, percentile or entropy (default: minmax)",
    )
    calibration.add_argument("--percentile", type=float, metavar="P", help="of the percentile method (default: 99.99)")

    judging = parser.add_argument_group("judging: float against quantised, per head")
    judging.add_argument(
        "--data", metavar="NAME", help="a labelled data set: the change of every metric is measured on it"
    )
    judging.add_argument("--split", default="val", metavar="NAME", help="which part of it (default: val)")
    judging.add_argument(
        "--option", action="append", default=[], type=parse_option, metavar="KEY=VALUE", help="an option of --data"
    )
    judging.add_argument(
        "--images",
        metavar="X",
        help="pictures without labels instead: a folder, a pattern or a video; the float model's results are then the "
        "truth (default, without --data: every fourth picture of --calibration, which then takes no part in that)",
    )
    judging.add_argument("--limit", type=int, default=300, metavar="N", help="at most so many samples (default: 300)")
    judging.add_argument(
        "--budget",
        action="append",
        default=[],
        metavar="TASK.METRIC=CHANGE",
        help="what a head may lose, as in segmentation.mIoU=-0.5 (percentage points), normals.mean_angle=+0.3 "
        "(degrees) or depth.AbsRel=+1%% (of the float model's value); as many as you like. Where plain quantisation "
        "misses one, the fewest layers that meet all of them stay in higher precision",
    )
    judging.add_argument(
        "--sure", action="store_true", help="budgets must hold at the worse end of the 95 %% interval, too"
    )
    judging.add_argument(
        "--search-limit", type=int, default=64, metavar="N", help="samples for each trial of the search (default: 64)"
    )
    judging.add_argument(
        "--max-trials", type=int, metavar="N", help="of the search, at most (default: as many as it takes)"
    )
    judging.add_argument(
        "--sensitivity",
        metavar="PREFIX",
        help="measure every layer alone, and all but it, on every task: PREFIX.csv and PREFIX.png (default: only where "
        "a budget is missed, and not written)",
    )

    how = parser.add_argument_group("what is quantised, and how")
    how.add_argument(
        "--target",
        default="cpu",
        metavar="NAME",
        help="cpu (ONNX Runtime, OpenVINO), tensorrt (10 and later) or tensorrt8 (default: cpu)",
    )
    how.add_argument(
        "--keep", type=parse_list, default=(), metavar="A,B", help="nodes to leave in higher precision (default: none)"
    )
    how.add_argument(
        "--streams",
        default="auto",
        metavar="FORM",
        help="what is done where NDDR joins streams of different range: plain, equalised, split or float (those layers "
        "stay in higher precision); auto takes equalised unless another one is clearly better (default: auto)",
    )
    how.add_argument(
        "--reduce-range", action="store_true", help="7-bit weights, for processors without VNNI (default: 8)"
    )
    how.add_argument("--no-cache", action="store_true", help="measure everything anew, keep nothing (default: kept)")


def quantize_choices(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `quantize_model` that the groups set."""
    same = options.calibration in (options.data, options.images)
    return {
        "calibration": options.calibration,
        "calibration_split": options.calibration_split,
        "calibration_options": dict(options.calibration_option or (options.option if same else ())),
        "calibration_limit": options.calibration_limit,
        "method": options.method,
        "percentile": options.percentile,
        "data": options.data,
        "split": options.split,
        "options": dict(options.option),
        "images": options.images,
        "limit": options.limit,
        "budgets": tuple(options.budget),
        "sure": options.sure,
        "search_limit": options.search_limit,
        "max_trials": options.max_trials,
        "sensitivity": options.sensitivity,
        "target": options.target,
        "keep": options.keep,
        "streams": options.streams,
        "reduce_range": options.reduce_range,
        "cache": not options.no_cache,
    }
