"""Decoding against the graph: the comparison sees what differs, and tells ties from mistakes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from nddr_deploy.benchmark import decode
from nddr_deploy.benchmark.decode import TIE, compare_decoding, compare_labels, resize_and_argmax
from nddr_deploy.engines.ort import open_session
from nddr_deploy.errors import ConfigError
from nddr_deploy.resize import CONVENTIONS, Convention, Grid

SCORES = np.float32([[[0, 0], [0, 0]], [[2, -2], [2, -2]]])  # class 1 wins on the left, class 0 on the right


def right_labels(grid: Grid) -> Any:
    across = np.broadcast_to(grid.columns, grid.size_hw)
    return (2 - 4 * across > 0).astype(np.uint8)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_graph_computes_the_labels_of_the_interpolated_scores(convention: Convention) -> None:
    grid = Grid.between((2, 2), (6, 8), convention)
    session = open_session(resize_and_argmax(SCORES.shape, (6, 8), convention).SerializeToString(), threads=1)

    labels = session.run(None, {"scores": SCORES[None]})[0][0]

    np.testing.assert_array_equal(labels, right_labels(grid))


def test_equal_labels_differ_nowhere() -> None:
    grid = Grid.between((2, 2), (6, 8), "half_pixel")

    assert compare_labels(SCORES, grid, right_labels(grid), right_labels(grid)) == (0, 0, 0.0)


def test_a_wrong_label_is_no_tie_and_its_distance_is_told() -> None:
    grid = Grid.between((2, 2), (6, 8), "align_corners")
    wrong = right_labels(grid)
    wrong[0, 0] = 0  # where class 1 scores 2 and class 0 scores 0, of a range of 4

    assert compare_labels(SCORES, grid, wrong, right_labels(grid)) == (1, 1, pytest.approx(0.5))


def test_labels_of_equal_scores_are_ties() -> None:
    grid = Grid.between((2, 2), (2, 3), "align_corners")  # the middle column scores 0 for both classes
    left, right = np.uint8([[1, 0, 0]] * 2), np.uint8([[1, 1, 0]] * 2)

    different, not_ties, gap = compare_labels(SCORES, grid, left, right)

    assert (different, not_ties) == (2, 0)
    assert gap <= TIE


def test_both_ways_give_the_same_labels_but_for_ties() -> None:
    found = compare_decoding(rounds=1, seconds=0.001, classes=40, source_hw=(30, 40), size_hw=(240, 320))

    assert [(one.scores, one.convention) for one in found] == [
        (kind, convention) for kind in ("smooth", "random") for convention in CONVENTIONS
    ]
    for one in found:
        assert one.pixels == 240 * 320
        assert one.not_ties == 0
        assert one.different <= 3  # 10 in a million are allowed; here are 76,800
        assert one.speedup.median > 0


def test_the_table_and_the_json_hold_every_comparison() -> None:
    found = compare_decoding(rounds=1, seconds=0.001, classes=3, source_hw=(4, 5), size_hw=(8, 10))

    drawn = decode.as_table(found)
    written = json.loads(json.dumps(decode.to_dict(found)))

    assert len(drawn.rows) == len(written["comparisons"]) == 6
    assert all(len(row) == len(drawn.columns) for row in drawn.rows)


@pytest.mark.parametrize("options", [{"rounds": 0}, {"seconds": 0.0}, {"source_hw": (0, 4)}])
def test_numbers_must_be_above_zero(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be above zero"):
        compare_decoding(**options)
