"""Each case has a process of its own, and what happens there is told here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nddr_deploy.benchmark.process import Worker
from nddr_deploy.errors import InputError, ModelFileError, NddrError, UnsupportedError


def order(subject: Any, **changes: Any) -> dict[str, Any]:
    usual = {
        "path": str(subject.path),
        "backend": "onnxruntime",
        "threads": 1,
        "precision": "fp32",
        "compiled": False,
        "manifest": subject.manifest.to_json(),
    }
    return {**usual, **changes}


def test_a_worker_measures_processor_time_and_the_clock(handmade: Callable[..., Any]) -> None:
    with Worker("case", threads=1) as worker:
        opened = worker.ask("open", **order(handmade()))
        passes = worker.ask("measure", seconds=0.02)

    assert opened == {"precision": "fp32"}
    assert len(passes["wall_s"]) == len(passes["cpu_s"]) > 1
    assert all(0 < seconds < 1 for seconds in passes["wall_s"])


def test_the_memory_of_the_caller_is_not_the_worker_s(handmade: Callable[..., Any]) -> None:
    held = np.ones(400_000_000, np.uint8)  # what getrusage would report of a child, too

    with Worker("case", threads=1) as worker:
        worker.ask("open", **order(handmade()))
        used = worker.ask("memory")["bytes"]

    assert held[-1] == 1
    assert 1e6 < used < 200e6


def test_an_error_keeps_its_kind_and_its_sentence(handmade: Callable[..., Any]) -> None:
    subject = handmade()

    with Worker("case", threads=1) as worker:
        with pytest.raises(UnsupportedError, match="cannot run this fp32 file in bf16"):
            worker.ask("open", **order(subject, precision="bf16"))
        with pytest.raises(ModelFileError, match="does not exist"):
            worker.ask("open", **order(subject, path="none.onnx"))
        assert worker.ask("open", **order(subject)) == {"precision": "fp32"}  # it is still there
        with pytest.raises(InputError, match="does not exist"):
            worker.ask("stream", input="none.mp4", frames=1)


def test_a_worker_that_dies_is_named_with_its_last_words() -> None:
    with Worker("openvino bf16", threads=1) as worker, pytest.raises(NddrError) as caught:
        worker.ask("no_such_order")

    assert str(caught.value).startswith("openvino bf16: its process ended with status 1 (AttributeError")
    assert "\n" not in str(caught.value)


def test_a_worker_is_gone_once_it_is_closed(handmade: Callable[..., Any]) -> None:
    worker = Worker("case", threads=1)
    worker.ask("open", **order(handmade()))

    worker.close()
    worker.close()

    assert worker._process.poll() == 0


def test_a_checkpoint_that_does_other_work_than_the_export_is_not_compared(handmade: Callable[..., Any]) -> None:
    subject = handmade()
    fewer = subject.manifest.model_copy(update={"tasks": subject.manifest.tasks[:1]})

    with (
        Worker("case", threads=1) as worker,
        pytest.raises(NddrError, match="returns raw segmentation, normals, age; the measured model raw segmentation"),
    ):
        worker.ask("open", **order(subject, manifest=fewer.to_json()))
