"""Packages that stand in each other's folder, are too old, or are not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from doctor_machines import BARE, cpu_machine, finding, gpu_machine

from nddr_deploy.doctor.ask import Answer
from nddr_deploy.doctor.diagnosis import judge
from nddr_deploy.doctor.facts import Need, Python
from nddr_deploy.doctor.finding import numbers
from nddr_deploy.doctor.look import _cuda_majors, _packages, parse_need


def test_what_fits_together_is_no_problem() -> None:
    assert judge(cpu_machine()).ok
    assert judge(gpu_machine()).ok


def test_both_builds_of_onnx_runtime_are_a_problem_and_both_must_go() -> None:
    facts = cpu_machine()

    found = finding(
        judge(replace(facts, packages={**facts.packages, "onnxruntime-gpu": "1.31.1"})), "Packages", "one ONNX Runtime"
    )

    assert found.state == "problem"
    assert "in one folder" in found.found
    assert found.do == (
        "pip uninstall --yes onnxruntime onnxruntime-gpu",
        "pip install 'nddr-deploy[cpu]' -c constraints.txt",
    )


def test_with_a_gpu_it_is_the_gpu_build_that_comes_back() -> None:
    facts = gpu_machine()

    found = finding(
        judge(replace(facts, packages={**facts.packages, "onnxruntime": "1.32.0"})), "Packages", "one ONNX Runtime"
    )

    assert found.do[-1] == "pip install 'nddr-deploy[gpu]' -c constraints.txt"


def test_two_builds_of_opencv_are_a_problem_but_one_of_any_kind_is_not() -> None:
    two = judge(cpu_machine(packages={**BARE, "opencv-python": "5.0.0.93", "onnxruntime": "1.32.0"}))
    other = {name: version for name, version in BARE.items() if not name.startswith("opencv")}
    one = judge(
        cpu_machine(packages={**other, "opencv-python": "5.0.0.93", "onnxruntime": "1.32.0", "openvino": "2026"})
    )

    assert finding(two, "Packages", "one OpenCV").state == "problem"
    assert one.ok
    assert finding(one, "Packages", "needed always").state == "ok"


def test_a_version_below_what_is_asked_for_is_a_problem_with_the_command_that_updates_it() -> None:
    facts = cpu_machine(packages={**BARE, "onnxruntime": "1.9.0", "openvino": "2026.4.1"})

    found = finding(judge(facts), "Packages", "run on a CPU [cpu]")

    assert found.state == "problem"  # as texts, "1.9.0" would stand above "1.17"
    assert found.found == "onnxruntime 1.9.0 is older than 1.17"
    assert found.do == ("pip install --upgrade 'onnxruntime>=1.17' -c constraints.txt",)


def test_an_extra_that_is_not_installed_is_missing_and_no_problem() -> None:
    diagnosis = judge(cpu_machine())

    found = finding(diagnosis, "Packages", "train, export [train]")

    assert found.state == "missing"
    assert found.do == ("pip install 'nddr-deploy[train]' -c constraints.txt",)
    assert diagnosis.ok


def test_without_a_gpu_nobody_is_told_to_install_what_only_a_gpu_needs() -> None:
    told = [step for found in judge(cpu_machine()).findings for step in found.do]

    assert not [step for step in told if "[gpu]" in step or "driver" in step]
    assert finding(judge(cpu_machine()), "Packages", "run on a GPU [gpu]").state == "not here"


def test_with_a_gpu_the_cpu_build_of_onnx_runtime_goes_before_the_gpu_build_comes() -> None:
    cpu = cpu_machine()
    facts = gpu_machine(packages=cpu.packages, onnxruntime=cpu.onnxruntime, providers={}, cuda_majors={})
    facts = replace(facts, tensorrt=Answer(missing=True), cuda_bindings=Answer(missing=True))

    diagnosis = judge(facts)

    steps = ("pip uninstall --yes onnxruntime", "pip install 'nddr-deploy[gpu]' -c constraints.txt")
    assert finding(diagnosis, "Packages", "run on a GPU [gpu]").do == steps
    assert finding(diagnosis, "ONNX Runtime", "CUDA provider").do == steps
    assert finding(diagnosis, "TensorRT", "TensorRT").do == steps


def test_onnxruntime_gpu_also_serves_a_cpu_so_its_twin_is_not_put_beside_it() -> None:
    found = finding(judge(gpu_machine()), "Packages", "run on a CPU [cpu]")

    assert found.found == "not installed: openvino"
    assert found.do == ("pip install openvino -c constraints.txt",)


def test_tensorrt_for_two_versions_of_cuda_is_a_problem() -> None:
    facts = gpu_machine()
    packages = {**facts.packages, "tensorrt-cu12": "10.16.1.11", "tensorrt-cu12-libs": "10.16.1.11"}
    majors = {**facts.cuda_majors, "tensorrt-cu12": 12, "tensorrt-cu12-libs": 12}

    found = finding(judge(replace(facts, packages=packages, cuda_majors=majors)), "Packages", "one TensorRT")

    assert found.state == "problem"
    assert found.found == "TensorRT is installed for CUDA 12 and CUDA 13, in one folder"
    assert "tensorrt-cu12-libs" in found.do[0]


def test_parts_of_tensorrt_of_different_versions_are_a_problem_but_a_repacked_one_is_not() -> None:
    facts = gpu_machine()

    mixed = judge(replace(facts, packages={**facts.packages, "tensorrt-cu13-libs": "10.14.1.48"}))
    repacked = judge(replace(facts, packages={**facts.packages, "tensorrt": "10.16.1.11.post1"}))

    assert finding(mixed, "Packages", "one TensorRT").state == "problem"
    assert repacked.ok


def test_a_core_package_that_is_gone_is_a_problem_that_stops_every_command() -> None:
    packages = {name: version for name, version in cpu_machine().packages.items() if name != "numpy"}

    diagnosis = judge(cpu_machine(packages=packages))

    assert finding(diagnosis, "Packages", "needed always").state == "problem"
    assert not any(command.runs for command in diagnosis.commands)


def test_python_3_9_is_too_old() -> None:
    assert finding(judge(cpu_machine(python=Python((3, 9, 18)))), "Python and machine", "Python").state == "problem"
    assert judge(cpu_machine(python=Python((3, 10, 0)))).ok


@pytest.mark.parametrize(
    ("text", "need"),
    [
        ('onnxruntime>=1.17; extra == "cpu"', Need("onnxruntime", "1.17", "cpu")),
        ("jsonargparse[signatures]>=4.30 ; extra == 'train'", Need("jsonargparse", "4.30", "train")),
        ("typing_extensions>=4.9", Need("typing-extensions", "4.9")),
        ("av (>=14)", Need("av", "14")),
        ('types-psutil; extra == "dev"', Need("types-psutil", "", "dev")),
    ],
)
def test_requirements_are_read_as_pip_writes_them(text: str, need: Need) -> None:
    assert parse_need(text) == need


def test_of_a_package_in_two_folders_the_first_counts_as_it_is_what_gets_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, version in (("first", "2.0"), ("second", "1.0")):
        metadata = tmp_path / folder / f"A_Library-{version}.dist-info/METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: A_Library\nVersion: {version}\n")
    monkeypatch.setattr("sys.path", [str(tmp_path / "first"), str(tmp_path / "second")])

    assert _packages() == {"a-library": "2.0"}


def test_tensorrt_tells_its_cuda_in_a_name_or_in_its_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, needs in (("tensorrt-cu13-libs", ""), ("tensorrt-libs", "Requires-Dist: nvidia-cuda-runtime-cu12\n")):
        metadata = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info/METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}")
    monkeypatch.setattr("sys.path", [str(tmp_path)])

    assert _cuda_majors(_packages()) == {"tensorrt-cu13-libs": 13, "tensorrt-libs": 12}


def test_versions_are_compared_by_their_numbers() -> None:
    assert numbers("2.13.0+cpu") == (2, 13, 0)
    assert numbers("10.14.1.48.post1") == (10, 14, 1, 48)
    assert numbers("1.9") < numbers("1.17")
