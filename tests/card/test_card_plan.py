"""nddr-verify of a TensorRT plan, on a simulated GPU: the card is that of the ONNX file it was built from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from card_subjects import change_weight
from simulated.simulate import VERSIONS, simulate

from nddr_deploy.build.recipe import build_engine
from nddr_deploy.card.__main__ import main
from nddr_deploy.card.card_file import card_path
from nddr_deploy.card.make import make_card
from nddr_deploy.card.verification import Verification
from nddr_deploy.card.verify import verify
from nddr_deploy.engines import open_engine


@pytest.fixture(params=VERSIONS)
def gpu(request: pytest.FixtureRequest) -> Iterator[Any]:
    with simulate(str(request.param)) as world:
        yield world


def write_card(model: Path) -> None:
    with open_engine(model, threads=1) as engine:
        card_path(model).write_text(make_card(model, engine).to_json())


def build(model: Path, outputs: str) -> Path:
    plan = model.with_suffix(".trt")
    build_engine(model, plan, precision="fp32", outputs=outputs, timing_cache=None)
    return plan


def verdicts(found: Verification, part: str) -> dict[str, str]:
    return {check.what: check.verdict for check in found.checks if check.part == part}


@pytest.mark.parametrize("outputs", ["raw", "decoded"])
def test_a_plan_of_the_cards_model_computes_what_the_card_says(
    gpu: Any, models: tuple[Path, Path], outputs: str
) -> None:
    write_card(models[0])

    found = verify(build(models[0], outputs), latency=False)

    assert not found.changed
    assert found.card == card_path(models[0])
    assert found.runs_on.startswith("tensorrt fp32")
    assert verdicts(found, "file") == {"plan": "same", "built from": "same", "made from checkpoint": "same"}
    assert verdicts(found, "function") == dict.fromkeys(("segmentation", "normals", "age"), "same")


def test_a_plan_of_a_changed_model_is_caught(
    gpu: Any, models: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write_card(models[0])
    change_weight(models[0], "normals.weight")

    assert main([str(build(models[0], "raw")), "--no-latency"]) == 1

    assert "This is not the card's model (built from). It computes something else" in capsys.readouterr().out


def test_a_plan_without_a_gpu_is_one_sentence(models: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    write_card(models[0])
    with simulate(VERSIONS[-1]):
        plan = build(models[0], "raw")

    assert main([str(plan), "--no-latency"]) == 2

    assert capsys.readouterr().err.count("\n") == 1
