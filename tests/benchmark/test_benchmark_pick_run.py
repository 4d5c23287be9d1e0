"""One whole pick on a model of no size: what is chosen and written; what is refused, and then leaves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import card_subjects
import numpy as np
import pytest
from PIL import Image

from nddr_deploy.benchmark.__main__ import main as nddr_bench
from nddr_deploy.benchmark.pick import pick
from nddr_deploy.card.card_file import card_path, page_path, read_card
from nddr_deploy.engines import open_engine
from nddr_deploy.errors import BudgetError, ConfigError

QUICK: dict[str, Any] = {"rounds": 1, "seconds_per_case": 0.02, "threads": 1}
CASES = ["onnxruntime", "onnxruntime:int8"]


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return str(folder)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return card_subjects.write_models(tmp_path)[0]


def test_a_case_that_keeps_the_budgets_is_chosen_and_noted_in_a_card(model: Path, pictures: str) -> None:
    report = pick(model, against=CASES, images=pictures, budgets=["segmentation.PAcc=-50"], **QUICK)

    labels = {judged.case.label for judged in report.judged}
    card = read_card(report.card)
    assert labels == {"onnxruntime fp32", "onnxruntime int8"}
    assert card.choice is not None
    assert f"{card.choice.backend} {card.choice.precision}" in labels
    assert card.latency is not None
    assert page_path(model).is_file()


def test_what_was_chosen_can_be_opened_as_the_card_says(model: Path, pictures: str) -> None:
    report = pick(model, against=CASES, images=pictures, budgets=["segmentation.PAcc=-50"], **QUICK)

    choice = read_card(report.card).choice
    assert choice is not None
    with open_engine(model.with_name(choice.file), choice.backend, precision=choice.precision) as engine:
        assert engine.precision == choice.precision
    assert f"--engine {model.with_name(choice.file)}" in report.command
    assert f"--backend {choice.backend} --precision {choice.precision}" in report.command


def test_a_budget_that_int8_misses_leaves_the_float_model(model: Path, pictures: str) -> None:
    report = pick(model, against=CASES, images=pictures, budgets=["normals.mean_angle=+0"], **QUICK)

    choice = read_card(report.card).choice
    assert choice is not None
    assert (choice.backend, choice.precision) == ("onnxruntime", "fp32")  # against itself it loses nothing


def test_a_budget_that_no_case_keeps_ends_with_1_and_writes_nothing(
    model: Path, pictures: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BudgetError):
        pick(model, against=["onnxruntime:int8"], images=pictures, budgets=["normals.mean_angle=+0"], **QUICK)
    status = nddr_bench(
        [
            *(str(model), "--pick", "--against", "onnxruntime:int8", "--images", pictures, "--rounds", "1"),
            *("--seconds-per-case", "0.02", "--threads", "1", "--budget", "normals.mean_angle=+0"),
        ]
    )

    assert status == 1
    assert "normals.mean_angle" in capsys.readouterr().err
    assert not card_path(model).exists()


def test_without_budgets_nothing_is_measured(model: Path, pictures: str) -> None:
    with pytest.raises(ConfigError, match="budget"):
        pick(model, against=CASES, images=pictures, **QUICK)
