"""nddr-verify tells apart: nothing changed, the file saved again, another graph, another function."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from card_subjects import Tiny, change_weight, save_again
from onnx import numpy_helper

from nddr_deploy.card.__main__ import main
from nddr_deploy.card.card_file import card_path, read_card
from nddr_deploy.card.function_checks import ELSEWHERE, REPEATED, check_parity_kept, check_probes, tolerance
from nddr_deploy.card.make import make_card
from nddr_deploy.card.probes import take_probes
from nddr_deploy.card.schema import Calibration, Card, Evaluation
from nddr_deploy.card.verification import Check, Verification
from nddr_deploy.card.verify import verify
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.base import Engine
from nddr_deploy.engines.machine import available_cores
from nddr_deploy.errors import ConfigError
from nddr_deploy.evaluate.decode import decode_batch
from nddr_deploy.evaluate.sample_scores import EvaluationSet, compare
from nddr_deploy.graph.metadata import manifest_of, read_model, write_manifest
from nddr_deploy.inference.image_set import open_images


def check(model: Path, **options: Any) -> Verification:
    options.setdefault("threads", 1)
    return verify(model, **{"latency": False, **options})


def verdicts(found: Verification, part: str) -> dict[str, str]:
    return {check.what: check.verdict for check in found.checks if check.part == part}


def rewrite_card(model: Path, change: Any) -> None:
    """Change a card's JSON values in place."""
    path = card_path(model)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_nothing_changed_where_nothing_was_changed(carded: tuple[Path, Path]) -> None:
    found = check(carded[1])

    assert not found.changed
    assert found.summary == "Nothing changed."
    assert {check.verdict for check in found.checks} == {"same"}
    assert set(verdicts(found, "function")) == set(verdicts(found, "parity")) == {"segmentation", "normals", "age"}
    assert {"images", "segmentation mIoU", "normals mean_angle", "age MAE"} <= set(verdicts(found, "metrics"))


def test_one_weight_moved_by_one_step_is_caught_by_every_check(carded: tuple[Path, Path]) -> None:
    change_weight(carded[1], "normals.weight")

    found = check(carded[1])

    assert found.changed
    assert found.summary == (
        "This is not the card's model (weights). It computes something else than when the card was made. "
        "It is farther from FP32."
    )
    assert verdicts(found, "file")["graph"] == verdicts(found, "file")["manifest"] == "same"
    (weights,) = [check for check in found.checks if check.what == "weights"]
    assert weights.detail == "1 differ: normals.weight"
    assert verdicts(found, "function") == {"segmentation": "same", "normals": "changed", "age": "same"}
    assert verdicts(found, "parity") == {"segmentation": "same", "normals": "changed", "age": "same"}
    assert verdicts(found, "metrics")["normals mean_angle"] == "changed"
    assert verdicts(found, "metrics")["segmentation mIoU"] == "same"


def test_a_file_saved_again_is_no_change(carded: tuple[Path, Path]) -> None:
    save_again(carded[1])

    found = check(carded[1])

    assert not found.changed
    assert found.summary == "The file was saved again: other bytes, the same content. Nothing else changed."
    assert verdicts(found, "file")["bytes"] == "note"


def test_a_rewritten_graph_that_computes_the_same_is_told_from_another_function(carded: tuple[Path, Path]) -> None:
    model = onnx.load(carded[1])
    for node in model.graph.node:
        node.input[:] = ["pixels" if name == "scaled" else name for name in node.input]
        node.output[:] = ["pixels" if name == "scaled" else name for name in node.output]
    onnx.save(model, carded[1])

    found = check(carded[1])

    assert found.changed
    assert found.summary.startswith("This is not the card's model (graph). On the probe images it computes the same")
    assert set(verdicts(found, "function").values()) == set(verdicts(found, "metrics").values()) == {"same"}


