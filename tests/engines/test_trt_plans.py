"""Plans that cannot be run here: one sentence each, with the command that builds them again."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from simulated.simulate import simulate
from trt_subject import ENDS, Subject, check

from nddr_deploy.engines import open_engine
from nddr_deploy.errors import ModelFileError, NddrError, UnsupportedError


def copied(subject: Subject, folder: Path) -> Path:
    for path in (subject.plan, subject.plan.with_name("model.trt.json")):
        shutil.copy(path, folder / path.name)
    return folder / "model.trt"


def sentence(path: Path, kind: type[NddrError] = ModelFileError) -> str:
    """What opening it says: one line."""
    with pytest.raises(kind) as caught:
        open_engine(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_changed_plan_a_missing_manifest_and_a_damaged_one_are_a_sentence_each(
    built: Callable[..., Subject], tmp_path: Path
) -> None:
    plan = copied(built("10.13"), tmp_path)
    content, about = plan.read_bytes(), plan.with_name("model.trt.json")

    built("10.13", heads=2)
    with simulate() as machine:
        plan.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        assert "nddr-build model.onnx --output" in sentence(plan)
        plan.write_bytes(content[: len(content) // 2])
        assert "nddr-build model.onnx --output" in sentence(plan)
        plan.write_bytes(built("10.13", heads=2).plan.read_bytes())  # a good one, but not that of the manifest
        assert "nddr-build model.onnx --output" in sentence(plan)
        plan.write_bytes(content)
        text = about.read_text()
        about.write_text(text[: len(text) // 2])
        assert "nddr-build" in sentence(plan)
        about.unlink()
        assert "nddr-build" in sentence(plan)
        plan.unlink()
        assert "does not exist" in sentence(plan)
        assert "Runtime.__init__" not in machine.api.used  # TensorRT never saw any of them


def test_a_plan_for_another_tensorrt_or_another_gpu_is_a_sentence(built: Callable[..., Subject]) -> None:
    subject = built("10.13", dynamic=("batch",), batch=ENDS, opt_level=2)
    command = (
        f"nddr-build model.onnx --output {subject.plan} --precision fp32 --batch 1,2,4 --outputs raw --opt-level 2"
    )

    with simulate("10.0"):
        text = sentence(subject.plan)
        assert "built by TensorRT 10.13.3.9; TensorRT 10.0.1 is installed" in text
        assert command in text
    for other in ({"name": "NVIDIA Other"}, {"compute_capability": (9, 0)}):
        with simulate(**other):
            text = sentence(subject.plan)
            assert "NVIDIA Simulated" in text
            assert command in text


def test_a_plan_that_tensorrt_does_not_take_after_all_is_a_sentence(
    built: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    from simulated.trt_engine import Runtime

    subject = built("10.13")
    monkeypatch.setattr(Runtime, "deserialize_cuda_engine", lambda self, content: self._refuse("cannot\nbe read"))

    with simulate():
        text = sentence(subject.plan)

    assert "cannot be read" in text
    assert "nddr-build model.onnx" in text


def test_a_machine_without_a_gpu_without_tensorrt_or_without_cuda_bindings_says_so(
    built: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = built("10.13")

    with simulate(count=0):
        assert "No NVIDIA GPU" in sentence(subject.plan, UnsupportedError)
    for module, package in (("tensorrt", "tensorrt"), ("cuda.bindings.runtime", "cuda")):
        with simulate(), monkeypatch.context() as changed:
            changed.setitem(sys.modules, module, None)
            text = sentence(subject.plan, NddrError)
            assert package in text
            assert "pip install 'nddr-deploy[gpu]'" in text


def test_a_driver_that_is_too_old_is_a_sentence(built: Callable[..., Subject]) -> None:
    subject = built("11.4")

    with simulate("11.4", driver_cuda=11080):
        assert "driver" in sentence(subject.plan, UnsupportedError)


def test_full_memory_is_a_sentence_wherever_it_is_found_and_leaves_nothing(built: Callable[..., Subject]) -> None:
    subject = built("10.13")
    scratch, buffers = 1 << 20, 16 * 24 * 3 + 4 * (4 + 3 * 4 * 6 * 2)  # of one slot

    with simulate(memory_bytes=2 * (scratch + buffers)), open_engine(subject.plan) as engine:
        check(engine.infer(subject.images()), subject.expected(subject.images()))
    for slots in (0, 1):
        for more in (0, scratch, scratch + 16 * 24 * 3, scratch + buffers - 1):
            with simulate(memory_bytes=slots * (scratch + buffers) + more):
                text = sentence(subject.plan, UnsupportedError)
                assert "memory" in text or "make room" in text


@pytest.mark.parametrize("about", [{"precision": "fp16"}, {"threads": 2}])
def test_what_a_plan_cannot_give_is_refused(built: Callable[..., Subject], about: dict[str, Any]) -> None:
    subject = built("10.13")

    with (
        simulate(),
        pytest.raises(UnsupportedError, match=next(iter(about.values())) if "precision" in about else "threads"),
    ):
        open_engine(subject.plan, **about)
