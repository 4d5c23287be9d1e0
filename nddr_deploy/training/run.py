"""One training from the first step, or from where it was stopped, to the last."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from rich.console import Console

from nddr_deploy.data import open_dataset
from nddr_deploy.data.base import Dataset
from nddr_deploy.errors import ConfigError, unknown_choice
from nddr_deploy.network import ImageInput, MultiTaskNetwork, build_network
from nddr_deploy.tasks.base import Task
from nddr_deploy.training.batchnorm import set_up_batchnorm, to_training_mode
from nddr_deploy.training.compiled import compile_network, graphs, strict_compiler
from nddr_deploy.training.config import OptimiserConfig, TrainConfig
from nddr_deploy.training.config_file import check_finite, config_to_dict, config_to_yaml
from nddr_deploy.training.device import make_accelerator, numerics
from nddr_deploy.training.ema import Average
from nddr_deploy.training.folder import RunFolder
from nddr_deploy.training.loop import Intervals, run_steps
from nddr_deploy.training.objective import Objective
from nddr_deploy.training.optimiser import make_optimiser, parameter_groups
from nddr_deploy.training.processes import Processes
from nddr_deploy.training.record import Record
from nddr_deploy.training.report import TrainReport, opening
from nddr_deploy.training.samples import Batches, load_batches
from nddr_deploy.training.schedule import poly_factor
from nddr_deploy.training.showcase import Showcase
from nddr_deploy.training.start import load_start
from nddr_deploy.training.state import Training, load_resumable
from nddr_deploy.training.stop import StopSignals
from nddr_deploy.training.summary import Summary
from nddr_deploy.training.torch_errors import in_our_words
from nddr_deploy.training.validate import validate
from nddr_deploy.training.weighting import Situation, Weighting, make_weighting


def train(
    config: TrainConfig, *, resume: bool = False, overwrite: bool = False, console: Console | None = None
) -> TrainReport:
    """Train a network as `config` says; the command `nddr-train`.

    With the same settings, thread count and PyTorch, on a CPU and in fp32, the finished checkpoint has the same bytes
    whether or not the training was stopped and resumed on the way.

    >>> train(read_config("examples/demo.yaml", ["output=runs/mine"]))          # doctest: +SKIP

    Args:
        config: every setting.
        resume: go on from last.pt in the output folder.
        overwrite: replace the training that the output folder holds.
        console: where progress and tables go; None is standard output.

    Raises:
        ConfigError, InputError, ModelFileError, UnsupportedError: what was asked for cannot be done.
        DivergedError: a loss or a weight is not a finite number.
        TrainingError: another process is gone.
        OtherProcessError: another process met an error, and raises it.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM, after the state was saved.
    """
    with (
        in_our_words(config.batch_size),
        numerics(deterministic=config.deterministic, threads=config.threads),
        strict_compiler(config.compile),
    ):
        accelerator = make_accelerator(config.device, config.amp)
        with closing(Processes(accelerator)) as processes:
            return _train(config, resume, overwrite, console or Console(), accelerator, processes)


def _train(
    config: TrainConfig,
    resume: bool,
    overwrite: bool,
    console: Console,
    accelerator: Accelerator,
    processes: Processes,
) -> TrainReport:
    folder = RunFolder(Path(config.output))
    plain = {key: value for key, value in config_to_dict(config).items() if key != "output"}  # a run may be moved
    data = config.data
    with processes.together():
        check_finite(plain)
        _check_numbers(config)
        checkpoint = load_resumable(folder.last, plain) if resume else None
        learn = open_dataset(data.name, data.train, **{**data.options, **data.train_options})
        held_out = open_dataset(data.name, data.val, **{**data.options, **data.val_options})
        tasks = choose_tasks(learn, config.tasks)
        batches = Batches(
            learn,
            tasks,
            batch_size=config.batch_size,
            seed=config.seed,
            settings=config.augment,
            padding=config.preprocess.mean_pixel,
            process=processes.index,
            processes=processes.count,
            parts=config.accumulate,
        )
        objective = Objective(
            tasks, weights=config.loss.weights, kinds=config.loss.kinds, at=config.loss.at, resize=config.network.resize
        )
        rate = _schedule(config)

        torch.manual_seed(config.seed)
        network = build_network(config.network, tasks)
        started = "" if resume else load_start(network, **vars(config.start))
        set_up_batchnorm(network, config.batchnorm, accelerator.device)
        if config.channels_last:
            _order_channels_last(network)
        epoch_steps = math.ceil(len(learn) / config.batch_size)
        situation = Situation(objective.weights, network, epoch_steps, accelerator, processes)
        weighting = make_weighting(config.loss.weighting, config.loss.weighting_options, situation)
        optimiser = _optimiser(network, weighting, config.optimiser)
        size_hw = _image_size(held_out)
    model, optimiser = accelerator.prepare(network, optimiser)
    if config.compile:
        with processes.together():
            model = compile_network(model, accelerator.device)
    to_training_mode(network, config.batchnorm)
    torch.manual_seed(_process_seed(config.seed, accelerator.process_index))  # dropout differs between processes

    about = {
        "network": config.network,
        "tasks": tasks,
        "preprocess": config.preprocess,
        "size_hw": size_hw,
        "config": plain,
    }
    average = None if config.ema is None else Average(network, config.ema)
    training = Training(network, optimiser, accelerator, processes, weighting, about, config.batchnorm, average)
    with processes.together():
        if checkpoint is not None:
            training.restore(checkpoint)
        elif processes.index == 0:
            folder.begin(config_to_yaml(config), overwrite=overwrite)
    if checkpoint is None:
        training.save(folder.last)  # from here on the run can be resumed

    first = training.step
    writes_page = config.summary and processes.index == 0
    with (
        StopSignals() as stop,
        Record(
            folder.path,
            tasks,
            steps=config.steps,
            first=first,
            tensorboard=config.tensorboard,
            console=console,
            silent=processes.index > 0,
            showcase=Showcase(training, held_out) if writes_page else None,
            summary=Summary(config, training, len(learn), len(held_out)) if writes_page else None,
        ) as record,
        closing(
            load_batches(
                batches,
                range(first, config.steps),
                workers=config.workers,
                pinned=accelerator.device.type == "cuda",
            )
        ) as loader,
    ):
        record.begin(opening(training, tasks, len(learn), len(held_out), started))
        clock = run_steps(
            training,
            model,
            objective,
            ImageInput(config.preprocess).to(accelerator.device),
            loader,
            steps=config.steps,
            rate=rate,
            parts=config.accumulate,
            clip_norm=config.optimiser.clip_norm,
            intervals=Intervals(config.eval_every, config.checkpoint_every, config.log_every),
            validate=lambda: validate(training, held_out, record, limit=config.eval_limit),
            record=record,
            folder=folder,
            stop=stop,
        )
        if config.compile:
            record.say(graphs())
        with processes.together():
            if processes.index == 0:
                folder.finish()
        report = TrainReport(
            checkpoint=folder.finished,
            steps=training.step - first,
            seconds=clock.seconds,
            **clock.speed(),
            scores=training.scores,
            best_step=training.best_step,
        )
        record.say(report.sentence())
    accelerator.end_training()
    return report


def _schedule(config: TrainConfig) -> Callable[[int], float]:
    """Steps done -> base rate of the next one."""

    def rate(step: int) -> float:
        schedule = config.schedule
        factor = poly_factor(step, config.steps, power=schedule.power, warmup_steps=schedule.warmup_steps)
        return config.optimiser.lr * factor

    rate(0)  # refuses a senseless schedule before anything is written
    return rate


def _order_channels_last(network: MultiTaskNetwork) -> None:
    """Only what a convolution reads: `Module.to` refuses networks with weights of more than four dimensions."""
    for weights in (*network.parameters(), *network.buffers()):
        if weights.ndim == 4:
            weights.data = weights.data.contiguous(memory_format=torch.channels_last)


def _optimiser(network: MultiTaskNetwork, weighting: Weighting, settings: OptimiserConfig) -> torch.optim.Optimizer:
    groups = parameter_groups(
        network,
        weight_decay=settings.weight_decay,
        decay=settings.decay,
        fusion_lr_factor=settings.fusion_lr_factor,
        head_lr_factor=settings.head_lr_factor,
    )
    return make_optimiser(
        [*groups, *weighting.groups()], name=settings.name, lr=settings.lr, momentum=settings.momentum
    )


def choose_tasks(dataset: Dataset, names: Sequence[str]) -> tuple[Task, ...]:
    """The data set's tasks of these names, in this order; all of them when none is named.

    Raises:
        ConfigError: a name that the data set has no targets for, or one that is named twice.
    """
    known = {task.name: task for task in dataset.tasks}
    for name in names:
        if name not in known:
            raise unknown_choice("tasks", name, known)
    if len(set(names)) < len(names):
        raise ConfigError(f"tasks: a task is named twice in {list(names)}. Name each once.")
    return tuple(known[name] for name in names) if names else tuple(dataset.tasks)


def _check_numbers(config: TrainConfig) -> None:
    for name in ("steps", "batch_size", "accumulate", "eval_every", "checkpoint_every", "log_every"):
        if getattr(config, name) < 1:
            raise ConfigError(f"{name}: expected at least 1; got {getattr(config, name)}.")
    if config.workers < 0 or not 0 <= config.seed < 2**63:
        raise ConfigError(
            f"workers and seed: expected 0 or more, and a seed below 2^63; got {config.workers} and {config.seed}."
        )
    if config.optimiser.clip_norm is not None and config.optimiser.clip_norm <= 0:
        raise ConfigError(
            f"optimiser.clip_norm: expected a positive norm, or null for no limit; got {config.optimiser.clip_norm}."
        )


def _image_size(dataset: Dataset) -> tuple[int, int]:
    if len(dataset) == 0:
        raise ConfigError("The validation split has no samples. Choose another split in data.val, or ask for more.")
    height, width = dataset[0].image.shape[:2]
    return height, width


def _process_seed(seed: int, process: int) -> int:
    return int(np.random.SeedSequence([seed, 0, process + 1]).generate_state(1)[0])
