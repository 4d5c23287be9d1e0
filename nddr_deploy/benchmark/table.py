"""The report as tables: for a terminal, or as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nddr_deploy.benchmark.report import BenchmarkReport, OneThread, OnGpu, Row
from nddr_deploy.benchmark.timing import Percentiles, Spread


@dataclass(frozen=True)
class Table:
    """Texts in rows; the first column is left-aligned, the others right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(report: BenchmarkReport) -> list[Table]:
    """One table per section that some case has."""
    on_cpu = [row for row in report.rows if row.one_thread]
    on_gpu = [row for row in report.rows if row.gpu]
    first = report.rows[0].label
    found = []
    if on_cpu:
        found.append(
            Table(
                f"Engine only, one thread, processor time; times faster than {on_cpu[0].label}",
                ("case", "speed-up", "p50 / p90 / p99 ms", "passes", "GFLOP/s", "× floor"),
                tuple(_one_thread(row.label, row.one_thread) for row in on_cpu if row.one_thread),
            )
        )
    if on_gpu:
        found += _gpu_tables({row.label: row.gpu for row in on_gpu if row.gpu})
    where = "`infer` one by one" if on_gpu else f"all cores ({report.threads})"
    found.append(
        Table(
            f"Engine only, {where}, by the clock; times faster than {first}",
            ("case", "speed-up", "p50 / p90 / p99 ms", "images/s", "memory MB", "difference"),
            tuple(_all_cores(row) for row in report.rows),
        )
    )
    if report.input is not None:
        stages = list(report.rows[0].end_to_end.busy_s) if report.rows[0].end_to_end else []
        found.append(
            Table(
                f"End to end on {report.input}, all cores ({report.threads}); times faster than {first}",
                ("case", "speed-up", "frames/s", *(f"{stage} ms" for stage in stages)),
                tuple(_end_to_end(row) for row in report.rows),
            )
        )
    return found


def facts(report: BenchmarkReport) -> list[str]:
    """The lines above the tables: what was measured, on what, and what could not be."""
    model, machine = report.model, report.machine
    height, width = model["size_hw"]
    work = "" if model["flops"] is None else f", {model['flops'] / 1e9:.1f} GFLOP a pass"
    lines = [
        f"{model['file']}: {model['network'] or 'network'}, {' + '.join(model['tasks'])}, {height}x{width}, "
        f"batch {model['batch']}{work}",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB; "
        f"{' '.join(machine['flags'])}",
    ]
    if "gpu" in machine:
        gpu = machine["gpu"]
        lines.append(
            f"{gpu['name']}, compute capability {gpu['compute_capability']}, {gpu['memory_bytes'] / 2**30:.0f} GiB, "
            f"driver for CUDA {gpu['driver_cuda']}; outputs {model['outputs']}"
        )
    lines.append(", ".join(f"{name} {version}" for name, version in report.versions.items()))
    lines += [
        f"floor {precision}: {rate.flops_per_s / 1e9:.0f} GFLOP/s a core ({rate.backend}, {rate.kernel})"
        for precision, rate in report.floor.items()
    ]
    if report.gpu_floor:
        lines += [
            f"floor of the GPU in {precision}: {rate.flops_per_s / 1e12:.1f} TFLOP/s ({rate.kernel})"
            for precision, rate in report.gpu_floor.rates.items()
        ]
        copies = ", ".join(f"{name} {rate / 1e9:.1f} GB/s" for name, rate in report.gpu_floor.copies.items())
        lines.append(f"floor of the GPU's copies: {copies}")
    lines += model["notes"]
    lines += [f"not run: {case}: {reason}" for case, reason in report.not_run.items()]
    return lines


def legend(report: BenchmarkReport) -> tuple[str, ...]:
    """What the columns mean."""
    return LEGEND + (GPU_LEGEND if any(row.gpu for row in report.rows) else ())


