"""`nddr-build` on a simulated GPU: its exit status, what it prints, and one sentence without a traceback."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import build_subjects as subjects
import pytest
from build_subjects import pair, write
from simulated.simulate import VERSIONS, simulate

from nddr_deploy.build.__main__ import main

every_version = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-home"))
    return tmp_path / "cache-home" / "nddr-deploy"  # ONNX Runtime, too, keeps something in the folder above


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr; nothing else was said."""
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    return said.err


@every_version
def test_it_says_what_it_built_and_ends_with_0(
    tmp_path: Path, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write(tmp_path / "model", dynamic=("batch",))

    with simulate(version):
        status = main([str(made.path), "--batch", "1,2,4"])

    said = capsys.readouterr()
    assert (status, said.err) == (0, "")
    assert "fp16 for NVIDIA Simulated (compute capability 8.6) by TensorRT " + version in said.out
    assert "(1 to 4, 16, 24, 3)" in said.out
    assert "3 in fp16 (100%)" in said.out
    for head in ("segmentation", "normals", "age"):
        assert any(line.split()[:1] == [head] and " equal " in line for line in said.out.splitlines()), head
    assert f"wrote    {tmp_path / 'model' / 'model.trt'}" in said.out
    assert set(pair(tmp_path / "model" / "model.trt")) == {"model.onnx", "model.trt", "model.trt.json"}


def test_every_option_of_the_command_is_kept_in_the_manifest_as_it_was_written(tmp_path: Path) -> None:
    made = write(tmp_path, dynamic=("batch", "size"))
    given = ["--size", "16x24,32x24,32x48", "--batch", "1,2,4", "--outputs", "raw", "--keep", "age.conv,normals.conv"]
    given += ["--workspace", "1.5", "--opt-level", "2", "--aux-streams", "1"]

    with simulate() as machine:
        compatible = ["--version-compatible", "--hardware-compatible", "--no-timing-cache", "--least-share", "0.5"]
        assert main([str(made.path), "--output", str(tmp_path / "door.trt"), *given, *compatible]) == 0
        (build,) = machine.world.builds

    assert json.loads((tmp_path / "door.trt.json").read_text())["options"] == {
        "size": "16x24,32x24,32x48",
        "batch": "1,2,4",
        "outputs": "raw",
        "keep": ["age.conv", "normals.conv"],
        "workspace": 1.5,
        "opt-level": 2,
        "aux-streams": 1,
        "version-compatible": True,
        "hardware-compatible": True,
    }
    assert build.config.pools == {"WORKSPACE": 3 << 29}
    assert build.profiles == [{"images": [(1, 16, 24, 3), (2, 32, 24, 3), (4, 32, 48, 3)]}]


@every_version
def test_a_plan_that_does_not_agree_ends_with_1(
    tmp_path: Path, version: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write(tmp_path)
    subjects.swap_heads(monkeypatch)

    with simulate(version):
        status = main([str(made.path), "--outputs", "raw", "--no-timing-cache"])

    said = sentence(capsys)
    assert status == 1
    for words in ("does not agree with ONNX Runtime", "segmentation", "normals", "--keep"):
        assert words in said
    assert set(pair(made.path)) == {"model.onnx"}


@every_version
@pytest.mark.parametrize(
    ("fail", "words"),
    [
        (subjects.no_plan, "Could not find any implementation for node age.conv"),
        (subjects.refuse_pooling, "GlobalAveragePool node 'age.globalaveragepool'"),
    ],
)
def test_what_tensorrt_cannot_do_ends_with_2(
    tmp_path: Path,
    version: str,
    fail: Any,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = write(tmp_path)
    fail(monkeypatch)

    with simulate(version):
        status = main([str(made.path)])

    assert status == 2
    assert words in sentence(capsys)


@every_version
def test_a_precision_that_was_not_realised_ends_with_2(
    tmp_path: Path, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write(tmp_path)

    with simulate(version, pretend="Float"):
        status = main([str(made.path)])

    assert status == 2
    assert "age.conv (fp32)" in sentence(capsys)


@every_version
def test_ctrl_c_ends_with_130_and_leaves_nothing(
    tmp_path: Path, version: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write(tmp_path)
    subjects.press_ctrl_c(monkeypatch)

    with simulate(version):
        status = main([str(made.path)])

    said = capsys.readouterr()
    assert (status, said.out, said.err) == (130, "", "stopped.\n")
    assert set(pair(made.path)) == {"model.onnx"}


def test_a_full_disk_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write(tmp_path)
    subjects.fill_the_disk(monkeypatch, ".trt")

    with simulate():
        status = main([str(made.path), "--no-timing-cache"])

    assert status == 1
    assert "No space left on device" in sentence(capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--precision", "fp8"], "precision: 'fp8' is unknown. Choose one of: fp32, fp16, int8"),
        (["--precision", "int8"], "QuantizeLinear"),
        (["--outputs", "both"], "outputs: 'both' is unknown"),
        (["--batch", "4,2,8"], "expected smallest, usual, largest"),
        (["--batch", "1,2"], "batch: got 2 values"),
        (["--size", "0x24"], "0x24"),
        (["--size", "17x24"], "16x24 only"),
        (["--keep", "age.covn"], "'age.covn' is unknown"),
        (["--workspace", "nan"], "workspace: got nan"),
        (["--workspace", "-1"], "workspace: got -1.0"),
        (["--workspace", "inf"], "workspace: got inf"),
        (["--workspace", "1e30"], "workspace"),
        (["--opt-level", "9"], "opt-level: got 9"),
        (["--aux-streams", "-2"], "aux-streams: got -2"),
        (["--aux-streams", "99999999999"], "aux-streams"),
        (["--least-share", "1.2"], "least-share: got 1.2"),
        (["--least-share", "nan"], "least-share: got nan"),
        (["--output", "model.engine"], "should end in .trt"),
        (["--images", "nowhere"], "nowhere"),
        (["--images", "camera:0"], "camera:0 is live"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_ends_with_2(
    tmp_path: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dynamic = () if "17x24" in options else ("batch",)
    made = write(tmp_path, dynamic=dynamic)

    with simulate() as machine:
        try:
            status = main([str(made.path), *options])
        except SystemExit as ended:  # of argparse, which shows the usage first
            status, said = ended.code, capsys.readouterr().err.splitlines()[-1]
        else:
            said = sentence(capsys)
        assert machine.world.builds == []

    assert status == 2
    assert words in said
    assert set(pair(made.path)) == {"model.onnx"}


@pytest.mark.parametrize("model", ["missing.onnx", "broken.onnx", "model.pt", "."])
def test_a_model_that_is_none_is_one_sentence(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07 not a model")
    (tmp_path / "model.pt").write_bytes(b"PK")

    with simulate():
        status = main([str(tmp_path / model), "--output", str(tmp_path / "m.trt")])

    assert status == 2
    sentence(capsys)


def test_a_machine_without_a_gpu_says_so_and_tensorrt_is_not_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write(tmp_path)

    with simulate(count=0) as machine:
        status = main([str(made.path)])
        assert machine.api.used == set()

    assert status == 2
    assert "No NVIDIA GPU can be used here" in sentence(capsys)


def test_a_machine_without_tensorrt_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write(tmp_path)

    with simulate(), monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tensorrt", None)
        status = main([str(made.path)])

    assert status == 2
    assert "nddr-deploy[gpu]" in sentence(capsys)


def test_the_cache_is_on_by_default_and_may_be_turned_off(tmp_path: Path, cache_home: Path) -> None:
    made = write(tmp_path / "model")

    with simulate():
        assert main([str(made.path), "--no-timing-cache"]) == 0
        assert not cache_home.exists()
        assert main([str(made.path)]) == 0

    (kept,) = (path for path in cache_home.rglob("*") if path.is_file())
    assert "10.13" in kept.name
    assert set(pair(made.path)) == {"model.onnx", "model.trt", "model.trt.json"}


def test_a_cache_that_is_none_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = write(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")

    with simulate():
        status = main([str(made.path), "--timing-cache", str(tmp_path / "notes.txt")])

    assert status == 2
    assert "notes.txt is no timing cache" in sentence(capsys)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_graph_alone_needs_no_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = write(tmp_path, subjects.large)

    with simulate(count=0):
        status = main([str(made.path), "--graph", str(tmp_path / "typed.onnx"), "--keep", "normals.conv"])

    said = capsys.readouterr()
    assert (status, said.err) == (0, "")
    assert "age.conv" in said.out
    assert "normals.conv" in said.out
    assert set(pair(made.path)) == {"model.onnx", "typed.onnx"}


def test_the_graph_is_not_written_over_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = write(tmp_path)
    before = made.path.read_bytes()

    status = main([str(made.path), "--graph", str(made.path)])

    assert made.path.read_bytes() == before
    assert status == 2
    sentence(capsys)


@pytest.mark.parametrize("options", [["--output", "x.trt"], ["--opt-level", "3"], ["--report", "r.json"]])
def test_options_that_the_graph_alone_cannot_have_are_refused(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = write(tmp_path)

    assert main([str(made.path), "--graph", "typed.onnx", *options]) == 2
    assert options[0] in sentence(capsys)
