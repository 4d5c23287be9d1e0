"""What a build shows: TensorRT's own progress where it tells it, on a terminal only, and Ctrl-C reaches it."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import build_subjects as subjects
import pytest
from build_subjects import write
from simulated.simulate import VERSIONS, simulate
from simulated.trt_builder import Builder

from nddr_deploy.build.progress import Shown
from nddr_deploy.build.recipe import build_engine
from nddr_deploy.engines.plan_file import Profile
from nddr_deploy.engines.trt_build import BuildOptions, build_plan
from nddr_deploy.engines.trt_library import TensorRT
from nddr_deploy.engines.trt_progress import BuildProgress
from nddr_deploy.errors import UnsupportedError

every_version = pytest.mark.parametrize("version", VERSIONS)
tells = pytest.mark.parametrize("version", VERSIONS[1:])


class Terminal(io.StringIO):
    """Something that is looked at."""

    def isatty(self) -> bool:
        return True


def build(folder: Path, progress: BuildProgress) -> Any:
    import onnx

    only = (1, 16, 24, 3)
    options = BuildOptions("fp32", Profile(min=only, opt=only, max=only))
    return build_plan(onnx.load(write(folder).path), options, TensorRT(), progress)


@tells
def test_each_phase_is_told_from_its_first_step_to_its_last(tmp_path: Path, version: str) -> None:
    told: list[tuple[str, int, int]] = []

    with simulate(version):
        build(tmp_path, BuildProgress(lambda *step: told.append(step)))

    phases = dict.fromkeys(phase for phase, _, _ in told)
    assert list(phases) == ["Building Engine", "Measuring Tactics"]
    for phase in phases:
        steps = [(step, of) for name, step, of in told if name == phase]
        assert steps[0][0] == 0
        assert [step for step, _ in steps] == sorted(step for step, _ in steps)
        assert steps[-1][0] == steps[-1][1] == steps[0][1]


def test_a_version_that_tells_nothing_is_built_all_the_same(tmp_path: Path) -> None:
    told: list[Any] = []

    with simulate("8.6") as machine:
        assert build(tmp_path, BuildProgress(lambda *step: told.append(step))).content
        assert machine.api.missed == {"IBuilderConfig.progress_monitor"}  # it was looked for, not just used

    assert told == []


@tells
def test_a_build_that_is_told_to_stop_ends_at_its_next_step(tmp_path: Path, version: str) -> None:
    progress = BuildProgress()
    told: list[tuple[str, int]] = []

    def stop_at_three(phase: str, step: int, steps: int) -> None:
        told.append((phase, step))
        if told[-1] == ("Measuring Tactics", 3):
            progress.stopped.set()

    progress.told = stop_at_three

    with simulate(version), pytest.raises(UnsupportedError, match="cancelled"):
        build(tmp_path, progress)

    assert ("Measuring Tactics", 3) in told
    assert ("Measuring Tactics", 4) not in told


@tells
def test_a_display_that_breaks_does_not_break_the_build_without_a_word(tmp_path: Path, version: str) -> None:
    def broken(phase: str, step: int, steps: int) -> None:
        raise RuntimeError("the display broke")

    with simulate(version), pytest.raises(RuntimeError, match="the display broke"):
        build(tmp_path, BuildProgress(broken))


@every_version
def test_nothing_is_shown_where_nobody_looks(tmp_path: Path, version: str, capsys: pytest.CaptureFixture[str]) -> None:
    with simulate(version):
        build_engine(write(tmp_path).path, timing_cache=None, progress=True)

    assert capsys.readouterr() == ("", "")


@every_version
@pytest.mark.parametrize("wanted", [True, False])
def test_on_a_terminal_the_steps_and_tensorrts_own_phases_are_shown(
    tmp_path: Path, version: str, wanted: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made, seen, terminal = write(tmp_path), [], Terminal()
    add, done = Shown._told, Shown.say
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(Shown, "say", lambda self, text: (seen.append(text), done(self, text))[1])
    monkeypatch.setattr(Shown, "_told", lambda self, *step: (seen.append(step[0]), add(self, *step))[1])

    with simulate(version):
        build_engine(made.path, timing_cache=None, progress=wanted)

    assert capsys.readouterr().out == ""
    assert "measuring number ranges" in seen
    assert "building" in seen
    assert ("Measuring Tactics" in seen) is (version != "8.6")
    assert (terminal.getvalue() != "") is wanted


@every_version
def test_a_terminal_is_left_as_it_was_whatever_happens(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, terminal = write(tmp_path), Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    subjects.no_plan(monkeypatch)

    with simulate(version), pytest.raises(UnsupportedError):
        build_engine(made.path, timing_cache=None, progress=True)

    text = terminal.getvalue()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")  # the cursor was hidden, and is there again


@every_version
def test_ctrl_c_tells_tensorrt_to_stop_and_waits_for_it(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A builder that goes on behind a program that has ended would crash."""
    steps = subjects.press_ctrl_c(monkeypatch)
    spied, ended = Builder.build_serialized_network, []

    def build_it(self: Builder, network: Any, config: Any) -> Any:
        try:
            return spied(self, network, config)
        finally:
            ended.append(len(steps))

    monkeypatch.setattr(Builder, "build_serialized_network", build_it)

    with simulate(version), pytest.raises(KeyboardInterrupt):
        build_engine(write(tmp_path).path, timing_cache=None)

    assert ended == [len(steps)]
    assert steps
