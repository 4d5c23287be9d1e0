"""The names that are looked up by their number elsewhere stand at that number."""

from __future__ import annotations

import pytest

from nddr_deploy.tasks import Classification, Segmentation
from nddr_deploy.tasks.class_names import ADIENCE_AGES8, HUMAN_PARTS7, NYU40, PASCAL21


@pytest.mark.parametrize(
    ("names", "count", "some"),
    [
        (NYU40, 40, {0: "wall", 1: "floor", 4: "chair", 21: "ceiling", 30: "person", 39: "other prop"}),
        (PASCAL21, 21, {0: "background", 1: "aeroplane", 15: "person", 20: "tvmonitor"}),
        (HUMAN_PARTS7, 7, {0: "background", 1: "head", 2: "torso", 6: "lower legs"}),
    ],
)
def test_labels_have_the_names_of_their_data_set(names: tuple[str, ...], count: int, some: dict[int, str]) -> None:
    assert Segmentation(classes=names).channels == count
    assert {index: names[index] for index in some} == some


def test_age_groups_follow_one_another() -> None:
    ends = [tuple(map(int, group.split("-"))) for group in ADIENCE_AGES8]

    assert Classification("age_group", classes=ADIENCE_AGES8).channels == 8
    assert ends == sorted(ends)
    assert all(first < last for first, last in ends)
