"""The pictures of a quantisation: some to measure ranges on, others to judge on, none in both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from colour_network import SIZE, Colours, network, write_pictures

from nddr_deploy.engines.run_bytes import run_bytes
from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.graph.metadata import manifest_of
from nddr_deploy.inference.image_set import open_images
from nddr_deploy.quantize.arguments import add_quantize_arguments, quantize_choices
from nddr_deploy.quantize.checks import check_options
from nddr_deploy.quantize.judging import Judging, RememberedImages, open_judging


@pytest.fixture
def model() -> onnx.ModelProto:
    return network(3)


@pytest.fixture
def judging(model: onnx.ModelProto) -> Any:
    def opened(calibration: str | Path, **options: Any) -> Judging:
        manifest = manifest_of(model, source="it")
        reference = run_bytes(model.SerializeToString())
        return open_judging(manifest, reference, calibration=str(calibration), **options)

    return opened


def hashes(judged: Judging) -> set[str]:
    """Of the pictures that are judged on, as `ImageSet.hashes`; they have the model's size."""
    import hashlib

    return {hashlib.sha256(sample.image.tobytes()).hexdigest() for sample in judged.evaluation.samples}


def test_without_anything_else_every_fourth_picture_is_kept_aside(judging, tmp_path):
    found = judging(write_pictures(tmp_path / "pictures", 9))

    assert found.calibration.names == tuple(f"{place:03}.png" for place in (0, 1, 2, 4, 5, 6, 8))
    assert found.evaluation.names == ("003.png", "007.png")
    assert not set(found.calibration.hashes) & hashes(found)
    assert not found.evaluation.labelled
    assert "other 2 of 9 pictures" in found.evaluation.about
    assert found.dataset is None


def test_no_more_are_judged_than_the_limit_says(judging, tmp_path):
    assert len(judging(write_pictures(tmp_path / "pictures", 12), limit=2).evaluation) == 2


def test_too_few_pictures_for_both_are_refused(judging, tmp_path):
    with pytest.raises(InputError, match="too few to keep every 4th aside"):
        judging(write_pictures(tmp_path / "pictures", 3))


def test_pictures_that_are_there_twice_are_not_in_both_parts(judging, tmp_path):
    folder = write_pictures(tmp_path / "pictures", 8)
    (folder / "000.png").write_bytes((folder / "003.png").read_bytes())  # of which the latter is kept aside

    found = judging(folder)

    assert found.evaluation.names == ("003.png", "007.png")
    assert found.calibration.names == tuple(f"{place:03}.png" for place in (1, 2, 4, 5, 6))


def test_other_pictures_are_judged_by_the_float_models_results(judging, tmp_path, model):
    found = judging(write_pictures(tmp_path / "one", 3), images=str(write_pictures(tmp_path / "two", 2, first=50)))

    assert len(found.calibration) == 3
    assert found.evaluation.names == ("050.png", "051.png")
    scores = found.evaluation.score(run_bytes(model.SerializeToString())).result()
    assert scores["segmentation"]["PAcc"] == 1
    assert scores["normals"]["mean_angle"] == pytest.approx(0, abs=0.03)  # degrees: arccos of nearly 1, in float32


@pytest.mark.parametrize("images", ["the same folder", "one picture in common"])
def test_a_picture_in_both_is_refused(judging, tmp_path, images):
    one = write_pictures(tmp_path / "one", 3)
    two = one if images == "the same folder" else write_pictures(tmp_path / "two", 3, first=2)

    with pytest.raises(InputError, match=r"'002.png'|3 pictures") as caught:
        judging(one, images=str(two))
    assert "both calibrated and judged on" in str(caught.value)


def test_labelled_data_is_known_again_by_name_and_options(judging, tmp_path, colours):
    found = judging(write_pictures(tmp_path / "pictures", 2), data=colours, options={"count": 5}, limit=4)

    assert found.evaluation.labelled
    assert len(found.evaluation) == 4
    assert found.dataset is not None
    assert (found.dataset.name, found.dataset.split, found.dataset.options) == (colours, "val", {"count": 5})
    assert found.evaluation.about == "4 samples of colours (val)"


def test_a_data_set_may_give_both_parts(judging, colours):
    found = judging(colours, calibration_options={"count": 3}, data=colours, options={"count": 2})

    assert len(found.calibration) == 3
    assert not set(found.calibration.hashes) & hashes(found)


def test_one_part_of_a_data_set_cannot_be_both(judging, colours):
    with pytest.raises(InputError, match="both calibrated and judged on"):
        judging(colours, calibration_split="val", data=colours)


def test_labels_that_do_not_fit_the_model_are_refused(judging, tmp_path, colours):
    with pytest.raises(
        InputError, match="the first that differs is number 1: 'green' in the model, 'grey' in the data"
    ):
        judging(colours, data=colours, options={"classes": ["red", "grey", "blue"]})


def test_pictures_of_a_data_set_may_be_judged_without_their_labels(judging, colours):
    found = judging(colours, images=colours, split="val", options={"count": 2})

    assert not found.evaluation.labelled
    assert len(found.evaluation) == 2


