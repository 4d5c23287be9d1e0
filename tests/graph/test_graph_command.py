"""nddr-lint: listing, exit status, JSON, and input that cannot be looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from lint_subjects import put, sound, weight_of

from nddr_deploy.graph.__main__ import TARGETS, main
from nddr_deploy.graph.quantize_lint import RULES
from nddr_deploy.graph.quantize_lint import TARGETS as KNOWN


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(sound("cpu"), path)
    return path


def test_a_sound_graph_gives_status_0(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(model), "--target", "cpu"]) == 0

    assert capsys.readouterr().out == f"{model} for cpu: no errors, no warnings\n"


def test_warnings_are_listed_and_leave_the_status_at_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faulty = sound("cpu")
    weights = weight_of(faulty, "left.w.int8")
    weights[3] = 0
    put(faulty, left__w__int8=weights)
    onnx.save(faulty, tmp_path / "faulty.onnx")

    assert main([str(tmp_path / "faulty.onnx"), "--target", "cpu"]) == 0

    out = capsys.readouterr().out
    assert out.startswith("warning: zero-weights\n  DequantizeLinear node 'left.w' has nothing but zeros in 1 of 16")
    assert out.endswith("for cpu: no errors, 1 warning\n")


def test_errors_give_status_1_and_every_finding_goes_into_the_json(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(model), "--target", "tensorrt8", "--json", str(tmp_path / "found.json")]) == 1

    out = capsys.readouterr().out
    assert "error: int32-bias (5 times)" in out
    assert "  and 2 more of the kind (--all shows them)" in out
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["target"], found["warnings"]) == ("tensorrt8", 0)
    assert found["errors"] == len(found["findings"]) > 10
    assert sum(finding["rule"] == "int32-bias" for finding in found["findings"]) == 5
    assert set(found["findings"][0]) == {"rule", "node", "message", "level"}


def test_all_shows_every_finding(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(model), "--target", "tensorrt8", "--all"])

    out = capsys.readouterr().out
    assert "more of the kind" not in out
    assert all("the int32\n" in out or f"'{name}.b.int32'" in out for name in ("left", "right", "fusion", "inner"))


@pytest.mark.parametrize(("content", "message"), [(None, "does not exist"), (b"no graph" * 9, "is no ONNX file")])
def test_what_is_no_graph_gives_status_2_and_one_line(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "foreign.onnx"
    if content is not None:
        path.write_bytes(content)

    assert main([str(path), "--target", "cpu"]) == 2

    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_rules_are_listed_with_their_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rules"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [rule.name for rule in RULES]
    assert main(["--rules", "--target", "cpu"]) == 0
    assert "int32-bias" not in capsys.readouterr().out.split()


def test_a_model_needs_a_target(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(model)])
    assert stopped.value.code == 2
    assert "give a model and its --target" in capsys.readouterr().err


def test_help_loads_neither_numpy_nor_onnx() -> None:
    check = "import sys; import nddr_deploy.graph.__main__ as m; m._parser().format_help(); "
    check += "sys.exit(any(name in sys.modules for name in ('numpy', 'onnx')))"

    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
    assert TARGETS == KNOWN
