"""Cutting what tasks hardly take from streams: nothing where it was nothing, measured where it was something."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from nddr_deploy.errors import ConfigError, ParityError
from nddr_deploy.evaluate.image_batches import ImageBatches, MadeUpImages
from nddr_deploy.evaluate.prune import Pruned, prune
from nddr_deploy.graph.coupling import measure_coupling
from nddr_deploy.graph.flops import count_flops
from nddr_deploy.graph.metadata import manifest_of
from nddr_deploy.graph.prune_coupling import prune_coupling

sys.path.append(str(Path(__file__).parents[1] / "graph"))
from graph_subjects import exported, run

SIZE = (65, 97)
IMAGES = MadeUpImages(SIZE, 3)


def cut(model: onnx.ModelProto, threshold: float) -> Pruned:
    return prune(model, threshold, IMAGES, run, about=IMAGES.about)


def with_block(tasks: int, factor: float) -> onnx.ModelProto:
    """Trained-looking streams; what normals takes from segmentation at the third layer is scaled."""
    model = onnx.ModelProto.FromString(exported("resnet 18", tasks=tasks).SerializeToString())
    name = "fusions.2.layers.normals.conv.weight"
    weight = next(weight for weight in model.graph.initializer if weight.name == name)
    values = numpy_helper.to_array(weight).copy()
    values[:, :8] *= factor
    weight.CopyFrom(numpy_helper.from_array(values, name))
    return model


def outputs(model: onnx.ModelProto) -> dict[str, Any]:
    return run(model)(np.stack(list(IMAGES))[:1])


@pytest.mark.parametrize("tasks", [2, 3])
def test_a_block_of_zeros_is_cut_and_nothing_changes(tasks: int) -> None:
    model = with_block(tasks, 0.0)
    before = model.SerializeToString()

    pruned = cut(model, 1e-9)

    assert [block.place for block in pruned.blocks] == [("fusions.2", "normals", "segmentation")]
    assert pruned.kept == 5 * tasks**2 - 1
    expected = outputs(model)
    for task, values in outputs(pruned.model).items():
        assert np.abs(values - expected[task]).max() <= 1e-6 * np.ptp(expected[task])  # another order of sums
    assert all(abs(change.change) < 1e-3 for change in pruned.changes)  # degrees, metres, shares
    assert model.SerializeToString() == before


def test_what_is_saved_is_what_the_cut_graph_does_not_compute() -> None:
    pruned = cut(with_block(2, 0.0), 1e-9)

    assert pruned.flops == (count_flops(with_block(2, 0.0), SIZE), count_flops(pruned.model, SIZE))
    assert pruned.flops[0] - pruned.flops[1] == 2 * 8 * 8 * 9 * 13  # 8 of 16 columns, 8 filters, a map of 9 x 13
    assert pruned.parameters[0] - pruned.parameters[1] == 8 * 8


def test_a_block_that_matters_is_measured_for_every_task() -> None:
    model = exported("resnet 18", tasks=3)
    shares = sorted(block.share for block in measure_coupling(model, ImageBatches(IMAGES), run))

    pruned = cut(model, shares[20])

    assert len(pruned.blocks) == 20
    changes = {(change.task, change.metric): change for change in pruned.changes}
    assert changes["segmentation", "PAcc"].before == 1.0
    assert {task for task, _ in changes} == {"segmentation", "normals", "depth"}
    assert changes["normals", "mean_angle"].before == pytest.approx(0, abs=1e-2)
    angle = changes["normals", "mean_angle"]
    assert angle.change > 0.5  # degrees
    assert angle.low <= angle.change <= angle.high
    assert changes["depth", "AbsRel"].change > 0


def test_the_cut_is_told_in_the_manifest_and_in_words() -> None:
    pruned = cut(with_block(2, 1e-4), 1e-3)

    note = manifest_of(pruned.model, source="").notes[-1]
    assert note.startswith(
        "pruned below a share of 0.001: fusions.2 normals from segmentation; against the uncut model"
    )
    assert "on 3 made-up images: segmentation mIoU " in note
    text = "\n".join(pruned.lines())
    assert "1 of 20 blocks with a share below 0.001 on 3 made-up images" in text
    assert "fusions.2: normals from segmentation (0.00%)" in text
    assert "normals mean_angle +0.0" in text
    assert json.loads(json.dumps(pruned.to_dict()))["blocks"][0]["layer"] == "fusions.2"


def test_where_nothing_is_negligible_the_model_stays_as_it_is() -> None:
    model = exported("resnet 18")

    pruned = cut(model, 1e-9)

    assert pruned.model is model
    assert (pruned.blocks, pruned.changes, pruned.kept) == ((), (), 20)
    assert pruned.lines() == ["nothing: none of 20 blocks has a share below 1e-09 on 3 made-up images"]


def test_a_network_without_fusion_has_nothing_to_cut() -> None:
    assert cut(exported("cross-stitch", tasks=2), 0.5).blocks == ()


def test_a_cut_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def another(model: onnx.ModelProto, blocks: Collection[tuple[str, str, str]]) -> onnx.ModelProto:
        return prune_coupling(model, [("fusions.2", "normals", "normals")])

    monkeypatch.setattr("nddr_deploy.evaluate.prune.prune_coupling", another)

    with pytest.raises(ParityError, match="columns of zeros does: segmentation: "):
        cut(with_block(2, 0.0), 1e-9)


def test_a_threshold_that_is_no_small_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="prune-coupling: got 2"):
        cut(exported("resnet 18"), 2.0)


def test_a_last_batch_is_filled_up_with_its_last_image() -> None:
    images = list(MadeUpImages((5, 7), 3))

    batches = list(ImageBatches(images, 2))

    assert [batch.shape for batch in batches] == [(2, 5, 7, 3)] * 2
    assert (batches[1][0] == images[2]).all()
    assert (batches[1][1] == images[2]).all()
    assert len(MadeUpImages((5, 7), 3).names) == 3