def test_a_model_of_another_checkpoint_breaks_the_chain(carded: tuple[Path, Path]) -> None:
    model = onnx.load(carded[1])
    manifest = manifest_of(model, source="model")
    write_manifest(model, manifest.model_copy(update={"hashes": {**manifest.hashes, "checkpoint": "ab" * 32}}))
    onnx.save(model, carded[1])

    found = check(carded[1])

    assert verdicts(found, "file")["made from checkpoint"] == "changed"
    assert verdicts(found, "file")["made from onnx"] == "same"


def test_numbers_that_become_infinite_are_a_change_and_no_failure(carded: tuple[Path, Path]) -> None:
    model = onnx.load(carded[1])
    weight = next(weight for weight in model.graph.initializer if weight.name == "age.weight")
    weight.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(weight), np.inf), weight.name))
    onnx.save(model, carded[1])

    found = check(carded[1])

    assert found.changed
    assert verdicts(found, "function") == {"probe images": "changed"}
    assert verdicts(found, "metrics") == {"every head": "skipped"}


def test_another_runtime_is_allowed_its_roundings(carded: tuple[Path, Path]) -> None:
    pytest.importorskip("openvino")
    with open_engine(carded[0], threads=1) as engine:
        card_path(carded[0]).write_text(make_card(carded[0], engine).to_json())

    found = check(carded[0], backend="openvino", precision="fp32")

    assert not found.changed
    function = [check for check in found.checks if check.part == "function"]
    assert {(check.then, check.detail.partition(" on ")[0]) for check in function} == {
        ("at most 1e-04", "the card was made with onnxruntime fp32")
    }


def test_the_same_runtime_on_another_cpu_is_not_held_to_the_last_bit(carded: tuple[Path, Path]) -> None:
    probes = read_card(card_path(carded[1])).probes
    elsewhere = probes.model_copy(update={"machine": probes.machine.model_copy(update={"cpu": "another"})})

    assert tolerance(probes, probes)[0] == REPEATED
    assert tolerance(elsewhere, probes)[0] == ELSEWHERE["int8"]


def test_a_model_farther_from_fp32_than_it_was_is_told_without_the_fp32_file(carded: tuple[Path, Path]) -> None:
    card = read_card(card_path(carded[1]))
    change_weight(carded[1], steps=30)
    with open_engine(carded[1], threads=1) as engine:
        found = {check.what: check for check in check_parity_kept(card.probes, take_probes(engine), None)}

    assert found["segmentation"].verdict == "changed"
    assert found["normals"].verdict == found["age"].verdict == "same"


def test_the_fp32_model_is_looked_up_in_the_chain_and_run(carded: tuple[Path, Path]) -> None:
    found = check(carded[1], reference=carded[0])

    assert verdicts(found, "file")["reference"] == "same"
    assert set(verdicts(found, "parity").values()) == {"same"}

    change_weight(carded[0], "age.weight", steps=1)
    found = check(carded[1], reference=carded[0])

    assert verdicts(found, "file")["reference"] == "note"
    assert verdicts(found, "parity")["age"] == "changed"


def test_data_that_lies_elsewhere_is_skipped_and_said(carded: tuple[Path, Path]) -> None:
    def folder(values: Any) -> None:
        values["evaluation"]["dataset"] = {
            "name": "folder",
            "split": "val",
            "options": {"path": "/no/such"},
            "fit": "letterbox",
        }

    rewrite_card(carded[1], folder)

    found = check(carded[1])

    assert not found.changed
    (metrics,) = [check for check in found.checks if check.part == "metrics"]
    assert metrics.verdict == "skipped"
    assert "cannot be opened here" in metrics.detail


def test_figures_on_other_images_are_told_and_not_judged(carded: tuple[Path, Path]) -> None:
    for options in ({"data": "tiny", "split": "test"}, {"limit": 3}):
        found = check(carded[1], **options)

        assert not found.changed
        assert set(verdicts(found, "metrics").values()) == {"note"}


def test_a_budget_that_no_longer_holds_is_named(carded: tuple[Path, Path]) -> None:
    def tighten(values: Any) -> None:
        for head in values["heads"]:
            if (head["task"], head["metric"]) == ("normals", "mean_angle"):
                head["before"] = head["after"] - 6.0  # five degrees are allowed

    rewrite_card(carded[1], tighten)

    found = check(carded[1])

    (broken,) = [check for check in found.checks if check.verdict == "changed"]
    assert broken.what == "normals mean_angle"
    assert broken.detail == "the budget of +5.00° no longer holds"


