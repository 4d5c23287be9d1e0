"""A user's own folder: every picture and label is opened, what is wrong is listed, what is there is summed up."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from nddr_deploy.data.folder_files import FolderFiles
from nddr_deploy.data.prepare.blocks import looked_at
from nddr_deploy.data.prepare.label_facts import LabelFacts, facts_about
from nddr_deploy.data.splits import SPLITS
from nddr_deploy.errors import InputError
from nddr_deploy.tasks import Task

FARTHEST = 200.0  # metres; a larger depth is rather a wrong unit


@dataclass
class FolderReport:
    """What a folder holds.

    Attributes:
        path: the folder.
        splits: split -> samples.
        sizes: (height, width) -> pictures of that size.
        tasks: in the order in which the data set gives them.
        facts: task -> what its labels say together.
        notes: what may be meant so, but is worth a look.
        problems: what is wrong, each naming its file.
    """

    path: Path
    splits: dict[str, int] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    tasks: list[Task] = field(default_factory=list)
    facts: dict[str, LabelFacts] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def text(self) -> str:
        """For people, one fact a line."""
        rows = [(split, f"{count:,} samples") for split, count in self.splits.items()]
        if self.sizes:
            heights, widths = zip(*self.sizes, strict=True)
            least, most = f"{min(heights)}x{min(widths)}", f"{max(heights)}x{max(widths)}"
            rows += [("pictures", least if least == most else f"{least} to {most} (height x width)")]
        for task in self.tasks:
            lines = self.facts[task.name].lines(task) if task.name in self.facts else ["no label could be read"]
            rows += [(task.name if number == 0 else "", line) for number, line in enumerate(lines)]
        rows += [("note", note) for note in self.notes]
        width = max(len(name) for name, _ in rows)
        return "\n".join([f"{self.path}", *(f"  {name:<{width}}  {line}" for name, line in rows)])


def check_folder(path: str | os.PathLike[str], *, show_progress: bool = False) -> FolderReport:
    """Open every picture and label of a folder that is laid out as `data.folder` says.

    Returns:
        What is there and what is wrong with it; a problem with one file does not end the check.

    Raises:
        InputError: there are no pictures or no labels at all, or two pictures of one name.
    """
    files = FolderFiles(path)
    report = FolderReport(files.root, tasks=files.tasks(max_m=FARTHEST))
    names = _names(files, report)
    look = partial(_look, files, report.tasks)
    for block in looked_at(look, names, what="samples", show_progress=show_progress):
        for _, seen in block:
            report.problems += seen.problems
            report.sizes.update([seen.size_hw] if seen.size_hw else [])
            for task, facts in seen.facts.items():
                report.facts[task] = report.facts[task] + facts if task in report.facts else facts
    report.notes += _notes(report)
    return report


def _names(files: FolderFiles, report: FolderReport) -> list[str]:
    """All samples of all splits, each once; what is wrong with the lists goes into the report."""
    if not files.lists():
        report.splits = dict.fromkeys(SPLITS, len(files.pictures))
        report.notes.append("there are no lists such as train.txt: every split has all samples")
        return list(files.pictures)
    split_of: dict[str, str] = {}
    shared: Counter[tuple[str, str]] = Counter()
    for split in sorted(files.lists(), key=lambda split: SPLITS.get(split, len(SPLITS))):
        listed = _listed(files, split, report.problems)
        report.splits[split] = len(listed)
        for name in listed:
            try:
                files.check_picture(name, split)
            except InputError as error:
                report.problems.append(str(error))
                continue
            if name in split_of:
                shared[split_of[name], split] += 1
            split_of.setdefault(name, split)
    for (first, second), count in shared.items():
        twice = f"{count:,} names are twice in {first}.txt"
        report.notes.append(twice if first == second else f"{count:,} names are in {first}.txt and in {second}.txt")
    if len(split_of) < len(files.pictures):
        report.notes.append(f"{len(files.pictures) - len(split_of):,} pictures are in no list")
    return list(split_of)


def _listed(files: FolderFiles, split: str, problems: list[str]) -> list[str]:
    try:
        return files.listed(split)
    except InputError as error:
        problems.append(str(error))
        return []


@dataclass
class _Look:
    """What one sample shows."""

    size_hw: tuple[int, int] | None = None
    facts: dict[str, LabelFacts] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def _look(files: FolderFiles, tasks: Sequence[Task], name: str) -> _Look:
    look = _Look()
    try:
        image = files.picture(name)
    except InputError as error:
        look.problems.append(str(error))
        return look
    look.size_hw = image.shape[0], image.shape[1]
    for task in tasks:
        try:
            look.facts[task.name] = facts_about(task, np.asarray(files.target(task, name, image)))
        except InputError as error:
            look.problems.append(str(error))
    return look


def _notes(report: FolderReport) -> Iterator[str]:
    for task in report.tasks:
        facts = report.facts.get(task.name)
        if facts is None:
            continue
        if task.kind == "segmentation" and (unseen := facts.unseen(task)):
            more = ", ..." if len(unseen) > 5 else ""
            yield f"{len(unseen)} of {task.channels} classes have no pixel: {', '.join(unseen[:5])}{more}"
        if task.kind == "depth" and facts.highest > FARTHEST:
            yield f"depth up to {facts.highest:,.0f} m: files .npy hold metres, not millimetres"
