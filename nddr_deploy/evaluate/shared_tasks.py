"""Which tasks of a model a data set has the truth for, and why not the others."""

from __future__ import annotations

from nddr_deploy.data.base import Dataset
from nddr_deploy.errors import InputError
from nddr_deploy.manifest import Manifest
from nddr_deploy.tasks.base import Task
from nddr_deploy.tasks.normals import Normals


def shared_tasks(manifest: Manifest, dataset: Dataset) -> tuple[tuple[Task, ...], dict[str, str]]:
    """The model's tasks that can be scored on the data set, and name -> reason of those that cannot.

    Raises:
        InputError: none can be scored, or a task of one name is of another kind or has other classes in the data.
    """
    labelled = {task.name: task for task in dataset.tasks}
    named = tuple(task for task in manifest.tasks if task.name in labelled)
    if not named:
        raise InputError(
            f"The model's tasks ({', '.join(task.name for task in manifest.tasks)}) and the data's "
            f"({', '.join(labelled)}) have no name in common. Choose data with targets for the model."
        )
    skipped = {task.name: "the data has no targets for it" for task in manifest.tasks if task.name not in labelled}
    for task in named:
        _check_meaning(task, labelled[task.name])
        if _in_unknown_axes(task, labelled[task.name]):
            skipped[task.name] = "its axes are not known, so it cannot be compared with normals in camera axes"
    shared = tuple(task for task in named if task.name not in skipped)
    if not shared:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise InputError(
            f"No task of the model can be scored on this data: {reasons}. "
            "Import the model again and say the axes of its normals."
        )
    return shared, skipped


def _in_unknown_axes(task: Task, target: Task) -> bool:
    """Whether angles between the two would mean nothing: only one of them is in the axes of the camera."""
    return isinstance(task, Normals) and isinstance(target, Normals) and (task.axes is None) != (target.axes is None)


def _check_meaning(task: Task, target: Task) -> None:
    if task.kind != target.kind:
        raise InputError(f"{task.name}: the model's is a {task.kind} task, the data's a {target.kind} task.")
    ours, theirs = (each.options().get("classes") for each in (task, target))
    if not isinstance(ours, list) or not isinstance(theirs, list) or ours == theirs:
        return  # ages are years whatever their number, and other tasks have no classes
    place = next(
        (index for index, (left, right) in enumerate(zip(ours, theirs, strict=False)) if left != right),
        min(len(ours), len(theirs)),
    )
    found, expected = (classes[place] if place < len(classes) else "no class" for classes in (theirs, ours))
    raise InputError(
        f"{task.name}: the model has {len(ours)} classes and the data {len(theirs)}; the first that differs is number "
        f"{place}: {expected!r} in the model, {found!r} in the data. "
        "Choose data with the model's classes, in its order."
    )
