"""How much each task's loss counts in what is minimised. To add a weighting: write it here, and a line in `WEIGHTINGS`.

K tasks; a step's batch may come in several parts, and on several processes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from nddr_deploy.errors import ConfigError
from nddr_deploy.network import MultiTaskNetwork, options
from nddr_deploy.network.fusion import NoFusion


@dataclass(frozen=True)
class Situation:
    """What a weighting may need to know of the training.

    Attributes:
        weights: of every task, `loss.weights`: where factors start.
        network: that is trained, on its device.
        epoch_steps: steps until every sample was seen once.
        accelerator: of the processes that train together.
    """

    weights: Mapping[str, float]
    network: MultiTaskNetwork
    epoch_steps: int
    accelerator: Accelerator

    @property
    def gradient_scale(self) -> float:
        """What fp16 multiplies losses by, so that small gradients do not vanish; the optimiser divides by it again."""
        scaler = self.accelerator.scaler
        return 1.0 if scaler is None else float(scaler.get_scale())


class Weighting(nn.Module, ABC):
    """A factor for each task's loss, that may change after every step.

    For each part of a batch: `total`, then its backward pass. After the last part, before the optimiser's step: `step`.
    Factors depend on the losses of whole steps only, so they are the same on every process, and the same whether a
    batch came in one part or in several. The state dict is all that a resumed training needs.

    Args:
        situation: see there.
    """

    def __init__(self, situation: Situation) -> None:
        super().__init__()
        self.situation = situation
        self.tasks = tuple(situation.weights)
        # Buffers stay on the CPU, where factors are decided, in float64.
        self.start = torch.tensor([situation.weights[task] for task in self.tasks], dtype=torch.float64)

    @abstractmethod
    def values(self) -> Tensor:
        """The factors now, (K,)."""

    def factors(self) -> dict[str, float]:
        """Task name -> the factor of its loss now."""
        return dict(zip(self.tasks, self.values().tolist(), strict=True))

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the tasks' losses of one part, (); call it once for each part.

        Factors are constants in it: what they learn, they learn in `step`.
        """
        return torch.stack([factor * losses[task] for task, factor in self.factors().items()]).sum()

    def step(self, losses: Mapping[str, float]) -> None:
        """Learn from a step.

        Args:
            losses: task name -> loss of the whole step, over all parts and processes. A task that nothing was
                labelled for is left out.
        """
        return

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser, as `optimiser.parameter_groups` makes them."""
        return []


class Fixed(Weighting):
    """The factors of `loss.weights`, from the first step to the last.

    Source:
        Gao et al., NDDR-CNN, CVPR 2019 (the released code: segmentation 1, normals 20).
    """

    def values(self) -> Tensor:
        return self.start


class Uncertainty(Weighting):
    """Trained factors: each task's loss L over twice its variance exp(s), plus s / 2 against ever larger variances.

    What is minimised over s is L exp(-s) / 2 + s / 2; its minimum is at s = log L, where every task contributes 1/2.
    The source has this form for regression, with s = log sigma^2, and one without the first 1/2 for classification.
    The two differ by a constant when the latter's s is shifted by log 2, so the one form serves every task here, and
    what a factor starts from is `loss.weights` alone (the source: 1/2 for regression, 1 for classification).

    A task that a step has no labels for keeps its s, but for the optimiser's momentum.

    Args:
        lr_factor: the rate of s over the base rate. Weight decay and `clip_norm` leave s alone.

    Source:
        Kendall et al., Multi-task learning using uncertainty to weigh losses, CVPR 2018, Eq. 7 and Eq. 10.
    """

    def __init__(self, situation: Situation, *, lr_factor: float = 1.0) -> None:
        super().__init__(situation)
        _check_positive("lr_factor", lr_factor)
        self.lr_factor = lr_factor
        start = -torch.log(2 * self.start)
        self.log_variances = nn.Parameter(start.float().to(situation.accelerator.device))

    def values(self) -> Tensor:
        return torch.exp(-self.log_variances.detach()) / 2

    def step(self, losses: Mapping[str, float]) -> None:
        gradient = [0.5 - factor * losses[task] if task in losses else 0.0 for task, factor in self.factors().items()]
        scale = self.situation.gradient_scale
        self.log_variances.grad = scale * torch.tensor(gradient, device=self.log_variances.device)

    def groups(self) -> list[dict[str, Any]]:
        name = "log variances of the losses"
        return [{"params": [self.log_variances], "name": name, "lr_factor": self.lr_factor, "weight_decay": 0.0}]


class DynamicAverage(Weighting):
    """Dynamic weight average: a loss that falls more slowly than the others counts more.

    Factors are K softmax(r / temperature), times `loss.weights`; r is the ratio of a loss's mean over the last window
    to that over the window before. They stay at `loss.weights` during the first two windows. r is 1 for a task that
    one of the two windows has no labels for.

    Args:
        temperature: a large one makes factors more alike.
        window: in steps; None: an epoch, as in the source.

    Source:
        Liu et al., End-to-end multi-task learning with attention, CVPR 2019, Eq. 7.
    """

    def __init__(self, situation: Situation, *, temperature: float = 2.0, window: int | None = None) -> None:
        super().__init__(situation)
        _check_positive("temperature", temperature)
        if window is not None and (isinstance(window, bool) or not isinstance(window, int) or window < 1):
            raise ConfigError(f"loss.weighting_options.window: expected a number of steps, or null; got {window!r}.")
        self.temperature = temperature
        self.window = situation.epoch_steps if window is None else window
        self.now = nn.Buffer(self.start.clone())
        self.before = nn.Buffer(torch.full_like(self.start, math.nan))  # mean losses of the last window
        self.sums = nn.Buffer(torch.zeros_like(self.start))  # of this window
        self.counts = nn.Buffer(torch.zeros_like(self.start))
        self.steps = nn.Buffer(torch.zeros((), dtype=torch.int64))

    def values(self) -> Tensor:
        return self.now

    def step(self, losses: Mapping[str, float]) -> None:
        for number, task in enumerate(self.tasks):
            if task in losses:
                self.sums[number] += losses[task]
                self.counts[number] += 1
        self.steps.add_(1)
        if self.steps < self.window:
            return
        means = self.sums / self.counts  # NaN without labels
        ratios = means / self.before
        ratios = torch.where(torch.isfinite(ratios), ratios, 1.0)
        self.now.copy_(self.start * len(self.tasks) * torch.softmax(ratios / self.temperature, dim=0))
        self.before.copy_(means)
        for tensor in (self.sums, self.counts, self.steps):
            tensor.zero_()


class GradNorm(Weighting):
    """Every task's gradient gets a norm of its own, larger for tasks that learn more slowly than the others.

    The norm of the gradient of factor times loss approaches the tasks' mean norm times r^alpha; r is a task's loss
    over its first one, relative to the tasks' mean of that. The sum of the factors stays that of `loss.weights`.

    The source takes gradients with respect to the last layer that all tasks share. Streams share no layer, but through
    a fusion every task's loss reaches every stream. So here it is the last convolution before the last fusion, of all
    streams together: the latest weights that all losses depend on, so passes for them are short. (The fusion itself
    will not do: of an NDDR layer or the shortcut, each weight serves one task.) With one shared trunk it is that
    trunk's last convolution, as in the source.

    The steps of the source are for a factor, here they are for its logarithm, relative to the mean norm: a factor
    stays positive, and `rate` means the same for losses of any size. A step that has no labels for one of the tasks
    changes nothing.

    Args:
        alpha: how strongly slow tasks are favoured; 0 makes all norms equal.
        rate: of the factors; a factor changes by at most K * rate (relative) in a step.

    Raises:
        ConfigError: no weights are shared.

    Source:
        Chen et al., GradNorm, ICML 2018, Eq. 1, Eq. 2 and Algorithm 1.
    """

    def __init__(self, situation: Situation, *, alpha: float = 1.5, rate: float = 0.025) -> None:
        super().__init__(situation)
        _check_positive("rate", rate)
        if not 0 <= alpha < math.inf:
            raise ConfigError(f"loss.weighting_options.alpha: expected at least 0; got {alpha}.")
        self.alpha = alpha
        self.rate = rate
        self.shared = shared_weights(situation.network)
        self.gradients: Tensor | None = None  # of the step's parts so far, (K, numbers in `shared`), scaled
        self.now = nn.Buffer(self.start.clone())
        self.first = nn.Buffer(torch.full_like(self.start, math.nan))  # each task's first loss

    def values(self) -> Tensor:
        return self.now

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        scale = self.situation.gradient_scale
        rows = []
        for task in self.tasks:
            found = torch.autograd.grad(scale * losses[task], self.shared, retain_graph=True, materialize_grads=True)
            rows.append(torch.cat([gradient.flatten() for gradient in found]))
        part = torch.stack(rows)
        self.gradients = part if self.gradients is None else self.gradients + part
        return super().total(losses)

    def step(self, losses: Mapping[str, float]) -> None:
        if self.gradients is None:
            raise ValueError("GradNorm.step needs the gradients that `total` takes; call that for every part first.")
        # Processes average their gradients; so must we, before there is a norm.
        mean = self.situation.accelerator.reduce(self.gradients, reduction="mean")
        self.gradients = None
        if len(losses) < len(self.tasks):
            return
        now = torch.tensor([losses[task] for task in self.tasks], dtype=torch.float64)
        self.first.copy_(torch.where(self.first > 0, self.first, now))
        norms = self.now * (mean.norm(dim=1).double().cpu() / self.situation.gradient_scale)
        progress = now / self.first
        target = norms.mean() * (progress / progress.mean()) ** self.alpha
        moved = self.now * torch.exp(-self.rate * torch.sign(norms - target) * norms / norms.mean())
        if torch.isfinite(moved).all():  # not so where fp16 overflowed (then the optimiser skips this step, too)
            self.now.copy_(moved * self.start.sum() / moved.sum())


WEIGHTINGS: dict[str, type[Weighting]] = {
    "fixed": Fixed,
    "uncertainty": Uncertainty,
    "dwa": DynamicAverage,
    "gradnorm": GradNorm,
}


def make_weighting(name: str, given: Mapping[str, Any], situation: Situation) -> Weighting:
    """The weighting that `loss.weighting` names, with its options.

    Raises:
        ConfigError: an unknown name, an unknown option, a value that it cannot take, or a network that it cannot
            work with.
    """
    weighting = options.choose("loss.weighting", name, WEIGHTINGS)
    return options.call("loss.weighting_options", weighting, situation, options=given)


def shared_weights(network: MultiTaskNetwork) -> list[Tensor]:
    """The latest weights that every task's loss depends on, one of each stream.

    Raises:
        ConfigError: there are none.
    """
    sites = range(1, len(network.stages) + 1)
    if len(network.streams) > 1:
        fused = [site for site in sites if not isinstance(network.fusions[site - 1], NoFusion)]
    else:
        fused = list(sites)  # one trunk
    if not fused:
        raise ConfigError(
            "loss.weighting: gradnorm compares gradients of weights that all tasks share; with fusion 'none' they "
            "share none. Choose a network.fusion (nddr, cross_stitch, sluice, shared), or another weighting."
        )
    return [network.stages_of(stream)[fused[-1] - 1].last_convolution().weight for stream in network.streams]


def _check_positive(option: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ConfigError(f"loss.weighting_options.{option}: expected a positive number; got {value}.")
