"""The models that every backend is held to."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from nddr_deploy.engines import BACKENDS


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A narrow network as a checkpoint."""
    import engine_subjects

    return engine_subjects.write_checkpoint(tmp_path_factory.mktemp("trained") / "ckpt.pt")


@pytest.fixture(scope="session")
def exported(trained: Any) -> Any:
    """The same network as ONNX, batch and size open."""
    import engine_subjects

    return engine_subjects.export(trained, trained.path.with_name("open.onnx"), dynamic=("batch", "size"))


ON_CPU = tuple(name for name in BACKENDS if "cuda" not in name and "tensorrt" not in name)


@pytest.fixture(scope="module", params=ON_CPU)  # the others: test_trt_engine.py, test_engines_gpu_*.py, test_on_gpu.py
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(backend: str, trained: Any, handmade: Callable[..., Any]) -> Callable[..., Any]:
    """`model(dynamic=..., batch=...)`: what this backend opens. A checkpoint leaves batch and size open, always."""
    return (lambda **options: trained) if backend == "torch" else handmade


@pytest.fixture(scope="session")
def built(handmade: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """A handmade model and its plan, each built once: `built("10.13", dynamic=("batch",), batch=(1, 2, 4))`."""
    import trt_subject

    @cache
    def subject(version: str, *, dynamic: tuple[str, ...] = (), fixed: int = 1, **options: Any) -> Any:
        model = handmade(dynamic=dynamic, batch=fixed)
        return trt_subject.build(model, tmp_path_factory.mktemp("plan"), version, **options)

    return subject
