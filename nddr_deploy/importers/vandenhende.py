"""SimonVandenhende/Multi-Task-Learning-PyTorch: dilated ResNets with a DeeplabV3 head each, two tasks or more."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from nddr_deploy.errors import ModelFileError, UnsupportedError, unknown_choice
from nddr_deploy.importers.base import Choices, Foreign, Importer, Layers, Plan, class_names, with_overrides
from nddr_deploy.importers.normals import AXES, normals_axes
from nddr_deploy.network.config import NetworkConfig
from nddr_deploy.preprocess import Preprocess
from nddr_deploy.tasks import Binary, Depth, Normals, Segmentation, Task
from nddr_deploy.tasks.class_names import HUMAN_PARTS7, NYU40, PASCAL21

# The order in which features are concatenated, whatever the order of the file's keys (old PyTorch sorted them).
ORDER = ("semseg", "human_parts", "sal", "normals", "edge", "depth")
# Where a fusion stands -> our stage. "layer1" has the stem in it; else the stem has a fusion of its own, or none.
STAGES = {"conv": 1, "layer1_without_conv": 2, "layer1": 2, "layer2": 3, "layer3": 4, "layer4": 5}
BACKBONES = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
}
TASK_OF = {
    prefix: re.compile(pattern)
    for prefix, pattern in (("backbone", r"backbone\.([^.]+)\."), ("heads", r"heads\.([^.]+)\."))
}
FUSED = re.compile(r"nddr\.([^.]+)\.layer\.([^.]+)\.")


def recognise(foreign: Foreign) -> bool:
    return bool(foreign.with_prefix("nddr.") and foreign.with_prefix("heads.") and foreign.with_prefix("backbone."))


def plan(foreign: Foreign, choices: Choices) -> Plan:
    names = _task_names(foreign)
    stage_names = _fused(foreign, names)
    backbone = _backbone(foreign, names[0])
    layers: dict[str, Layers] = {}
    for task in names:
        for number in range(5):
            layers[f"stages.{number}.{task}"] = _below(f"backbone.{task}.")
        for name in stage_names:
            prefix = f"nddr.{name}.layer.{task}"
            layers[f"fusions.{STAGES[name] - 1}.layers.{task}"] = [f"{prefix}.0", f"{prefix}.1"]
        layers[f"heads.{task}"] = _below(f"heads.{task}.")
    network = NetworkConfig(
        backbone=backbone,
        backbone_options={
            "width": foreign.outputs(f"backbone.{names[0]}.conv1.weight") / 64,
            "output_stride": 8,
            "stem_pool": "before_fusion",
        },
        fusion="nddr",
        fusion_options={"order": "conv-bn-relu"},
        fused_stages=None if len(stage_names) == 5 else tuple(STAGES[name] for name in stage_names),
        resize="half_pixel",
        head="aspp",
        head_options={"width": foreign.outputs(f"heads.{names[0]}.0.project.0.weight") / 256},
    )
    tasks, assumed = _tasks(foreign, names, choices)
    indoor = {"depth", "normals"} >= set(names) - {"semseg"} and _outputs(foreign, names).get("semseg") != 21
    places = "every stage" if len(stage_names) == 5 else ", ".join(stage_names)
    return Plan(
        variant=f"{backbone.replace('resnet', 'ResNet-')} (output stride 8), DeeplabV3 heads, fused after {places}",
        network=network,
        tasks=tasks,
        preprocess=with_overrides(Preprocess(), choices),
        size_hw=(480, 640) if indoor else (512, 512),  # NYUD, PASCAL
        layers=layers,
        assumed=assumed,
    )


def _below(prefix: str) -> Callable[[str], str]:
    """Our layers have the names of torchvision, and so have theirs."""
    return lambda name: f"{prefix}{name}"


def _task_names(foreign: Foreign) -> tuple[str, ...]:
    found = {
        part: {match[1] for key in foreign.shapes if (match := pattern.match(key))} for part, pattern in TASK_OF.items()
    }
    fused = {match[2] for key in foreign.shapes if (match := FUSED.match(key))}
    for part, names in (*found.items(), ("nddr", fused)):
        if names != found["heads"]:
            raise ModelFileError(
                f"{foreign.path}: its heads are those of {_listed(found['heads'])}, but {part} has {_listed(names)}. "
                "The order in which tasks are concatenated is then unknown; give the file as the training wrote it."
            )
    unknown = sorted(found["heads"] - set(ORDER))
    if unknown:
        raise UnsupportedError(
            f"{foreign.path} has a task {unknown[0]!r}. This format's tasks are {', '.join(ORDER)}, concatenated in "
            "that order; where another one stands is not known."
        )
    return tuple(name for name in ORDER if name in found["heads"])


def _fused(foreign: Foreign, names: tuple[str, ...]) -> tuple[str, ...]:
    """The stages that are fused, in order."""
    found = {match[1] for key in foreign.shapes if (match := FUSED.match(key))}
    for name in sorted(found):
        if name not in STAGES:
            raise unknown_choice(f"{foreign.path}: fusion after", name, STAGES)
    if "layer1" in found and found & {"conv", "layer1_without_conv"}:
        raise ModelFileError(
            f"{foreign.path} is fused after layer1, with the stem in it, and after {_listed(found - {'layer1'})}: "
            "these exclude each other. Give the file as the training wrote it."
        )
    return tuple(name for name in STAGES if name in found)


def _backbone(foreign: Foreign, task: str) -> str:
    if foreign.with_prefix(f"backbone.{task}.fc."):
        raise UnsupportedError(
            f"{foreign.path}: 'backbone.{task}.fc.*' belongs to a ResNet that is not dilated; only the dilated one, "
            "of the repository's NDDR configurations, is known."
        )
    pattern = re.compile(rf"backbone\.{re.escape(task)}\.layer([1-4])\.(\d+)\.")
    blocks = [0, 0, 0, 0]
    for key in foreign.shapes:
        if match := pattern.match(key):
            layer, block = int(match[1]) - 1, int(match[2])
            blocks[layer] = max(blocks[layer], block + 1)
    bottleneck = f"backbone.{task}.layer1.0.conv3.weight" in foreign.shapes
    first, second, third, fourth = blocks
    found = BACKBONES.get(((first, second, third, fourth), bottleneck))
    if found is None:
        kind = "bottlenecks" if bottleneck else "basic blocks"
        raise UnsupportedError(
            f"{foreign.path} has layers of {blocks} {kind} for {task!r}. Known are ResNet-18, -50 and -101; an HRNet "
            "or another backbone cannot be imported."
        )
    return found


def _outputs(foreign: Foreign, names: tuple[str, ...]) -> Mapping[str, int]:
    return {name: foreign.outputs(f"heads.{name}.4.weight") for name in names}


def _tasks(foreign: Foreign, names: tuple[str, ...], choices: Choices) -> tuple[tuple[Task, ...], tuple[str, ...]]:
    """Our tasks under the file's names, and what is assumed."""
    outputs = _outputs(foreign, names)
    axes, about_axes = normals_axes(choices)
    tasks: list[Task] = []
    for name in names:
        if name == "semseg":
            tasks.append(Segmentation(name, classes=class_names([NYU40, PASCAL21], outputs[name])))
        elif name == "human_parts":
            tasks.append(Segmentation(name, classes=class_names([HUMAN_PARTS7], outputs[name])))
        elif name == "normals":
            tasks.append(Normals(name, axes=axes))
        elif name == "depth":
            tasks.append(Depth(name))
        else:
            tasks.append(Binary(name))
    assumed = (f"normals: vectors of [-1, 1]; {about_axes}",) if "normals" in names else ()
    return tuple(tasks), assumed


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


VANDENHENDE = Importer(
    keys="backbone.semseg.conv1.weight, nddr.conv.layer.semseg.0.weight, heads.semseg.4.weight",
    recognise=recognise,
    plan=plan,
    assumptions={AXES: ()},
)
