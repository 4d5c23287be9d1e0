"""TensorFlow's V2 checkpoints: found by any of their names, and read as TensorFlow reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tf_variables import SOME, Array, equal, read_all, refused
from tf_writer import write_tf_checkpoint

from nddr_deploy.errors import ModelFileError
from nddr_deploy.importers.tf_checkpoint import find_tf_checkpoint, open_tf_variables

FIXTURE = Path(__file__).parent / "data" / "tf_written"


def many_variables() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    parts = {
        "weights": (3, 3, 2, 4),
        "BatchNorm/gamma": (4,),
        "BatchNorm/moving_variance": (4,),
        "weights/Momentum": (2,),
    }
    return {
        f"vgg_16_{task}_{stage}/conv{stage}/conv{stage}_{number}/{part}": rng.normal(size=shape).astype(np.float32)
        for task in (1, 2)
        for stage in range(1, 6)
        for number in (1, 2, 3)
        for part, shape in parts.items()
    }


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("block_bytes", [1, 300, 1 << 18])
def test_variables_come_back_as_they_were_written(tmp_path: Path, shards: int, block_bytes: int) -> None:
    expected = many_variables() | SOME
    write_tf_checkpoint(tmp_path / "model.ckpt-1", expected, shards=shards, block_bytes=block_bytes)

    found = read_all(tmp_path)

    assert list(found) == sorted(expected)
    assert equal(found, expected)


def test_values_can_be_written_to(tmp_path: Path) -> None:
    write_tf_checkpoint(tmp_path / "model.ckpt-1", SOME)

    assert all(value.flags.writeable for value in read_all(tmp_path).values())


def test_what_tensorflow_itself_wrote_is_read() -> None:
    variables = open_tf_variables(FIXTURE / "model.ckpt-20000.index")
    names = [name for name in variables.shapes if name not in ("global_step", "sliced/weights")]

    assert len(names) == 105
    assert variables.shapes["nddr_3/nddr_3_n2/weights"] == (1, 1, 8, 4)
    for number, name in enumerate(names):
        expected = number + np.arange(np.prod(variables.shapes[name], dtype=int)) / 64
        assert np.array_equal(variables.read(name).ravel(), expected.astype(np.float32))


def test_a_partitioned_variable_of_tensorflow_is_listed_but_not_read() -> None:
    variables = open_tf_variables(FIXTURE / "model.ckpt-20000.index")

    assert variables.shapes["sliced/weights"] == (6, 2)
    with pytest.raises(ModelFileError, match=r"model\.ckpt-20000\.index: 'sliced/weights' is a partitioned variable"):
        variables.read("sliced/weights")


def test_another_type_is_listed_but_not_read() -> None:
    variables = open_tf_variables(FIXTURE / "model.ckpt-20000.index")

    assert variables.shapes["global_step"] == ()
    with pytest.raises(ModelFileError, match="'global_step' is int64; expected float32"):
        variables.read("global_step")


def test_a_name_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", **SOME)
    write_tf_checkpoint(tmp_path / "model.ckpt-1", SOME)

    for path in (tmp_path / "v.npz", tmp_path / "model.ckpt-1.index"):
        with pytest.raises(ModelFileError, match="no variable 'conv/bias'"):
            open_tf_variables(path).read("conv/bias")


@pytest.mark.parametrize(
    "name",
    ["", "model.ckpt-1", "model.ckpt-1.index", "model.ckpt-1.meta", "model.ckpt-1.data-00000-of-00002", "v.npz"],
)
def test_any_part_stands_for_the_checkpoint(tmp_path: Path, name: str) -> None:
    write_tf_checkpoint(tmp_path / "model.ckpt-1", SOME, shards=2)
    np.savez(tmp_path / "v.npz", **SOME)

    found = find_tf_checkpoint(tmp_path / name)

    assert found == tmp_path / ("v.npz" if name == "v.npz" else "model.ckpt-1.index")


@pytest.mark.parametrize(
    "latest",
    ["model.ckpt-5000", "/home/someone/run/model.ckpt-5000", r"C:\\run\\model.ckpt-5000", "../../model.ckpt-5000"],
)
def test_the_latest_is_looked_for_in_its_own_folder(tmp_path: Path, latest: str) -> None:
    for step in (0, 5000, 10000):
        write_tf_checkpoint(tmp_path / f"model.ckpt-{step}", SOME)
    text = f'model_checkpoint_path: "{latest}"\nall_model_checkpoint_paths: "model.ckpt-0"\n'
    (tmp_path / "checkpoint").write_text(text)

    assert find_tf_checkpoint(tmp_path) == tmp_path / "model.ckpt-5000.index"


@pytest.mark.parametrize("latest", ["model.ckpt-7", "/x/", "..", ""])
def test_a_latest_that_is_not_there_is_named(tmp_path: Path, latest: str) -> None:
    write_tf_checkpoint(tmp_path / "model.ckpt-1", SOME)
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{latest}"\n')

    refused(tmp_path, f"{latest.strip('/x')}.index is missing")


def test_several_checkpoints_and_no_latest_are_listed(tmp_path: Path) -> None:
    for step in (0, 5000):
        write_tf_checkpoint(tmp_path / f"model.ckpt-{step}", SOME)

    refused(tmp_path, "model.ckpt-0, model.ckpt-5000", "text file 'checkpoint'")


@pytest.mark.parametrize("gone", ["model.ckpt-1.index", "model.ckpt-1.data-00000-of-00001"])
@pytest.mark.parametrize("given", ["", "model.ckpt-1"])
def test_a_missing_part_is_named(tmp_path: Path, gone: str, given: str) -> None:
    write_tf_checkpoint(tmp_path / "model.ckpt-1", SOME)
    (tmp_path / gone).unlink()

    refused(tmp_path / given, f"{gone} is missing")


def test_a_missing_data_file_of_several_is_named(tmp_path: Path) -> None:
    write_tf_checkpoint(tmp_path / "model.ckpt-1", SOME, shards=3)
    (tmp_path / "model.ckpt-1.data-00001-of-00003").unlink()

    refused(tmp_path, "model.ckpt-1.data-00001-of-00003 is missing")


@pytest.mark.parametrize("name", ["gone.index", "nowhere/gone.data-00000-of-00001", "gone.npz"])
def test_a_file_that_is_not_there_is_an_error(tmp_path: Path, name: str) -> None:
    refused(tmp_path / name, "gone.")


def test_what_is_no_tensorflow_checkpoint_is_left_to_others(tmp_path: Path) -> None:
    (tmp_path / "best.pth").write_bytes(b"x")
    (tmp_path / "model.onnx.data").write_bytes(b"x")
    (tmp_path / "folder").mkdir()

    for name in ("best.pth", "model.onnx.data", "folder", "gone.pth", "nowhere/gone"):
        assert find_tf_checkpoint(tmp_path / name) is None
