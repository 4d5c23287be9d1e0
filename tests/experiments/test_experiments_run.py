"""Trainings that make a table: skipped when done, gone on with when stopped, and noted as they came out."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from nddr_deploy.errors import DivergedError, InputError, ModelFileError
from nddr_deploy.experiments import timed
from nddr_deploy.experiments.plan import make_plan
from nddr_deploy.experiments.report import Cell
from nddr_deploy.experiments.reproduce import reproduce
from nddr_deploy.experiments.results import Results
from nddr_deploy.experiments.spec import read_table

REPRODUCE = Path(__file__).parents[2] / "examples" / "reproduce.py"
PROTOCOL: dict[str, Any] = {
    "tasks": ["age", "gender"],
    "columns": {"age": ["MAE"], "gender": ["accuracy"]},
    "scales": {
        "tiny": {
            "judged_on": {"split": "test", "options": {"count": 4}},
            "every": {
                "data": {
                    "name": "faces",
                    "options": {"size_hw": [32, 32]},
                    "train_options": {"count": 4},
                    "val_options": {"count": 2},
                },
                "network": {"backbone": "vgg16", "backbone_options": {"width": 0.02, "batchnorm": True}},
                "steps": 2,
                "batch_size": 2,
                "tensorboard": False,
            },
        }
    },
}
ROWS = {
    "single task": {"stage": "single", "each": True, "start": "random", "paper": [9.1, 83.5]},
    "NDDR": {"paper": [8.0, 84.0], "about": "the paper's own."},
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "faces.yaml").write_text(yaml.safe_dump(PROTOCOL))
    path = tmp_path / "table7.yaml"
    values = {"title": "Table 7: age and gender", "protocol": "faces", "rows": ROWS}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def run(table: Path, output: Path, **options: Any) -> tuple[Any, str]:
    """The table's report, and what was said."""
    said = io.StringIO()
    (report,) = reproduce([table], output, scale="tiny", console=Console(file=said, width=200), **options)
    return report, said.getvalue()


def test_a_table_is_trained_scored_and_written_beside_the_papers(table: Path, tmp_path: Path) -> None:
    report, said = run(table, tmp_path / "out", seeds=[0, 1])

    assert report.seeds == (0, 1)
    age, gender = report.cells["NDDR"]
    assert len(age.values) == len(gender.values) == 2
    assert age.paper == 8.0
    assert all(0 <= value <= 100 and value in (0, 25, 50, 75, 100) for value in gender.values)  # per cent of 4 faces
    text = (tmp_path / "out" / "tables" / "table7-tiny.md").read_text()
    assert "| *the paper* | *8* | *84* |" in text
    assert f"{age.mean:.2f}" in text
    assert "6 networks trained" in text
    assert "2 seeds (0, 1)" in text
    assert "- NDDR: the paper's own." in text
    assert text in said
    values = json.loads((tmp_path / "out" / "tables" / "table7-tiny.json").read_text())
    assert values["rows"]["NDDR"]["age.MAE"]["values"] == list(age.values)
    assert (tmp_path / "out" / "tables" / "table7-tiny.png").stat().st_size > 5000


