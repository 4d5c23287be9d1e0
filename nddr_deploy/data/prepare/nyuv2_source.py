"""What every form of NYU Depth v2 is for the recipe: names with their split, and a way to read each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nddr_deploy.data.prepare.depth_to_normals import Intrinsics
from nddr_deploy.data.prepare.frame import Frame
from nddr_deploy.data.prepare.nyuv2_meta import Meta

# Of the colour camera, in which depth is given after its registration.
# Source: camera_params.m of the toolbox published with Silberman et al., ECCV 2012.
CAMERA = Intrinsics(focal_x=518.85790, focal_y=519.46961, centre_x=325.58245, centre_y=253.73617, width=640)


@dataclass(frozen=True)
class NyuSource:
    """One form of the data set.

    Attributes:
        layout: what was recognised, for people.
        identity: tells this data set from another one, and from the same in other classes or axes.
        splits: name of a frame -> "train", "val" or "test"; "" where the source has no split for it.
        read: name -> frame. Raises InputError, which names the file.
        classes: sub-folder of labels -> names of its classes.
        normals: every frame has them; else they are computed from depth.
        dropped: reason -> how many frames of the source are not in `splits`.
    """

    layout: str
    identity: str
    splits: Mapping[str, str]
    read: Callable[[str], Frame]
    classes: Mapping[str, tuple[str, ...]]
    normals: bool = False
    dropped: Mapping[str, int] = field(default_factory=dict)


def identity_of(layout: str, files: Mapping[str, Path], meta: Meta) -> str:
    """Names and sizes of the frames' main files, and the classes: what `NyuSource.identity` asks for."""
    sizes = " ".join(f"{name} {path.stat().st_size}" for name, path in files.items())
    return f"{layout}: {sizes}; classes {meta.identity}"
