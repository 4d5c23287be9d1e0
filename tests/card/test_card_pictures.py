"""The worst images of each head, as panels that a page can hold."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from card_subjects import Tiny, change_weight, write_models

from nddr_deploy.card.pictures import Picture, picture_of, worst_pictures
from nddr_deploy.engines import open_engine
from nddr_deploy.evaluate.sample_scores import EvaluationSet
from nddr_deploy.page.panels import WIDEST, Panel, panel


def pixels(shown: Panel) -> Any:
    """RGB of what a browser would show."""
    content = base64.b64decode(shown.uri.partition("base64,")[2])
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded[..., ::-1]


@pytest.fixture(scope="module")
def worst(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, tuple[EvaluationSet, tuple[Picture, ...], list[Any]]]:
    """With labels, and against FP32: the set, the pictures, and each image's loss in the angle of normals."""
    folder = tmp_path_factory.mktemp("worst")
    fp32, int8 = write_models(folder)
    change_weight(int8, "normals.weight", steps=40)
    found = {}
    with open_engine(fp32, threads=1) as reference, open_engine(int8, threads=1) as engine:
        data = Tiny("val", count=6, size_hw=(30, 40))  # not of the model's size

        class Images:
            names = tuple(data[index].name for index in range(len(data)))

            def __len__(self) -> int:
                return len(data)

            def __iter__(self) -> Any:
                return (data[index].image for index in range(len(data)))

        for labelled in (True, False):
            evaluation = (
                EvaluationSet.labelled_data(engine.manifest, data)
                if labelled
                else EvaluationSet.against(engine.manifest, reference.infer, Images())
            )
            before, after = evaluation.score(reference.infer), evaluation.score(engine.infer)
            pictures = worst_pictures(evaluation, before, after, reference.infer, engine.infer, count=2, this="INT8")
            loss = after.per_sample("normals", "mean_angle") - before.per_sample("normals", "mean_angle")
            found[labelled] = (evaluation, pictures, list(loss))
    return found


@pytest.mark.parametrize("labelled", [True, False])
def test_the_images_that_lose_most_come_first(worst: Any, labelled: bool) -> None:
    evaluation, pictures, loss = worst[labelled]

    shown = [picture.name for picture in pictures if picture.task == "normals"]

    order = [evaluation.names[place] for place in np.argsort(-np.array(loss)) if loss[place] > 0]
    assert shown == order[:2]


def test_a_dense_head_shows_image_both_results_their_difference_and_the_truth(worst: Any) -> None:
    picture = next(picture for picture in worst[True][1] if picture.task == "normals")

    titles = [panel.title for panel in picture.panels]

    assert titles == ["image", "FP32", "INT8", "what differs, 8× as bright", "truth"]
    assert all(picture.name in panel.alt for panel in picture.panels)
    assert all((panel.height, panel.width) == (30, 40) for panel in picture.panels)
    assert picture.caption.startswith("mean_angle on this image ")
    assert picture.caption.count("°") == 2


def test_each_panel_is_what_its_title_says(models: tuple[Path, Path]) -> None:
    fp32, int8 = models
    change_weight(int8, "normals.weight", steps=2)
    with open_engine(fp32, threads=1) as reference, open_engine(int8, threads=1) as engine:
        evaluation = EvaluationSet.labelled_data(engine.manifest, Tiny("val", size_hw=(30, 40)))
        both = [evaluation.look(infer, 0) for infer in (reference.infer, engine.infer)]
    task = engine.manifest.task("normals")

    picture = picture_of(task, *both, "caption", "INT8")

    drawn = [task.render(result.decoded()["normals"], result.sample.image).astype(int) for result in both]
    expected = (8 * np.abs(drawn[0] - drawn[1]).max(axis=2)).clip(0, 255)
    for place in (0, 1):
        shades = pixels(picture.panels[1 + place]).astype(int)
        near, far = (np.abs(shades - drawn[which]).mean() for which in (place, 1 - place))
        assert near < far
    assert 10 < expected.mean() < 200
    assert np.abs(pixels(picture.panels[3]).mean(axis=2) - expected).mean() < 3  # what JPEG costs


def test_without_labels_there_is_no_truth_to_show(worst: Any) -> None:
    pictures = worst[False][1]

    assert {len(picture.panels) for picture in pictures if picture.task != "age"} == {4}
    assert all("FP32's result being the truth" in picture.caption for picture in pictures)


def test_a_head_that_lost_nothing_has_no_pictures(worst: Any) -> None:
    assert {picture.task for picture in worst[False][1]} <= {"segmentation", "normals"}


def test_labels_keep_their_colours_and_large_pictures_shrink() -> None:
    labels = np.zeros((600, 900, 3), dtype=np.uint8)
    labels[:, 451:] = (255, 0, 0)

    shown = panel(labels, "labels", "alt", smooth=False)

    assert (shown.width, shown.height) == (WIDEST, 213)
    assert shown.uri.startswith("data:image/png;base64,")  # flat areas: exact, and smaller
    assert {tuple(colour) for colour in pixels(shown).reshape(-1, 3).tolist()} == {(0, 0, 0), (255, 0, 0)}


def test_a_photograph_becomes_the_smaller_jpeg() -> None:
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(smooth + rng.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)

    shown = panel(noisy, "image", "alt")

    assert shown.uri.startswith("data:image/jpeg;base64,")
    assert np.abs(pixels(shown).astype(int) - noisy).mean() < 6  # noise of 3 is what JPEG takes away


def test_a_pooled_head_says_in_words_what_both_say(tmp_path: Path) -> None:
    fp32, int8 = write_models(tmp_path)
    change_weight(int8, "age.weight", steps=40)
    with open_engine(fp32, threads=1) as reference, open_engine(int8, threads=1) as engine:
        evaluation = EvaluationSet.labelled_data(engine.manifest, Tiny("val"))
        scores = evaluation.score(reference.infer), evaluation.score(engine.infer)
        pictures = worst_pictures(evaluation, *scores, reference.infer, engine.infer, count=1, this="INT8")

        picture = next(picture for picture in pictures if picture.task == "age")
        assert len(picture.panels) == 1
        place = evaluation.names.index(picture.name)
        said = [
            round(float(evaluation.look(infer, place).decoded()["age"])) for infer in (reference.infer, engine.infer)
        ]
        assert said[0] != said[1]
        assert f"FP32 says age {said[0]}, INT8 says age {said[1]}, the truth is age {place % 4}." in picture.caption