def test_what_is_finished_is_not_trained_again(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = run(table, tmp_path / "out")
    monkeypatch.setattr(timed, "train", lambda *words, **options: pytest.fail("trained again"))

    again, said = run(table, tmp_path / "out")

    assert again.cells == first.cells
    assert "[1/" not in said


def test_results_of_another_place_count_and_missing_starts_are_trained_for_what_is_left(
    table: Path, tmp_path: Path
) -> None:
    run(table, tmp_path / "one", results=tmp_path / "results")
    fused = next((tmp_path / "results").glob("vgg16-nddr-*"))
    kept = {path.name: path.read_text() for path in (tmp_path / "results").iterdir()}
    fused.unlink()

    _, said = run(table, tmp_path / "two", results=tmp_path / "results")  # weights of the single-task networks are gone

    assert [line.split(":")[0].split("] ")[1] for line in said.splitlines() if line.startswith("[")] == [
        path.removesuffix(".json") for path in (*sorted(set(kept) - {fused.name}), fused.name)
    ]
    now = {path.name: path.read_text() for path in (tmp_path / "results").iterdir()}
    assert {name: text for name, text in now.items() if name != fused.name} == {
        name: text for name, text in kept.items() if name != fused.name
    }
    assert json.loads(now[fused.name])["metrics"] == json.loads(kept[fused.name])["metrics"]  # same seed, same result


def test_a_result_says_what_was_run_for_how_long_and_on_what(table: Path, tmp_path: Path) -> None:
    run(table, tmp_path / "out")

    values = json.loads(next((tmp_path / "out" / "results").glob("vgg16-nddr-*")).read_text())
    assert values["seed"] == 0
    assert values["steps"] == 2
    assert values["seconds"] > 0
    assert values["machine"]["device"] == "cpu"
    assert values["machine"]["cpu"]
    assert values["settings"]["network"]["backbone_options"] == {"width": 0.02, "batchnorm": True}
    assert set(values["metrics"]) == {"age", "gender"}
    assert set(values["starts"]) == {"age", "gender"}
    assert str(tmp_path) not in json.dumps(values)  # no path of this machine


def test_a_stopped_training_goes_on_and_ends_as_if_it_had_not_been(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = run(table, tmp_path / "whole")
    real, calls = timed.train, []

    def stopped(config: Any, **options: Any) -> Any:
        calls.append(options["resume"])
        if len(calls) == 2:  # the second network: it saved its start and was stopped
            real(config, **options)
            (Path(config.output) / "ckpt.pt").unlink()
            raise KeyboardInterrupt
        return real(config, **options)

    monkeypatch.setattr(timed, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(table, tmp_path / "out")
    after, _ = run(table, tmp_path / "out")

    assert calls == [False, False, True, False]
    assert after.cells == whole.cells


def test_a_training_whose_loss_becomes_nan_is_a_result_and_not_the_end(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = timed.train

    def diverging(config: Any, **options: Any) -> Any:
        if len(config.tasks) == 2:
            raise DivergedError("The loss of age is nan in step 2.")
        return real(config, **options)

    monkeypatch.setattr(timed, "train", diverging)
    report, _ = run(table, tmp_path / "out")

    assert report.failed == {"single task": 0, "NDDR": 1}
    assert report.cells["NDDR"][0].values == ()
    assert report.best(0) == "single task"
    text = (tmp_path / "out" / "tables" / "table7-tiny.md").read_text()
    assert "| NDDR | – | – |" in text
    assert "NDDR: 1 of the trainings failed" in text


def test_what_starts_from_a_failed_training_has_failed_too_and_the_others_go_on(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, trained = timed.train, []

    def diverging(config: Any, **options: Any) -> Any:
        trained.append(config.tasks)
        if config.tasks == ("gender",):
            raise DivergedError("The loss of gender is nan in step 2.")
        return real(config, **options)

    monkeypatch.setattr(timed, "train", diverging)
    report, _ = run(table, tmp_path / "out")
    again, _ = run(table, tmp_path / "out")

    assert trained == [("age",), ("gender",)]
    assert report.failed == again.failed == {"single task": 1, "NDDR": 1}
    values = json.loads(next((tmp_path / "out" / "results").glob("vgg16-nddr-*")).read_text())
    assert "vgg16-gender-seed0" in values["failed"]
    assert "which it starts from, failed" in values["failed"]


def test_a_result_that_could_not_be_noted_is_noted_later_with_the_seconds_that_it_took(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Results, "write", lambda *words: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            run(table, tmp_path / "out")
    run(table, tmp_path / "out")

    for path in (tmp_path / "out" / "results").iterdir():
        values = json.loads(path.read_text())
        assert values["seconds"] > 0, path
        assert values["images_per_s"] > 0, path


def test_a_folder_that_cannot_be_made_is_said_before_anything_is_trained(table: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InputError, match=r"results cannot be made .*Choose another --results"):
        run(table, tmp_path / "out", results=tmp_path / "file" / "results")
    with pytest.raises(InputError, match=r"tables cannot be made .*Choose another --output"):
        run(table, tmp_path / "file")
    assert not list((tmp_path / "out").glob("runs/*"))


def test_two_commands_share_one_folder_and_train_each_network_once(table: Path, tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from nddr_deploy.experiments.reproduce import reproduce; "
    script += "reproduce([Path(sys.argv[1])], Path(sys.argv[2]), scale='tiny', seeds=[0, 1])"
    words = [sys.executable, "-c", script, str(table), str(tmp_path / "out")]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    trained = [
        line.split("] ")[1].split(":")[0] for out, _ in said for line in out.splitlines() if line.startswith("[")
    ]
    assert len(trained) == len(set(trained)) == 6


def test_a_damaged_result_is_named(table: Path, tmp_path: Path) -> None:
    run(table, tmp_path / "out")
    path = next((tmp_path / "out" / "results").glob("vgg16-nddr-*"))
    path.write_text(path.read_text()[:40])

    with pytest.raises(InputError, match=r"vgg16-nddr-.* is no result of a training .* Remove it to train again"):
        run(table, tmp_path / "out")


def test_a_damaged_checkpoint_is_named_and_trained_again_when_its_folder_is_removed(
    table: Path, tmp_path: Path
) -> None:
    first, _ = run(table, tmp_path / "out")
    next((tmp_path / "out" / "results").glob("vgg16-nddr-*")).unlink()
    (fused,) = (tmp_path / "out" / "runs").glob("vgg16-nddr-*")
    (fused / "ckpt.pt").write_bytes((fused / "ckpt.pt").read_bytes()[:500])

    with pytest.raises(ModelFileError, match=r"vgg16-nddr-.*ckpt.pt .* Or remove that folder: .* trained again"):
        run(table, tmp_path / "out")
    shutil.rmtree(fused)
    again, _ = run(table, tmp_path / "out")

    assert again.cells == first.cells


def test_a_report_alone_trains_nothing_and_says_what_is_missing(table: Path, tmp_path: Path) -> None:
    report, said = run(table, tmp_path / "out", train=False)

    assert report.seeds == ()
    assert "Nothing of it has been trained yet." in said


def test_the_spread_is_the_standard_deviation_over_seeds() -> None:
    assert Cell((1.0, 2.0, 3.0), None).deviation == pytest.approx(1.0)
    assert Cell((1.0, 2.0, 3.0), None).mean == pytest.approx(2.0)


def test_results_of_another_digest_with_the_same_beginning_are_not_taken(table: Path, tmp_path: Path) -> None:
    run(table, tmp_path / "out")
    folder = tmp_path / "out" / "results"
    path = next(folder.glob("vgg16-nddr-*"))
    values = json.loads(path.read_text())
    values["digest"] = values["digest"][:10] + "0" * 54
    path.write_text(json.dumps(values))

    (fused,) = make_plan(read_table(table, "tiny"), [0]).cells["NDDR", 0]
    assert Results(folder).find(fused) is None


def test_an_unknown_table_is_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, str(REPRODUCE), "table8", "--output", "x"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stderr.startswith("error: table: 'table8' is unknown.")
    assert "Traceback" not in done.stderr