def test_agreement_is_of_the_same_pictures_whatever_they_are_labelled_with(judging, model, colours):
    labelled = judging(colours, data=colours, options={"count": 4})
    reference = run_bytes(model.SerializeToString())

    agreement = labelled.agreement(3, reference)

    assert not agreement.labelled
    assert agreement.names == labelled.evaluation.names[:3]
    assert agreement.score(reference).result()["segmentation"]["PAcc"] == 1
    unlabelled = judging(colours, images=colours, split="val", options={"count": 4})
    assert unlabelled.agreement(3, reference).fingerprint == agreement.fingerprint


def test_pictures_without_labels_are_read_once_for_all_trials(judging, tmp_path):
    folder = write_pictures(tmp_path / "pictures", 8)
    found = judging(folder)
    first = [sample.image for sample in found.evaluation.samples]

    for path in folder.iterdir():
        path.unlink()

    assert [sample.image.tobytes() for sample in found.evaluation.samples] == [image.tobytes() for image in first]
    assert found.evaluation.samples.at(1).image.tobytes() == first[1].tobytes()


def test_pictures_that_are_too_many_for_memory_are_read_again(tmp_path, model):
    folder = write_pictures(tmp_path / "pictures", 3)
    images = open_images(str(folder), manifest_of(model, source="it"), limit=3)
    remembered = RememberedImages(images, most_bytes=3 * SIZE[0] * SIZE[1] * 3 - 1)
    before = [image.tobytes() for image in remembered]

    assert [image.tobytes() for image in remembered] == before
    (folder / "001.png").unlink()
    with pytest.raises(InputError):
        list(remembered)


def test_pictures_of_another_size_are_laid_into_the_models(judging, tmp_path):
    from PIL import Image

    folder = tmp_path / "tall"
    folder.mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (50, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")

    found = judging(folder)

    assert {image.shape for image in found.calibration} == {(*SIZE, 3)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibration": None}, "needs pictures.*--calibration"),
        ({"target": "gpu"}, "target: 'gpu' is unknown. Choose one of: cpu, tensorrt, tensorrt8"),
        ({"method": "max"}, "method: 'max' is unknown.*minmax"),
        ({"streams": "equal"}, "streams: 'equal' is unknown.*Did you mean 'equalised'"),
        ({"data": "rooms", "images": "photos"}, "--data and --images both"),
        ({"data": "cityscapes"}, "data: 'cityscapes' is unknown"),
        ({"options": {"path": "x"}}, "options path are of a data set to judge on, and none was given"),
        ({"images": "photos", "options": {"path": "x"}}, "options path"),
        ({"calibration_options": {"count": 3}}, "calibration options count are of a data set; photos is none"),
        ({"max_trials": 0}, "max_trials: got 0"),
    ],
)
def test_options_that_contradict_each_other_are_refused_before_anything_is_read(options, message):
    with pytest.raises(ConfigError, match=message):
        check_options(**{"calibration": "photos", **options})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"data": "rooms", "options": {"count": 3}},
        {"images": "rooms", "options": {"count": 3}},
        {"images": "photos"},
        {"calibration": "rooms", "calibration_options": {"count": 3}},
        {"report": "report.json"},  # of other places
    ],
)
def test_what_fits_together_passes(options):
    check_options(**{"calibration": "photos", **options})


@pytest.mark.parametrize("what", ["limit", "calibration_limit"])
def test_a_limit_of_nothing_is_refused(judging, tmp_path, what):
    with pytest.raises(ConfigError, match="limit"):
        judging(write_pictures(tmp_path / "pictures", 4), **{what: 0})


def test_a_folder_that_is_not_there_is_refused(judging, tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        judging(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--calibration rooms --data rooms --option count=3", {"count": 3}),
        ("--calibration rooms --data rooms --option count=3 --calibration-option count=9", {"count": 9}),
        ("--calibration rooms --data folder --option path=x", {}),
        ("--calibration rooms --images rooms --option count=3", {"count": 3}),
        ("--calibration photos --data rooms --option count=3", {}),
    ],
)
def test_options_count_for_the_calibration_where_both_are_of_one_data_set(line, expected):
    from argparse import ArgumentParser

    parser = ArgumentParser()
    add_quantize_arguments(parser)

    assert quantize_choices(parser.parse_args(line.split()))["calibration_options"] == expected


def test_the_command_line_says_every_argument_of_the_function():
    import inspect
    from argparse import ArgumentParser

    from nddr_deploy.quantize.recipe import quantize_model

    parser = ArgumentParser()
    add_quantize_arguments(parser)
    said = quantize_choices(parser.parse_args([]))

    parameters = inspect.signature(quantize_model).parameters
    assert set(said) == set(parameters) - {"model", "output", "report", "progress"}
    without = {"calibration", "calibration_options", "options"}  # None here, {} there
    assert {key: said[key] for key in set(said) - without} == {
        key: parameters[key].default for key in set(said) - without
    }


def test_the_data_of_these_tests_shares_no_picture_between_its_parts():
    train, val = ({Colours(split)[place].name for place in range(8)} for split in ("train", "val"))

    assert not train & val
