"""Values on probe images: the same on every machine, and enough to see one changed weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from card_subjects import change_weight
from handmade_model import HandMade, write

from nddr_deploy.card.measured import Probe, Probes
from nddr_deploy.card.probes import VALUES, compare_probes, positions, run_all, take_probes
from nddr_deploy.engines import open_engine
from nddr_deploy.errors import InputError
from nddr_deploy.evaluate.probe_images import probe_images


def probes_of(path: Path, **options: int) -> Probes:
    with open_engine(path, threads=1) as engine:
        return take_probes(engine, **options)


def test_a_small_output_is_kept_whole_and_a_large_one_read_all_over() -> None:
    assert positions(12, seed=0) == list(range(12))

    spread = positions(1_000_000, seed=0)

    assert len(spread) == VALUES
    assert min(spread) >= 0
    assert max(spread) < 1_000_000
    gaps = np.diff([0, *spread, 1_000_000])
    assert gaps.max() < 4 * 1_000_000 / VALUES  # no quarter of the output goes unseen
    assert positions(1_000_000, seed=0) == spread
    assert positions(1_000_000, seed=1) != spread


def test_positions_are_pinned_so_that_old_cards_stay_readable() -> None:
    assert positions(100_000, seed=0)[:4] == [191, 502, 1004, 1315]


def test_probes_are_the_models_own_values(models: tuple[Path, Path]) -> None:
    handmade = HandMade(models[0], write(models[0].parent).manifest)
    images = probe_images(handmade.manifest.size_hw)

    probes = probes_of(handmade.path)

    for task, expected in handmade.expected(images).items():
        probe = probes.raw[task]
        assert probe.shape == expected.shape
        flat = expected.reshape(-1)
        chosen = flat[positions(flat.size, probes.seed)]
        assert np.allclose(probe.values, chosen, atol=handmade.tolerance * np.ptp(flat))
        assert probe.extent == pytest.approx(np.ptp(flat), rel=1e-5)  # float32
    assert probes.decoded["segmentation"].labels
    assert not probes.decoded["normals"].labels


def test_two_runs_are_equal_to_the_bit(models: tuple[Path, Path]) -> None:
    for path in models:
        assert probes_of(path) == probes_of(path)


@pytest.mark.parametrize("which", [0, 1])
def test_one_weight_moved_by_one_step_is_seen_in_its_head_alone(models: tuple[Path, Path], which: int) -> None:
    before = probes_of(models[which])

    change_weight(models[which], "normals.weight")

    differences = {
        difference.task: difference for difference in compare_probes(before.raw, probes_of(models[which]).raw)
    }
    assert differences["normals"].typical > 1e-3
    assert differences["segmentation"].relative == differences["age"].relative == 0


def test_the_distance_is_a_share_of_the_range() -> None:
    then = {"x": Probe(shape=(4,), values=(0.0, 1.0, 2.0, 4.0), extent=4.0)}
    now = {"x": Probe(shape=(4,), values=(0.0, 1.0, 2.0, 3.0), extent=3.0)}

    (difference,) = compare_probes(then, now)

    assert difference.relative == pytest.approx(0.25)  # 1 of 4
    assert difference.typical == pytest.approx(0.125)  # root of 1 / 4, of 4


def test_labels_differ_or_not_whatever_their_numbers() -> None:
    then = {"x": Probe(shape=(4,), values=(0, 0, 0, 40), extent=40, labels=True)}
    now = {"x": Probe(shape=(4,), values=(0, 0, 0, 1), extent=40, labels=True)}

    (difference,) = compare_probes(then, now)

    assert difference.relative == difference.typical == 0.25  # one of four


def test_an_output_that_is_gone_or_has_another_shape_is_named() -> None:
    probe = Probe(shape=(2,), values=(0.0, 1.0), extent=1.0)
    longer = Probe(shape=(3,), values=(0.0, 1.0, 2.0), extent=2.0)

    problems = {
        found.task: found.problem for found in compare_probes({"a": probe, "b": probe}, {"b": longer, "c": probe})
    }

    assert problems == {
        "a": "the model lacks it",
        "b": "its shape was (2,) and is (3,)",
        "c": "the card does not know it",
    }


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_fixed_batch_is_filled_up(tmp_path: Path, batch: int) -> None:
    handmade = write(tmp_path, batch=batch)
    images = handmade.images(count=3)

    with open_engine(handmade.path, threads=1) as engine:
        found = run_all(engine, images)

    for task, expected in handmade.expected(images).items():
        assert np.allclose(found[task], expected, atol=handmade.tolerance * np.ptp(expected))


def test_no_card_vouches_for_infinity(models: tuple[Path, Path]) -> None:
    import onnx

    model = onnx.load(models[0])
    weight = next(weight for weight in model.graph.initializer if weight.name == "normals.weight")
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0] = np.inf
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, models[0])

    with pytest.raises(InputError, match="normals: the output on the probe images holds NaN or infinity"):
        probes_of(models[0])
