"""`nddr-quantize` as a user meets it: its help, what it prints, and what it needs."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from colour_network import layer, network, save

from nddr_deploy.quantize.__main__ import main

BAD = layer("last", "segmentation")
# Started in a process of its own, with packages that cannot be imported.
WITHOUT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.partition(".")[0])
sys.meta_path.insert(0, Refuse())
from nddr_deploy.quantize.__main__ import main
sys.exit(main({line}))
"""


def start(blocked: list[str], *line: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    program = WITHOUT.format(blocked=set(blocked), line=list(line))
    return subprocess.run([sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, timeout=60)


def test_help_is_quick_and_needs_neither_a_runtime_nor_torch():
    started = time.perf_counter()
    done = start(["torch", "onnxruntime", "openvino", "onnx", "numpy", "rich", "pydantic"], "--help")
    took_s = time.perf_counter() - started

    assert done.returncode == 0, done.stderr
    assert "nddr-quantize model.onnx --calibration photos/" in done.stdout
    assert took_s < 3  # seconds, on a busy machine; 0.1 on a quiet one


def test_every_option_says_what_it_is_when_it_is_not_given(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])

    told = capsys.readouterr().out
    options = re.split(r"\n  (?=--)", told.split("options:")[1].split("examples:")[0])[1:]
    assert len(options) > 20
    without = ["--report", "--output", "--option", "--budget", "--data", "--sure", "--reduce-range", "--calibration "]
    for text in options:
        if not text.startswith(tuple(without)):
            assert "default" in text, text


def test_without_onnx_runtime_a_sentence_says_how_to_get_it(tmp_path):
    save(network(), tmp_path / "model.onnx")

    done = start(["torch", "onnxruntime"], "model.onnx", "--calibration", "rooms", cwd=tmp_path)

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "'onnxruntime' is not installed" in done.stderr
    assert "nddr-deploy[cpu]" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx"]


def test_what_is_printed_says_what_was_done_in_order(tmp_path, colours, quick, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(network(spoiled=[BAD], scales=(1.0, 20.0)), tmp_path / "model.onnx")

    line = "model.onnx --calibration colours --data colours --streams equalised"
    status = main([*line.split(), "--budget", "segmentation.PAcc=-3", "--budget", "normals=+2"])

    told = capsys.readouterr()
    assert status == 0
    lines = told.out.splitlines()
    starts = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert list(dict.fromkeys(starts)) == [
        "read",
        "ranges",
        "judged",
        "streams",
        "layers",
        "cost",
        "search",
        "head",
        "wrote",
    ]
    assert "colours + nddr (conv); segmentation, normals" in lines[0]
    place = next(number for number, line in enumerate(lines) if line.startswith("layers"))
    assert lines[place + 1].strip() == f"float: {BAD} (the budgets need it)"
    assert len([line for line in lines if "has 3 channels on one side" in line]) == 1  # two layers, one reason
    place = lines.index("cost     of integers, by layer:")
    assert lines[place + 2].strip().startswith(f"{BAD}: -")  # points
    assert any(re.search(r"segmentation.PAcc: 0\.\d+ -> 0\.\d+, -0\.\d\d points .*-3 met", line) for line in lines)
    assert any("normals.mean_angle" in line and "degrees" in line and "budget normals=+2 met" in line for line in lines)
    assert lines[-1].endswith("model.int8.card.json and .card.html")
    assert "MISSED" not in told.out


def test_a_model_can_be_made_from_pictures_alone(tmp_path, quick, capsys, monkeypatch):
    from colour_network import write_pictures

    monkeypatch.chdir(tmp_path)
    save(network(), tmp_path / "model.onnx")
    write_pictures(tmp_path / "photos", 8)

    status = main(["model.onnx", "--calibration", "photos"])

    told = capsys.readouterr().out
    assert status == 0
    assert "ranges   by minmax on 6 of 8 pictures of photos" in told
    assert "the float model's results being the truth" in told
    assert "no budget was given" in told


def test_the_line_and_the_function_do_the_same(tmp_path, quantise, capsys):
    done: Any = quantise({"spoiled": [BAD]}, budgets=["segmentation.PAcc=-3"])
    expected = done.path.read_bytes()
    done.path.unlink()

    line = "--calibration colours --data colours --budget segmentation.PAcc=-3"
    main([str(tmp_path / "model.onnx"), *line.split()])

    assert done.path.read_bytes() == expected
    assert capsys.readouterr().out.strip() == done.text()
