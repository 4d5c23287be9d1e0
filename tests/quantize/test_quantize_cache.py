"""What was measured before, kept by the content of what it was measured on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
from colour_network import network, write_pictures

from nddr_deploy.engines.run_bytes import run_bytes
from nddr_deploy.errors import InputError
from nddr_deploy.graph.calibration import Range
from nddr_deploy.graph.metadata import manifest_of
from nddr_deploy.graph.quantize import observed
from nddr_deploy.inference.image_set import ImageSet, open_images
from nddr_deploy.preprocess import Image
from nddr_deploy.quantize.cache import cache_folder, calibrated, digest, kept, key_of
from nddr_deploy.tasks.base import Array


class Runs:
    """`run_bytes`, and how often a picture went through a model."""

    def __init__(self) -> None:
        self.passes = 0

    def __call__(self, model: bytes) -> Callable[[Image], Mapping[str, Array]]:
        infer = run_bytes(model)

        def count(images: Image) -> Mapping[str, Array]:
            self.passes += 1
            return infer(images)

        return count


@pytest.fixture
def model() -> onnx.ModelProto:
    return network(dynamic=["batch"])


@pytest.fixture
def images(tmp_path: Path, model: onnx.ModelProto) -> ImageSet:
    folder = write_pictures(tmp_path / "pictures", 3)
    return open_images(str(folder), manifest_of(model, source="it"), limit=3)


def ranges(
    model: onnx.ModelProto, images: ImageSet, run: Runs, folder: Path | None, **options: Any
) -> dict[str, Range]:
    given: dict[str, Any] = {"batch": 1, "method": "minmax", "percentile": 99.99, "symmetric": False, **options}
    return calibrated(model, observed(model, "cpu"), images, run, folder=folder, **given)


def test_the_same_model_is_calibrated_once_on_the_same_pictures(tmp_path, model, images, own_cache):
    first, again = Runs(), Runs()

    measured = ranges(model, images, first, own_cache)

    assert first.passes == 3
    assert ranges(model, images, again, own_cache) == measured
    assert again.passes == 0
    assert set(measured) == set(observed(model, "cpu"))


@pytest.mark.parametrize(
    "options",
    [{"method": "percentile"}, {"symmetric": True}, {"batch": 2}],
    ids=["percentile", "symmetric", "batch"],
)
def test_other_settings_are_measured_anew(model, images, own_cache, options):
    ranges(model, images, Runs(), own_cache)
    other = Runs()

    ranges(model, images, other, own_cache, **options)

    assert other.passes > 0


def test_methods_are_told_apart(model, images, own_cache, monkeypatch):
    measured = []

    def calibrate(_: Any, tensors: Any, *others: Any, method: str, **options: Any) -> dict[str, Range]:
        measured.append(method)
        return dict.fromkeys(tensors, Range(0.0, 1.0))

    monkeypatch.setattr("nddr_deploy.quantize.cache.calibrate", calibrate)
    for _ in range(2):
        for method in ("minmax", "percentile", "entropy"):
            ranges(model, images, Runs(), own_cache, method=method)

    assert measured == ["minmax", "percentile", "entropy"]


def test_another_percentile_is_measured_anew_but_means_nothing_to_other_methods(model, images, own_cache):
    for method, expected in (("percentile", True), ("minmax", False)):
        ranges(model, images, Runs(), own_cache, method=method, percentile=99.9)
        other = Runs()
        ranges(model, images, other, own_cache, method=method, percentile=99.0)
        assert (other.passes > 0) == expected, method


def test_another_picture_or_weight_is_measured_anew(tmp_path, model, images, own_cache):
    ranges(model, images, Runs(), own_cache)
    folder = write_pictures(tmp_path / "others", 3, first=1)  # two of them are the same
    others = open_images(str(folder), manifest_of(model, source="it"), limit=3)
    other_pictures, other_weights = Runs(), Runs()

    ranges(model, others, other_pictures, own_cache)
    ranges(network(scales=(2.0, 1.0)), images, other_weights, own_cache)

    assert other_pictures.passes == other_weights.passes == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: entry["value"].popitem(),
        lambda entry: entry["value"].update({name: ["low", "high"] for name in entry["value"]}),
        lambda entry: entry["value"].update({name: [0.0] for name in entry["value"]}),
        lambda entry: entry.pop("value"),
        lambda entry: entry.update(key="another"),
    ],
    ids=["fewer", "texts", "one", "none", "key"],
)
def test_damaged_ranges_are_measured_anew(model, images, own_cache, damage):
    expected = ranges(model, images, Runs(), own_cache)
    (path,) = own_cache.iterdir()
    entry = json.loads(path.read_text())
    damage(entry)
    path.write_text(json.dumps(entry))
    again = Runs()

    assert ranges(model, images, again, own_cache) == expected
    assert again.passes == 3


def test_without_a_folder_everything_is_measured_anew(model, images):
    first, again = Runs(), Runs()

    assert ranges(model, images, first, None) == ranges(model, images, again, None)
    assert first.passes == again.passes == 3


def test_ranges_are_read_back_to_the_last_bit(model, images, own_cache):
    measured = ranges(model, images, Runs(), own_cache)

    assert ranges(model, images, Runs(), own_cache) == measured == ranges(model, images, Runs(), None)


def test_what_fails_leaves_nothing_behind(own_cache):
    def fail() -> dict[str, Any]:
        raise InputError("no")

    with pytest.raises(InputError):
        kept(own_cache, key_of(of="it"), fail)

    assert list(own_cache.iterdir()) == []


def test_the_folder_is_the_users_own(own_cache, monkeypatch, tmp_path):
    folder = cache_folder()
    assert folder is not None
    assert folder.is_dir()
    assert own_cache in folder.parents

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "nddr-deploy" / "quantize"


def test_where_no_folder_can_be_made_there_is_none(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    assert cache_folder() is None


def test_keys_tell_apart_values_not_their_order(monkeypatch):
    assert key_of(a=1, b=[1, 2]) == key_of(b=[1, 2], a=1)
    assert key_of(a=1, b=[1, 2]) != key_of(a=1, b=[2, 1])
    before = key_of(a=1)
    monkeypatch.setattr("nddr_deploy.quantize.cache.version", lambda _: "99")
    assert key_of(a=1) != before  # another version may measure otherwise


def test_models_differ_by_what_they_compute_and_not_by_what_is_written_about_them():
    model, noted, other = network(), network(), network(scales=(1.0, 3.0))
    noted.metadata_props[0].value += " "
    noted.metadata_props.add(key="who", value="somebody")

    assert digest(model) == digest(noted)
    assert digest(model) != digest(other)
