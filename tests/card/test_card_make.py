"""A card is made from the file itself and from what was measured; both its files appear, or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from card_subjects import change_weight, measured_card
from handmade_model import TASKS

from nddr_deploy.card.card_file import card_path, find_card, page_path, read_card
from nddr_deploy.card.file_checks import check_file
from nddr_deploy.card.make import make_card, update_card, write_card
from nddr_deploy.card.page_pictures import pictures_of
from nddr_deploy.card.pictures import Picture
from nddr_deploy.card.schema import Card, Link
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.plan_file import PlanManifest, manifest_path
from nddr_deploy.errors import ConfigError, ModelFileError, OutputError
from nddr_deploy.evaluate.budget import parse_budgets
from nddr_deploy.files import sha256
from nddr_deploy.manifest import Manifest
from nddr_deploy.page.panels import panel

PICTURE = Picture("normals", "tiny-1", "worse", (panel(np.zeros((4, 6, 3), dtype=np.uint8), "image", "alt"),))


def test_every_metric_stands_in_it_with_its_budget(models: tuple[Path, Path]) -> None:
    card = measured_card(*models, budgets=("segmentation.mIoU=-1%", "normals=+0"))

    rows = {(head.task, head.metric): head for head in card.heads}
    assert set(rows) == {(task.name, metric) for task in TASKS for metric in task.metrics}
    iou = rows["segmentation", "mIoU"]
    assert iou.headline
    assert iou.before is not None
    assert iou.allowed == pytest.approx(0.01 * iou.before)  # relative, in the metric's own unit
    angle = rows["normals", "mean_angle"]
    assert angle.change is not None
    assert angle.met is (angle.change <= 0)
    assert rows["age", "MAE"].budget is None
    assert rows["age", "MAE"].change == 0  # the age head stays in FP32


def test_a_budget_for_what_was_not_measured_is_refused(models: tuple[Path, Path]) -> None:
    with (
        open_engine(models[1], threads=1) as engine,
        pytest.raises(ConfigError, match=r"nothing was measured for normals.mean_angle"),
    ):
        make_card(models[1], engine, budgets=parse_budgets(["normals=+1"], TASKS))


def test_it_carries_the_files_own_name_when_made_under_another(models: tuple[Path, Path]) -> None:
    temporary = models[1].rename(models[1].with_name(".model.int8.partial.onnx"))

    with open_engine(temporary, threads=1) as engine:
        card = make_card(temporary, engine, name="model.int8.onnx")

    assert card.model.name == "model.int8.onnx"
    assert card.model.sha256 == sha256(temporary)


def test_the_chain_keeps_the_manifests_order_whatever_is_named_besides(models: tuple[Path, Path]) -> None:
    onnx, other = Link(role="onnx", file="model.onnx", sha256=sha256(models[0])), Link(role="other", sha256="00" * 32)

    with open_engine(models[1], threads=1) as engine:
        card = make_card(models[1], engine, chain=[other, onnx])

    assert [(link.role, link.file) for link in card.chain] == [
        ("checkpoint", None),
        ("onnx", "model.onnx"),
        ("other", None),
    ]


def test_something_a_card_cannot_hold_is_refused_in_a_sentence(models: tuple[Path, Path]) -> None:
    with open_engine(models[1], threads=1) as engine, pytest.raises(ConfigError, match=r"cannot hold notes\.0"):
        make_card(models[1], engine, notes=["a\nb"])


def test_both_files_appear_together(card: Card, tmp_path: Path) -> None:
    model = tmp_path / "model.int8.onnx"

    written = write_card(card, [PICTURE], model)

    assert written == (card_path(model), page_path(model))
    assert read_card(written[0]) == card
    assert "<!DOCTYPE html>" in written[1].read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.int8.card.html", "model.int8.card.json"]


def test_neither_file_changes_where_one_cannot_be_written(
    card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    model = tmp_path / "model.onnx"
    write_card(card, [], model)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    write_text = Path.write_text

    def full(self: Path, *values: str, **options: str) -> int:
        if self.suffix == ".html":
            raise OSError(errno.ENOSPC, "no space")
        return write_text(self, *values, **options)

    monkeypatch.setattr(Path, "write_text", full)

    with pytest.raises(OutputError, match="Make room"):
        write_card(card.model_copy(update={"created": "2030-01-01T00:00:00Z"}), [], model)

    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_choice_is_added_later_and_the_pictures_stay(models: tuple[Path, Path], card: Card) -> None:
    fresh = measured_card(*models)
    write_card(fresh, [PICTURE], models[1])

    changed = update_card(models[1], choice=card.choice)

    assert changed == fresh.model_copy(update={"choice": card.choice})
    assert read_card(card_path(models[1])) == changed
    page = page_path(models[1]).read_text()
    assert "Chosen:" in page
    assert pictures_of(page) == (PICTURE,)


def test_a_card_of_another_file_is_not_updated(models: tuple[Path, Path], card: Card) -> None:
    write_card(measured_card(*models), [], models[1])
    change_weight(models[1])

    with pytest.raises(ModelFileError, match="is not the card of"):
        update_card(models[1], choice=card.choice)


def write_plan(folder: Path, onnx: str, built_from: str) -> Path:
    """A plan of no worth with a right manifest."""
    plan = folder / "model.trt"
    plan.write_bytes(b"plan")
    shape = (1, 16, 24, 3)
    manifest = Manifest(
        tasks=TASKS, size_hw=(16, 24), outputs="decoded", hashes={"onnx": built_from, "checkpoint": "c0" * 32}
    )
    about = PlanManifest.model_validate(
        {
            "model": manifest,
            "plan": sha256(plan),
            "onnx": onnx,
            "tensorrt": "10.9.0.34",
            "gpu": "A GPU",
            "compute_capability": "9.0",
            "precision": "int8",
            "realised": {},
            "profile": {"min": shape, "opt": shape, "max": shape},
        }
    )
    manifest_path(plan).write_text(about.to_json())
    return plan


def test_a_plan_has_the_card_of_the_file_it_was_built_from(card: Card, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, "model.int8.onnx", card.model.sha256)
    write_card(card, [], tmp_path / "model.int8.onnx")

    assert find_card(plan) == tmp_path / "model.int8.card.json"
    assert {check.what: check.verdict for check in check_file(plan, card)} == {
        "plan": "same",
        "built from": "same",
        "made from checkpoint": "same",
    }


def test_a_plan_of_another_file_breaks_the_chain(card: Card, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, "model.int8.onnx", "ff" * 32)

    verdicts = {check.what: check.verdict for check in check_file(plan, card)}

    assert verdicts["built from"] == "changed"