def test_a_strangers_card_cannot_ask_for_endless_pictures(handmade: Any) -> None:
    model = handmade(dynamic=("batch", "size"))
    with open_engine(model.path, threads=1) as engine:
        probes = take_probes(engine).model_copy(update={"size_hw": (65536, 65536)})
        (only,), found = check_probes(engine, probes)

    assert found is None
    assert only.verdict == "skipped"
    assert "more than this check draws" in only.detail


@dataclass
class Decoding(Engine):
    """As a TensorRT plan built with decoded outputs would answer."""

    raw: Engine
    flip: bool = False

    def __post_init__(self) -> None:
        self.manifest = self.raw.manifest.model_copy(update={"outputs": "decoded"})
        self.backend, self.precision, self.device, self.threads = "tensorrt", "int8", "GPU", 1

    def _run(self, images: Any) -> dict[str, Any]:
        size = (images.shape[1], images.shape[2])
        decoded = decode_batch(self.raw.infer(images), self.raw.manifest, size)
        if self.flip:
            decoded["segmentation"] = (decoded["segmentation"] + 1) % 3
        return decoded

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("flip", "verdict"), [(False, "same"), (True, "changed")])
def test_a_plan_that_decodes_is_compared_by_its_results(carded: tuple[Path, Path], flip: bool, verdict: str) -> None:
    card = read_card(card_path(carded[1]))
    with open_engine(carded[1], threads=1) as engine:
        checks, found = check_probes(Decoding(engine, flip), card.probes)

    assert {check.what: check.verdict for check in checks} == {
        "segmentation": verdict,
        "normals": "same",
        "age": "same",
    }
    assert found is not None
    (parity,) = check_parity_kept(card.probes, found, None)
    assert parity.verdict == "skipped"


