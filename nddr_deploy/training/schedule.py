"""The learning rate over time."""

from __future__ import annotations

from nddr_deploy.errors import ConfigError


def poly_factor(step: int, steps: int, *, power: float = 0.9, warmup_steps: int = 0) -> float:
    """What the base rate is multiplied with at `step` (0 .. steps - 1): `(1 - step / steps) ** power`.

    The first `warmup_steps` are further multiplied with (step + 1) / warmup_steps.

    Raises:
        ConfigError: a warm-up as long as the training, or a negative setting.

    Source:
        The schedule of DeepLab, which the released code of NDDR-CNN uses with power 0.9, per step.
    """
    if power < 0 or not 0 <= warmup_steps < steps:
        raise ConfigError(
            f"schedule: expected a power of at least 0 and a warm-up of 0 to {steps - 1} steps; "
            f"got {power} and {warmup_steps}."
        )
    rising = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return float(rising * (1 - step / steps) ** power)
