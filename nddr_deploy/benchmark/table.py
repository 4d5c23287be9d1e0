"""The report as tables: for a terminal, or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nddr_deploy.benchmark.report import BenchmarkReport, Row
from nddr_deploy.benchmark.timing import Percentiles, Spread


@dataclass(frozen=True)
class Table:
    """Texts in rows; the first column is left-aligned, the others right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(report: BenchmarkReport) -> list[Table]:
    """One table per section."""
    first = report.rows[0].label
    found = [
        Table(
            f"Engine only, one thread, processor time; times faster than {first}",
            ("case", "speed-up", "p50 / p90 / p99 ms", "passes", "GFLOP/s", "× floor"),
            tuple(_one_thread(row) for row in report.rows),
        ),
        Table(
            f"Engine only, all cores ({report.threads}), by the clock; times faster than {first}",
            ("case", "speed-up", "p50 / p90 / p99 ms", "images/s", "memory MB", "difference"),
            tuple(_all_cores(row) for row in report.rows),
        ),
    ]
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
    """The lines above and below the tables: what was measured, on what, and what could not be."""
    model, machine = report.model, report.machine
    height, width = model["size_hw"]
    lines = [
        f"{model['file']}: {model['network'] or 'network'}, {' + '.join(model['tasks'])}, {height}x{width}, "
        f"batch {model['batch']}, {model['flops'] / 1e9:.1f} GFLOP a pass",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB; "
        f"{' '.join(machine['flags'])}",
        ", ".join(f"{name} {version}" for name, version in report.versions.items()),
    ]
    lines += [
        f"floor {precision}: {rate.flops_per_s / 1e9:.0f} GFLOP/s a core ({rate.backend}, {rate.kernel})"
        for precision, rate in report.floor.items()
    ]
    lines += [f"not run: {case}: {reason}" for case, reason in report.not_run.items()]
    return lines


LEGEND = (
    "speed-up: the median over rounds of the ratio within a round (and its range).",
    "× floor: the time over what the machine's best kernel of that precision needs for the same arithmetic.",
    "memory: the most that the process held beyond an empty one, loading included.",
    "difference: the largest of any output from the first case's, over that output's range.",
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


def _one_thread(row: Row) -> tuple[str, ...]:
    one = row.one_thread
    floor = "-" if one.floor_multiple is None else f"{one.floor_multiple:.2f}"
    rate = f"{one.flops_per_s / 1e9:.0f}"
    return row.label, _spread(one.speedup), _percentiles(one.cpu_s), str(one.cpu_s.passes), rate, floor


def _all_cores(row: Row) -> tuple[str, ...]:
    cores = row.all_cores
    memory = f"{row.memory_bytes / 1e6:.0f}"
    rate = f"{cores.images_per_s:.2f}"
    return row.label, _spread(cores.speedup), _percentiles(cores.wall_s), rate, memory, f"{row.difference:.1e}"


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
