"""Runs of `benchmarks/gpu.py` that tests look at. Imports stay inside: most tests need none of it."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # for `gpu_steps`
sys.path.append(str(Path(__file__).parents[1] / "card"))  # for `card_subjects`


@pytest.fixture(scope="session")
def dry(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A dry run, done: its `Work`."""
    from gpu_work import gpu_py

    folder = tmp_path_factory.mktemp("dry") / "run"
    done = gpu_py("--dry-run", "--work", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    from gpu_steps.work import Work

    return Work.open(folder)


@pytest.fixture
def real(dry: Any, tmp_path: Path) -> Any:
    """A real run of the dry one's small networks, whose CPU steps are done."""
    from gpu_steps.work import Work

    work = Work.start(tmp_path / "real", replace(dry.settings, dry_run=False))
    for name in ("pictures", "deeplab", "resnet18", "steps"):
        shutil.copytree(dry.folder / name, work.folder / name, dirs_exist_ok=True)
    return work
