"""One whole run on a model of no size: that everything is there, not how fast it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nddr_deploy.benchmark import __main__ as command
from nddr_deploy.benchmark import table, turns
from nddr_deploy.benchmark.progress import Progress
from nddr_deploy.benchmark.run import choose_cases, run_benchmark
from nddr_deploy.benchmark.subject import Subject
from nddr_deploy.benchmark.turns import Turns
from nddr_deploy.errors import ConfigError, InputError, UnsupportedError
from nddr_deploy.graph.flops import count_flops
from nddr_deploy.graph.metadata import read_model

QUICK: dict[str, Any] = {"rounds": 2, "seconds_per_case": 0.02, "threads": 1}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        Image.fromarray(np.full((20, 30, 3), 80 * number, np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def report(handmade: Callable[..., Any], pictures: Path) -> Any:
    subject = handmade()
    return run_benchmark(subject.path, against=["onnxruntime", "openvino"], input=str(pictures), frames=3, **QUICK)


def test_every_case_has_every_figure(report: Any) -> None:
    assert [row.label for row in report.rows] == ["onnxruntime fp32", "openvino fp32"]
    for row in report.rows:
        assert row.one_thread.cpu_s.passes >= QUICK["rounds"]
        assert 0 < row.one_thread.cpu_s.p50 <= row.one_thread.cpu_s.p90 <= row.one_thread.cpu_s.p99
        assert row.one_thread.floor_multiple > 1
        assert row.all_cores.images_per_s > 0
        assert row.memory_bytes > 1e6
        assert row.difference < 1e-5
        assert row.end_to_end.frames == 3
        assert set(row.end_to_end.busy_s) == {"source", "fit", "engine", "decode"}
        assert row.one_thread.speedup.min <= row.one_thread.speedup.median <= row.one_thread.speedup.max
    assert report.rows[0].one_thread.speedup.median == 1.0
    assert {"fp32"} <= set(report.floor)
    assert report.threads == 1


def test_arithmetic_and_rates_belong_together(report: Any, handmade: Callable[..., Any]) -> None:
    flops = count_flops(read_model(handmade().path), (16, 24))

    row = report.rows[0].one_thread
    assert report.model["flops"] == flops
    assert row.flops_per_s * row.cpu_s.p50 == pytest.approx(flops)
    assert row.floor_multiple == pytest.approx(report.floor["fp32"].flops_per_s / row.flops_per_s)


def test_the_report_is_json_and_names_no_path_of_this_machine(report: Any, pictures: Path) -> None:
    text = json.dumps(report.to_dict())

    assert json.loads(text)["model"]["file"] == "model.onnx"
    assert json.loads(text)["input"] == pictures.name
    assert str(pictures.parent) not in text


def test_every_table_has_a_row_per_case_and_names_the_precision(report: Any) -> None:
    found = table.tables(report)

    assert len(found) == 3
    for section in found:
        assert [row[0] for row in section.rows] == ["onnxruntime fp32", "openvino fp32"]
        assert all(len(row) == len(section.columns) for row in section.rows)
        lines = table.markdown(section).splitlines()
        assert len({line.count("|") for line in lines[2:]}) == 1
    assert any("GFLOP" in line for line in table.facts(report))


def test_the_plot_is_a_picture(report: Any, tmp_path: Path) -> None:
    from nddr_deploy.benchmark.plot import draw

    draw(report, tmp_path / "plot.png")

    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.width > 600
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 10


def test_without_a_checkpoint_pytorch_is_named_as_not_run(handmade: Callable[..., Any]) -> None:
    not_run: dict[str, str] = {}

    cases = choose_cases(None, Subject.read(handmade().path), not_run)

    assert [case.label for case in cases] == ["onnxruntime fp32", "openvino fp32", "openvino bf16"]
    assert "--checkpoint" in not_run["torch"]


def test_a_case_that_was_asked_for_and_cannot_run_ends_the_run(handmade: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError, match="cannot run this fp32 file in bf16"):
        run_benchmark(handmade().path, against=["onnxruntime", "onnxruntime:bf16"], **QUICK)


def test_a_case_of_the_usual_ones_that_cannot_run_is_left_out_with_its_reason(
    handmade: Callable[..., Any], tmp_path: Path
) -> None:
    found = run_benchmark(handmade().path, checkpoint=tmp_path / "none.pt", **{**QUICK, "rounds": 1})

    assert found.rows[0].label == "onnxruntime fp32"
    assert "none.pt" in found.not_run["torch fp32"]


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"rounds": 0}, ConfigError, "must be above zero; got 0"),
        ({"seconds_per_case": 0.0}, ConfigError, "must be above zero"),
        ({"frames": 0}, ConfigError, "must be above zero"),
        ({"threads": 0}, ConfigError, "threads: got 0"),
        ({"input": "none.mp4"}, InputError, "does not exist"),
        ({"engine": "ckpt.pt"}, ConfigError, "Give a checkpoint as --checkpoint"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(
    handmade: Callable[..., Any], options: dict[str, Any], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        run_benchmark(**{"engine": handmade().path, "against": ["onnxruntime"], **QUICK, **options})


def test_cases_take_turns(handmade: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[tuple[str, str]] = []

    class Recorder:
        def __init__(self, name: str, *, threads: int, environment: dict[str, str] | None = None) -> None:
            self.name = f"{name} {threads}"

        def ask(self, order: str, **values: Any) -> dict[str, Any]:
            log.append((self.name, order))
            return {"not_run": {}, "rates": [], "bytes": 0}

        def close(self) -> None: ...

        def __enter__(self) -> Recorder:
            return self

        def __exit__(self, *error: object) -> None: ...

    subject = handmade()
    monkeypatch.setattr(turns, "Worker", Recorder)
    cases = command_cases(subject)

    Turns(subject.manifest, 2, 0.0, Progress(None), {}, strict=True).one_thread(cases)

    measured = [name for name, order in log if order.startswith("measure")]
    assert measured == ["onnxruntime fp32 1", "openvino fp32 1", "floor 1"] * 2


def command_cases(subject: Any) -> Any:
    from nddr_deploy.benchmark.cases import parse_cases

    return parse_cases(["onnxruntime", "openvino"], model=subject.path, checkpoint=None)


def test_the_command_writes_json_and_a_plot_and_prints_tables(
    handmade: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = ["--json", str(tmp_path / "b.json"), "--plot", str(tmp_path / "b.png"), "--markdown"]
    quick = ["--rounds", "1", "--seconds-per-case", "0.01", "--threads", "1"]

    status = command.main(["--engine", str(handmade().path), "--against", "onnxruntime", *quick, *outputs])

    assert status == 0
    assert json.loads((tmp_path / "b.json").read_text())["format"] == "nddr-deploy-benchmark/1"
    assert (tmp_path / "b.png").stat().st_size > 1000
    assert "| onnxruntime fp32 | 1.00 (1.00-1.00) |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "either a model"),
        (["--engine", "model.onnx", "--decode"], "either a model"),
        (["--engine", "model.onnx", "--plot", "figure.bmp"], "--plot draws"),
        (["--engine", "model.onnx", "--json", "no/such/folder.json"], "does not exist"),
        (["--engine", "none.onnx"], "does not exist"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_two(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(arguments) == 2

    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
