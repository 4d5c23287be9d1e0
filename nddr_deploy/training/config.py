"""Every setting of a training run, with its default. `config_file` reads them from YAML and the command line.

The defaults are the paper's recipe as the released code has it: SGD with momentum, poly schedule, a hundred times the
rate for the fusion layers. Values are checked where they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nddr_deploy.network.config import NetworkConfig
from nddr_deploy.preprocess import Preprocess


@dataclass(frozen=True)
class DataConfig:
    """Which samples to learn from, and which to validate on.

    Attributes:
        name: key of `data.DATASETS`.
        train, val: the names of the two splits.
        options: of the data set, for both splits; `train_options` and `val_options` are added for one of them.
    """

    name: str = "rooms"
    train: str = "train"
    val: str = "val"
    options: Mapping[str, Any] = field(default_factory=dict)
    train_options: Mapping[str, Any] = field(default_factory=dict)
    val_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AugmentConfig:
    """How a training sample is varied; every draw comes from (seed, epoch, sample index).

    Attributes:
        flip: mirror half of the samples left to right (normals negate x).
        scale: range of the factor by which a sample is enlarged; (1, 1) leaves it as it is. Depths are divided by it.
        crop_hw: size of the random window that is cut out, in pixels; None keeps the whole image.
            What lies outside the image is mean colour and not labelled.
        brightness, contrast, saturation: largest relative change, as in 0.2 for 0.8 .. 1.2.
        hue: largest shift of the hue, as a part of the whole circle: at most 0.5.
    """

    flip: bool = True
    scale: tuple[float, float] = (1.0, 1.0)
    crop_hw: tuple[int, int] | None = None
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0


@dataclass(frozen=True)
class LossConfig:
    """What is minimised: the weighted sum of the tasks' losses, and the network's own penalties.

    Attributes:
        weights: task name -> factor; 1 where a task is not named.
        kinds: task name -> key of `losses.LOSSES`, in place of the task's own `loss`.
        at: "full": raw maps are resized to the targets' size first; "raw": targets are reduced (nearest) to theirs.
        weighting: key of `weighting.WEIGHTINGS`: "fixed" keeps the `weights`; the others start from them.
        weighting_options: of the weighting.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    at: Literal["full", "raw"] = "full"
    weighting: Literal["fixed", "uncertainty", "dwa", "gradnorm"] = "fixed"
    weighting_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OptimiserConfig:
    """How weights change.

    Attributes:
        name: "sgd", or "adamw" (then `momentum` is its first beta).
        lr: the base rate.
        weight_decay: of the parameters that `decay` names.
        decay: "weights": convolution and linear weights, not BatchNorm and biases; "fusion": only those of the fusion
            layers (the paper's text); "all": every parameter.
        fusion_lr_factor: the rate of fusion layers and shortcut over the base rate (the paper's 100).
        head_lr_factor: the rate of the heads over the base rate.
        clip_norm: largest norm of all gradients together; None does not limit it.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 2.5e-4
    decay: Literal["weights", "fusion", "all"] = "weights"
    fusion_lr_factor: float = 100.0
    head_lr_factor: float = 1.0
    clip_norm: float | None = None


@dataclass(frozen=True)
class ScheduleConfig:
    """`(1 - step / steps) ** power` times the rate, per step; rising linearly over the first `warmup_steps`."""

    power: float = 0.9
    warmup_steps: int = 0


@dataclass(frozen=True)
class StartConfig:
    """Where weights come from before the first step; at most one of them. None at all: random.

    Attributes:
        imagenet: a torchvision weight file of the backbone; every stream gets it.
        single_task: task name -> checkpoint of a network trained for it: its stream and its head (the paper's best).
        streams: a checkpoint of a network with one stream; every stream starts from it, heads at random.
        checkpoint: a checkpoint of the same network; only its weights are taken.
    """

    imagenet: str | None = None
    single_task: Mapping[str, str] = field(default_factory=dict)
    streams: str | None = None
    checkpoint: str | None = None


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        output: folder of the run; docs/training.md says what is in it.
        tasks: names of the data set's tasks to learn, in the order of the outputs; empty takes all.
        steps: optimiser steps in all.
        batch_size: images per step, over all processes together.
        accumulate: each process takes its images of a step in this many parts, one after the other, which needs less
            memory. Gradients are those of the whole step; only BatchNorm sees the parts one at a time ("batch").
        batchnorm: what BatchNorm normalises with while training. "batch": statistics of the images that pass through
            it together on one process; "synced": on all processes (GPUs only); "frozen": those that it started with.
        seed: of weights, order, augmentation and dropout.
        device: "auto" takes the GPU where there is one.
        amp: mixed precision of the forward pass: "none", "bf16" or "fp16".
        deterministic: only algorithms that give the same bits every time.
        channels_last: memory order of images and weights.
        compile: translate the network with `torch.compile` first: slow to start, then faster on GPUs.
        ema: how much of the averaged weights stays in a step, as in 0.999; None keeps no average. Validation, best.pt
            and ckpt.pt then have the averaged weights.
        threads: of PyTorch on the CPU; None leaves PyTorch's own choice.
        workers: processes that prepare samples, for each process that trains; 0 prepares them in the training process.
        eval_every, checkpoint_every, log_every: in steps. The last step is always validated and saved.
        eval_limit: how many samples to validate on; None takes the whole split.
        tensorboard: write TensorBoard's files.
        summary: write summary.html at every validation, with pictures of a few samples, and coupling.csv.
    """

    output: str = "runs/train"
    data: DataConfig = field(default_factory=DataConfig)
    tasks: tuple[str, ...] = ()
    network: NetworkConfig = field(default_factory=NetworkConfig)
    preprocess: Preprocess = field(default_factory=Preprocess)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    start: StartConfig = field(default_factory=StartConfig)
    steps: int = 20_000
    batch_size: int = 8
    accumulate: int = 1
    batchnorm: Literal["batch", "synced", "frozen"] = "batch"
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    amp: Literal["none", "bf16", "fp16"] = "none"
    deterministic: bool = True
    channels_last: bool = False
    compile: bool = False
    ema: float | None = None
    threads: int | None = None
    workers: int = 0
    eval_every: int = 1000
    eval_limit: int | None = None
    checkpoint_every: int = 500
    log_every: int = 20
    tensorboard: bool = True
    summary: bool = True
