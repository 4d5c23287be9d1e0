from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from nddr_deploy.data.rooms import Walkthrough, render_walkthrough
from nddr_deploy.errors import ConfigError, InputError


def test_consecutive_frames_differ_little_and_distant_ones_a_lot() -> None:
    walk = Walkthrough(seed=2, frames=240, size_hw=(48, 64))

    frames = [walk[index] for index in (0, 1, 2, 120)]

    def changed(a: int, b: int) -> float:
        return float((frames[a].targets["segmentation"] != frames[b].targets["segmentation"]).mean())

    assert changed(0, 1) < 0.1
    assert changed(1, 2) < 0.1
    assert changed(0, 3) > 0.25
    nearer = np.abs(frames[1].targets["depth"] - frames[0].targets["depth"])
    assert np.median(nearer) < 0.08  # metres in a twentieth of a second


def test_the_last_frame_leads_back_to_the_first() -> None:
    walk = Walkthrough(seed=2, frames=240, size_hw=(48, 64))

    assert (walk[239].targets["segmentation"] != walk[0].targets["segmentation"]).mean() < 0.1


@pytest.mark.parametrize("seed", range(5))
def test_the_camera_runs_into_nothing(seed: int) -> None:
    walk = Walkthrough(seed=seed, frames=24, size_hw=(48, 64))

    nearest = min(float(sample.targets["depth"].min()) for sample in walk)

    assert nearest > 0.2  # metres


def test_every_frame_has_its_own_noise_and_the_same_every_time() -> None:
    walk = Walkthrough(seed=1, frames=10, size_hw=(48, 64))

    assert not np.array_equal(walk[0].image, walk[1].image)
    assert np.array_equal(walk[3].image, Walkthrough(seed=1, frames=10, size_hw=(48, 64))[3].image)


def test_the_video_has_the_frames_rate_and_size_that_were_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "walk.mp4"

    render_walkthrough(file, seed=1, frames=12, rate=25, size_hw=(48, 64))

    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.codec_context.name == "h264"
        assert stream.pix_fmt == "yuv420p"
        assert stream.average_rate == Fraction(25)
    assert len(frames) == 12
    assert frames[0].shape == (48, 64, 3)
    original = Walkthrough(seed=1, frames=12, size_hw=(48, 64))[5].image
    assert np.abs(frames[5].astype(int) - original).mean() < 12  # lossy, and half the colour resolution
    assert [path.name for path in tmp_path.iterdir()] == ["walk.mp4"]


def test_odd_sizes_and_missing_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="even"):
        render_walkthrough(tmp_path / "a.mp4", frames=2, size_hw=(49, 64))
    with pytest.raises(InputError, match="does not exist"):
        render_walkthrough(tmp_path / "none" / "a.mp4", frames=2, size_hw=(48, 64))
    with pytest.raises(ConfigError, match="count"):
        render_walkthrough(tmp_path / "a.mp4", frames=0, size_hw=(48, 64))
    assert list(tmp_path.iterdir()) == []
