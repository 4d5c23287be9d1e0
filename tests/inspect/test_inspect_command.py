"""nddr-inspect: what it prints and writes, of which files, and what it refuses."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.evaluate.image_batches import MadeUpImages
from nddr_deploy.graph.metadata import manifest_of
from nddr_deploy.inspect.__main__ import main
from nddr_deploy.inspect.recipe import inspect_graph, inspect_model

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("graph", "export")]
from export_networks import DENSE, config, save
from graph_subjects import exported, quantised

SIZE = (65, 97)


@pytest.fixture
def triple(tmp_path: Path) -> Path:
    """A narrow ResNet-18 of three tasks, 65x97."""
    onnx.save(exported("resnet 18", tasks=3, size_hw=SIZE), tmp_path / "triple.onnx")
    return tmp_path / "triple.onnx"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 256, (70, 90, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_tables_say_who_takes_what_and_what_it_costs(triple: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, triple)

    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{triple}: a network, fp32; segmentation, normals, depth"
    assert "a pass (one image of 65x97)" in lines[1]
    start = lines.index("layer      task          segmentation  normals   depth")
    assert lines[start - 1].endswith("activation scale; 6 made-up images)")
    rows = [line.split() for line in lines[start + 1 : start + 16]]
    assert [row[0] for row in rows[::3]] == [f"fusions.{layer}" for layer in range(5)]
    for row in rows:
        assert sum(float(cell) for cell in row if cell[0].isdigit()) == pytest.approx(100, abs=0.2)  # one decimal each
    assert sum(line.startswith("stages.4 ") for line in lines) == 2  # arithmetic, parameters
    assert sum(line.startswith("segmentation,") for line in lines) == 2  # with normals, with depth
    assert not any(line.endswith(" ") for line in lines)


def test_json_csv_and_picture_hold_the_same_shares(
    triple: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name: tmp_path / name for name in ("r.json", "r.csv", "r.png")}
    status, out, err = run(
        capsys,
        triple,
        "--images",
        photos,
        "--json",
        files["r.json"],
        "--csv",
        files["r.csv"],
        "--heatmap",
        files["r.png"],
    )

    assert (status, err) == (0, "")
    assert out.endswith("".join(f"\nwritten: {path}" for path in files.values()) + "\n")
    report = json.loads(files["r.json"].read_text())
    assert report["images"] == "3 of 3 pictures of photos"
    assert len(report["coupling"]) == 5 * 9
    with open(files["r.csv"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["layer"], row["task"], row["stream"]) for row in rows] == [
        (block["layer"], block["task"], block["stream"]) for block in report["coupling"]
    ]
    assert [float(row["share"]) for row in rows] == pytest.approx(
        [block["share"] for block in report["coupling"]], rel=1e-5
    )
    picture = cv2.imread(str(files["r.png"]))
    assert picture.shape[1] > picture.shape[0] > 200
    assert sum(part["flops"] for part in report["parts"]) == report["flops"]
    assert [subset["tasks"] for subset in report["subsets"]][:3] == [["segmentation"], ["normals"], ["depth"]]


def test_a_data_set_gives_the_pictures(triple: Path) -> None:
    report = inspect_model(triple, data="rooms", limit=2, options={"count": 5})

    assert report.images == "2 of 5 samples of rooms (val)"


def test_a_checkpoint_is_exported_first_and_reports_what_its_export_does(tmp_path: Path) -> None:
    from nddr_deploy.export.recipe import export_checkpoint

    checkpoint = save(tmp_path / "ckpt.pt", config("resnet18", "nddr conv-bn-relu"), DENSE[:2], size_hw=(33, 49))
    model = export_checkpoint(checkpoint, tmp_path / "model.onnx").path

    of_checkpoint, of_model = inspect_model(checkpoint), inspect_model(model)

    assert of_checkpoint.source == checkpoint
    assert of_checkpoint.to_dict() | {"file": "model.onnx"} == of_model.to_dict()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt.pt", "model.onnx"]


def test_a_quantised_file_is_read_as_what_it_stands_for(tmp_path: Path) -> None:
    onnx.save(with_manifest_of(quantised("resnet 18", form_of="CPU")), tmp_path / "int8.onnx")
    onnx.save(exported("resnet 18"), tmp_path / "model.onnx")

    found, expected = inspect_model(tmp_path / "int8.onnx"), inspect_model(tmp_path / "model.onnx")

    assert found.precision == "int8"
    assert found.costs == expected.costs
    assert [block.share for block in found.blocks] == pytest.approx(
        [block.share for block in expected.blocks], abs=0.01
    )  # 8-bit weights


def with_manifest_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """ONNX Runtime's quantiser drops the metadata."""
    del model.metadata_props[:]
    model.metadata_props.extend(exported("resnet 18").metadata_props)
    return model


def test_a_network_without_fusion_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = save(tmp_path / "ckpt.pt", config("resnet18", "none"), DENSE[:2], size_hw=(33, 49))

    status, out, err = run(capsys, checkpoint, "--heatmap", tmp_path / "h.png")

    assert "coupling: none. No streams meet in this network" in out
    assert (status, err) == (
        2,
        f"error: {checkpoint}: no streams meet in this network, so there is no coupling to draw.\n",
    )
    assert not (tmp_path / "h.png").exists()


def test_an_open_size_and_batch_are_measured_at_the_size_asked_for() -> None:
    model = exported("resnet 18", dynamic=("batch", "size"))

    manifest = manifest_of(model, source="").model_copy(update={"size_hw": (130, 194)})
    larger = inspect_graph(model, manifest, MadeUpImages((130, 194), 2), Path("model.onnx"))
    usual = inspect_graph(
        exported("resnet 18"), manifest_of(model, source=""), MadeUpImages(SIZE, 2), Path("model.onnx")
    )

    assert larger.flops > 3 * usual.flops
    assert larger.parameters == usual.parameters


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size_hw": (64, 64)}, "takes images of 65x97 only"),
        ({"limit": 0}, "limit: got 0"),
        ({"images": "x", "data": "rooms"}, "got both, x and rooms"),
        ({"data": "room"}, "Did you mean 'rooms'"),
        ({"options": {"count": 3}}, "count are of a data set"),
        ({"assume": {"bn": "after-relu"}}, "is no checkpoint of other code"),
    ],
)
def test_wrong_options_are_one_sentence(triple: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        inspect_model(triple, **options)  # type: ignore[arg-type]


def test_a_tensorrt_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Give the ONNX file it is from"):
        inspect_model(tmp_path / "model.trt")


def test_a_place_that_cannot_be_written_is_found_before_the_work(
    triple: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, triple, "--json", "/nowhere/report.json")

    assert (status, out) == (2, "")
    assert err.startswith("error: The folder /nowhere does not exist.")


def test_a_heat_map_of_another_format_is_refused_before_the_work(
    triple: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, triple, "--heatmap", str(tmp_path / "map.txt"))

    assert (status, out) == (2, "")
    assert err.startswith("error: heatmap: ")
    assert not (tmp_path / "map.txt").exists()


def test_pictures_that_are_not_there_are_refused(triple: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        inspect_model(triple, images="/nowhere")
