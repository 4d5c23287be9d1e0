"""What was aimed at, what was found, and where it falls short, the measured reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gpu_steps.passes import COMPILE
from gpu_steps.plan import NETWORKS
from gpu_steps.work import Work

OVER_COMPILE = {"deeplab": 1.5, "resnet18": 2.0}
INT8_OVER_FP16 = 1.3
LABELS = 0.995
OF_SLOWEST_STAGE = 0.9
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Aim:
    """One line of the table.

    Attributes:
        text: what was aimed at.
        wanted, found: numbers; `found` is None where nothing was measured.
        shown: what was found, for people.
        why: the measured reason where it falls short, or what kept it from being measured.
    """

    text: str
    wanted: float
    found: float | None
    shown: str
    why: str = ""

    @property
    def verdict(self) -> str:
        if self.found is None:
            return NOT_MEASURED
        return "met" if self.found >= self.wanted else "NOT met"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict}


def aims(work: Work, reasons: Mapping[str, str]) -> list[Aim]:
    """All of them.

    Args:
        reasons: step -> why it has no result.
    """
    found = []
    for network, title in NETWORKS.items():
        text = f"{title}: FP16 engine at least {OVER_COMPILE[network]:g} times torch.compile FP16 channels-last"
        found.append(_faster(work, network, "tensorrt fp16", COMPILE, text, OVER_COMPILE[network], reasons))
    for network, title in NETWORKS.items():
        text = f"{title}: INT8 engine at least {INT8_OVER_FP16:g} times FP16"
        found.append(_faster(work, network, "tensorrt int8", "tensorrt fp16", text, INT8_OVER_FP16, reasons))
    found += [_labels(work, network, title, reasons) for network, title in NETWORKS.items()]
    found += [_video(work, network, title, reasons) for network, title in NETWORKS.items()]
    return found


def _faster(
    work: Work, network: str, fast: str, slow: str, text: str, wanted: float, reasons: Mapping[str, str]
) -> Aim:
    """By the GPU's own time; the other times are told beside it."""
    step = f"passes.{network}"
    result = work.result(step)
    ratios = ((result or {}).get("speedups") or {}).get(f"{fast} over {slow}")
    if result is None or ratios is None:
        not_run = (result or {}).get("not_run", {})
        absent = next((f"{name}: {not_run[name]}" for name in (fast, slow) if name in not_run), "")
        return Aim(text, wanted, None, "", absent or reasons.get(step, "") or _unbuilt(fast, slow, network, reasons))
    shown = ", ".join(
        f"{kind} {ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})" for kind, ratio in ratios.items()
    )
    median = ratios["compute"]["median"]
    why = "" if median >= wanted else f"{fast}: {about_row(result['rows'][fast])}"
    return Aim(text, wanted, median, shown, why)


def _unbuilt(fast: str, slow: str, network: str, reasons: Mapping[str, str]) -> str:
    steps = [
        f"build.{network}.{name.removeprefix('tensorrt ')}" for name in (fast, slow) if name.startswith("tensorrt")
    ]
    return next((reasons[step] for step in steps if step in reasons), "it did not run")


def about_row(row: Mapping[str, Any]) -> str:
    """What a pass waits for, with the figures that say so."""
    gpu = row["gpu"]
    compute, h2d, d2h, enqueue = (1e3 * gpu[name]["p50"] for name in ("compute_s", "h2d_s", "d2h_s", "enqueue_s"))
    floor = f", {gpu['floor_multiple']:.1f} times the floor" if gpu["floor_multiple"] else ""
    return (
        f"bound by {gpu['bottleneck']}: {compute:.3f} ms of work{floor}; copies {h2d:.3f} and {d2h:.3f} ms; the host "
        f"takes {enqueue:.3f} ms to start it"
    )


def _labels(work: Work, network: str, title: str, reasons: Mapping[str, str]) -> Aim:
    text = f"{title}: FP16 labels equal PyTorch's FP32 labels at {LABELS:.1%} of the pixels or more"
    step = f"agreement.{network}"
    found = ((work.result(step) or {}).get("engines") or {}).get("fp16")
    if found is None:
        return Aim(text, LABELS, None, "", reasons.get(step) or reasons.get(f"build.{network}.fp16", "it did not run"))
    share = found["labels_equal"]
    shown = f"{share:.3%}; worst picture {found['labels_equal_worst_picture']:.3%}"
    why = "" if share >= LABELS else "a random network decides many pixels by little; a trained one has wider margins"
    return Aim(text, LABELS, share, shown, why)


def _video(work: Work, network: str, title: str, reasons: Mapping[str, str]) -> Aim:
    text = f"{title}: the video pipeline reaches {OF_SLOWEST_STAGE:.0%} of its slowest stage alone"
    step = f"video.{network}"
    found = work.result(step)
    if found is None or found["engine"] != "tensorrt":
        return Aim(text, OF_SLOWEST_STAGE, None, "", reasons.get(step) or "it did not run on a GPU")
    rates = ", ".join(f"{stage} {rate:.0f}" for stage, rate in found["alone_fps"].items())
    shown = f"{found['share']:.1%} of {found['slowest_stage']}: {min(found['fps']):.0f} to {max(found['fps']):.0f} fps"
    why = "" if found["share"] >= OF_SLOWEST_STAGE else f"alone, in frames per second: {rates}"
    return Aim(text, OF_SLOWEST_STAGE, found["share"], shown, why)
