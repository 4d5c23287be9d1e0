"""`benchmarks/gpu.py`: its CPU steps for real, what it keeps, and what it says where there is no GPU."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from gpu_steps import report
from gpu_steps.command import do_step, do_steps
from gpu_steps.plan import Step, steps
from gpu_steps.work import Settings, Work
from gpu_work import CHECKOUT, gpu_py
from processes import ended

from nddr_deploy.engines.cuda import count_gpus
from nddr_deploy.errors import ConfigError, NddrError, UnsupportedError

without_gpu = pytest.mark.skipif(count_gpus() > 0, reason="here is a GPU")


def written(work: Work, suffix: str) -> str:
    [path] = work.folder.joinpath("report").glob(f"*{suffix}")
    return path.read_text()


def test_a_dry_run_does_every_step_that_needs_no_gpu(dry: Work) -> None:
    on_cpu = [step.name for step in steps(dry_run=True)]

    assert {name for name in on_cpu if dry.result(name) is None} == set()
    assert {name.partition(".")[0] for name in on_cpu} == {
        *("pictures", "export", "merge", "quantise", "typed", "video"),
    }


def test_its_report_says_of_every_gpu_step_that_it_was_not_run_and_holds_no_figure_of_it(dry: Work) -> None:
    found = json.loads(written(dry, ".json"))

    gpu_steps = {step.name for step in steps(dry_run=False)} - {step.name for step in steps(dry_run=True)}
    assert gpu_steps == set(found["not_run"])
    assert set(found["not_run"].values()) == {"not run: no GPU was used (--dry-run)"}
    assert not gpu_steps & set(found["results"])
    assert found["gpu"] is None
    assert {(aim["verdict"], aim["found"]) for aim in found["aims"]} == {("not measured", None)}
    assert len(found["aims"]) == 8


def test_its_table_is_for_people_and_names_no_folder(dry: Work) -> None:
    text = written(dry, ".md")

    assert text.startswith("# benchmarks/gpu.py on a dry run: nothing was measured on a GPU\n")
    assert "- build.deeplab.fp16: not run: no GPU was used (--dry-run)" in text
    assert "12 frames went through; too few to tell a rate" in text
    for folder in (str(dry.folder), str(CHECKOUT)):
        assert folder not in text + written(dry, ".json")


@pytest.mark.parametrize("network", ["deeplab", "resnet18"])
def test_the_random_networks_are_well_conditioned(dry: Work, network: str) -> None:
    exported, merged, typed, quantised = (
        dry.result(f"{step}.{network}") or {} for step in ("export", "merge", "typed", "quantise")
    )

    assert exported["parity"]["passed"]
    assert exported["classes_seen"] >= 4  # of the 12 that rooms have
    assert exported["largest_class"] < 0.8
    assert merged["convolutions"][0] - merged["convolutions"][1] == 5  # one less after each of the five stages
    assert max(typed["fp16_off"].values()) < 1e-2
    assert quantised["pairs"] > 40
    assert quantised["onnxruntime"]["labels_equal"] > 0.8


def test_steps_are_kept_and_only_what_was_asked_for_is_done_again(dry: Work) -> None:
    before = {step.name: (dry.outcome(step.name) or {})["at"] for step in steps(dry_run=True)}

    again = gpu_py("--dry-run", "--work", dry.folder, "--redo", "merge.resnet18")

    assert again.returncode == 0, again.stderr
    done = [line.split(" ")[0] for line in again.stdout.splitlines() if line.endswith("...")]
    assert done == ["merge.resnet18"]
    assert all((dry.outcome(name) or {})["at"] == at for name, at in before.items() if name != "merge.resnet18")


def test_a_changed_file_of_an_input_or_another_setting_makes_a_step_be_done_again(dry: Work) -> None:
    export = next(step for step in steps(dry_run=True) if step.name == "export.resnet18")
    larger = Work(dry.folder, replace(dry.settings, width=0.25))
    longer = Work(dry.folder, replace(dry.settings, video_frames=99))

    assert dry.is_done(export.name, export.key(dry))
    assert not dry.is_done(export.name, export.key(larger))
    assert dry.is_done(export.name, export.key(longer))  # it reads no video

    model = dry.path("resnet18", "model.onnx")
    kept = model.read_bytes()
    model.write_bytes(b"half")
    assert not dry.is_done(export.name, export.key(dry))
    model.write_bytes(kept)


def test_without_time_nothing_is_begun_and_the_status_says_to_call_again(dry: Work, tmp_path: Path) -> None:
    stopped = gpu_py("--dry-run", "--work", tmp_path / "run", "--seconds", "0")

    assert stopped.returncode == 3
    assert stopped.stdout.splitlines()[-1] == (
        f"{len(steps(dry_run=True))} steps are left, the next is pictures: call the same command again."
    )
    assert "not run yet" in next((tmp_path / "run" / "report").glob("*.md")).read_text()


def test_a_step_that_would_hardly_end_in_time_is_left_for_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def record(work: Work, step: Step, key: str, remaining: float | None, environment: dict[str, str]) -> bool:
        begun.append(step.name)
        work.keep(step.name, key, seconds=0.0, result={})
        return True

    monkeypatch.setattr("gpu_steps.command.do_step", record)
    work = Work.start(tmp_path, Settings())
    short, long = Step("short", "merge", "trt", 10), Step("long", "merge", "trt", 1000)

    assert do_steps(work, [short, long], (), 100, {}) == [long]
    assert do_steps(work, [short, long], (), 100, {}) == []  # the first of a call is begun in any case
    assert begun == ["short", "long"]


@without_gpu
def test_the_command_says_one_sentence_without_a_gpu(tmp_path: Path) -> None:
    refused = gpu_py("--work", tmp_path)

    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith("error: No NVIDIA GPU can be used here")
    assert refused.stderr.endswith("What needs no GPU is done with --dry-run.\n")
    assert refused.stderr.count("\n") == 1


@without_gpu
@pytest.mark.parametrize("step", [step for step in steps(dry_run=False) if step.gpu], ids=lambda step: step.name)
def test_every_gpu_step_refuses_to_run_without_one(tmp_path: Path, step: Step) -> None:
    with pytest.raises(UnsupportedError, match="No NVIDIA GPU can be used here"):
        step.run(Work.start(tmp_path, Settings()))


@without_gpu
def test_what_a_gpu_step_said_is_kept_and_the_rest_goes_on(tmp_path: Path) -> None:
    work = Work.start(tmp_path, Settings(python_torch=sys.executable, python_trt=sys.executable))
    step = next(step for step in steps(dry_run=False) if step.name == "floor")

    assert do_step(work, step, "key", None, {})

    assert (work.outcome("floor") or {})["refused"].startswith("No NVIDIA GPU can be used here")
    assert report.collect(work, [step])["not_run"]["floor"].startswith("No NVIDIA GPU can be used here")


def test_a_step_that_takes_too_long_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/started\nwait\n")
    python.chmod(0o755)
    work = Work.start(tmp_path / "run", Settings(dry_run=True, python_trt=str(python)))

    assert not do_step(work, Step("pictures", "pictures", "trt", 1), "key", 1.0, {})

    assert ended(int((tmp_path / "started").read_text()))  # it would have slept for 60 s
    assert work.outcome("pictures") is None


def test_an_interpreter_without_a_package_is_told_by_its_option(tmp_path: Path) -> None:
    refused = gpu_py("--dry-run", "--work", tmp_path / "run", "--python-trt", "/bin/false")

    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --python-trt /bin/false cannot import what its steps need")


def test_a_cpu_step_that_fails_ends_the_run(tmp_path: Path) -> None:
    work = Work.start(tmp_path, Settings(dry_run=True, python_torch=sys.executable, python_trt=sys.executable))

    with pytest.raises(NddrError, match=r"merge.deeplab: .*model.onnx does not exist"):
        do_step(work, Step("merge.deeplab", "merge", "trt", 1, arguments={"network": "deeplab"}), "key", None, {})


def test_a_step_without_its_input_names_it(tmp_path: Path) -> None:
    work = Work.start(tmp_path, Settings())
    step = next(step for step in steps(dry_run=False) if step.name == "build.deeplab.int8")

    with pytest.raises(ConfigError, match="needs pictures, which was not done yet"):
        do_step(work, step, "key", None, {})
    for name in step.needs:
        work.keep(name, "key", seconds=0.0, refused="it was refused")
    assert do_step(work, step, "key", None, {})
    assert (work.outcome(step.name) or {})["refused"] == "it needs pictures, which did not succeed"


def test_a_dry_run_does_not_take_the_place_of_a_real_one(tmp_path: Path) -> None:
    Work.start(tmp_path, Settings(dry_run=False))

    with pytest.raises(ConfigError, match="holds a real run"):
        Work.start(tmp_path, Settings(dry_run=True))


def test_an_unknown_step_is_refused_with_those_there_are() -> None:
    refused = gpu_py("--dry-run", "--only", "biuld")

    assert refused.returncode == 2
    assert "'biuld' is unknown" in refused.stderr
