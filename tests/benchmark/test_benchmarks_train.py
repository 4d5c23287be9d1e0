"""`benchmarks/train.py`: it runs, what it compares does the same work, and stages add up to the step."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from nddr_deploy.engines.cuda import count_gpus
from nddr_deploy.errors import NddrError, UnsupportedError

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a dry run writes."""
    path = tmp_path_factory.mktemp("train") / "report.json"
    assert train_py("--dry-run", "--output", str(path), "--ema", "0.9") == 0
    written: dict[str, Any] = json.loads(path.read_text())
    return written


def train_py(*arguments: str) -> int:
    """`python benchmarks/train.py ...`, in this process: it takes a third of the time."""
    spec = importlib.util.spec_from_file_location("benchmarks_train", CHECKOUT / "benchmarks" / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    status: int = module._main(arguments)
    return status


def test_both_loops_have_the_same_loss_before_the_first_step(report: dict[str, Any]) -> None:
    first = report["cases"]["tiny"]["first_loss"]

    assert first["nddr-train"] == pytest.approx(first["plain"], rel=1e-5)  # float32, in another order


def test_rates_and_ratios_are_of_the_same_rounds(report: dict[str, Any]) -> None:
    found = report["cases"]["tiny"]

    for clock in ("processor", "wall"):
        ours, plain = (found["images_per_s"][name][clock]["median"] for name in ("nddr-train", "plain"))
        assert ours > 0
        assert found["ratio"][clock]["least"] <= found["ratio"][clock]["median"] <= found["ratio"][clock]["most"]
        # Two rounds: the median of ratios lies near the ratio of medians.
        assert found["ratio"][clock]["median"] == pytest.approx(ours / plain, rel=0.5)


def test_every_stage_is_there_and_together_they_are_the_step(report: dict[str, Any]) -> None:
    stages = report["cases"]["tiny"]["stages"]

    step = stages.pop("step")
    assert set(stages) == {
        *("to device", "to float", "forward", "losses", "backward", "optimiser", "finite checks, record", "average"),
        "rest",
    }
    assert all(stages[name]["processor_ms"] > 0 for name in ("forward", "losses", "backward", "optimiser"))
    assert sum(stage["wall_ms"] for stage in stages.values()) == pytest.approx(step["wall_ms"], abs=0.05)  # rounded


def test_it_says_how_long_data_are_waited_for_and_on_what_it_was_measured(report: dict[str, Any]) -> None:
    tiny = report["cases"]["tiny"]

    assert 0 <= tiny["by_workers"]["0"]["waiting_share"] <= 1
    assert tiny["between_steps_s"].keys() == {"validation", "saving"}
    assert report["machine"]["cpu"]
    assert str(Path.home()) not in json.dumps(report)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--dry-run --data folder", "--data folder and --path DIR go together"),
        ("--dry-run --rounds 0", "--rounds and --steps must be at least 1; got 0 and 8"),
        ("--steps 0", "--rounds and --steps must be at least 1; got 20 and 0"),
        ("--cases tiny,tyni --output {}/a.json", r"'tyni' is unknown\. Choose one of: pixels, demo, paper, tiny\."),
        ("--dry-run --output {}/none/a.json", "none does not exist"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(
    tmp_path: Path, words: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NddrError, match=sentence):
        train_py(*words.format(tmp_path).split())

    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("workers", ["0,x", ","])
def test_workers_that_are_no_numbers_are_refused(workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        train_py("--dry-run", "--workers", workers)

    assert f"{workers!r} are no counts" in capsys.readouterr().err


@pytest.mark.skipif(count_gpus() > 0, reason="here is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="PyTorch finds no GPU"):
        train_py("--dry-run", "--device", "cuda")
