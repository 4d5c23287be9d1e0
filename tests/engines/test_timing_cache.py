"""The timing cache: on by default, one file per TensorRT and GPU, used by the next build, another GPU's refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from simulated.simulate import VERSIONS, simulate
from simulated.trt_builder import Builder

from nddr_deploy.build.recipe import build_engine
from nddr_deploy.engines.cuda import Gpu
from nddr_deploy.engines.timing_cache import default_path, read_cache, write_cache
from nddr_deploy.errors import ConfigError, InputError, NddrError, UnsupportedError

every_version = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files go; ONNX Runtime, too, keeps something in the folder above."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "nddr-deploy"


@pytest.fixture
def model(handmade: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    def build(**options: Any) -> Path:
        return build_engine(handmade().path, tmp_path / "model.trt", precision="fp32", **options).path

    return build


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@every_version
def test_the_second_build_measures_nothing_that_the_first_one_measured(
    model: Callable[..., Path], home: Path, version: str
) -> None:
    measured = []
    for _ in range(2):  # two processes, as it were
        with simulate(version) as machine:
            model()
            measured += [build.measured for build in machine.world.builds]

    assert measured[0] > 0
    assert measured[1] == 0
    assert len(files(home)) == 1


@every_version
def test_without_a_cache_nothing_is_read_or_written(model: Callable[..., Path], home: Path, version: str) -> None:
    with simulate(version) as machine:
        model(timing_cache=None)
        model(timing_cache=None)
        assert [build.measured > 0 for build in machine.world.builds] == [True, True]
        assert [build.config.cache for build in machine.world.builds] == [None, None]

    assert not home.exists()


def test_each_version_and_each_gpu_has_its_own_file(model: Callable[..., Path], home: Path) -> None:
    for version in VERSIONS:
        for name, capability in (("NVIDIA H200", (9, 0)), ("NVIDIA A10", (8, 6))):
            with simulate(version, name=name, compute_capability=capability) as machine:
                model()
                assert machine.world.builds[0].measured > 0  # nobody else's

    names = [path.name for path in files(home)]
    assert len(names) == 6
    for version in VERSIONS:
        assert len([name for name in names if f"tensorrt-{version}" in name]) == 2
    assert len([name for name in names if "h200" in name]) == 3


@every_version
def test_a_file_of_ones_own_is_made_and_used_again(
    model: Callable[..., Path], tmp_path: Path, home: Path, version: str
) -> None:
    cache = tmp_path / "mine.cache"

    with simulate(version) as machine:
        model(timing_cache=cache)
        model(timing_cache=str(cache))
        assert [build.measured == 0 for build in machine.world.builds] == [False, True]

    assert not home.exists()
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


@every_version
def test_another_gpus_cache_is_refused_and_left_as_it_is(
    model: Callable[..., Path], tmp_path: Path, version: str
) -> None:
    cache = tmp_path / "mine.cache"
    with simulate(version, name="NVIDIA H200", compute_capability=(9, 0)):
        model(timing_cache=cache)
    before = cache.read_bytes()

    with simulate(version) as machine:
        with pytest.raises(ConfigError, match=r"mine\.cache is no timing cache of this TensorRT on this GPU"):
            model(timing_cache=cache)
        assert machine.world.builds == []

    assert cache.read_bytes() == before


@pytest.mark.parametrize("content", [b"tcache{", b"notes", bytes(range(256))])
def test_what_is_no_cache_is_refused_and_left_as_it_is(
    model: Callable[..., Path], tmp_path: Path, content: bytes
) -> None:
    cache = tmp_path / "mine.cache"
    cache.write_bytes(content)

    with simulate(), pytest.raises(ConfigError, match=r"mine\.cache is no timing cache"):
        model(timing_cache=cache)

    assert cache.read_bytes() == content


def test_a_cache_of_another_version_is_refused(model: Callable[..., Path], tmp_path: Path) -> None:
    with simulate("10.13"):
        model(timing_cache=tmp_path / "mine.cache")

    with simulate("11.4"), pytest.raises(ConfigError, match=r"mine\.cache is no timing cache"):
        model(timing_cache=tmp_path / "mine.cache")


@every_version
def test_what_was_measured_is_kept_when_a_later_check_fails(
    model: Callable[..., Path], home: Path, version: str
) -> None:
    with simulate(version, pretend="Half"), pytest.raises(UnsupportedError):
        model()
    with simulate(version) as machine:
        model()
        assert machine.world.builds[0].measured == 0

    assert len(files(home)) == 1


def test_a_build_that_tensorrt_gives_up_leaves_the_cache_as_it_was(
    model: Callable[..., Path], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with simulate():
        model()
    (cache,) = files(home)
    before = cache.read_bytes()
    monkeypatch.setattr(Builder, "build_serialized_network", lambda *given: None)

    with simulate(), pytest.raises(UnsupportedError):
        model()

    assert cache.read_bytes() == before


def test_a_folder_instead_of_a_file_is_a_sentence(model: Callable[..., Path], tmp_path: Path) -> None:
    with simulate() as machine:
        with pytest.raises(InputError, match="cannot be read"):
            model(timing_cache=tmp_path)
        assert machine.world.builds == []


def test_a_folder_that_is_not_there_is_found_before_minutes_are_spent(
    model: Callable[..., Path], tmp_path: Path
) -> None:
    with simulate() as machine:
        with pytest.raises(NddrError, match="none does not exist"):
            model(timing_cache=tmp_path / "none" / "mine.cache")
        assert machine.world.builds == []


def test_a_cache_folder_that_cannot_be_made_is_a_sentence_that_names_the_way_out(
    model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    with simulate(), pytest.raises(InputError, match="--no-timing-cache"):
        model()


@pytest.mark.parametrize("set_to", [None, ""])
def test_without_xdg_cache_home_it_is_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_to: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if set_to is None:
        monkeypatch.delenv("XDG_CACHE_HOME")
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", set_to)

    path = default_path("10.13.3.9", Gpu("NVIDIA A10", "8.6", 1 << 30, "12.9"))

    assert path.parent == tmp_path / ".cache" / "nddr-deploy"


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b\\c", "NVIDIA\n\x1b[2J", "", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"]
)
def test_whatever_a_gpu_is_called_its_file_lies_in_the_cache_folder(home: Path, name: str) -> None:
    path = default_path("10.13.3.9", Gpu(name, "9.0", 1 << 30, "12.9"))

    assert path.resolve().parent == home.resolve()
    assert path.name.isprintable()


def test_gpus_whose_names_or_capabilities_differ_have_different_files() -> None:
    names = ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB", "NVIDIA A10", "NVIDIA A100")

    assert len({default_path("10.13.3.9", Gpu(name, "8.0", 1 << 30, "12.9")) for name in names}) == len(names)
    assert len({default_path("10.13.3.9", Gpu("NVIDIA A10", f"8.{minor}", 1, "12.9")) for minor in range(10)}) == 10


def test_a_cache_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.cache"
    write_cache(path, b"first")

    def fail(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises((OSError, NddrError)):
        write_cache(path, b"second")

    assert read_cache(path) == b"first"
    assert files(tmp_path) == [path]
    assert read_cache(tmp_path / "none.cache") == b""