LEGEND = (
    "speed-up: the median over rounds of the ratio within a round (and its range).",
    "× floor: the time over what the machine's best kernel of that precision needs for the same arithmetic.",
    "memory: the most that the process held beyond an empty one, loading included.",
    "difference: the largest of any output from the first case's, over that output's range.",
)
GPU_LEGEND = (
    "GPU: the floor is the GPU's fastest measured matrix product; H2D and D2H are the copies to it and back, enqueue "
    "is the host's time to start a pass (ms).",
    "streamed: passes may overlap, as in nddr-infer; with copies: to the GPU, its work, and back, one after the other.",
)
NARROWEST = 100  # characters; a narrower terminal breaks the lines rather than the figures


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown."""
    lines = [table.columns, ("---", *("---:" for _ in table.columns[1:])), *table.rows]
    return f"### {table.title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def show(found: Sequence[Table]) -> None:
    """Print to the terminal."""
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console()
    console.width = max(console.width, NARROWEST)
    for table in found:
        drawn = RichTable(title=table.title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for index, column in enumerate(table.columns):
            drawn.add_column(column, justify="right" if index else "left", no_wrap=True)
        for row in table.rows:
            drawn.add_row(*row)
        console.print(drawn, "")


def _gpu_tables(rows: Mapping[str, OnGpu]) -> list[Table]:
    first = next(iter(rows))
    return [
        Table(
            f"GPU, its own work; times faster than {first}",
            ("case", "speed-up", "p50 / p90 / p99 ms", "passes", "TFLOP/s", "× floor"),
            tuple(_gpu_work(label, gpu) for label, gpu in rows.items()),
        ),
        Table(
            f"GPU, with copies; times faster than {first}",
            ("case", "speed-up", "p50 / p90 / p99 ms", "H2D", "enqueue", "D2H"),
            tuple(_gpu_copies(label, gpu) for label, gpu in rows.items()),
        ),
        Table(
            f"GPU, streamed; times faster than {first}",
            ("case", "speed-up", "images/s", "a pass is bound by"),
            tuple(_gpu_streamed(label, gpu) for label, gpu in rows.items()),
        ),
    ]


def _gpu_work(label: str, gpu: OnGpu) -> tuple[str, ...]:
    rate = "-" if gpu.flops_per_s is None else f"{gpu.flops_per_s / 1e12:.2f}"
    floor = "-" if gpu.floor_multiple is None else f"{gpu.floor_multiple:.2f}"
    return label, _spread(gpu.speedup), _fine(gpu.compute_s), str(gpu.compute_s.passes), rate, floor


def _gpu_copies(label: str, gpu: OnGpu) -> tuple[str, ...]:
    parts = (f"{1000 * times.p50:.3f}" for times in (gpu.h2d_s, gpu.enqueue_s, gpu.d2h_s))
    return label, _spread(gpu.with_copies_speedup), _fine(gpu.with_copies_s), *parts


def _gpu_streamed(label: str, gpu: OnGpu) -> tuple[str, ...]:
    return label, _spread(gpu.streamed_speedup), f"{gpu.images_per_s.median:.1f}", gpu.bottleneck


def _fine(times: Percentiles) -> str:
    """A GPU's milliseconds have parts."""
    return " / ".join(f"{1000 * value:.3f}" for value in (times.p50, times.p90, times.p99))


def _one_thread(label: str, one: OneThread) -> tuple[str, ...]:
    floor = "-" if one.floor_multiple is None else f"{one.floor_multiple:.2f}"
    rate = "-" if one.flops_per_s is None else f"{one.flops_per_s / 1e9:.0f}"
    return label, _spread(one.speedup), _percentiles(one.cpu_s), str(one.cpu_s.passes), rate, floor


def _all_cores(row: Row) -> tuple[str, ...]:
    cores = row.all_cores
    memory = f"{row.memory_bytes / 1e6:.0f}"
    rate = f"{cores.images_per_s:.2f}"
    times = _fine(cores.wall_s) if row.gpu else _percentiles(cores.wall_s)
    return row.label, _spread(cores.speedup), times, rate, memory, f"{row.difference:.1e}"


def _end_to_end(row: Row) -> tuple[str, ...]:
    if row.end_to_end is None:
        return (row.label,)
    run = row.end_to_end
    return (row.label, _spread(run.speedup), f"{run.frames_per_s.median:.2f}", *_ms(*run.busy_s.values()))


def _spread(spread: Spread) -> str:
    return f"{spread.median:.2f} ({spread.min:.2f}-{spread.max:.2f})"


def _percentiles(times: Percentiles) -> str:
    return " / ".join(_ms(times.p50, times.p90, times.p99))


def _ms(*seconds: float) -> tuple[str, ...]:
    return tuple(f"{1000 * value:.1f}" for value in seconds)
