"""Engines that take turns in one process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from nddr_deploy.card.latency import Timed, time_engines
from nddr_deploy.engines.ort import OrtEngine
from nddr_deploy.errors import ConfigError


def test_cases_take_turns_and_are_compared_with_the_first(
    models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    run = OrtEngine._run

    def slow(self: OrtEngine, images: Any) -> Any:
        order.append(self.precision)
        end = time.process_time() + (0.010 if self.precision == "fp32" else 0.002)
        while time.process_time() < end:
            pass
        return run(self, images)

    monkeypatch.setattr(OrtEngine, "_run", slow)
    told: list[int] = []

    latency = time_engines([Timed(path) for path in models], threads=1, rounds=3, seconds=0.03, progress=told.append)

    turns = [name for place, name in enumerate(order) if place == 0 or order[place - 1] != name]
    assert turns == ["fp32", "int8"] * 3
    assert sum(told) == 6
    first, second = latency.cases
    assert (first.label, second.label) == ("FP32, onnxruntime", "INT8, onnxruntime")
    assert first.speedup == first.speedup_low == first.speedup_high == 1
    assert 3.5 < second.speedup < 5.5  # 10 ms to 2 ms, and a tenth of a millisecond of network to each
    assert second.speedup_low <= second.speedup <= second.speedup_high
    assert first.low_ms <= first.median_ms <= first.high_ms
    assert 10 <= first.median_ms < 12
    assert latency.clock == "processor"
    assert latency.images == (1, 16, 24, 3)


def test_several_threads_are_timed_by_the_clock(models: tuple[Path, Path]) -> None:
    latency = time_engines([Timed(models[0], label="mine")], threads=2, rounds=1, seconds=0.01)

    assert (latency.clock, latency.threads, latency.cases[0].label) == ("wall", 2, "mine")


def test_the_first_pass_of_a_turn_is_not_measured(models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    run = OrtEngine._run

    def counted(self: OrtEngine, images: Any) -> Any:
        passes.append(1)
        return run(self, images)

    monkeypatch.setattr(OrtEngine, "_run", counted)

    latency = time_engines([Timed(models[0])], threads=1, rounds=2, seconds=0.01)

    assert latency.cases[0].passes == len(passes) - 2


@pytest.mark.parametrize("options", [{"rounds": 0}, {"seconds": 0.0}])
def test_no_round_and_no_time_are_refused(models: tuple[Path, Path], options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="There must be a case"):
        time_engines([Timed(models[0])], **options)
