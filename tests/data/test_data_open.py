from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from nddr_deploy.data import open_dataset
from nddr_deploy.data.base import Sample
from nddr_deploy.errors import ConfigError

SYNTHETIC = ("rooms", "faces")


def digest(sample: Sample) -> str:
    parts = [sample.name.encode(), sample.image.tobytes()]
    parts += [name.encode() + target.tobytes() for name, target in sample.targets.items()]
    return sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize("name", SYNTHETIC)
def test_a_sample_is_the_same_in_every_process_and_thread(name: str) -> None:
    dataset = open_dataset(name, "val", size_hw=(48, 64), seed=3, count=4)
    here = [digest(dataset[index]) for index in range(4)]

    with ThreadPoolExecutor(4) as pool:
        in_threads = list(pool.map(lambda index: digest(dataset[index]), (3, 2, 1, 0)))
    program = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); from test_data_open import digest, open_dataset\n"
        "data = open_dataset(sys.argv[2], 'val', size_hw=(48, 64), seed=3, count=9)\n"
        "print(json.dumps([digest(data[index]) for index in (2, 1)]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(Path(__file__).parent), name],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "77"},
    )

    assert in_threads == here[::-1]
    assert json.loads(run.stdout) == [here[2], here[1]]


@pytest.mark.parametrize("name", SYNTHETIC)
def test_every_index_split_and_seed_gives_another_picture(name: str) -> None:
    samples = [
        open_dataset(name, split, seed=seed, size_hw=(32, 32), count=2)[index]
        for split in ("train", "val", "test")
        for seed in (0, 1)
        for index in (0, 1)
    ]

    assert len({sample.image.tobytes() for sample in samples}) == 12
    assert len({sample.name for sample in samples}) == 12


@pytest.mark.parametrize("name", SYNTHETIC)
def test_a_data_set_is_a_sequence(name: str) -> None:
    dataset = open_dataset(name, count=3, size_hw=[32, 48])

    assert len(dataset) == 3
    assert [sample.image.shape for sample in dataset] == [(32, 48, 3)] * 3
    assert digest(dataset[-1]) == digest(dataset[2])
    with pytest.raises(IndexError):
        dataset[3]


def test_tasks_are_chosen_by_name_in_the_given_order() -> None:
    dataset = open_dataset("rooms", count=1, size_hw=(32, 32), tasks=["depth", "segmentation"])

    assert [task.name for task in dataset.tasks] == ["depth", "segmentation"]
    assert list(dataset[0].targets) == ["depth", "segmentation"]


def test_remembered_samples_are_drawn_once() -> None:
    plain = open_dataset("rooms", count=2, size_hw=(32, 32))
    remembers = open_dataset("rooms", count=2, size_hw=(32, 32), remember=True)

    assert remembers[1].image is remembers[1].image
    assert digest(remembers[1]) == digest(plain[1])


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        (("roms",), {}, "Did you mean 'rooms'"),
        (("rooms", "tset"), {}, "Did you mean 'test'"),
        (("rooms",), {"cuont": 3}, "Did you mean 'count'"),
        (("faces",), {"tasks": ["agge"]}, "Did you mean 'age'"),
        (("rooms",), {"tasks": []}, "at least one"),
        (("rooms",), {"tasks": ["depth", "depth"]}, "twice"),
        (("rooms",), {"size_hw": [96]}, "size_hw"),
        (("rooms",), {"size_hw": 96}, "size_hw"),
        (("faces",), {"size_hw": [64.5, 64]}, "size_hw"),
        (("rooms",), {"count": 0}, "count"),
        (("rooms",), {"count": "many"}, "'many'"),
        (("faces",), {"seed": -1}, "seed"),
        (("folder",), {}, "path"),
    ],
)
def test_wrong_names_and_options_are_refused(
    arguments: tuple[str, ...], options: dict[str, object], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        open_dataset(*arguments, **options)


def test_flipping_targets_twice_gives_them_back_and_once_mirrors_the_normals() -> None:
    dataset = open_dataset("rooms", count=1, size_hw=(32, 48))
    sample = dataset[0]

    for task in dataset.tasks:
        target = sample.targets[task.name]
        once = task.flip(target)
        assert np.array_equal(task.flip(once), target)
        assert not np.array_equal(once, target)
    normals = next(task for task in dataset.tasks if task.name == "normals")
    mirrored = normals.flip(sample.targets["normals"])
    assert np.array_equal(mirrored[:, ::-1, 0], -sample.targets["normals"][..., 0])
    assert np.array_equal(mirrored[:, ::-1, 1:], sample.targets["normals"][..., 1:])
