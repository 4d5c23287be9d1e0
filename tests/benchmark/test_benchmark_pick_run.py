"""Whole picks on a model of no size: what is judged, chosen and written; what is refused, and then leaves nothing."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import card_subjects
import numpy as np
import pytest
from card_subjects import Tiny, change_weight, measured_card
from PIL import Image

from nddr_deploy.benchmark import pick_report, turns
from nddr_deploy.benchmark.__main__ import main as nddr_bench
from nddr_deploy.benchmark.cases import Case
from nddr_deploy.benchmark.pick import pick
from nddr_deploy.benchmark.progress import Progress
from nddr_deploy.benchmark.turns import Turns
from nddr_deploy.card.card_file import card_path, page_path, read_card
from nddr_deploy.card.make import write_card
from nddr_deploy.card.page_pictures import read_pictures
from nddr_deploy.card.pictures import Picture
from nddr_deploy.card.verify import verify
from nddr_deploy.data import DATASETS
from nddr_deploy.data.base import Sample
from nddr_deploy.engines import open_engine
from nddr_deploy.errors import BudgetError, ConfigError, InputError, ModelFileError
from nddr_deploy.evaluate.sample_scores import EvaluationSet
from nddr_deploy.inference.__main__ import main as nddr_infer
from nddr_deploy.page.panels import panel

QUICK: dict[str, Any] = {"rounds": 1, "seconds_per_case": 0.02, "threads": 1}
CASES = ["onnxruntime", "onnxruntime:int8"]
PICTURE = Picture("normals", "tiny-1", "worse", (panel(np.zeros((4, 6, 3), dtype=np.uint8), "image", "alt"),))


class WithoutFloor(Tiny):
    """As `Tiny`, but nobody labelled a pixel."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        unlabelled = np.full((*self.size_hw,), 255, dtype=np.uint8)
        return Sample(sample.name, sample.image, {**sample.targets, "segmentation": unlabelled})


@pytest.fixture(autouse=True)
def data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "tiny", "card_subjects:Tiny")
    monkeypatch.setitem(DATASETS, "floorless", f"{__name__}:WithoutFloor")


def write_carded(folder: Path, *, budgets: tuple[str, ...] = ("segmentation=-5", "normals=+5")) -> Path:
    """The FP32 model; beside it the int8 one with a card, its page and a picture in it."""
    fp32, int8 = card_subjects.write_models(folder)
    write_card(measured_card(fp32, int8, budgets), [PICTURE], int8)
    return fp32


