"""What a pass, or a whole run, waits for: in one word for the report, in a sentence for people."""

from __future__ import annotations

from collections.abc import Mapping

from nddr_deploy.benchmark.report import BenchmarkReport, Row
from nddr_deploy.inference.report import PARTS

# A pass whose start takes this share of the GPU's work keeps the GPU waiting: its work cannot end before the last of it
# is started, so of a pass alone it hardly ever takes less time than its start does.
STARTING = 0.9


def of_pass(*, h2d_s: float, enqueue_s: float, compute_s: float, d2h_s: float) -> str:
    """What decides how many passes a second a GPU does: "enqueue", "copies" or "compute".

    Args:
        h2d_s, enqueue_s, compute_s, d2h_s: of a pass; see `engines.base.PassTimes`.
    """
    copies_s = h2d_s + d2h_s
    if enqueue_s > STARTING * compute_s and enqueue_s > copies_s:
        return "enqueue"
    return "copies" if copies_s > compute_s else "compute"


def of_run(busy_s: Mapping[str, float]) -> str:
    """The part that a run from end to end waits for: the longest of the thread that works longest.

    Args:
        busy_s: part -> seconds that it worked; parts of one thread (`inference.report.PARTS`) add up.
    """
    threads = [[part for part in parts if part in busy_s] for parts in PARTS.values()]
    slowest = max(threads, key=lambda parts: sum(busy_s[part] for part in parts))
    return max(slowest, key=lambda part: busy_s[part])


def sentences(report: BenchmarkReport) -> list[str]:
    """One for every case on a GPU, and one for every case that was measured end to end."""
    found = [_about_pass(row, report) for row in report.rows if row.gpu]
    return found + [_about_run(row) for row in report.rows if row.end_to_end]


def _about_pass(row: Row, report: BenchmarkReport) -> str:
    gpu = row.gpu
    if gpu is None:
        return ""
    h2d, enqueue, compute, d2h = (
        f"{1000 * times.p50:.3f} ms" for times in (gpu.h2d_s, gpu.enqueue_s, gpu.compute_s, gpu.d2h_s)
    )
    if gpu.bottleneck == "enqueue":
        return (
            f"{row.label} is enqueue-bound: the host takes {enqueue} to start what takes the GPU {compute}. A CUDA "
            "graph (fixed size and batch) or a larger batch helps."
        )
    if gpu.bottleneck == "copies":
        raw = report.model["outputs"] == "raw"
        advice = "Decode on the GPU: results are smaller than raw outputs." if raw else "Let passes overlap (`stream`)."
        return f"{row.label} is copy-bound: {h2d} to the GPU and {d2h} back, for {compute} of work. {advice}"
    share = f", {gpu.floor_multiple:.2f} times the floor" if gpu.floor_multiple else ""
    return (
        f"{row.label} is compute-bound: {compute} of work{share}, against {h2d} and {d2h} of copies and {enqueue} to "
        "start it. Faster kernels, a faster precision or a smaller model help."
    )


def _about_run(row: Row) -> str:
    run = row.end_to_end
    if run is None:
        return ""
    times = ", ".join(f"{part} {1000 * seconds:.1f}" for part, seconds in run.busy_s.items())
    return f"{row.label} end to end waits for the {run.bottleneck} (ms a frame: {times})."
