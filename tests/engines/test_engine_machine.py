"""Threads are counted and honoured; nothing is sent anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nddr_deploy.engines import machine
from nddr_deploy.engines.eager import TorchEngine, check_compiler
from nddr_deploy.engines.openvino import compile_model, realised_precisions
from nddr_deploy.errors import ConfigError, UnsupportedError

COUNT_THREADS = """
import os, sys
import numpy as np
from nddr_deploy.engines import open_engine
path, backend, threads = sys.argv[1:]
height, width = 41, 57
before = len(os.listdir("/proc/self/task"))
engine = open_engine(path, backend, threads=int(threads))
engine.infer(np.zeros((1, height, width, 3), np.uint8))
print(len(os.listdir("/proc/self/task")) - before)
"""


def machine_files(root: Path, twins: dict[int, str], quota: str = "max 100000") -> Path:
    for cpu, siblings in twins.items():
        topology = root / f"devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{siblings}\n")
    (root / "fs/cgroup").mkdir(parents=True)
    (root / "fs/cgroup/cpu.max").write_text(f"{quota}\n")
    return root


@pytest.mark.parametrize(
    ("allowed", "quota", "cores"),
    [
        ({0, 1, 2, 3}, "max 100000", 2),  # two cores with two threads each
        ({0, 2}, "max 100000", 1),  # both threads of one core
        ({0, 1}, "max 100000", 2),
        ({0, 1, 2, 3}, "100000 100000", 1),
        ({0, 1, 2, 3}, "150000 100000", 2),
        ({0}, "50000 100000", 1),
    ],
)
def test_twin_threads_affinity_and_quota_limit_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: set[int], quota: str, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: allowed)
    system = machine_files(tmp_path, {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}, quota)

    assert machine.available_cores(system) == cores


def test_where_the_system_says_nothing_every_processor_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 5})

    assert machine.available_cores(tmp_path) == 3


def test_the_environment_sets_the_threads_of_engines_that_were_not_told(
    handmade: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nddr_deploy.engines import open_engine

    monkeypatch.setenv("NDDR_THREADS", "3")
    with open_engine(handmade().path) as engine, open_engine(handmade().path, threads=1) as told:
        assert (engine.threads, told.threads) == (3, 1)

    monkeypatch.setenv("NDDR_THREADS", "many")
    with pytest.raises(ConfigError, match="NDDR_THREADS: got 'many'"):
        open_engine(handmade().path)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_pass_starts_as_many_threads_as_were_asked_for(exported: Any, backend: str) -> None:
    if machine.available_cores() < 2:
        pytest.skip("needs two cores")
    started = []
    for threads in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", COUNT_THREADS, str(exported.path), backend, threads],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        started.append(int(run.stdout))

    assert started[1] - started[0] == 1
    assert started[0] <= 2  # a runtime may keep a thread that only waits


def test_openvino_refuses_more_threads_than_it_takes(exported: Any) -> None:
    from nddr_deploy.engines import open_engine

    with pytest.raises(UnsupportedError, match=r"at most \d+ threads here, one a core; asked for 999"):
        open_engine(exported.path, "openvino", threads=999)


def test_pytorch_uses_the_engine_s_threads_and_gets_its_own_back(trained: Any) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []

    with TorchEngine(trained.path, threads=before + 1) as engine:
        run = engine._model
        assert run is not None
        engine._model = lambda images: (seen.append(torch.get_num_threads()), run(images))[1]
        engine.infer(trained.images())

    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_torch_compile_says_that_it_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")

    with pytest.raises(UnsupportedError, match="needs a C\\+\\+ compiler; found none of: no-such-compiler"):
        check_compiler()


def test_openvino_neither_writes_to_the_home_folder_nor_calls_anybody(
    handmade: Callable[..., Any], tmp_path: Path
) -> None:
    probe = (
        "import socket, sys, threading\n"
        "def refuse(*a, **k): print('network'); raise OSError\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from nddr_deploy.engines import open_engine\n"
        "open_engine(sys.argv[1], 'openvino', threads=1)\n"
        "print([t.name for t in threading.enumerate() if t is not threading.main_thread()])"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}

    run = subprocess.run(
        [sys.executable, "-c", probe, str(handmade().path)], capture_output=True, text=True, env=environment, check=True
    )

    assert run.stdout.strip() == "[]"
    assert not list(tmp_path.glob("intel*"))


def test_ctrl_c_is_heard_after_two_openvino_engines_were_closed(handmade: Callable[..., Any]) -> None:
    probe = (
        "import gc, os, signal, sys\n"
        "from nddr_deploy.engines import open_engine\n"
        "engines = [open_engine(sys.argv[1], 'openvino', threads=1) for _ in range(2)]\n"
        "while engines:\n"
        "    engines.pop(0).close()\n"  # the first one first
        "    gc.collect()\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # whatever this test was started with
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "except KeyboardInterrupt:\n"
        "    print('heard')"
    )

    run = subprocess.run(
        [sys.executable, "-c", probe, str(handmade().path)], capture_output=True, text=True, check=False
    )

    assert (run.returncode, run.stdout) == (0, "heard\n"), run.stderr


def test_onnxruntime_neither_writes_to_the_home_folder_nor_keeps_a_device_id(
    handmade: Callable[..., Any], tmp_path: Path
) -> None:
    probe = (
        "import sys\n"
        "from nddr_deploy.engines import open_engine\n"
        "with open_engine(sys.argv[1], 'onnxruntime', threads=1) as engine: engine.manifest"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}

    subprocess.run(
        [sys.executable, "-c", probe, str(handmade().path)], env={**environment, "HOME": str(tmp_path)}, check=True
    )

    assert list(tmp_path.rglob("*")) == []


def test_openvino_is_asked_what_its_layers_really_run_in(exported: Any) -> None:
    compiled = compile_model(exported.path, "fp32", threads=1)

    assert realised_precisions(compiled) == ["fp32"]


def test_the_machine_is_described_without_names_of_users_or_hosts() -> None:
    import json
    import platform

    described = machine.describe_machine().to_dict()

    assert described["cores"] >= 1
    assert described["memory_bytes"] > 2**28
    assert platform.node() not in json.dumps(described)
