"""How much each task's loss counts in what is minimised. To add a weighting: write it here, and a line in `WEIGHTINGS`.

Nothing here waits for a GPU. K is the number of tasks.
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
from nddr_deploy.training.processes import Processes


@dataclass(frozen=True)
class Situation:
    """What a weighting may need to know of the training.

    Attributes:
        weights: of every task, `loss.weights`: where factors start.
        network: that is trained.
        epoch_steps: steps until every sample was seen once.
        accelerator, processes: that train it.
    """

    weights: Mapping[str, float]
    network: MultiTaskNetwork
    epoch_steps: int
    accelerator: Accelerator
    processes: Processes

    def scaled(self, loss: Tensor) -> Tensor:
        """What fp16 makes of a loss, so that small gradients do not vanish; the optimiser takes it back."""
        scaler = self.accelerator.scaler
        if scaler is None:
            return loss
        scaled: Tensor = scaler.scale(loss)
        return scaled


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
        self.device = situation.accelerator.device
        self.start = torch.tensor(list(situation.weights.values()), dtype=torch.float64, device=self.device)

    @abstractmethod
    def factors(self) -> Tensor:
        """The factors now, (K,)."""

    def named_factors(self) -> dict[str, float]:
        """Task name -> the factor of its loss now. Waits for the device."""
        return dict(zip(self.tasks, self.factors().tolist(), strict=True))

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the tasks' losses of one part, (); call it once for each part.

        Factors are constants in it: what they learn, they learn in `step`.
        """
        return (torch.stack([losses[task] for task in self.tasks]) * self.factors().float()).sum()

    def step(self, losses: Tensor, labelled: Tensor) -> None:
        """Learn from a step.

        Args:
            losses: (K,), of the whole step, over all parts and processes.
            labelled: (K,) bool, whether anything was labelled for the task.
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

    def factors(self) -> Tensor:
        return self.start


class Uncertainty(Weighting):
    """Trained factors: each task's loss L over twice its variance exp(s), plus s / 2 against ever larger variances.

    What is minimised over s is L exp(-s) / 2 + s / 2; its minimum is at s = log L, where every task contributes 1/2.
    The source has this form for regression, with s = log sigma^2, and one without the first 1/2 for classification.
    The two differ by a constant when the latter's s is shifted by log 2, so the one form serves every task here, and
    what a factor starts from is `loss.weights` alone (the source: 1/2 for regression, 1 for classification).

    The gradient of s, 1/2 - L exp(-s) / 2, is at most 1/2, and here at least -1/2: otherwise the first steps of a loss
    that starts large would drive its factor to almost nothing, from where it takes thousands of steps back. A task
    that a step has no labels for keeps its s, but for the optimiser's momentum.

    Args:
        lr_factor: the rate of s over the base rate. Weight decay and `clip_norm` leave s alone.

    Source:
        Kendall et al., Multi-task learning using uncertainty to weigh losses, CVPR 2018, Eq. 7 and Eq. 10.
    """

    def __init__(self, situation: Situation, *, lr_factor: float = 1.0) -> None:
        super().__init__(situation)
        _check_positive("lr_factor", lr_factor)
        self.lr_factor = lr_factor
        self.log_variances = nn.Parameter(-torch.log(2 * self.start).float())

    def factors(self) -> Tensor:
        return torch.exp(-self.log_variances.detach()) / 2

    def step(self, losses: Tensor, labelled: Tensor) -> None:
        gradient = torch.where(labelled, (0.5 - self.factors() * losses).clamp(min=-0.5), 0.0)
        self.log_variances.grad = self.situation.scaled(gradient)

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
        Liu et al., End-to-end multi-task learning with attention, CVPR 2019 (Dynamic Weight Average).
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
        self.steps = nn.Buffer(
            torch.zeros((), dtype=torch.int64)
        )  # of this window; on the CPU, so that it can be asked

    def factors(self) -> Tensor:
        return self.now

    def step(self, losses: Tensor, labelled: Tensor) -> None:
        self.sums.add_(torch.where(labelled, losses, 0.0))
        self.counts.add_(labelled)
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
        self.gradients = torch.zeros(())  # of the step's parts so far, (K, numbers in `shared`), scaled
        self.now = nn.Buffer(self.start.clone())
        self.first = nn.Buffer(torch.full_like(self.start, math.nan))  # each task's first loss

    def factors(self) -> Tensor:
        return self.now

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        rows = []
        for task in self.tasks:
            loss = self.situation.scaled(losses[task])
            found = torch.autograd.grad(loss, self.shared, retain_graph=True, materialize_grads=True)
            rows.append(torch.cat([gradient.flatten() for gradient in found]))
        self.gradients = self.gradients + torch.stack(rows)
        return super().total(losses)

    def step(self, losses: Tensor, labelled: Tensor) -> None:
        gradients = self.situation.processes.sum(self.gradients) / self.situation.scaled(torch.ones_like(losses[:1]))
        self.gradients = torch.zeros(())
        first = torch.where(self.first > 0, self.first, losses)
        progress = losses / first
        norms = self.now * gradients.norm(dim=1)
        target = norms.mean() * (progress / progress.mean()) ** self.alpha
        moved = self.now * torch.exp(-self.rate * torch.sign(norms - target) * norms / norms.mean())
        moved *= self.start.sum() / moved.sum()
        # Not finite where fp16 overflowed; then the optimiser skips this step, too.
        usable = labelled.all() & torch.isfinite(moved).all()
        self.now.copy_(torch.where(usable, moved, self.now))
        self.first.copy_(torch.where(usable, first, self.first))


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
