"""Pictures, arrays, 16-bit maps and JSON lines; which output is what; and what is never overwritten."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from nddr_deploy.errors import ConfigError, NddrError, OutputError, UnsupportedError
from nddr_deploy.inference.base import Frame, Result, SourceInfo
from nddr_deploy.inference.run import refuse_overwriting
from nddr_deploy.inference.sinks import FORMS, SINKS, find_output, open_sink
from nddr_deploy.inference.sources import find_inputs
from nddr_deploy.inference.summary import summarise
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks import Age, Binary, Classification, Depth, Normals, Segmentation

TASKS = (
    Segmentation("segmentation", classes=("wall", "floor", "lamp")),
    Normals("normals"),
    Depth("depth"),
    Age("age"),
    Classification("gender", classes=("man", "woman")),
)
VIDEO = SourceInfo("clip", "video", rate=Fraction(25))


def make_result(name: str = "000007", time_s: Fraction | None = Fraction(7, 25)) -> Result:
    labels = np.zeros((4, 6), np.uint8)
    labels[0] = 2
    normals = np.zeros((4, 6, 3), np.float32)
    normals[..., 2] = -1
    normals[0] = (0, -1, 0)
    decoded = {
        "segmentation": labels,
        "normals": normals,
        "depth": np.full((4, 6), 1.2345, np.float32),
        "age": np.asarray(34.25, np.float32),
        "gender": np.asarray([0.25, 0.75], np.float32),
    }
    return Result(Frame(np.full((4, 6, 3), (10, 20, 30), np.uint8), 7, time_s, name), decoded)


def frame_of(result: Result) -> Image:
    return result.frame.image


def write(output: Path, format: str | None = None, info: SourceInfo = VIDEO) -> None:
    sink = open_sink(find_output(output, format), info, TASKS, frame_of)
    sink.write(make_result())
    sink.close()


def test_a_folder_of_pictures_shows_each_frame_under_its_name(tmp_path: Path) -> None:
    write(tmp_path / "new" / "out")

    picture = cv2.imread(str(tmp_path / "new/out/000007.png"))
    assert picture is not None
    assert picture[0, 0].tolist() == [30, 20, 10], "OpenCV reads BGR"


def test_npz_holds_every_head_in_its_unit(tmp_path: Path) -> None:
    write(tmp_path / "out", "npz")

    with np.load(tmp_path / "out/000007.npz") as arrays:
        assert set(arrays) == {"segmentation", "normals", "depth", "age", "gender", "time_s"}
        for name, values in make_result().decoded.items():
            assert arrays[name].dtype == values.dtype
            assert np.array_equal(arrays[name], values)
        assert arrays["time_s"] == 0.28


def test_maps_are_lossless_pictures_per_task_and_pooled_tasks_are_lines(tmp_path: Path) -> None:
    write(tmp_path / "out", "png16")

    def read(task: str) -> np.ndarray:
        return np.asarray(cv2.imread(str(tmp_path / f"out/{task}/000007.png"), cv2.IMREAD_UNCHANGED))

    assert read("segmentation").dtype == np.uint8
    assert np.array_equal(read("segmentation"), make_result().decoded["segmentation"])
    assert (read("depth").dtype, read("depth")[0, 0]) == (np.uint16, 1234)  # millimetres, rounded half to even
    assert read("normals")[0, 0, ::-1].tolist() == [32768, 0, 32768]  # (0, -1, 0); OpenCV reads BGR
    assert json.loads((tmp_path / "out/age.jsonl").read_text())["age"] == {"years": 34.25}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "age.jsonl", "depth", "gender.jsonl", "normals", "segmentation",
    ]  # fmt: skip


def test_depth_beyond_what_16_bits_hold_is_the_largest_value_not_a_wrapped_one(tmp_path: Path) -> None:
    sink = open_sink(find_output(tmp_path / "out", "png16"), VIDEO, [Depth("depth", max_m=100.0)], frame_of)
    far = np.array([[70.0, 65.0]], np.float32)
    sink.write(Result(make_result().frame, {"depth": far}))

    stored = cv2.imread(str(tmp_path / "out/depth/000007.png"), cv2.IMREAD_UNCHANGED)

    assert np.asarray(stored).tolist() == [[65535, 65000]]


def test_a_probability_is_stored_in_16_bits_and_summed_up_by_its_mean_and_the_share_of_yes(tmp_path: Path) -> None:
    task, found = Binary("edge"), np.array([[0.0, 0.25, 0.5, 1.0]], np.float32)
    for format in ("png16", "npz", "jsonl"):
        sink = open_sink(find_output(tmp_path / format, format), VIDEO, [task], frame_of)
        sink.write(Result(make_result().frame, {"edge": found}))
        sink.close()

    stored = cv2.imread(str(tmp_path / "png16/edge/000007.png"), cv2.IMREAD_UNCHANGED)
    assert np.asarray(stored).tolist() == [[0, 16384, 32768, 65535]]
    assert np.array_equal(np.load(tmp_path / "npz/000007.npz")["edge"], found)
    assert json.loads((tmp_path / "jsonl/edge.jsonl").read_text())["edge"] == {"mean": 0.4375, "share": 0.5}


def test_json_lines_say_what_was_found_in_figures(tmp_path: Path) -> None:
    write(tmp_path / "out.jsonl")
    write(tmp_path / "out", "jsonl")

    (line,) = (tmp_path / "out.jsonl").read_text().splitlines()
    values = json.loads(line)
    assert (values["name"], values["index"], values["time_s"]) == ("000007", 7, 0.28)
    assert values["segmentation"]["shares"] == {"wall": 0.75, "lamp": 0.25}
    assert values["normals"]["shares"] == {"up": 0.25, "toward": 0.75}
    assert values["depth"]["mean_m"] == pytest.approx(1.2345, abs=1e-4)
    assert values["gender"]["class"] == "woman"
    per_task = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert per_task == ["age.jsonl", "depth.jsonl", "gender.jsonl", "normals.jsonl", "segmentation.jsonl"]
    assert json.loads((tmp_path / "out/depth.jsonl").read_text())["depth"] == values["depth"]


@pytest.mark.parametrize(
    ("vector", "direction"),
    [
        ((1, 0, 0), "right"),
        ((-1, 0, 0), "left"),
        ((0, 1, 0), "down"),
        ((0, -1, 0), "up"),
        ((0, 0, 1), "away"),
        ((0, 0, -1), "toward"),
    ],
)
def test_directions_are_named_as_the_camera_sees_them(vector: tuple[int, int, int], direction: str) -> None:
    normals = np.broadcast_to(np.float32(vector), (2, 2, 3))

    assert summarise(Normals("normals"), normals) == {"shares": {direction: 1.0}}


def test_directions_that_are_not_known_are_named_by_the_colours_of_the_pictures() -> None:
    normals = np.float32([[[1, 0, 0], [0, -1, 0], [0, 0, 1], [0, 0, 1]]])

    shares = summarise(Normals("normals", axes=None), normals)["shares"]

    assert shares == {"+red": 0.25, "-green": 0.25, "+blue": 0.5}


def test_json_lines_take_their_name_only_at_the_end(tmp_path: Path) -> None:
    sink = open_sink(find_output(tmp_path / "out.jsonl"), VIDEO, TASKS, frame_of)
    sink.write(make_result())
    assert [path.name[0] for path in tmp_path.iterdir()] == ["."]

    sink.abort()

    assert list(tmp_path.iterdir()) == []


def test_a_single_picture_gives_a_single_file(tmp_path: Path) -> None:
    photo = SourceInfo("photo.jpg", "pictures", frames=1)
    for name in ("a.png", "b.jpg", "c.npz", "d.jsonl"):
        write(tmp_path / name, info=photo)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.jpg", "c.npz", "d.jsonl"]
    with np.load(tmp_path / "c.npz") as arrays:
        assert not math.isnan(arrays["time_s"])


@pytest.mark.parametrize("name", ["out.png", "out.npz"])
def test_one_file_cannot_hold_many_results(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="holds one result, but clip gives many"):
        write(tmp_path / name)


def test_every_form_has_its_sink() -> None:
    assert set(FORMS.values()) <= set(SINKS)


@pytest.mark.parametrize(
    ("name", "format", "said"),
    [
        ("out.gif", None, "unknown suffix"),
        ("out", "nzp", "Did you mean 'npz'"),
        ("out.mp4", "npz", "is one file"),
        ("none/out.mp4", None, "does not exist"),
    ],
)
def test_an_output_that_cannot_be_is_one_sentence(tmp_path: Path, name: str, format: str | None, said: str) -> None:
    with pytest.raises(NddrError, match=said):
        find_output(tmp_path / name, format)


def test_a_file_where_a_folder_is_needed_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")

    with pytest.raises(OutputError, match="cannot be made"):
        write(tmp_path / "out", "npz")


def test_a_task_that_has_no_map_is_refused(tmp_path: Path) -> None:
    class Other:
        name, kind, head = "edges", "edges", "dense"

    with pytest.raises(UnsupportedError, match="edges results have no 16-bit picture"):
        open_sink(find_output(tmp_path / "out", "png16"), VIDEO, [Other()], frame_of)  # type: ignore[list-item]


def test_an_output_never_takes_the_place_of_its_input(tmp_path: Path) -> None:
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"video")
    (tmp_path / "link.mp4").symlink_to(video)
    (tmp_path / "hard.mp4").hardlink_to(video)
    inputs = find_inputs(video)

    for name in ("clip.mp4", "link.mp4", "hard.mp4", "../" + tmp_path.name + "/clip.mp4"):
        with pytest.raises(ConfigError, match="is the input"):
            refuse_overwriting(inputs, find_output(tmp_path / name))
    with pytest.raises(ConfigError, match="is the input"):
        refuse_overwriting(inputs, find_output(tmp_path / "out.mp4"), report=video)
    refuse_overwriting(inputs, find_output(tmp_path / "out.mp4"))


def test_a_folder_of_results_is_never_the_folder_of_inputs(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(b"picture")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    inputs = find_inputs(tmp_path / "photos")

    for folder in ("photos", "link"):
        with pytest.raises(ConfigError, match="holds the input"):
            refuse_overwriting(inputs, find_output(tmp_path / folder))
    with pytest.raises(ConfigError, match="holds the input"):  # would write photos/NAME.png for a task named photos
        refuse_overwriting(inputs, find_output(tmp_path, "png16"))
    refuse_overwriting(inputs, find_output(tmp_path))
    refuse_overwriting(inputs, find_output(tmp_path / "photos/out"))
