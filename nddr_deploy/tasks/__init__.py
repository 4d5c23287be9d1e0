"""The tasks a network can have. To add one: write `tasks/x.py`, and a line in `TASKS`."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.tasks.age import Age
from nddr_deploy.tasks.base import IGNORE_LABEL, Metric, MetricForm, Task
from nddr_deploy.tasks.binary import Binary
from nddr_deploy.tasks.classification import Classification
from nddr_deploy.tasks.depth import Depth
from nddr_deploy.tasks.normals import Normals
from nddr_deploy.tasks.segmentation import Segmentation

__all__ = [
    "IGNORE_LABEL",
    "TASKS",
    "Age",
    "Binary",
    "Classification",
    "Depth",
    "Metric",
    "MetricForm",
    "Normals",
    "Segmentation",
    "Task",
    "task_from_dict",
]

TASKS: dict[str, type[Task]] = {task.kind: task for task in (Segmentation, Normals, Depth, Binary, Age, Classification)}


def task_from_dict(values: dict[str, Any]) -> Task:
    """The task that `Task.to_dict` described: `{"kind": "depth", "name": "depth", "max_m": 10.0}`.

    Raises:
        ConfigError: an unknown kind, an unknown or a missing field, or a value that the task refuses.
    """
    if not isinstance(values, dict) or "kind" not in values:
        raise ConfigError(f"A task is a mapping with a 'kind' ({', '.join(TASKS)}); got {values!r}.")
    options = dict(values)
    kind = options.pop("kind")
    if not isinstance(kind, str) or kind not in TASKS:
        raise unknown_choice("task kind", kind, TASKS)
    known = {field.name: field for field in fields(TASKS[kind])}
    for option in options:
        if option not in known:
            raise unknown_choice(f"option of task kind {kind!r}", option, known)
    missing = [name for name, field in known.items() if field.default is MISSING and name not in options]
    if missing:
        raise ConfigError(f"A task of kind {kind!r} needs {' and '.join(map(repr, missing))}; got {values!r}.")
    return TASKS[kind](**options)
