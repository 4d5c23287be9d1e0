"""What must stay true of the project as a whole."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
from fnmatch import fnmatch
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import nddr_deploy

SCRIPTS = {entry.name: entry.value for entry in entry_points(group="console_scripts") if entry.name.startswith("nddr-")}
HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "numba", "cv2", "av", "matplotlib", "accelerate", "jsonargparse")


@pytest.mark.parametrize("command", SCRIPTS)
def test_help_answers_without_loading_anything_heavy(command: str) -> None:
    module = SCRIPTS[command].partition(":")[0]
    probe = (
        "import sys, runpy, json\n"
        f"sys.argv = [{command!r}, '--help']\n"
        f"try: runpy.run_module({module!r}, run_name='__main__')\n"
        "except SystemExit as stop: status = stop.code\n"
        f"print(json.dumps([status or 0, [m for m in {HEAVY!r} if m in sys.modules]]))"
    )

    before = os.times()
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    after = os.times()

    text, _, answer = run.stdout.rstrip().rpartition("\n")
    status, heavy = json.loads(answer)
    assert status == 0
    assert heavy == []
    assert f"usage: {command}" in text
    used_s = after.children_user - before.children_user + after.children_system - before.children_system
    assert used_s < 1.0, f"{command} --help took {used_s:.2f} s of processor time"


@pytest.mark.parametrize("name", nddr_deploy.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(nddr_deploy, name).__doc__


def test_no_public_function_hides_behind_a_package_of_the_same_name() -> None:
    packages = {module.name for module in pkgutil.iter_modules(nddr_deploy.__path__)}

    assert packages.isdisjoint(nddr_deploy.__all__)


def test_the_table_of_public_names_matches_all() -> None:
    assert sorted(nddr_deploy._HOME) == sorted(nddr_deploy.__all__)


def test_importing_the_package_loads_no_library() -> None:
    probe = f"import nddr_deploy, sys; print([m for m in {(*HEAVY, 'numpy', 'pydantic')!r} if m in sys.modules])"

    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "package", ["inference", "engines", "evaluate", "build", "doctor", "manifest", "tasks", "data", "graph"]
)
def test_packages_of_a_machine_that_only_runs_models_import_with_torch_blocked(package: str) -> None:
    probe = (
        "import sys, pkgutil, importlib\n"
        "sys.modules['torch'] = None\n"
        f"module = importlib.import_module('nddr_deploy.{package}')\n"
        "for found in pkgutil.walk_packages(getattr(module, '__path__', []), module.__name__ + '.'):\n"
        "    if not found.name.startswith('nddr_deploy.engines.eager') and not found.name.endswith('__main__'):\n"
        "        importlib.import_module(found.name)\n"
    )

    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)

    assert run.returncode == 0, run.stderr


def test_every_backend_of_the_table_exists() -> None:
    engines = import_module("nddr_deploy.engines")

    for target in engines.BACKENDS.values():
        module, _, name = target.partition(":")
        assert hasattr(import_module(module), name)


def test_no_folder_of_tests_has_a_name_that_pytest_leaves_out(pytestconfig: pytest.Config) -> None:
    left_out = pytestconfig.getini("norecursedirs")  # by default "build" is one

    folders = {path.parent.name for path in Path(__file__).parent.rglob("test_*.py")}

    assert [folder for folder in folders if any(fnmatch(folder, pattern) for pattern in left_out)] == []
