"""Everything that a training is at one moment, and how it gets into a checkpoint and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from nddr_deploy.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from nddr_deploy.errors import ConfigError, DivergedError, ModelFileError
from nddr_deploy.evaluate.score import Scores
from nddr_deploy.network import MultiTaskNetwork
from nddr_deploy.training.batchnorm import BatchNormMode
from nddr_deploy.training.config import TrainConfig
from nddr_deploy.training.config_file import config_to_dict
from nddr_deploy.training.ema import Average
from nddr_deploy.training.processes import Processes
from nddr_deploy.training.weighting import Weighting

# A resumed run may differ in these: they change neither the data nor the arithmetic.
FREE_TO_CHANGE = {
    *("output", "device", "threads", "workers"),
    *("tensorboard", "summary", "log_every", "checkpoint_every", "eval_every", "eval_limit"),
}


@dataclass
class Training:
    """A network, its optimiser, and how far they have come.

    Attributes:
        network: without the wrapper of distributed training.
        weighting: of the tasks' losses.
        about: what a checkpoint says besides weights and training state: its other fields by name.
        batchnorm: see `TrainConfig`.
        average: of the weights, or None.
        step: steps done.
        best: the highest `merit` of a validation so far.
        best_step: after how many steps that was.
        scores: of the last validation.
    """

    network: MultiTaskNetwork
    optimiser: torch.optim.Optimizer
    accelerator: Accelerator
    processes: Processes
    weighting: Weighting
    about: Mapping[str, Any]
    batchnorm: BatchNormMode = "batch"
    average: Average | None = None
    step: int = 0
    best: float = -math.inf
    best_step: int = 0
    scores: Scores = field(default_factory=dict)

    @property
    def model(self) -> MultiTaskNetwork:
        """What is validated and kept: the network with the averaged weights where there is an average."""
        return self.network if self.average is None else self.average.network

    def save(self, path: Path, *, resumable: bool = True) -> None:
        """Write a checkpoint; every process calls this, and the first one does.

        Args:
            path: of the file.
            resumable: keep the optimiser and the random states of all processes too.

        Raises:
            DivergedError: a weight is not a finite number. The file that was there stays.
        """
        states = gather_object([_random_state()]) if resumable else []
        with self.processes.together():
            if self.processes.index == 0:
                self._write(path, states)

    def _write(self, path: Path, states: list[dict[str, torch.Tensor]]) -> None:
        self.check_weights()
        training = {"step": self.step, "best": self.best, "best_step": self.best_step, "scores": self.scores}
        if states:
            training |= {"optimiser": self.optimiser.state_dict(), "random": states}
            training["weighting"] = self.weighting.state_dict()
            if self.average is not None:
                training["last_weights"] = self.network.state_dict()
            if self.accelerator.scaler is not None:
                training["scaler"] = self.accelerator.scaler.state_dict()
        save_checkpoint(path, Checkpoint(**self.about, weights=self.model.state_dict(), training=training))

    def check_weights(self) -> None:
        """Raise DivergedError unless every weight is a finite number."""
        for name, weight in (*self.network.state_dict().items(), *self.model.state_dict().items()):
            if not torch.isfinite(weight).all():
                raise DivergedError(
                    f"The weight {name} became infinite or NaN by step {self.step}. Lower optimiser.lr, or set "
                    "optimiser.clip_norm. Nothing was saved from this step; last.pt holds the last good one."
                )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on where `save` was.

        Raises:
            ModelFileError: the checkpoint has no training state, or one of another number of processes.
        """
        saved = checkpoint.training
        if "random" not in saved:
            raise ModelFileError(
                "This checkpoint holds weights only and cannot be resumed. Use it as start.checkpoint."
            )
        states, processes = saved["random"], self.accelerator.num_processes
        if len(states) != processes:
            raise ModelFileError(
                f"This training was run by {len(states)} processes, and now by {processes}; each has a random state "
                f"of its own. Resume it with {len(states)}."
            )
        self.network.load_state_dict(saved.get("last_weights", checkpoint.weights))
        self.model.load_state_dict(checkpoint.weights)
        self.optimiser.load_state_dict(saved["optimiser"])
        self.weighting.load_state_dict(saved.get("weighting", {}))  # older checkpoints had fixed weights only
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        self.step, self.best, self.best_step = saved["step"], saved["best"], saved["best_step"]
        self.scores = saved["scores"]
        _set_random_state(states[self.accelerator.process_index])


def load_resumable(path: Path, config: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint to resume from.

    Raises:
        ModelFileError: there is none.
        ConfigError: it was trained with other settings.
    """
    if not path.exists():
        raise ModelFileError(f"There is nothing to resume: {path} does not exist. Start without --resume.")
    checkpoint = load_checkpoint(path)
    # A setting that is younger than the checkpoint has a default that changes nothing.
    before, now = {**_flat(config_to_dict(TrainConfig())), **_flat(checkpoint.config)}, _flat(config)
    for key in [*now, *before]:
        if key.partition(".")[0] not in FREE_TO_CHANGE and before.get(key) != now.get(key):
            raise ConfigError(
                f"{key}: this training began with {before.get(key)!r}; now it is {now.get(key)!r}. Resume with the "
                "settings of its config.yaml, or start a new one in another output folder."
            )
    return checkpoint


def _flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{path}{key}.")
        else:
            flat[path + key] = value
    return flat


def _random_state() -> dict[str, torch.Tensor]:
    """What dropout draws from on this process."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: Mapping[str, torch.Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
