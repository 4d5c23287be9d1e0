"""What the documents say is true: their commands run, their links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md"))
# What makes each command of the README short enough for a test; nothing of what the README says is taken away.
SHORTER = {
    "nddr-train": "steps=2 batch_size=4 eval_limit=2 threads=1 workers=0"
    " schedule.warmup_steps=0 data.train_options.count=8 data.val_options.count=2",
    "nddr-eval": "--limit 3 --threads 1",
    "nddr-bench": "--rounds 1 --seconds-per-case 0.1",
    "nddr-verify": "--no-latency",
}


def readme_commands() -> list[list[str]]:
    """The command lines of the block that begins with nddr-train, in order."""
    blocks = re.findall(r"```\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    block = next(block for block in blocks if block.startswith("nddr-train"))
    return [shlex.split(line, comments=True) for line in block.splitlines() if line.strip()]


def test_the_commands_of_the_readme_run_one_after_the_other(tmp_path: Path) -> None:
    from nddr_deploy.data.rooms.walkthrough import render_walkthrough

    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "runs").mkdir()
    render_walkthrough(tmp_path / "video.mp4", frames=5, size_hw=(96, 128))
    scripts = Path(sys.executable).parent
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache")}

    for command in readme_commands():
        words = [*command, *SHORTER.get(command[0], "").split()]
        run = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, f"{' '.join(words)}\n{run.stdout}{run.stderr}"

    assert (tmp_path / "model.onnx").stat().st_size > 10_000
    assert (tmp_path / "labelled.mp4").stat().st_size > 1_000
    assert (tmp_path / "model.int8.card.html").stat().st_size > 10_000


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_files_of_the_project_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))

    missing = [target for target in targets if "://" not in target and not (document.parent / target).exists()]

    assert missing == []
