"""What a run leaves behind: tables, log, pictures and page; and that nothing of it can end a training."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from training_fakes import TinyScenes, open_tiny, settings

from nddr_deploy.checkpoint import load_checkpoint
from nddr_deploy.errors import TrainingError
from nddr_deploy.network.image_input import ImageModel
from nddr_deploy.training import run
from nddr_deploy.training.config_file import config_from_dict
from nddr_deploy.training.coupling import coupling, stream_power
from nddr_deploy.training.record import Record
from nddr_deploy.training.showcase import READABLE, Showcase
from nddr_deploy.training.summary import Summary

SHOWN = (0, 2, 4, 7)  # of eight validation samples: four, spread over all


def train(output: Path, *, resume: bool = False, overwrite: bool = False, **changes: Any) -> run.TrainReport:
    config = config_from_dict(settings(output, **{"summary": True, **changes}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "open_dataset", open_tiny)
        return run.train(config, resume=resume, overwrite=overwrite, console=Console(file=io.StringIO()))


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training of six steps, logged at 2, 4 and 6, validated at 3 and 6."""
    folder = tmp_path_factory.mktemp("record") / "my-run"
    train(folder, tensorboard=True)
    return folder


class Page(HTMLParser):
    """The text of a page, its tags, and whatever it might fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags, self.fetched = "", [], []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value for key, value in attrs if key in ("src", "href", "action", "data")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        self.text += data if self.tags[-1:] != ["style"] else ""


def test_the_folder_holds_every_file(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        *("ckpt.pt", "last.pt", "best.pt", "config.yaml"),
        *("metrics.csv", "coupling.csv", "log.txt", "summary.html", "tensorboard"),
    }


def test_the_log_has_what_was_said_with_times(finished: Path) -> None:
    lines = (finished / "log.txt").read_text().splitlines()

    assert all(re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ  \S?", line) for line in lines)
    assert "Training segmentation, depth" in lines[0]
    assert sum("Z  validation after step" in line for line in lines) == 2
    assert "6 steps in" in lines[-1]


def test_coupling_starts_before_the_first_step_and_adds_up(finished: Path) -> None:
    found = rows(finished / "coupling.csv")

    assert list(found[0]) == ["step", "layer", "task", "stream", "share"]
    assert list(dict.fromkeys(row["step"] for row in found)) == ["0", "2", "4", "6"]
    sums: dict[tuple[str, str, str], float] = {}
    for row in found:
        key = (row["step"], row["layer"], row["task"])
        sums[key] = sums.get(key, 0.0) + float(row["share"])
    assert len(sums) == 4 * 5 * 2
    assert all(total == pytest.approx(1, abs=1e-5) for total in sums.values())  # six digits each


def test_the_last_shares_are_those_of_the_finished_model_on_the_samples_that_are_shown(finished: Path) -> None:
    checkpoint = load_checkpoint(finished / "ckpt.pt")
    network = checkpoint.build().eval()
    images = np.stack([TinyScenes("val")[place].image for place in SHOWN])
    with stream_power(network) as power, torch.inference_mode():
        ImageModel(network, checkpoint.preprocess).eval()(torch.from_numpy(images))

    expected = {(each.layer, each.task, each.stream): each.share for each in coupling(network, power)}

    last = [row for row in rows(finished / "coupling.csv") if row["step"] == "6"]
    found = {(row["layer"], row["task"], row["stream"]): float(row["share"]) for row in last}
    assert found == pytest.approx(expected, abs=1e-5)  # six digits
    assert len(set(found.values())) > 5


def test_tensorboard_has_the_coupling_and_the_samples(finished: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(finished / "tensorboard"))
    events.Reload()

    points = events.Scalars("coupling/fusions.4/depth/segmentation")
    csv_rows = [
        row
        for row in rows(finished / "coupling.csv")
        if (row["layer"], row["task"], row["stream"]) == ("fusions.4", "depth", "segmentation")
    ]
    assert [(point.step, round(point.value, 5)) for point in points] == [
        (int(row["step"]), round(float(row["share"]), 5)) for row in csv_rows
    ]
    assert events.Tags()["images"] == [f"samples/{number}" for number in range(4)]
    pictures = events.Images("samples/2")
    assert [picture.step for picture in pictures] == [3, 6]
    strip = cv2.imdecode(np.frombuffer(pictures[-1].encoded_image_string, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    sample = TinyScenes("val")[SHOWN[2]]
    tasks = {task.name: task for task in TinyScenes("val").tasks}
    views = [sample.image, None, tasks["segmentation"].render(sample.targets["segmentation"], sample.image)]
    views += [None, tasks["depth"].render(sample.targets["depth"], sample.image)]
    assert strip.shape == (192 + 4, 5 * (READABLE + 4), 3)  # 32x40, enlarged six times, and white between
    for place, view in enumerate(views):
        if view is not None:
            shown = strip[3:192:6, place * (READABLE + 4) :][:, 3:READABLE:6]
            assert np.array_equal(shown[8:], view[8:])  # the title is above


def test_the_page_has_the_last_metrics_and_fetches_nothing(finished: Path) -> None:
    text = (finished / "summary.html").read_text()
    page = Page(text)
    last = rows(finished / "metrics.csv")[-1]

    assert page.text.strip().startswith("my-run: training")
    assert "Finished after 6 steps" in page.text
    assert f"{100 * float(last['val/segmentation/mIoU']):.2f} %" in page.text
    assert f"{float(last['val/depth/AbsRel']):.4f}" in page.text
    for heading in ("Metrics", "Losses", "Validation", "What tasks share", "Validation samples", "Settings"):
        assert heading in page.text
    for word in ("optimiser.fusion_lr_factor", "nddr-export", "nddr-eval", "Waiting for data", "scene-4"):
        assert word in page.text
    assert "script" not in page.tags
    assert len(page.fetched) == 4 * 5  # four samples: the image, and prediction and truth of two tasks
    assert all(value.startswith("data:image/") for value in page.fetched)
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert page.tags.count("polyline") >= 4 + 3 + 2 * 5  # losses and rate, metrics, coupling


def test_a_stopped_and_resumed_run_has_every_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, read = TinyScenes.__getitem__, []

    def interrupt(self: TinyScenes, index: int) -> Any:
        if self.first == 0:
            read.append(index)
            if len(read) == 4 * 3:
                os.kill(os.getpid(), signal.SIGINT)
        return seen(self, index)

    monkeypatch.setattr(TinyScenes, "__getitem__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, log_every=1, checkpoint_every=100)
    stopped = Page((tmp_path / "summary.html").read_text()).text
    (tmp_path / "summary.html").unlink()
    with open(tmp_path / "coupling.csv", "a") as file:
        file.write("4,fusions.0,depth,depth,0.5\n5,fus")  # as if it had gone on, and been killed while it wrote
    draw, drawn = Showcase.comparisons, []
    monkeypatch.setattr(Showcase, "comparisons", lambda self: drawn.append(self._training.step) or draw(self))

    train(tmp_path, resume=True, log_every=1, checkpoint_every=100)

    assert "Ended after step 3 of 6" in stopped
    assert "nddr-train" in stopped
    assert drawn == [3, 6]  # right after the resume, and at the validation
    steps = [row["step"] for row in rows(tmp_path / "metrics.csv") if row["loss"]]
    assert steps == [str(step) for step in range(1, 7)]
    own = [row["step"] for row in rows(tmp_path / "coupling.csv") if row["layer"] == "fusions.0"]
    assert own == [str(step) for step in range(7) for _ in range(4)]
    seconds = [float(row["seconds"]) for row in rows(tmp_path / "metrics.csv")]
    assert seconds == sorted(seconds)
    log = (tmp_path / "log.txt").read_text()
    assert log.index("Stopped after step 3") < log.index("Resumed after step 3") < log.index("3 steps in")


@pytest.mark.parametrize("place", [(Summary, "render"), (Showcase, "comparisons"), (Showcase, "coupling")])
def test_what_fails_beside_the_training_is_said_once_and_does_not_stop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[type, str]
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no colours [/left]")

    monkeypatch.setattr(*place, fail)
    report = train(tmp_path)

    assert report.steps == 6
    assert (tmp_path / "ckpt.pt").exists()
    log = (tmp_path / "log.txt").read_text()
    assert log.count("failed (RuntimeError: no colours [/left]); the training goes on without.") == 1
    assert (tmp_path / "summary.html").exists() == (place[0] is not Summary)


def test_a_training_that_fails_says_why_in_its_log_and_on_its_page(tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        train(tmp_path, data={"train_options": {"poison": 5}}, checkpoint_every=1)

    assert "Error: The loss of depth is" in (tmp_path / "log.txt").read_text().splitlines()[-1]
    assert "The loss of depth is" in Page((tmp_path / "summary.html").read_text()).text


def test_the_record_changes_no_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_page, without = (train(tmp_path / str(page), summary=page, ema=0.5) for page in (True, False))

    ours, theirs = (load_checkpoint(report.checkpoint).weights for report in (with_page, without))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not {"summary.html", "coupling.csv"} & {path.name for path in (tmp_path / "False").iterdir()}


def test_without_tensorboard_nothing_of_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch.utils.tensorboard", "tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it would fail

    assert train(tmp_path, steps=1).steps == 1


def test_overwriting_begins_log_and_coupling_anew(tmp_path: Path) -> None:
    train(tmp_path, steps=2)
    train(tmp_path, steps=1, overwrite=True, network={**settings(tmp_path)["network"], "fusion": "none"})

    assert (tmp_path / "log.txt").read_text().count("Training segmentation") == 1
    assert rows(tmp_path / "coupling.csv") == []
    assert "What tasks share" not in (tmp_path / "summary.html").read_text()


def test_pooled_tasks_are_shown_in_words(tmp_path: Path) -> None:
    network = {"backbone": "alexnet", "backbone_options": {"width": 0.05}}

    train(tmp_path, tasks=["age", "gender"], network=network, data={"options": {"size_hw": [64, 64]}}, steps=1)

    text = Page((tmp_path / "summary.html").read_text()).text
    assert re.search(r"scene-4: age \d+, truth: age 24; gender [ab] \d+ %, truth: a", text)


def test_another_process_than_the_first_writes_nothing(tmp_path: Path) -> None:
    with Record(tmp_path, (), steps=2, console=Console(file=io.StringIO()), silent=True) as record:
        record.begin("Training.")
        record.train(1, {"loss": 1.0})
        record.row(1, 0.1, {}, {})
        record.validation(1, {}, best=True)

    assert list(tmp_path.iterdir()) == []
