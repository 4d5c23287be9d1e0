"""A running average of the weights: often better than the last ones, and it costs one copy of the network."""

from __future__ import annotations

from copy import deepcopy

import torch

from nddr_deploy.errors import ConfigError
from nddr_deploy.network import MultiTaskNetwork

WARM_UP = 10  # steps: before, the average would be mostly the random start


class Average:
    """`average += (1 - d) (weights - average)` after every step, of parameters and BatchNorm's statistics alike.

    d rises from 0.1 to `decay`: min(decay, (1 + step) / (10 + step)), so that the start is soon forgotten.

    Attributes:
        network: with the averaged weights, in evaluation mode; what is validated, exported and kept.

    Args:
        network: that is being trained.
        decay: from 0 to below 1; 0.999 looks back over about a thousand steps.

    Raises:
        ConfigError: another decay.

    Source:
        Polyak and Juditsky, 1992; the warm-up is TensorFlow's ExponentialMovingAverage's.
    """

    def __init__(self, network: MultiTaskNetwork, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"ema: expected a decay from 0 to below 1, as in 0.999; got {decay}.")
        self.decay = decay
        self.network = deepcopy(network).eval().requires_grad_(False)
        ours, theirs = self.network.state_dict(), network.state_dict()  # tensors that share the networks' memory
        self._averaged = [ours[key] for key in ours if ours[key].is_floating_point()]
        self._weights = [theirs[key] for key in ours if ours[key].is_floating_point()]
        self._copied = [(ours[key], theirs[key]) for key in ours if not ours[key].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after `step` steps in."""
        decay = min(self.decay, (1 + step) / (WARM_UP + step))
        torch._foreach_lerp_(self._averaged, self._weights, 1 - decay)
        for mine, seen in self._copied:
            mine.copy_(seen)
