"""The report's tables: what they hold, and how they look in a terminal or a file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

from nddr_deploy.graph.costs import Cost, Subset
from nddr_deploy.graph.coupling import Block


@dataclass(frozen=True)
class Table:
    """Texts in rows; the first `names` columns are left-aligned, the others right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1


def coupling_table(blocks: Sequence[Block], tasks: Sequence[str], images: str) -> Table:
    """A row per layer and task, a column per stream."""
    streams = _streams([block.stream for block in blocks], tasks)
    shares = {block.place: block.share for block in blocks}
    rows, before = [], ""
    for layer, task in dict.fromkeys((block.layer, block.task) for block in blocks):
        cells = [_percent(shares.get((layer, task, stream), float("nan"))) for stream in streams]
        rows.append(("" if layer == before else layer, task, *cells))
        before = layer
    title = f"Coupling: what each task takes from each stream (share of weight norm × activation scale; {images})"
    return Table(title, ("layer", "task", *streams), tuple(rows), names=2)


def flops_table(costs: Sequence[Cost], tasks: Sequence[str]) -> Table:
    """A row per part, a column per stream."""
    giga = sum(cost.flops for cost in costs) >= 100e9
    unit, divisor = ("GFLOP", 1e9) if giga else ("MFLOP", 1e6)
    figures = {(cost.part, cost.stream): 0.0 for cost in costs}
    for cost in costs:
        figures[cost.part, cost.stream] += cost.flops / divisor
    return _parts_table(f"Arithmetic of a pass, {unit} (2 per multiply-accumulate)", figures, tasks)


def parameters_table(costs: Sequence[Cost], tasks: Sequence[str]) -> Table:
    """A row per part, a column per stream."""
    figures = {(cost.part, cost.stream): 0.0 for cost in costs}
    for cost in costs:
        figures[cost.part, cost.stream] += cost.parameters / 1e3
    return _parts_table("Parameters, thousands", figures, tasks)


def subset_table(subsets: Sequence[Subset]) -> Table:
    """A row per subset of the tasks."""
    rows = tuple(
        (
            ",".join(subset.tasks),
            work(subset.flops),
            _percent(subset.flops_share),
            f"{subset.parameters / 1e6:.2f}",
            _percent(subset.parameters_share),
        )
        for subset in subsets
    )
    title = "What is left when only some tasks are exported (whatever their outputs do not need is cut)"
    return Table(title, ("--tasks", "arithmetic", "of all", "million parameters", "of all"), rows)


def work(flops: int) -> str:
    """For people, as in "2.74 GFLOP"."""
    return f"{flops / 1e9:,.2f} GFLOP" if flops >= 1e8 else f"{flops / 1e6:,.2f} MFLOP"


def rendered(table: Table) -> str:
    """As plain text, whatever it is written to; lines are as long as they need to be."""
    from rich.console import Console
    from rich.table import Table as RichTable

    drawn = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, column in enumerate(table.columns):
        drawn.add_column(column, justify="left" if place < table.names else "right", no_wrap=True)
    for row in table.rows:
        drawn.add_row(*row)
    console = Console(file=io.StringIO(), width=10_000, no_color=True, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(drawn)
    lines = [table.title, *captured.get().splitlines()]
    return "\n".join(line.rstrip() for line in lines)


def _parts_table(title: str, figures: dict[tuple[str, str], float], tasks: Sequence[str]) -> Table:
    """Parts whose figures round to nothing stay: they are there."""
    streams = _streams([stream for _, stream in figures], tasks)
    parts = list(dict.fromkeys(part for part, _ in figures))
    whole = sum(figures.values())
    rows = []
    for part in parts:
        own = [figures.get((part, stream)) for stream in streams]
        total = sum(value for value in own if value is not None)
        cells = ["-" if value is None else f"{value:,.1f}" for value in own]
        rows.append((part, *cells, f"{total:,.1f}", _percent(total / whole if whole else float("nan"))))
    columns = (stream or "common" for stream in streams)
    sums = [sum(figures.get((part, stream), 0.0) for part in parts) for stream in streams]
    rows.append(("all", *(f"{value:,.1f}" for value in sums), f"{whole:,.1f}", ""))
    return Table(title, ("part", *columns, "all", "share"), tuple(rows))


def _streams(found: Sequence[str], tasks: Sequence[str]) -> list[str]:
    """In the order of the tasks; what is no task's comes after them."""
    return [*(task for task in tasks if task in found), *dict.fromkeys(name for name in found if name not in tasks)]


def _percent(share: float) -> str:
    return "-" if isnan(share) else f"{100 * share:.1f} %"