@pytest.mark.parametrize(
    "options",
    [{"data": "tiny", "images": "pictures", "reference": "model.onnx"}, {"images": "pictures"}, {"limit": 0}],
)
def test_options_that_exclude_each_other_are_refused_first(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        verify(tmp_path / "missing.onnx", **options)


def test_only_the_fp32_form_of_the_same_model_is_a_reference(carded: tuple[Path, Path], tmp_path: Path) -> None:
    fp32, int8 = carded
    graph = read_model(fp32)
    manifest = manifest_of(graph, source="it")
    write_manifest(graph, manifest.model_copy(update={"tasks": manifest.tasks[:2]}))
    del graph.graph.output[:]
    graph.graph.output.extend(o for o in read_model(fp32).graph.output if o.name != manifest.tasks[2].name)
    other = tmp_path / "other.onnx"
    onnx.save(graph, other)

    with pytest.raises(ConfigError, match=r"model\.int8\.onnx is an int8 model; expected the FP32 one"):
        check(int8, reference=int8)
    with pytest.raises(ConfigError, match=r"other\.onnx has .* and no age, so .*Give the FP32 model that was"):
        check(int8, reference=other)
    assert not check(int8, reference=fp32).changed


def test_the_command_says_what_changed_by_its_exit_status(
    carded: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = tmp_path / "found.json"
    arguments = [str(carded[1]), "--threads", "1", "--no-latency", "--json", str(report)]

    assert main(arguments) == 0
    assert capsys.readouterr().out.rstrip().endswith(f"Nothing changed.\nwritten: {report}")
    found = json.loads(report.read_text())
    assert (found["changed"], found["model"], found["card"]) == (False, "model.int8.onnx", "model.int8.card.json")
    assert [check["part"] for check in found["checks"]][-1] == "metrics"

    change_weight(carded[1])
    assert main(arguments) == 1
    assert "1 differ: segmentation.weight" in capsys.readouterr().out

    card_path(carded[1]).unlink()
    for wrong in (arguments, ["missing.onnx"]):
        assert main(wrong) == 2
        output = capsys.readouterr()
        assert output.err.startswith("error: ")
        assert output.err.count("\n") == 1


def test_latency_is_told_and_never_judged(carded: tuple[Path, Path], card: Card) -> None:
    measured = read_card(card_path(carded[1])).model_copy(update={"latency": card.latency})
    card_path(carded[1]).write_text(measured.to_json())

    found = check(carded[1], latency=True, reference=carded[0])

    told = [check for check in found.checks if check.part == "latency"]
    assert [check.verdict for check in told] == ["note", "note"]
    assert [check.then for check in told] == ["3.10 ms", "4.00×"]
    assert not found.changed


def test_a_strangers_card_cannot_ask_for_endless_threads(carded: tuple[Path, Path], card: Card) -> None:
    assert card.latency is not None
    latency = card.latency.model_copy(update={"threads": 10**9})
    card_path(carded[1]).write_text(read_card(card_path(carded[1])).model_copy(update={"latency": latency}).to_json())

    found = check(carded[1], latency=True, threads=None)

    (told,) = [check for check in found.checks if check.part == "latency"]
    assert told.what == f"a pass on {available_cores()} thread{'s' if available_cores() > 1 else ''}"
    assert "number of threads (1000000000)" in told.detail


def test_pictures_are_judged_against_the_fp32_model(models: tuple[Path, Path], tmp_path: Path) -> None:
    fp32, int8 = models
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), Tiny("test", size_hw=(40, 50))[index].image[..., ::-1])
    with open_engine(fp32, threads=1) as reference, open_engine(int8, threads=1) as engine:
        images = open_images(str(folder), engine.manifest, limit=3)
        data = EvaluationSet.against(engine.manifest, reference.infer, images, about=images.about)
        changes = compare(data.score(reference.infer), data.score(engine.infer), data.tasks, resamples=0)
        card = make_card(int8, engine, evaluation=Evaluation.of(data), changes=changes)
    card_path(int8).write_text(card.to_json())

    again = check(int8, images=str(folder), reference=fp32)
    other = check(int8, images=str(folder), reference=fp32, limit=2)
    without = check(int8)

    assert not again.changed
    assert set(verdicts(again, "metrics").values()) == {"same"}
    assert set(verdicts(other, "metrics").values()) == {"note"}
    assert verdicts(without, "metrics") == {"every head": "skipped"}

    change_weight(int8, "segmentation.weight", steps=-80)
    metrics = verdicts(check(int8, images=str(folder), reference=fp32), "metrics")
    assert metrics["segmentation PAcc"] == "changed"
    assert metrics["normals mean_angle"] == "same"


def test_what_was_kept_aside_from_the_calibration_is_judged_on_again(models: tuple[Path, Path], tmp_path: Path) -> None:
    fp32, int8 = models
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(9):
        cv2.imwrite(str(folder / f"{index}.png"), Tiny("test", size_hw=(40, 50))[index].image[..., ::-1])
    with open_engine(fp32, threads=1) as reference, open_engine(int8, threads=1) as engine:
        calibrated, aside = open_images(str(folder), engine.manifest, limit=9).apart()
        data = EvaluationSet.against(engine.manifest, reference.infer, aside, about=aside.about)
        changes = compare(data.score(reference.infer), data.score(engine.infer), data.tasks, resamples=0)
        calibration = Calibration.of(calibrated, "minmax")
        card = make_card(int8, engine, calibration=calibration, evaluation=Evaluation.of(data), changes=changes)
    card_path(int8).write_text(card.to_json())

    again = verdicts(check(int8, images=str(folder), reference=fp32), "metrics")
    (folder / "0.png").unlink()
    other = verdicts(check(int8, images=str(folder), reference=fp32), "metrics")

    assert set(again.values()) == {"same"}
    assert set(other.values()) == {"note"}


def test_a_check_is_what_its_part_says() -> None:
    from nddr_deploy.card.verification import PARTS

    assert set(PARTS) == {"file", "function", "parity", "metrics", "latency"}
    assert Check("file", "bytes", "a", "b", "note").detail == ""
