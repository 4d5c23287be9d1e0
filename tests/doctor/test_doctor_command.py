"""What can run, how it is printed, and the command itself on this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from doctor_machines import cpu_machine, gpu_machine

from nddr_deploy.doctor.__main__ import main
from nddr_deploy.doctor.ask import Answer
from nddr_deploy.doctor.commands import Command
from nddr_deploy.doctor.diagnosis import Diagnosis, judge
from nddr_deploy.doctor.finding import Finding

TORCH = Answer({"version": "2.13.0", "cuda": "13.0", "usable": True})


def commands(diagnosis: Diagnosis) -> dict[str, Command]:
    return {command.name: command for command in diagnosis.commands}


def test_a_laptop_with_the_cpu_extra_runs_models_and_builds_graphs_but_does_not_train() -> None:
    found = commands(judge(cpu_machine()))

    assert found["nddr-infer"].ways == ("onnxruntime", "onnxruntime-as-written", "openvino")
    assert found["nddr-infer"].stopped["tensorrt"] == "no NVIDIA GPU here"
    assert found["nddr-build"].ways == ("graphs (--graph)",)
    assert found["nddr-train"].stopped == {"nddr-train": "torch is not installed"}
    assert found["nddr-export"].stopped == {"nddr-export": "PyTorch is not installed"}


def test_a_server_with_everything_does_everything() -> None:
    facts = gpu_machine(torch=TORCH)
    facts = replace(facts, packages={**facts.packages, "torch": "2.13.0"})

    found = commands(judge(facts))

    assert found["nddr-train"].ways == ("the GPU", "the CPU")
    assert found["nddr-build"].ways == ("engines", "graphs (--graph)")
    assert found["nddr-infer"].stopped == {"openvino": "OpenVINO is not installed"}


def test_a_gpu_whose_driver_is_missing_is_not_called_no_gpu() -> None:
    facts = cpu_machine()

    found = commands(judge(replace(facts, system=replace(facts.system, nvidia_on_bus=1))))

    assert found["nddr-infer"].stopped["tensorrt"] == "the NVIDIA GPU cannot be used: see above"


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal_but_commands_to_copy(width: int) -> None:
    facts = gpu_machine(
        driver="535.104.05", driver_cuda=(12, 2), tensorrt=Answer(problem="crashed its process (SIGSEGV)")
    )

    lines = judge(facts).text(width).splitlines()

    assert [line for line in lines if len(line) > width and "$ " not in line] == []
    assert "              $ pip install 'onnxruntime-gpu<1.27'" in lines


def test_the_same_remedy_is_printed_once() -> None:
    text = judge(cpu_machine()).text()

    assert text.count("pip install 'nddr-deploy[train]' -c constraints.txt") == 1
    assert "> As above." in text


def test_states_are_words_not_only_marks_and_colours() -> None:
    text = judge(cpu_machine()).text()

    for state in ("ok", "missing", "not here"):
        assert f" {state} " in text


def test_the_keys_of_the_json_are_those_that_scripts_rely_on() -> None:
    found = judge(cpu_machine()).to_dict()

    assert sorted(found) == ["commands", "findings", "form", "ok"]
    assert sorted(found["findings"][0]) == ["do", "found", "state", "subject", "what"]
    assert sorted(found["commands"]) == ["nddr-build", "nddr-export", "nddr-infer", "nddr-train"]
    assert sorted(found["commands"]["nddr-infer"]) == ["runs", "stopped", "with"]
    names = [(one["subject"], one["what"]) for one in found["findings"]]
    assert len(set(names)) == len(names)


def test_a_problem_is_exit_status_1_and_something_missing_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Finding("PyTorch", "PyTorch", "problem", "it does not load")
    missing = Finding("PyTorch", "PyTorch", "missing", "not installed")

    statuses = []
    for finding in (broken, missing):
        monkeypatch.setattr("nddr_deploy.doctor.diagnosis.diagnose", lambda one=finding: Diagnosis((one,), ()))
        statuses.append(main(["--json"]))

    assert statuses == [1, 0]
    capsys.readouterr()


def test_a_wrong_option_is_exit_status_2() -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--jason"])

    assert stop.value.code == 2


@pytest.fixture(scope="module")
def real_run() -> subprocess.CompletedProcess[str]:
    start = time.monotonic()
    run = subprocess.run([sys.executable, "-m", "nddr_deploy.doctor", "--json"], capture_output=True, text=True)
    assert time.monotonic() - start < 60.0  # a few seconds; generous, for machines under load
    return run


def test_this_machine_is_described_as_json_that_names_no_user_host_or_home(
    real_run: subprocess.CompletedProcess[str],
) -> None:
    found = json.loads(real_run.stdout)

    assert real_run.returncode == (0 if found["ok"] else 1)
    assert real_run.stderr == ""
    texts = [text for one in found["findings"] for text in (one["found"], *one["do"])]
    for private in (str(Path.home()), sys.prefix, str(Path.cwd()), os.environ.get("USER", ""), socket.gethostname()):
        if len(private) > 3 and private != "root":
            assert not [text for text in texts if private in text]


def test_looking_writes_nothing_into_the_home_folder(tmp_path: Path) -> None:
    """OpenVINO and ONNX Runtime would leave an id there, and report it; others their caches."""
    run = subprocess.run(
        [sys.executable, "-m", "nddr_deploy.doctor", "--json"],
        capture_output=True,
        env={**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")},
    )

    assert run.returncode in (0, 1)
    assert list(tmp_path.iterdir()) == []


def test_libraries_that_crash_or_break_are_told_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    breaks = f"raise ImportError('{tmp_path}/openvino/libopenvino.so: undefined symbol')"
    for name, text in (("tensorrt", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"), ("openvino", breaks)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)

    run = subprocess.run(
        [sys.executable, "-m", "nddr_deploy.doctor", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )

    found = json.loads(run.stdout)
    told = {(one["subject"], one["what"]): (one["state"], one["found"]) for one in found["findings"]}
    assert run.returncode == 1
    assert told["TensorRT", "TensorRT"] == (
        "problem", "installed, but it does not load: crashed its process (SIGSEGV)",
    )  # fmt: skip
    assert told["OpenVINO", "OpenVINO"] == (
        "problem",
        "installed, but it does not load: ImportError: .../libopenvino.so: undefined symbol",
    )
    assert told["Video and cameras", "PyAV"][0] == "ok"
    assert str(tmp_path) not in run.stdout


def test_this_machine_runs_models_on_its_cpu(real_run: subprocess.CompletedProcess[str]) -> None:
    """The tests themselves need PyAV, OpenCV and ONNX Runtime."""
    found = json.loads(real_run.stdout)

    assert "onnxruntime" in found["commands"]["nddr-infer"]["with"]
    states = {(one["subject"], one["what"]): one["state"] for one in found["findings"]}
    assert states["Video and cameras", "PyAV"] == "ok"
    assert states["Python and machine", "Python"] == "ok"


@pytest.mark.parametrize("columns", [80, 120])
def test_in_a_pipe_it_is_plain_text_without_colours(columns: int) -> None:
    environment = {**os.environ, "COLUMNS": str(columns), "PYTHONIOENCODING": "ascii"}

    run = subprocess.run([sys.executable, "-m", "nddr_deploy.doctor"], capture_output=True, text=True, env=environment)

    assert run.returncode in (0, 1)
    assert "\x1b" not in run.stdout
    assert "  + ok        Python " in run.stdout  # a tick where the encoding has one
    assert "What can run here" in run.stdout