@pytest.fixture(scope="module")
def picked(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A pick that was told nothing: data and budgets are the card's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "tiny", "card_subjects:Tiny")
        model = write_carded(tmp_path_factory.mktemp("picked"))
        before = read_card(card_path(model.with_name("model.int8.onnx")))
        report = pick(model, **{**QUICK, "rounds": 2})
    return SimpleNamespace(model=model, int8=model.with_name("model.int8.onnx"), report=report, before=before)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Without any card."""
    return card_subjects.write_models(tmp_path)[0]


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return str(folder)


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be timed: what is refused is refused before."""

    def refuse(*values: object, **options: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(turns, "Worker", refuse)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_every_runtime_and_precision_of_both_files_is_judged_or_has_a_reason(picked: Any) -> None:
    judged = {each.case.label for each in picked.report.judged}

    assert {"onnxruntime fp32", "openvino fp32", "onnxruntime int8"} <= judged
    # some processors lack BF16 and FP16; and of int8 OpenVINO makes floats where a network is as narrow as this
    assert {"openvino bf16", "openvino fp16", "openvino int8", "openvino int8+bf16"} <= judged | set(
        picked.report.not_run
    )
    assert picked.report.judge.evaluation.about == "10 samples of tiny (val)"
    assert [budget.text for budget in picked.report.judge.budgets] == ["segmentation=-5", "normals=+5"]


def test_what_a_case_loses_is_what_its_file_loses_outside_of_the_pick(picked: Any) -> None:
    judged = {each.case.label: each for each in picked.report.judged}["onnxruntime int8"]
    with open_engine(picked.int8, threads=1) as engine:
        data = EvaluationSet.labelled_data(engine.manifest, Tiny("val"))
        alone = data.score(engine.infer).result()

    for change in judged.changes:
        assert change.after == pytest.approx(alone[change.task][change.metric], rel=1e-9)  # the same sums
    assert any(change.after != change.before for change in judged.changes)


def test_the_card_takes_choice_and_times_and_keeps_all_else(picked: Any) -> None:
    card, best = read_card(card_path(picked.int8)), picked.report.decision.best

    assert card.choice is not None
    assert (card.choice.file, card.choice.backend, card.choice.precision) == (
        best.case.path.name,
        best.case.backend,
        best.case.precision,
    )
    assert "10 samples of tiny (val): segmentation.mIoU" in card.choice.why
    assert card.latency is not None
    assert card.latency.clock == "processor"  # of one thread, whatever else the machine does
    assert len(card.latency.cases) == len(picked.report.judged)
    assert card.model_copy(update={"choice": None, "latency": None}) == picked.before
    assert "Chosen:" in page_path(picked.int8).read_text()
    assert read_pictures(page_path(picked.int8)) == (PICTURE,)
    assert not card_path(picked.model).exists()


def test_the_model_still_keeps_what_its_card_says(picked: Any) -> None:
    assert not verify(picked.int8, threads=1, latency=False).changed


def test_the_choice_runs_by_the_command_that_is_printed(picked: Any, pictures: str, tmp_path: Path) -> None:
    words = shlex.split(picked.report.command)
    filled = [{"INPUT": pictures, "OUTPUT": str(tmp_path / "out")}.get(word, word) for word in words]

    assert words[0] == "nddr-infer"
    assert nddr_infer([*filled[1:], "--quiet"]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_the_choice_read_from_the_card_loses_what_was_judged(picked: Any) -> None:
    choice = read_card(card_path(picked.int8)).choice
    assert choice is not None
    path = picked.int8.with_name(choice.file)

    with open_engine(path, choice.backend, precision=choice.precision, threads=choice.threads) as engine:
        data = EvaluationSet.labelled_data(engine.manifest, Tiny("val"))
        again = data.score(engine.infer).result()

    for change in picked.report.decision.best.changes:
        assert change.after == pytest.approx(again[change.task][change.metric], rel=1e-6)  # another process


def test_the_report_is_json_that_names_no_folder_and_a_table_with_every_case(
    picked: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    text = json.dumps(picked.report.to_dict(), allow_nan=False)
    pick_report.show(picked.report)
    printed = capsys.readouterr().out

    assert str(picked.model.parent) not in text
    assert [case["case"] for case in json.loads(text)["cases"] if case["chosen"]] == [
        picked.report.decision.best.case.label
    ]
    assert all(judged.case.label in printed for judged in picked.report.judged)
    assert printed.count("chosen") == 2  # in the table, and below it
    assert "mIoU -5" in printed


def test_a_budget_that_int8_misses_leaves_the_float_model_with_a_card_of_its_own(model: Path, pictures: str) -> None:
    report = pick(model, against=CASES, images=pictures, budgets=["normals.mean_angle=+0"], **QUICK)

    card = read_card(card_path(model))
    assert report.card == card_path(model)
    assert card.choice is not None
    assert (card.choice.file, card.choice.backend, card.choice.precision) == ("model.onnx", "onnxruntime", "fp32")
    assert [budget.text for budget in report.judged[1].missed] == ["normals.mean_angle=+0"]
    assert card.met  # of the FP32 model itself, against itself
    assert page_path(model).is_file()


def test_a_second_pick_takes_data_and_budgets_from_the_card_of_the_first(model: Path) -> None:
    alone: dict[str, Any] = {"against": ["onnxruntime"], **QUICK}
    pick(model, data="tiny", limit=4, budgets=["normals=+1"], **alone)

    again = pick(model, **alone)

    assert [budget.text for budget in again.judge.budgets] == ["normals=+1"]
    assert len(again.judge.evaluation) == 4


def test_budgets_that_no_case_keeps_end_with_1_and_change_nothing(
    tmp_path: Path, pictures: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_carded(tmp_path)
    before = contents(tmp_path)

    status = nddr_bench(
        [
            *(str(model), "--pick", "--against", "onnxruntime:int8", "--images", pictures, "--rounds", "1"),
            *("--seconds-per-case", "0.02", "--threads", "1", "--budget", "normals.mean_angle=+0"),
        ]
    )

    said = capsys.readouterr().err
    assert status == 1
    assert "No case keeps the budget, so nothing was chosen or written: onnxruntime int8 (normals.mean_angle=+0" in said
    assert said.count("\n") == 1
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("unmeasured")
def test_a_metric_that_the_samples_never_show_can_be_promised_by_no_case(tmp_path: Path) -> None:
    model = write_carded(tmp_path)

    with pytest.raises(BudgetError, match=r"segmentation\.mIoU cannot be measured on 10 samples of floorless"):
        pick(model, data="floorless", budgets=["segmentation=-5"], **QUICK)


@pytest.mark.usefixtures("unmeasured")
def test_a_machine_without_the_cards_data_is_told_what_to_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_carded(tmp_path)

    def elsewhere(split: str, **options: Any) -> Tiny:
        raise InputError("The folder ../data/tiny does not exist.")

    monkeypatch.setattr(card_subjects, "Tiny", elsewhere)

    with pytest.raises(InputError, match=r"the card names cannot be opened here: .* Give --data NAME .* or --images"):
        pick(model, **QUICK)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"images": "photos"}, "There is no budget to pick under. Give what each head may lose"),
        ({"budgets": ["normals=+1"]}, "There is nothing to judge on: the model has no card"),
        ({"budgets": ["normals=+1"], "data": "tiny", "images": "photos"}, "Give one of them"),
        ({"budgets": ["normals=+1"], "images": "photos", "options": {"count": 3}}, "The options count"),
        ({"budgets": ["normal=+1"], "data": "tiny"}, "Did you mean 'normals'"),
        ({"budgets": ["normals=-1"], "data": "tiny"}, "lower is better"),
        ({"budgets": ["normals=+1"], "data": "tiny", "limit": 0}, "limit: got 0"),
        ({"budgets": ["normals=+1"], "data": "tiny", "threads": 0}, "threads: got 0"),
        ({"budgets": ["normals=+1"], "data": "tiny", "rounds": 0}, "must be above zero"),
    ],
)
def test_what_cannot_be_decided_is_refused_at_once(model: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        pick(model, **{**QUICK, **options})


@pytest.mark.usefixtures("unmeasured")
def test_a_card_of_another_file_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    model = write_carded(tmp_path)
    change_weight(tmp_path / "model.int8.onnx")

    with pytest.raises(ModelFileError, match="is not the card of"):
        pick(model, **QUICK)


class Recorder:
    """A worker that answers at once."""

    closed: tuple[str, ...] = ()

    def __init__(self, name: str, **options: object) -> None:
        self.name = name

    def ask(self, order: str, **values: object) -> dict[str, Any]:
        return {"wall_s": [0.01], "cpu_s": [0.01]} if order == "measure" else {}

    def close(self) -> None:
        Recorder.closed += (self.name,)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: object) -> None: ...


@pytest.mark.parametrize("strict", [False, True])
def test_a_case_that_cannot_be_judged_is_left_out_or_ends_the_run_where_it_was_asked_for(
    handmade: Any, monkeypatch: pytest.MonkeyPatch, strict: bool
) -> None:
    subject, not_run = handmade(), {}
    cases = [Case(name, name, "fp16", compiled=False, path=subject.path) for name in ("sound", "overflowing")]
    monkeypatch.setattr(turns, "Worker", Recorder)
    monkeypatch.setattr(Recorder, "closed", ())

    def judge(case: Case, worker: object) -> None:
        if case.name == "overflowing":
            raise InputError("normals: the result is NaN.")

    found = Turns(subject.manifest, 2, 0.0, Progress(None), not_run, strict=strict)
    if strict:
        with pytest.raises(InputError, match="NaN"):
            found.judged(cases, 1, judge)
        return
    able, answers = found.judged(cases, 1, judge)

    assert [case.name for case in able] == ["sound"]
    assert [len(rounds) for rounds in answers] == [2]
    assert not_run == {"overflowing fp16": "normals: the result is NaN."}
    assert Recorder.closed == ("overflowing fp16",)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["model.onnx", "--engine", "other.onnx"], "both name the model"),
        (["model.onnx", "--pick", "--checkpoint", "ckpt.pt"], "--checkpoint goes without --pick"),
        (["model.onnx", "--pick", "--markdown"], "--markdown goes without --pick"),
        (["model.onnx", "--budget", "normals=+1"], "--budget goes with --pick"),
        (["model.onnx", "--data", "rooms"], "--data goes with --pick"),
        (["--pick"], "measures either a model"),
        (["none.onnx", "--pick", "--budget", "normals=+1"], "does not exist"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_two(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nddr_bench(arguments) == 2

    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
