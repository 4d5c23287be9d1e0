"""Networks of the user's own code: what a `--from-module` function returns."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from nddr_deploy.errors import ConfigError
from nddr_deploy.network.fusion import NoFusion
from nddr_deploy.network.network import MultiTaskNetwork
from nddr_deploy.preprocess import Preprocess
from nddr_deploy.resize import Convention
from nddr_deploy.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, eq=False)
class StagedNetwork:
    """A trained network of any modules, cut into stages as ours are.

    Attributes:
        tasks: in the order of the outputs.
        stages: per stage, task name -> module, (N, C, H, W) -> (N, C', H', W').
        fusions: per stage, a module that takes and returns {task name: features}, or None where nothing is exchanged.
        heads: task name -> module, from the last features to the raw output.
        preprocess: what the first stages expect of a frame.
        resize: how raw outputs are brought to the image's size.
        size_hw: of the images in pixels, where no other is asked for.
        notes: things worth knowing, copied into exported files.
    """

    tasks: tuple[Task, ...]
    stages: Sequence[Mapping[str, nn.Module]]
    fusions: Sequence[nn.Module | None]
    heads: Mapping[str, nn.Module]
    preprocess: Preprocess = field(default_factory=Preprocess)
    resize: Convention = "half_pixel"
    size_hw: tuple[int, int] = (480, 640)
    notes: tuple[str, ...] = ()
    description: str = "a network of the user's own code"

    def build(self) -> MultiTaskNetwork:
        """The modules as one network, in evaluation mode.

        Raises:
            ConfigError: stages, fusions and heads do not belong together.
        """
        names = tuple(task.name for task in self.tasks)
        if len(self.stages) != len(self.fusions) or not self.stages:
            raise ConfigError(
                f"A staged network has one fusion (or None) per stage; got {len(self.stages)} stages and "
                f"{len(self.fusions)} fusions."
            )
        for what, found in (
            ("stage", self.stages[0]),
            *(("stage", stage) for stage in self.stages),
            ("heads", self.heads),
        ):
            if set(found) != set(names):
                raise ConfigError(
                    f"{what}: expected a module for each task, {', '.join(names)}; got {', '.join(found)}."
                )
        return MultiTaskNetwork(
            {name: name for name in names},
            cast("Any", [{name: stage[name] for name in names} for stage in self.stages]),
            cast("Any", [NoFusion(names, 1) if fusion is None else fusion for fusion in self.fusions]),
            cast("Any", {name: self.heads[name] for name in names}),
        ).eval()


def load_from_module(target: str, path: str | os.PathLike[str]) -> StagedNetwork:
    """Call `package.module:function` with the path of a checkpoint. This runs that code, which is the user's own.

    Raises:
        ConfigError: no such module or function, or it returns something else.
    """
    module_name, _, name = target.partition(":")
    if not (module_name and name):
        raise ConfigError(f"from_module: {target!r} is no function. Write package.module:function.")
    try:
        with _working_folder_first():
            function = getattr(import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"from_module: {target!r} cannot be imported ({error}). Run the command where Python finds the module."
        ) from error
    loaded = function(Path(path))
    if not isinstance(loaded, StagedNetwork):
        raise ConfigError(
            f"from_module: {target} returned a {type(loaded).__name__}; expected "
            "nddr_deploy.importers.module.StagedNetwork."
        )
    return loaded


@contextmanager
def _working_folder_first() -> Iterator[None]:
    """As `python -m` has it, also for installed commands."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path.pop(0)
