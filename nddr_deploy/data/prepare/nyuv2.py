"""NYU Depth v2 in any of its public forms, brought into the layout of `folder`."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nddr_deploy.data.prepare.depth_to_normals import normals_from_depth
from nddr_deploy.data.prepare.frame import Frame, check_frame, is_written, write_frame
from nddr_deploy.data.prepare.normals_axes import Axes
from nddr_deploy.data.prepare.nyuv2_folders import list_files, nyud_mt, plain_folders
from nddr_deploy.data.prepare.nyuv2_mat import official_file
from nddr_deploy.data.prepare.nyuv2_meta import read_meta
from nddr_deploy.data.prepare.nyuv2_npz import npz_folder
from nddr_deploy.data.prepare.nyuv2_source import CAMERA, NyuSource
from nddr_deploy.errors import InputError
from nddr_deploy.files import finished_file, finished_files
from nddr_deploy.progress import progress_bar

LAYOUTS = (
    "nyu_depth_v2_labeled.mat; a folder with list/training_seg.txt; one with gt_sets/ and images/; one with rgb/ and "
    "seg40/; one of SPLIT_N_idNNNN.npz"
)


@dataclass
class NyuSummary:
    """What became of the data set; `summary.json` holds the same.

    Attributes:
        source: file or folder that was read.
        layout: what it was recognised as.
        frames: that are written.
        dropped: reason -> frames of the source that are not.
        splits: split -> names in its list; without any, all frames are in every split.
        labels: sub-folder of labels -> classes.
        normals: where they come from: "the source", "depth", or "none".
        before: frames that an earlier run had written; not in `summary.json`, which is the same however often a run
            was stopped.
    """

    source: str
    layout: str
    frames: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    splits: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    normals: str = "none"
    before: int = 0

    def text(self) -> str:
        """For people, one fact a line."""
        written = f"{self.frames:>8,} frames written"
        if self.before:
            count = "all of them" if self.before == self.frames else f"{self.before:,} of them"
            written += f", {count} by an earlier run"
        lines = [f"{self.source}: {self.layout}", written]
        lines += [f"{-count:>8,} {reason}" for reason, count in self.dropped.most_common()]
        lines += [f"{count:>8,} in {split}.txt" for split, count in self.splits.items()]
        if not self.splits:
            lines += ["         no lists: the source has no splits, and splits.mat is not at hand"]
        classes = ", ".join(f"{name} ({count} classes)" for name, count in self.labels.items())
        return "\n".join([*lines, f"labels: {classes}; normals from {self.normals}"])


def prepare_nyuv2(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    meta: str | os.PathLike[str] | None = None,
    normals_axes: Axes | None = None,
    show_progress: bool = False,
) -> NyuSummary:
    """Write NYU Depth v2 as a folder that the data set `folder` reads.

    Frames are read, checked and written one by one. Pixels, depths and labels come out as they went in; normals, where
    the source has none, are computed from depth (`depth_to_normals`). Where one run was stopped, the next goes on.

    Args:
        source: the official file, or a folder in one of the public forms; see `LAYOUTS`.
        output: the folder to write; made if it is missing.
        meta: the folder with splits.mat, classMapping40.mat and class13Mapping.mat; None: beside the file, or in the
            folder or its `meta`.
        normals_axes: the directions in which the source's normals (or colours) grow, as ("right", "up", "toward").
        show_progress: draw a progress bar on stderr.

    Returns:
        What was kept and dropped, and why.

    Raises:
        InputError: the source is none of the forms, a file in it is wrong (it is named), the output holds another data
            set, or cannot be written to.
        MissingPackageError: h5py or scipy is not installed.
    """
    found = recognise(Path(source), None if meta is None else Path(meta), normals_axes)
    if not found.splits:
        reasons = "".join(f"; {count} {reason}" for reason, count in found.dropped.items())
        raise InputError(f"{source}, read as {found.layout}, holds no frame that can be used{reasons}.")
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made: {error.strerror}. Choose another output.") from error
    _claim(folder, found)
    summary = NyuSummary(str(source), found.layout, dropped=Counter(found.dropped))
    summary.labels = {name: len(names) for name, names in found.classes.items()}
    with progress_bar("frames", len(found.splits), shown=show_progress) as advance:
        for name in found.splits:
            if is_written(folder, name):
                summary.before += 1
            else:
                frame = found.read(name)
                check_frame(frame, f"{source}, frame {name}", summary.labels)
                write_frame(_with_normals(frame), folder, name)
            advance(1)
    summary.frames = len(found.splits)
    if (folder / "normals").is_dir():
        summary.normals = "the source" if found.normals else "depth"
    _write_lists(folder, found, summary)
    return summary


def recognise(source: Path, meta_folder: Path | None, axes: Axes | None) -> NyuSource:
    """Which public form a file or folder is.

    Raises:
        InputError: none, or what it needs is missing.
    """
    if source.is_file() and source.suffix == ".mat":
        return official_file(source, meta_folder)
    if not source.is_dir():
        what = "is no .mat file" if source.exists() else "does not exist"
        raise InputError(f"{source} {what}. Expected one of: {LAYOUTS}.")
    places = (
        [meta_folder] if meta_folder is not None else [source / "meta", source, source.parent / "meta", source.parent]
    )
    meta = read_meta(places)
    if (source / "list" / "training_seg.txt").is_file():
        if axes is None:
            raise InputError(
                f"{source}: its normals are colours, and the axes that red, green and blue stand for are not in it. "
                "Say --normals-axes, as in right,up,toward."
            )
        return list_files(source, meta, axes)
    if (source / "gt_sets").is_dir() and (source / "images").is_dir():
        return nyud_mt(source, meta, axes)
    if (source / "rgb").is_dir() and (source / "seg40").is_dir():
        return plain_folders(source, meta)
    if any(source.glob("*_id*.npz")):
        return npz_folder(source, meta)
    raise InputError(f"{source} is no form of NYU Depth v2 that is known. Expected one of: {LAYOUTS}.")


def _with_normals(frame: Frame) -> Frame:
    if frame.normals is not None or frame.depth is None:
        return frame
    return Frame(frame.image, frame.labels, frame.depth, normals_from_depth(frame.depth, CAMERA), frame.edge)


def _claim(folder: Path, found: NyuSource) -> None:
    """Refuse a folder that holds something else; note in a new one what it is going to hold."""
    mark = folder / "source.json"
    identity = {"layout": found.layout, "identity": hashlib.sha256(found.identity.encode()).hexdigest()}
    if mark.is_file():
        try:
            same = json.loads(mark.read_text(encoding="utf-8")) == identity
        except ValueError:
            same = False
        if not same:
            raise InputError(
                f"{folder} holds another data set, or this one with other classes or axes (see {mark.name}). Choose "
                "another --output."
            )
        return
    if (folder / "images").exists():
        raise InputError(f"{folder} holds pictures that nddr-data nyuv2 did not write. Choose another --output.")
    with finished_file(mark) as new:
        new.write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")


def _write_lists(folder: Path, found: NyuSource, summary: NyuSummary) -> None:
    """Lists, names of classes and the summary: all of them, or none."""
    lists: dict[str, list[str]] = {}
    for name, split in found.splits.items():
        lists.setdefault(split, []).append(name)
    unlisted = lists.pop("", [])
    if lists and unlisted:
        summary.dropped["in no official split: in no list"] += len(unlisted)
    summary.splits = {split: len(names) for split, names in sorted(lists.items())}
    said = {key: value for key, value in vars(summary).items() if key != "before"}
    texts: Mapping[Path, str] = {
        **{folder / f"{split}.txt": _lines(sorted(names)) for split, names in lists.items()},
        **{_classes_file(folder, part): _lines(names) for part, names in found.classes.items()},
        folder / "summary.json": json.dumps(said, indent=2, ensure_ascii=False) + "\n",
    }
    with finished_files(*texts) as temporaries:
        for temporary, text in zip(temporaries, texts.values(), strict=True):
            temporary.write_text(text, encoding="utf-8")


def _classes_file(folder: Path, part: str) -> Path:
    return folder / "classes.txt" if part == "segmentation" else folder / part / "classes.txt"


def _lines(names: list[str] | tuple[str, ...]) -> str:
    return "".join(f"{name}\n" for name in names)
