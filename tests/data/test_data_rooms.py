from __future__ import annotations

import math

import numpy as np
import pytest

from nddr_deploy.data import open_dataset
from nddr_deploy.data.base import Sample
from nddr_deploy.data.rooms.furniture import Piece
from nddr_deploy.data.rooms.layout import draw_view
from nddr_deploy.data.rooms.materials import draw_materials
from nddr_deploy.data.rooms.render import Rendering, render
from nddr_deploy.data.rooms.scene import CLASSES, FLOOR, LABELS, MATERIAL, Camera, Lighting, Scene
from nddr_deploy.data.sensor import Sensor, to_srgb
from nddr_deploy.errors import ConfigError

FLAT_LIGHT = Lighting(np.full(6, 0.5), np.array([2.0, 2.0, 2.4]), 0.0, np.ones(3))


def bare_room(*pieces: tuple[Piece, float, float, float]) -> Scene:
    """4 m x 5 m x 2.5 m, plain, with pieces at (x, y, yaw)."""
    placed = [piece.placed(x, y, yaw) for piece, x, y, yaw in pieces]
    materials = np.zeros(2, dtype=MATERIAL)
    materials["r0"] = materials["r1"] = (0.2, 0.8)
    materials["period"] = materials["c"] = 1.0
    for (_, group), start in zip(placed, np.cumsum([0, *[len(solids) for solids, _ in placed]]), strict=False):
        group["start"] += start
        group["stop"] += start
    from nddr_deploy.data.rooms.scene import GROUP, SOLID

    solids = np.concatenate([solids for solids, _ in placed]) if placed else np.zeros(0, dtype=SOLID)
    groups = np.concatenate([group for _, group in placed]) if placed else np.zeros(0, dtype=GROUP)
    return Scene(np.array([4.0, 5.0, 2.5]), solids, groups, np.zeros(6, np.int64), materials, FLAT_LIGHT)


def camera(pitch: float = 0.0, yaw: float = 0.0, roll: float = 0.0) -> Camera:
    """In the middle of the width, 1 m from the south wall, 1.5 m high."""
    return Camera.looking(np.array([2.0, 1.0, 1.5]), yaw, pitch, roll, math.radians(60))


def rays(view: Camera, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W, 3): through each pixel's centre, in camera axes, with z = 1."""
    height, width = size_hw
    rows, columns = np.mgrid[:height, :width]
    focal = view.focal(width)
    return np.stack([(columns - (width - 1) / 2) / focal, (rows - (height - 1) / 2) / focal, np.ones(size_hw)], axis=-1)


def test_the_wall_ahead_has_its_distance_along_the_optical_axis_everywhere() -> None:
    seen = render(bare_room(), camera(), (32, 32))

    wall = seen.labels == LABELS["wall"]
    ahead = wall & (seen.normals[..., 2] < -0.99)
    assert ahead[16, 16]
    assert ahead.mean() > 0.3
    assert seen.depth[ahead] == pytest.approx(4.0, abs=1e-5)  # float32
    assert seen.normals[16, 16] == pytest.approx((0, 0, -1), abs=1e-6)


def test_looking_down_shows_the_floor_with_its_normal_up_and_toward_the_camera() -> None:
    seen = render(bare_room(), camera(pitch=math.radians(90)), (33, 33))

    assert seen.labels[16, 16] == LABELS["floor"]
    assert seen.normals[16, 16] == pytest.approx((0, 0, -1), abs=1e-6)
    assert seen.depth[16, 16] == pytest.approx(1.5, abs=1e-5)

    level = render(bare_room(), camera(), (64, 64))
    assert level.labels[63, 32] == LABELS["floor"]
    assert level.normals[63, 32] == pytest.approx((0, -1, 0), abs=1e-6)  # y points down
    assert level.labels[0, 32] == LABELS["ceiling"]
    assert level.normals[0, 32] == pytest.approx((0, 1, 0), abs=1e-6)


def test_yaw_turns_to_the_right_and_roll_turns_the_camera_clockwise() -> None:
    right = render(bare_room(), camera(yaw=math.radians(90)), (33, 33))
    rolled = render(bare_room(), camera(roll=math.radians(90)), (33, 33))

    assert right.depth[16, 16] == pytest.approx(2.0, abs=1e-5)  # the east wall, half a width away
    assert rolled.labels[16, 32] == LABELS["floor"]  # what was below is now at the right


