"""nddr-build on a simulated GPU: what it leaves behind when it succeeds, and nothing when it does not."""

from __future__ import annotations

import _thread
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated import plan as plans
from simulated.simulate import VERSIONS, simulate

from nddr_deploy.build.__main__ import main
from nddr_deploy.build.recipe import build_engine
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.plan_file import PlanFile, Profile
from nddr_deploy.engines.trt_build import BuildOptions, build_plan
from nddr_deploy.engines.trt_library import TensorRT
from nddr_deploy.engines.trt_progress import BuildProgress
from nddr_deploy.errors import ModelFileError, UnsupportedError
from nddr_deploy.files import sha256
from nddr_deploy.graph.metadata import read_model

ENDS = (1, 2, 4)
OTHER = {"name": "NVIDIA Other", "compute_capability": (9, 0)}


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nddr-deploy"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_plan_stays_pure_and_its_manifest_says_everything_about_it(
    handmade: Callable[..., Any], tmp_path: Path, version: str, precision: str
) -> None:
    model = handmade(dynamic=("batch",)).path

    with simulate(version) as machine:
        report = build_engine(model, tmp_path / "a.trt", precision=precision, batch=ENDS, report=tmp_path / "r.json")

    file = PlanFile.read(tmp_path / "a.trt")
    about, content = file.about, file.path.read_bytes()
    assert plans.read(content) is not None
    assert about.plan == hashlib.sha256(content).hexdigest()
    assert about.model.hashes["onnx"] == sha256(model)
    assert about.tensorrt == machine.api.version
    assert (about.gpu, about.compute_capability) == ("NVIDIA Simulated", "8.6")
    assert (about.precision, about.realised["asked"], about.realised["share"]) == (precision, precision, 1.0)
    assert about.profile == Profile(min=(1, 16, 24, 3), opt=(2, 16, 24, 3), max=(4, 16, 24, 3))
    assert about.options.to_dict() == {"batch": "1,2,4"}
    assert about.model.outputs == "decoded"
    assert about.parity is not None
    assert "passed" in json.dumps(json.loads((tmp_path / "r.json").read_text()))
    assert report.parity.passed


@pytest.mark.parametrize("version", VERSIONS)
def test_precision_is_asked_for_as_the_version_wants_it(handmade: Callable[..., Any], version: str) -> None:
    path = handmade().path
    with simulate(version) as machine:
        for precision in ("fp32", "fp16"):
            build_engine(path, precision=precision, timing_cache=None)
        full, half = machine.world.builds

    old = version.startswith("8")
    assert (full.strongly_typed, half.strongly_typed) == (not old, not old)
    assert full.flags == frozenset()  # TF32 is on unless it is cleared
    assert ("FP16" in half.flags) is old


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plan_that_became_fp32_is_refused_with_its_layers(
    handmade: Callable[..., Any], tmp_path: Path, version: str
) -> None:
    with simulate(version, pretend="Float"), pytest.raises(UnsupportedError) as caught:
        build_engine(handmade().path, tmp_path / "a.trt", timing_cache=None)

    assert "asked for fp16, but of 3 convolutions and matrix products TensorRT built 3 in fp32" in str(caught.value)
    assert list(tmp_path.glob("a.*")) == []


def test_a_build_that_fails_leaves_the_engine_that_was_there(handmade: Callable[..., Any], tmp_path: Path) -> None:
    subject, path = handmade(), tmp_path / "a.trt"
    with simulate():
        build_engine(subject.path, path, precision="fp32")
    before = path.read_bytes()

    with simulate(pretend="Float"), pytest.raises(UnsupportedError):
        build_engine(subject.path, path)
    with simulate(memory_bytes=1000), pytest.raises(UnsupportedError, match="room"):
        build_engine(subject.path, path)

    assert path.read_bytes() == before
    with simulate(), open_engine(path) as engine:
        engine.infer(subject.images())
    assert sorted(found.name for found in tmp_path.glob("a.*")) == ["a.trt", "a.trt.json"]


def test_the_timing_cache_is_kept_for_each_version_and_gpu(handmade: Callable[..., Any], cache_folder: Path) -> None:
    path = handmade().path

    def measured(version: str = "10.13", **kind: Any) -> int:
        with simulate(version, **kind) as machine:
            build_engine(path)
            return machine.world.builds[-1].measured

    first, again = measured(), measured()
    elsewhere, older = measured(**OTHER), measured("10.0")

    assert first > 0
    assert again == 0
    assert elsewhere == older == first
    assert len(list(cache_folder.iterdir())) == 3


def test_a_build_tells_how_far_it_is_and_ends_when_it_is_told_to(handmade: Callable[..., Any]) -> None:
    path = handmade().path
    told: list[tuple[str, int, int]] = []
    options = BuildOptions("fp32", Profile(min=(1, 16, 24, 3), opt=(1, 16, 24, 3), max=(1, 16, 24, 3)))

    with simulate():
        build_plan(read_model(path), options, TensorRT(), BuildProgress(lambda *step: told.append(step)))
        complete = list(told)
        progress = BuildProgress()
        progress.stopped.set()
        with pytest.raises(UnsupportedError, match="cancelled"):
            build_plan(read_model(path), options, TensorRT(), progress)

    phases = {phase for phase, _, _ in complete}
    assert phases == {"Building Engine", "Measuring Tactics"}
    for phase in phases:
        steps = [(step, steps) for name, step, steps in complete if name == phase]
        assert steps[0][0] == 0
        assert steps[-1][0] == steps[-1][1] > 0


def test_ctrl_c_ends_a_build(handmade: Callable[..., Any]) -> None:
    options = BuildOptions("fp32", Profile(min=(1, 16, 24, 3), opt=(1, 16, 24, 3), max=(1, 16, 24, 3)))
    heard: list[bool] = []

    def told(phase: str, step: int, steps: int) -> None:
        if not heard:
            time.sleep(0.1)  # a build takes minutes: nobody is that quick
            _thread.interrupt_main()
            heard.append(progress.stopped.wait(10))

    progress = BuildProgress(told)
    with simulate(), pytest.raises(KeyboardInterrupt):
        build_plan(read_model(handmade().path), options, TensorRT(), progress)

    assert heard == [True]


def test_a_compatible_plan_runs_with_later_versions_or_on_other_gpus(
    handmade: Callable[..., Any], tmp_path: Path
) -> None:
    subject, path = handmade(), tmp_path / "a.trt"

    def opens(version: str, **kind: Any) -> bool:
        with simulate(version, **kind):
            try:
                with open_engine(path) as engine:
                    return np.isfinite(engine.infer(subject.images())["age"]).all()
            except ModelFileError:
                return False

    with simulate("10.0"):
        build_engine(subject.path, path, version_compatible=True)
    assert opens("10.0")
    assert opens("10.13")
    assert not opens("11.4")
    assert not opens("10.13", **OTHER)
    with simulate("10.13"):
        build_engine(subject.path, path, hardware_compatible=True)
    assert opens("10.13", **OTHER)
    assert not opens("10.13", name="NVIDIA Older", compute_capability=(7, 5))
    assert not opens("10.0")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_command_prints_what_it_built_and_errors_are_a_line(
    handmade: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    model, output = str(handmade().path), str(tmp_path / "a.trt")

    with simulate(version):
        assert main([model, "--output", output, "--precision", "fp16"]) == 0
        printed = capsys.readouterr()
        assert output in printed.out
        assert "3 in fp16 (100%)" in printed.out
    with simulate(version, pretend="Float"):
        assert main([model, "--output", output, "--precision", "fp16"]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert "asked for fp16" in error[0]
