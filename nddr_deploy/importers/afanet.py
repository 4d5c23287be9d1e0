"""What the two formats of the AFANet repository have in common: a ResNet-50 whose blocks hold both tasks, A and B."""

from __future__ import annotations

from collections.abc import Callable

from nddr_deploy.importers.base import Choices, Foreign, Layers

STREAMS = ("A", "B")
FUSED = (2, 3, 4, 5)  # after layer1 .. layer4; the stem is not fused
ASSUMED_INPUT = "input RGB / 255 with ImageNet's mean and deviation: the file does not state it (--mean and --std do)"


def resnet_layers(foreign: Foreign, prefix: str, tasks: tuple[str, str]) -> tuple[dict[str, Layers], dict[str, str]]:
    """Where stages and fusions come from, and the twins: one projection serves both tasks and is listed twice."""
    layers: dict[str, Layers] = {}
    for number, (letter, task) in enumerate(zip(STREAMS, tasks, strict=True), start=1):
        for stage in range(5):
            layers[f"stages.{stage}.{task}"] = _lettered(prefix, letter)
        for stage in FUSED:
            fusion = f"{prefix}NDDR_{stage - 1}"
            layers[f"fusions.{stage - 1}.layers.{task}"] = [f"{fusion}.nddr_{number}", f"{fusion}.bn_{number}"]
    twins = {key: key.replace(".B_", ".A_") for key in foreign.shapes if ".B_downsample." in key}
    return layers, twins


def assumptions(choices: Choices, *others: str) -> tuple[str, ...]:
    """What is assumed: the input, unless the user says all of it, and others."""
    told = choices.mean is not None and choices.std is not None
    return others if told else (ASSUMED_INPUT, *others)


def _lettered(prefix: str, letter: str) -> Callable[[str], str]:
    """torchvision's name of a layer -> theirs: `layer1.0.conv1` -> `layer1.0.A_conv1`."""

    def name(ours: str) -> str:
        parts = ours.split(".")
        place = 2 if parts[0].startswith("layer") else 0
        parts[place] = f"{letter}_{parts[place]}"
        return prefix + ".".join(parts)

    return name
