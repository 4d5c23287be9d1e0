"""A library that crashes, hangs or talks nonsense is an answer, and the rest goes on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from doctor_machines import cpu_machine, finding, gpu_machine
from processes import ended

from nddr_deploy.doctor.ask import Answer, ask, tidy
from nddr_deploy.doctor.diagnosis import judge
from nddr_deploy.doctor.look import look
from nddr_deploy.doctor.probes import answer


def script(folder: Path, text: str) -> Path:
    path = folder / "probes.py"
    path.write_text(text)
    return path


def test_a_probe_that_crashes_its_process_is_told_with_the_signal(tmp_path: Path) -> None:
    crash = script(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")

    found = ask("any", script=crash)

    assert found == Answer(problem="crashed its process (SIGSEGV)")
    assert not found.ok


def test_a_probe_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    sign = tmp_path / "child"
    hang = script(
        tmp_path,
        f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open({str(sign)!r}, "w").write(str(child.pid))
time.sleep(60)
""",
    )

    start = time.monotonic()
    found = ask("any", script=hang, limit_s=1.0)

    assert found.problem == "gave no answer within 1 s and was ended"
    assert time.monotonic() - start < 10.0  # far below the 60 s that it would have slept
    assert ended(int(sign.read_text()))


def test_a_probe_that_ends_without_an_answer_is_told_with_its_last_words(tmp_path: Path) -> None:
    mute = script(tmp_path, "import sys; print('line one\\nthe end', file=sys.stderr); sys.exit(3)")

    assert ask("any", script=mute).problem == "ended its process with status 3: the end"


def test_what_a_library_prints_does_not_hide_the_answer() -> None:
    found = ask("pyav")

    assert found.ok
    assert found.get("decode")["mjpeg"] is True


def test_a_package_that_is_not_installed_is_missing_but_one_that_lacks_its_own_need_is_broken() -> None:
    def torch() -> dict[str, object]:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    def openvino() -> dict[str, object]:
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    assert answer(torch) == {"missing": "torch"}
    assert answer(openvino) == {"problem": "its own dependency numpy is not installed"}


def test_one_broken_library_does_not_keep_the_others_from_being_looked_at() -> None:
    def probe(name: str, *words: str) -> Answer:
        return Answer(problem="crashed its process (SIGSEGV)") if name in ("tensorrt", "cuda") else ask(name, *words)

    diagnosis = judge(look(probe))

    assert not diagnosis.ok
    assert finding(diagnosis, "TensorRT", "TensorRT").state == "problem"
    assert finding(diagnosis, "NVIDIA GPU", "driver").state == "problem"
    assert finding(diagnosis, "Video and cameras", "PyAV").state == "ok"


def test_an_answer_that_nobody_thought_of_does_not_keep_the_rest_from_being_told() -> None:
    diagnosis = judge(cpu_machine(pyav=Answer({"decode": 3})))

    assert finding(diagnosis, "nddr-doctor", "media").state == "problem"
    assert finding(diagnosis, "ONNX Runtime", "ONNX Runtime").state == "ok"


@pytest.mark.parametrize("version", ["", "dev", "10", "10.x"])
def test_an_odd_version_of_tensorrt_is_told_and_not_fallen_over(version: str) -> None:
    diagnosis = judge(gpu_machine(tensorrt=Answer({"version": version}), cuda_bindings=Answer({"version": version})))

    assert finding(diagnosis, "TensorRT", "TensorRT").subject == "TensorRT"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ImportError: /home/alice/venv/lib/x.so: undefined symbol", "ImportError: .../x.so: undefined symbol"),
        ("/srv/alice/lib/libcudart.so.13 is damaged", ".../libcudart.so.13 is damaged"),
        ("/usr/lib/libcuda.so.1: file too short", "/usr/lib/libcuda.so.1: file too short"),
        ("two\n lines", "two lines"),
        ("TCP/IP and 3/4", "TCP/IP and 3/4"),
    ],
)
def test_no_path_that_may_name_a_person_is_told(text: str, expected: str) -> None:
    assert tidy(text) == expected
