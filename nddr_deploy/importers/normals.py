"""What no file says about normals: the directions that the colours of the label pictures stand for."""

from __future__ import annotations

from nddr_deploy.errors import ConfigError
from nddr_deploy.importers.base import Choices

AXES = "normals-axes"


def normals_axes(choices: Choices) -> tuple[tuple[str, str, str] | None, str]:
    """What red, green and blue of the label pictures stand for, and the sentence about it."""
    text = choices.assume.get(AXES)
    if text is None:
        return None, (
            "no file says which directions red, green and blue of the label pictures stand for, so they stay in the "
            f"pictures' own axes (--assume {AXES}=right,up,toward says it, for example)"
        )
    axes = tuple(part.strip() for part in text.split(","))
    if len(axes) != 3:
        raise ConfigError(f"assume: {AXES}={text}: expected three directions, as in {AXES}=right,up,toward.")
    red, green, blue = axes
    return (red, green, blue), f"axes of the label pictures as told: {red}, {green}, {blue}"