@pytest.mark.parametrize("shape", ["box", "cone", "ellipsoid"])
def test_solids_stand_where_they_are_put(shape: str) -> None:
    piece = Piece("table", (1, 1, 1))
    if shape == "box":
        piece.box(0, 0, 0, 1.0, 0.6, 2.0, 1)
    elif shape == "cone":
        piece.cone(0, 0, 0, 2.0, 0.3, 0.3, 1)
    else:
        piece.ellipsoid(0, 0, 1.5, 1.0, 0.6, 2.0, 1)
    view = camera()

    seen = render(bare_room((piece, 2.0, 4.0, 0.0)), view, (33, 33))
    turned = render(bare_room((piece, 2.0, 4.0, math.radians(90))), view, (33, 33))

    assert seen.labels[16, 16] == LABELS["table"]
    assert seen.depth[16, 16] == pytest.approx(2.7, abs=1e-4)  # 3 m to its middle, 0.3 m to its front
    assert seen.normals[16, 16] == pytest.approx((0, 0, -1), abs=1e-4)
    assert turned.depth[16, 16] == pytest.approx(2.7 if shape == "cone" else 2.5, abs=1e-4)


def test_a_cone_narrows_upwards_and_its_normals_lean_up() -> None:
    piece = Piece("lamp", (1, 1, 1))
    piece.cone(0, 0, 1.0, 1.0, 0.5, 0.1, 1)

    seen = render(bare_room((piece, 2.0, 4.0, 0.0)), camera(), (65, 65))

    widths = (seen.labels == LABELS["lamp"]).sum(axis=1)
    shown = widths[widths > 0]
    assert shown[0] < shown[len(shown) // 2] < shown[-4]
    slope = 0.4 / 1.0  # 0.4 m wider over 1 m
    middle = np.flatnonzero(widths)[len(shown) // 2]
    assert seen.normals[middle, 32, 1] == pytest.approx(-slope / math.hypot(1, slope), abs=0.01)


def test_a_piece_shades_the_floor_below_the_light() -> None:
    piece = Piece("table", (1, 1, 1))
    piece.box(0, 0, 0.7, 1.0, 1.0, 0.05, 1)
    scene = bare_room((piece, 2.0, 2.5, 0.0))
    lit = Scene(
        scene.extent, scene.solids, scene.groups, scene.surfaces, scene.materials,
        Lighting(np.zeros(6), np.array([2.0, 2.5, 2.4]), 2.0, np.ones(3)),
    )  # fmt: skip

    seen = render(lit, camera(pitch=math.radians(40)), (64, 64))

    floor = seen.labels == LABELS["floor"]
    assert (seen.radiance[floor][:, 0] == 0).mean() > 0.1  # only the ceiling light, and the top stands in its way
    assert (seen.radiance[seen.labels == LABELS["table"]][:, 0] > 0).mean() > 0.7


def view_of(index: int, size_hw: tuple[int, int] = (96, 128)) -> tuple[Rendering, Camera]:
    scene, view = draw_view(np.random.default_rng(index))
    return render(scene, view, size_hw), view


@pytest.mark.parametrize("index", range(4))
def test_normals_are_unit_vectors_that_face_the_camera(index: int) -> None:
    seen, view = view_of(index)

    assert np.linalg.norm(seen.normals, axis=-1) == pytest.approx(1.0, abs=1e-5)  # float32
    toward = (seen.normals * rays(view, seen.depth.shape)).sum(axis=-1)
    assert (toward < 1e-5).all()


@pytest.mark.parametrize("index", range(4))
def test_depth_and_normals_tell_the_same_surface(index: int) -> None:
    seen, view = view_of(index)
    points = rays(view, seen.depth.shape) * seen.depth[..., None]

    step = points[:, 1:] - points[:, :-1]
    same = (seen.labels[:, 1:] == seen.labels[:, :-1]) & (seen.normals[:, 1:] == seen.normals[:, :-1]).all(axis=-1)
    off = np.abs((step * seen.normals[:, 1:]).sum(axis=-1))[same]

    assert seen.depth.min() > 0.05
    assert seen.depth.max() < 8.0
    # neighbours with one normal lie in one plane, but for steps between parallel faces (a drawer before a cabinet)
    assert np.quantile(off, 0.95) < 1e-4  # metres


def test_every_class_is_frequent_enough_to_learn() -> None:
    dataset = open_dataset("rooms", "train", count=200, size_hw=(48, 64), tasks=["segmentation"])

    labels = np.stack([sample.targets["segmentation"] for sample in dataset])

    assert labels.dtype == np.uint8
    assert labels.max() < len(CLASSES)
    shares = np.bincount(labels.ravel(), minlength=len(CLASSES)) / labels.size
    assert dict(zip(CLASSES, shares > 0.02, strict=True)) == dict.fromkeys(CLASSES, True)
    assert shares.max() < 0.45


def test_colours_do_not_tell_classes() -> None:
    """The mean colour of a class differs between classes by far less than within one."""
    dataset = open_dataset("rooms", "train", count=300, size_hw=(24, 32), tasks=["segmentation"])
    per_class: dict[int, list[np.ndarray]] = {label: [] for label in range(len(CLASSES))}
    for sample in dataset:
        for label in np.unique(sample.targets["segmentation"]):
            pixels = sample.image[sample.targets["segmentation"] == label].astype(float)
            tone = pixels.mean(axis=0)
            per_class[int(label)].append(tone - tone.mean())  # colour; brightness tells orientation, as it should

    between = np.std([np.mean(tones, axis=0) for tones in per_class.values()], axis=0)
    within = np.mean([np.std(tones, axis=0) for tones in per_class.values()], axis=0)

    assert (between < 0.25 * within).all()  # 300 rooms: chance alone gives about 0.1


def test_the_scene_does_not_depend_on_the_size() -> None:
    small, large = (open_dataset("rooms", "test", count=1, size_hw=size)[0] for size in ((48, 64), (144, 192)))

    # the centre of a small pixel is the centre of the middle one of its 3 x 3 large pixels
    assert np.array_equal(small.targets["segmentation"], large.targets["segmentation"][1::3, 1::3])
    assert small.targets["depth"] == pytest.approx(large.targets["depth"][1::3, 1::3], abs=1e-4)


def test_materials_are_colours() -> None:
    materials = draw_materials(np.random.default_rng(0), 200)

    for name in ("r0", "g0", "b0", "r1", "g1", "b1"):
        assert materials[name].min() >= 0
        assert materials[name].max() <= 1
    assert len(np.unique(materials["kind"])) == 8


def test_the_shells_materials_are_on_no_furniture_of_the_same_room() -> None:
    for index in range(20):
        scene, _ = draw_view(np.random.default_rng(index))
        assert not set(scene.surfaces.tolist()) & set(scene.solids["material"].tolist())
        assert scene.surfaces[FLOOR] < len(scene.materials)


def test_the_sensor_is_exact_where_it_adds_nothing() -> None:
    sensor = Sensor(1.0, np.ones(3, np.float32), blur=0.01, full_well=1e12, read_noise=0.0, vignette=0.0)
    light = np.full((16, 16, 3), 0.2140, np.float32)  # sRGB 0.5 by the standard's formula

    image = sensor.expose(light, np.random.default_rng(0), gain=1.0)

    assert np.abs(image.astype(int) - 127.5).max() <= 1.5  # rounding, and 4096 steps of the table
    assert to_srgb(np.array([-1.0, 0.0, 1.0, 9.0], np.float32)).tolist() == [0, 0, 255, 255]


def test_shot_noise_grows_as_the_root_of_the_light() -> None:
    sensor = Sensor(1.0, np.ones(3, np.float32), blur=0.01, full_well=100.0, read_noise=0.0, vignette=0.0)
    spreads = []
    for level in (0.05, 0.2):
        image = sensor.expose(np.full((128, 128, 3), level, np.float32), np.random.default_rng(1), gain=1.0)
        codes = image / 255.0
        light = np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
        spreads.append(light.std())

    assert spreads[1] / spreads[0] == pytest.approx(2.0, rel=0.05)  # four times the light


def test_samples_are_what_the_contract_says() -> None:
    sample: Sample = open_dataset("rooms", "train", count=1, size_hw=(96, 128))[0]

    assert sample.image.dtype == np.uint8
    assert {name: (target.shape, target.dtype.name) for name, target in sample.targets.items()} == {
        "segmentation": ((96, 128), "uint8"),
        "normals": ((96, 128, 3), "float32"),
        "depth": ((96, 128), "float32"),
    }
    assert 40 < sample.image.mean() < 220


def test_the_class_set_things_joins_what_is_no_furniture_to_background():
    everything = open_dataset("rooms", "train", count=3, size_hw=[48, 64])
    things = open_dataset("rooms", "train", count=3, size_hw=[48, 64], classes="things")

    names = everything.tasks[0].classes
    for whole, joined in zip(everything, things, strict=True):
        labels, coarse = whole.targets["segmentation"], joined.targets["segmentation"]
        for label in np.unique(labels):
            name = names[label] if names[label] in things.tasks[0].classes else "background"
            assert set(coarse[labels == label]) == {things.tasks[0].classes.index(name)}
        assert np.array_equal(whole.targets["normals"], joined.targets["normals"])


def test_rooms_are_remembered_for_every_data_set_of_the_process():
    first = open_dataset("rooms", "train", count=2, size_hw=[32, 40], seed=91, remember=True)[0]
    again = open_dataset("rooms", "train", count=5, size_hw=[32, 40], seed=91, tasks=["normals"], remember=True)[0]
    other = open_dataset("rooms", "train", count=2, size_hw=[32, 40], seed=92, remember=True)[0]

    assert again.image is first.image
    assert set(again.targets) == {"normals"}
    assert not np.array_equal(other.image, first.image)


def test_an_unknown_class_set_is_refused():
    with pytest.raises(ConfigError, match="classes: 'thing' is unknown"):
        open_dataset("rooms", "train", classes="thing")
