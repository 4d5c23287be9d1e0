"""What a table claims: which row is best, what cannot be told from it, and which rows may be compared at all."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from nddr_deploy.experiments.compare import T95, Difference, difference
from nddr_deploy.experiments.markdown import markdown
from nddr_deploy.experiments.plan import make_plan
from nddr_deploy.experiments.report import Cell, TableReport, make_report
from nddr_deploy.experiments.results import Result, Results
from nddr_deploy.experiments.spec import Row, TableSpec, read_table
from nddr_deploy.tasks.base import MetricForm

TABLES = Path(__file__).parents[2] / "examples" / "tables"
KNOWN = {
    row.name: row
    for row in (
        Row("single task", stage="single", each=True, start="random", paper=(33.5, 15.6)),
        Row("trained on", stage="fused", each=True, start="single"),
        Row("as long", stage="long", each=True, start="random"),
        Row("shared", stage="long", start="random"),
    )
}
FORMS = (MetricForm("share", higher_is_better=True), MetricForm("degrees", higher_is_better=False))


def report(rows: dict[str, tuple[list[float], list[float]]], asked: int = 3, **failed: int) -> TableReport:
    """A table of mIoU and mean angle; the values of seeds 0, 1, ..."""
    spec = TableSpec(
        name="mine",
        title="Mine",
        scale="small",
        tasks=("segmentation", "normals"),
        columns=(("segmentation", "mIoU"), ("normals", "mean_angle")),
        judged_on={"split": "test"},
        sections={},
        rows=tuple(KNOWN.get(name, Row(name)) for name in rows),
    )
    cells = {
        name: tuple(Cell(tuple(values), None, tuple(range(len(values)))) for values in columns)
        for name, columns in rows.items()
    }
    counts = dict.fromkeys(rows, 0) | failed
    complete = min(len(columns[0]) + counts[name] for name, columns in rows.items())
    return TableReport(spec, FORMS, cells, counts, tuple(range(complete)), tuple(range(asked)), ())


def line(text: str, start: str, number: int = 0) -> str:
    return [found for found in text.splitlines() if found.startswith(start)][number]


def test_the_best_row_is_bold_and_what_cannot_be_told_from_it_is_marked() -> None:
    table = report(
        {
            "single task": ([30.0, 31.0, 32.0], [16.0, 16.1, 16.2]),
            "NDDR": ([40.0, 41.1, 42.0], [14.0, 14.1, 14.2]),
            "sluice": ([39.0, 42.0, 41.0], [15.0, 15.1, 15.21]),
        }
    )

    assert (table.best(0), table.best(1)) == ("NDDR", "NDDR")
    assert table.like_best(0) == ("sluice",)  # better in one seed, worse in two
    assert table.like_best(1) == ()  # worse by 1.0 in each seed
    text = markdown(table)
    assert line(text, "| NDDR |") == "| NDDR | **41.03** ± 1.00 | **14.10** ± 0.10 |"
    assert line(text, "| sluice |") == "| sluice | 40.67 ± 1.53 ≈ | 15.10 ± 0.11 |"


def test_gains_over_the_single_task_row_are_taken_seed_by_seed_and_positive_is_better() -> None:
    table = report({"single task": ([30.0, 20.0, 25.0], [16.0] * 3), "NDDR": ([31.0, 21.1, 25.9], [15.0, 17.0, 16.0])})

    text = markdown(table)

    assert line(text, "| NDDR |", 1) == r"| NDDR | +1.00 ± 0.10 \* | +0.00 ± 1.00 |"  # though seeds differ by 10


def test_gains_are_also_taken_over_the_single_task_networks_of_the_same_steps() -> None:
    table = report(
        {
            "single task": ([30.0, 20.0, 25.0], [16.0] * 3),
            "trained on": ([31.0, 21.0, 26.0], [15.0] * 3),
            "as long": ([33.0, 23.0, 28.0], [14.0] * 3),
            "shared": ([32.0, 22.1, 26.9], [13.0, 15.0, 14.0]),
            "NDDR": ([33.0, 23.1, 27.9], [14.0, 16.0, 15.0]),
        }
    )

    assert {name: table.peer(name) for name in table.cells} == {
        "single task": None,
        "trained on": None,
        "as long": None,
        "shared": "as long",
        "NDDR": "trained on",
    }
    text = markdown(table)
    assert line(text, "| NDDR |", 1) == r"| NDDR | +3.00 ± 0.10 \* | +1.00 ± 1.00 |"
    assert line(text, "| NDDR, over *trained on* |") == r"| NDDR, over *trained on* | +2.00 ± 0.10 \* | +0.00 ± 1.00 |"
    assert line(text, "| shared, over *as long* |") == r"| shared, over *as long* | -1.00 ± 0.10 \* | +0.00 ± 1.00 |"


def test_a_table_without_single_task_networks_of_the_same_steps_has_no_such_gains() -> None:
    table = report({"single task": ([30.0], [16.0]), "NDDR": ([40.0], [14.0])}, asked=1)

    assert "the same steps" not in markdown(table)


def test_rows_without_the_same_seeds_are_not_compared_and_say_how_many_they_have() -> None:
    table = report({"single task": ([30.0, 31.0], [16.0, 16.0]), "NDDR": ([40.0], [14.0])})

    assert (table.best(0), table.like_best(0)) == (None, ())
    text = markdown(table)
    assert "**" not in text
    assert "No best is marked: not every row has the same seeds yet." in text
    assert "| single task (2 of 3 seeds) | 30.50 ± 0.71 |" in text
    assert "| NDDR (1 of 3 seeds) | 40.00 |" in text
    assert line(text, "| NDDR (1 of 3 seeds) |", 1) == "| NDDR (1 of 3 seeds) | +10.00 | +2.00 |"


def test_a_row_that_failed_with_one_seed_is_not_the_best_by_the_others() -> None:
    table = report({"single task": ([30.0, 31.0], [16.0, 16.0]), "NDDR": ([40.0], [14.0])}, asked=2, NDDR=1)

    assert table.best(0) == "single task"
    assert "NDDR: 1 of the trainings failed" in markdown(table)


def test_one_seed_claims_nothing_about_chance() -> None:
    table = report({"single task": ([30.0], [16.0]), "NDDR": ([40.0], [14.0])}, asked=1)

    text = markdown(table)
    assert table.like_best(0) == ()
    assert "One seed says nothing about chance" in text
    assert r"\* |" not in text


def test_the_time_of_a_table_is_that_of_its_starts_too(tmp_path: Path) -> None:
    plan = make_plan(read_table(TABLES / "table3.yaml", "tiny"), [0])  # two rows, three networks that they start from
    results = Results(tmp_path)
    scores = {"segmentation": {"mIoU": 0.5}, "normals": {"mean_angle": 20.0}}
    for run in plan.runs():
        machine = {"cpu": "a CPU", "device": "cpu"}
        results.write(run, Result(run.digest, run.name, 0, {}, {}, scores, "", 2, 60.0, 1.0, machine, {}, ""))
    narrow = replace(plan.spec, columns=(("segmentation", "mIoU"), ("normals", "mean_angle")))

    table = make_report(replace(plan, spec=narrow), results, dict(zip(narrow.columns, FORMS, strict=True)))

    assert "5 networks trained in 5 minutes on cpu (a CPU)" in markdown(table)
    assert [cell.values for cell in table.cells["single tasks"]] == [(50.0,), (20.0,)]


def test_the_interval_is_students() -> None:
    """Just beyond and just within t times the standard error, for 1 to 4 degrees of freedom."""
    for count in (2, 3, 4, 5):
        values = [0.0, 2.0, 1.0, 1.0, 1.0][:count]
        scale = 1 / Difference(tuple(values)).deviation
        close = Difference(tuple(1 + scale * (value - sum(values) / count) for value in values))
        limit = T95[count - 2] / math.sqrt(count)
        assert close.deviation == pytest.approx(1.0)
        assert Difference(tuple(value - 1 + 1.01 * limit for value in close.values)).beyond_chance is True
        assert Difference(tuple(value - 1 + 0.99 * limit for value in close.values)).beyond_chance is False
    assert difference({0: 3.0, 1: 5.0}, {1: 4.0, 2: 9.0}).values == (1.0,)
    assert Difference((1.0,)).beyond_chance is None
