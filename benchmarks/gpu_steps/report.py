"""One JSON and one Markdown table of everything that the steps found so far."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpu_steps.aims import aims
from gpu_steps.plan import Step, steps
from gpu_steps.tables import markdown
from gpu_steps.work import Work, write_json
from nddr_deploy.benchmark.cases import installed_versions
from nddr_deploy.engines.machine import describe_machine
from nddr_deploy.errors import InputError

NO_GPU = "not run: no GPU was used (--dry-run)"
NOT_YET = "not run yet"


def write_report(work: Work, chosen: Sequence[Step], output: Path) -> list[Path]:
    """`DATE-GPU-gpu.json` and `.md` in `output`, which is made. Nothing in them names a folder of this machine.

    Raises:
        InputError: the folder cannot be made.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {output} cannot be made ({error.strerror}). Choose another folder.") from error
    report = collect(work, chosen)
    name = f"{report['date']}-{_slug(report['gpu']['name'] if report['gpu'] else 'dry-run')}-gpu"
    paths = [output / f"{name}.json", output / f"{name}.md"]
    write_json(paths[0], report)
    paths[1].write_text(markdown(report))
    return paths


def collect(work: Work, chosen: Sequence[Step]) -> dict[str, Any]:
    """Everything as plain values: results by step, and for every step without one, why."""
    results, reasons = {}, {}
    doing = {step.name for step in chosen}
    for step in steps(dry_run=False):
        outcome = work.outcome(step.name)
        if step.name not in doing:
            reasons[step.name] = NO_GPU
        elif outcome is None:
            reasons[step.name] = NOT_YET
        elif "refused" in outcome:
            reasons[step.name] = _no_folder(str(outcome["refused"]), work)
        else:
            results[step.name] = {"seconds": outcome["seconds"], "at": outcome["at"], **outcome["result"]}
    gpu = (work.result("floor") or {}).get("gpu")
    built = next((values for name, values in results.items() if name.startswith("build.")), {})
    if built:
        gpu = gpu or {"name": built["gpu"], "compute_capability": built["compute_capability"]}
    settings = asdict(work.settings)
    for private in ("python_torch", "python_trt", "video"):
        settings.pop(private)
    return {
        "format": "nddr-deploy-gpu-benchmark/1",
        "date": time.strftime("%Y-%m-%d"),
        "dry_run": work.settings.dry_run,
        "gpu": gpu,
        "machine": describe_machine().to_dict(),
        "versions": work.versions() or {"this interpreter": installed_versions()},
        "settings": settings,
        "aims": [aim.to_dict() for aim in aims(work, reasons)],
        "results": results,
        "not_run": reasons,
    }


def _no_folder(text: str, work: Work) -> str:
    return text.replace(f"{work.folder.resolve()}/", "").replace(f"{work.folder}/", "").replace(str(Path.home()), "~")


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
