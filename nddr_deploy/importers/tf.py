"""ethanygao/NDDR-CNN, the authors' own code (TensorFlow 1): two VGG-16 streams, 5 fusions, a shortcut per task."""

from __future__ import annotations

from nddr_deploy.importers.base import Choices, Foreign, Importer, Layers, Plan, with_overrides
from nddr_deploy.importers.normals import AXES
from nddr_deploy.importers.vgg import CONVOLUTIONS, MEAN_RGB, SIZE_HW, TASKS, vgg_network, vgg_tasks
from nddr_deploy.preprocess import Preprocess

PARAMETERS = {"weight": "weights", "bias": "biases"}
BATCHNORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def recognise(foreign: Foreign) -> bool:
    return "vgg_16_1_1/conv1/conv1_1/weights" in foreign.shapes and bool(foreign.with_prefix("nddr_1/"))


def plan(foreign: Foreign, choices: Choices) -> Plan:
    shortcut = bool(foreign.with_prefix("nddr_shortcut_"))
    layers: dict[str, Layers] = {}
    for number, task in enumerate(TASKS, start=1):
        for stage, convolutions in enumerate(CONVOLUTIONS, start=1):
            scope = f"vgg_16_{number}_{stage}/conv{stage}/conv{stage}_"
            layers[f"stages.{stage - 1}.{task}"] = _twice(*(f"{scope}{n + 1}" for n in range(convolutions)))
            layers[f"fusions.{stage - 1}.layers.{task}"] = _twice(f"nddr_{stage}/nddr_{stage}_n{number}")
        head = f"vgg_16_{number}_6"
        layers[f"heads.{task}"] = [*_twice(f"{head}/fc6", f"{head}/fc7"), f"{head}/fc8_voc12"]
        if shortcut:
            layers[f"shortcut.layers.{task}"] = _twice(f"nddr_shortcut_{number}")
    network = vgg_network(
        foreign,
        "vgg_16_1_1/conv1/conv1_1/weights",
        "vgg_16_1_6/fc6/weights",
        resize="asymmetric",
        backbone_options={"pool_padding": "same"},
        fusion_options={"order": "conv-bn-relu"},
        shortcut="per_task" if shortcut else "none",
        shortcut_options={"order": "conv-bn-relu"} if shortcut else None,
    )
    classifiers = ("vgg_16_1_6/fc8_voc12/weights", "vgg_16_2_6/fc8_voc12/weights")
    tasks, about_normals = vgg_tasks(foreign, classifiers, choices)
    preprocess = Preprocess(scale=1.0, mean=(MEAN_RGB[2], MEAN_RGB[1], MEAN_RGB[0]), std=(1.0, 1.0, 1.0), order="bgr")
    slots = sum(key.endswith("/Momentum") for key in foreign.shapes)
    return Plan(
        variant="VGG-16 Deeplab-LargeFOV of TensorFlow with 5 fusions (nddr)"
        + (", a shortcut per task" if shortcut else ""),
        network=network,
        tasks=tasks,
        preprocess=with_overrides(preprocess, choices),
        size_hw=SIZE_HW,
        layers=layers,
        parameter=_variable,
        ignored=lambda key: key.endswith("/Momentum") or key == "global_step",
        assumed=(about_normals,),
        dropped=(f"the optimiser's state ({slots} variables)",) if slots else (),
    )


def _twice(*scopes: str) -> list[str]:
    """A convolution and its BatchNorm share a scope."""
    return [scope for scope in scopes for _ in ("convolution", "batchnorm")]


def _variable(scope: str, parameter: str, batchnorm: bool) -> str:
    return f"{scope}/BatchNorm/{BATCHNORM[parameter]}" if batchnorm else f"{scope}/{PARAMETERS[parameter]}"


TF = Importer(
    keys="vgg_16_1_1/conv1/conv1_1/weights, nddr_1/nddr_1_n1/weights",
    recognise=recognise,
    plan=plan,
    assumptions={AXES: ()},
)
