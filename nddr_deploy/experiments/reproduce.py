"""Tables from their files to numbers: plan, train what is missing, write the table, the picture and the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from nddr_deploy.data import open_dataset
from nddr_deploy.errors import ConfigError
from nddr_deploy.experiments.execute import Workshop, execute
from nddr_deploy.experiments.markdown import markdown
from nddr_deploy.experiments.plan import Plan, all_runs, make_plan
from nddr_deploy.experiments.report import TableReport, make_report, write_report
from nddr_deploy.experiments.results import Results, made_folder
from nddr_deploy.experiments.spec import TableSpec, read_table
from nddr_deploy.tasks.base import MetricForm


def reproduce(
    tables: Sequence[Path],
    output: Path,
    *,
    scale: str,
    seeds: Sequence[int] = (0,),
    data: str | None = None,
    pretrained: str | None = None,
    results: Path | None = None,
    processes: int = 1,
    device: str = "auto",
    train: bool = True,
    console: Console | None = None,
) -> list[TableReport]:
    """Train what the tables need and is not there yet, and write each table beside the paper's.

    Args:
        tables: YAML files, see `experiments.spec`.
        output: gets runs/ (a folder per training), results/ and tables/.
        scale: which of the tables' scales.
        seeds: of weights, order and variation.
        data, pretrained: see `make_plan`.
        results: where finished trainings are noted and looked up; None: output/results.
        processes: that train one network together.
        device: "auto", "cpu" or "cuda".
        train: False only writes the tables from the results that are there.

    Raises:
        ConfigError: no seeds or processes, or a table asks for what was not given.
        InputError: a folder cannot be made or written to.
        NddrError: see `execute`.
    """
    console = console or Console()
    if not seeds or processes < 1:
        raise ConfigError(f"Expected at least one seed and one process; got {len(seeds)} and {processes}.")
    # What could fail at the end is tried before hours of training.
    plans = [
        make_plan(read_table(path, scale), seeds, data=data, pretrained=pretrained, processes=processes)
        for path in tables
    ]
    forms = [_forms(plan.spec, data) for plan in plans]
    output = output.absolute()
    folder = made_folder(output / "tables", "Choose another --output.")
    found = Results(results or output / "results")
    if train:
        made_folder(found.folder, "Choose another --results.")
        shop = Workshop(output / "runs", found, processes, device, console)
        execute(all_runs(plans), shop)
    reports = []
    for plan, form in zip(plans, forms, strict=True):
        report = make_report(plan, found, form)
        files = write_report(report, folder)
        console.print(f"\n{markdown(report)}", highlight=False, markup=False, soft_wrap=True)
        console.print(f"{files[0]} and {files[-1].name}", highlight=False, markup=False, soft_wrap=True)
        reports.append(report)
    return reports


def plan_text(plans: Sequence[Plan], results: Results) -> str:
    """What there is to train, a line per run."""
    lines = []
    for run in all_runs(plans):
        state = "done" if results.find(run) is not None else "to train"
        lines.append(f"{run.key}: {state}" + "".join(f", from {start.key}" for start in run.starts.values()))
    return "\n".join(lines)


def _forms(spec: TableSpec, data: str | None) -> dict[tuple[str, str], MetricForm]:
    """Unit and direction of each column's metric, from the tasks of the data that networks are judged on."""
    settings = spec.settings("fused").get("data", {})
    options = {**settings.get("options", {}), **spec.judged_on.get("options", {})}
    if settings.get("name") == "folder":
        options["path"] = data
    judged = open_dataset(settings.get("name", "rooms"), spec.judged_on["split"], **options)
    tasks = {task.name: task for task in judged.tasks}
    forms = {}
    for task, metric in spec.columns:
        if task not in tasks or metric not in tasks[task].metrics:
            raise ConfigError(f"{spec.name}: the data set has no {task}.{metric}; it has {', '.join(tasks)}.")
        forms[task, metric] = tasks[task].metrics[metric]
    return forms
