from __future__ import annotations

import pytest
import torch
from network_samples import AGE, DENSE, GENDER, NARROW, NORMALS, SEGMENTATION, images, narrow
from torch import fx

from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.network import BACKBONES, FUSIONS, MultiTaskNetwork, NetworkConfig, build_network, load_single_task
from nddr_deploy.tasks import Classification, Depth, Normals, Segmentation, Task

PLAIN = ["vgg16", "vgg16_deeplab", "resnet18", "resnet50", "alexnet"]  # resnet101 is resnet50 with more blocks
SIZES_OUT = {  # of an image of 65 x 98
    "vgg16": (2, 3),
    "vgg16_deeplab": (8, 12),
    "resnet18": (3, 4),
    "resnet50": (3, 4),
    "resnet101": (3, 4),
    "alexnet": (1, 2),
}


@pytest.mark.parametrize("shortcut", ["none", "per_task", "shared"])
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("backbone", PLAIN)
def test_every_backbone_fusion_and_shortcut_makes_one_output_per_task(
    backbone: str, fusion: str, shortcut: str
) -> None:
    network = narrow(backbone, fusion, DENSE if shortcut == "shared" else DENSE[:2], shortcut=shortcut)

    outputs = network(images(65, 98, batch=3))

    expected = {"segmentation": 5, "normals": 3, "depth": 1}
    assert list(outputs) == list(network.tasks)
    for task, output in outputs.items():
        assert output.shape == (3, expected[task], *SIZES_OUT[backbone])
        assert torch.isfinite(output).all()


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("backbone", PLAIN)
def test_every_network_is_traced_by_fx_and_computes_the_same_at_another_size(backbone: str, fusion: str) -> None:
    options = {"pool_padding": "same"} if backbone == "vgg16_deeplab" else {}
    network = narrow(backbone, fusion, shortcut="per_task", resize="asymmetric", backbone_options=options)

    traced = fx.symbolic_trace(network)

    for size in ((64, 96), (65, 97)):
        expected, outputs = network(images(*size)), traced(images(*size))
        assert all(torch.equal(outputs[task], expected[task]) for task in network.tasks)


def test_resnet101_has_23_blocks_in_its_third_layer() -> None:
    network = narrow("resnet101", "nddr")

    blocks = {key.split(".")[4] for key in network.state_dict() if key.startswith("stages.3.normals.layer3.")}

    assert len(blocks) == 23
    assert network(images(65, 98))["normals"].shape == (2, 3, *SIZES_OUT["resnet101"])


@pytest.mark.parametrize("backbone", ["vgg16_deeplab", "vgg16", "resnet18", "alexnet"])
@pytest.mark.parametrize(
    ("fusion", "options"),
    [("nddr", {"order": "conv", "own": 1.0, "other": 0.0}), ("cross_stitch", {"own": 1.0, "other": 0.0})],
)
def test_own_1_and_other_0_without_batchnorm_reproduce_the_single_task_networks_to_the_last_bit(
    backbone: str, fusion: str, options: dict[str, object]
) -> None:
    single = {task.name: narrow(backbone, "none", (task,)) for task in DENSE}
    for number, network in enumerate(single.values()):
        for parameter in network.parameters():
            parameter.data.add_(0.01 * number)
    fused = narrow(backbone, fusion, DENSE, fusion_options=options)

    load_single_task(fused, {task: network.state_dict() for task, network in single.items()})

    outputs = fused(images(67, 81))
    for task, network in single.items():
        assert torch.equal(outputs[task], network(images(67, 81))[task])


def test_a_shortcut_that_starts_at_the_last_stage_reproduces_the_single_task_networks() -> None:
    single = {task.name: narrow("vgg16_deeplab", "none", (task,)) for task in DENSE[:2]}
    options = {"order": "conv", "own": 1.0, "other": 0.0}
    fused = narrow(
        "vgg16_deeplab", "nddr", fusion_options=options, shortcut="per_task", shortcut_options={"start": "last"}
    )
    for layer in fused.shortcut.layers.values():
        layer.conv.bias.data.zero_()

    report = load_single_task(fused, {task: network.state_dict() for task, network in single.items()})

    outputs = fused(images(40, 56))
    assert all(torch.equal(outputs[task], network(images(40, 56))[task]) for task, network in single.items())
    assert all(key.startswith("shortcut.") for key in report.missing)


@pytest.mark.parametrize(
    ("fusion", "options", "shortcut"),
    [
        *(("nddr", {"order": o}, "per_task") for o in ("bn-conv", "conv-bn-relu", "conv-relu-bn", "conv-bn", "conv")),
        ("cross_stitch", {"per_channel": True}, "shared"),
        ("sluice", {"depth_mixing": True}, "per_task"),
        ("shared", {}, "per_task"),
        ("none", {}, "none"),
    ],
)
def test_gradients_reach_every_parameter(fusion: str, options: dict[str, object], shortcut: str) -> None:
    heads = {"head": "aspp", "head_options": {"width": NARROW, "dropout": 0.0}}
    network = narrow("vgg16_deeplab", fusion, DENSE, fusion_options=options, shortcut=shortcut, **heads).train()
    if network.depth_mixing is not None:
        for layer in network.depth_mixing.layers.values():
            layer.beta.data.fill_(0.5)  # the start has zeros, which stop the gradients of the first step

    outputs = network(images(65, 64, batch=3))
    sum((output - 1).square().sum() for output in outputs.values()).backward()

    still = [
        name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert still == []


def test_each_task_has_its_own_head_and_order_of_tasks_is_the_order_of_outputs() -> None:
    network = narrow("resnet18", "nddr", (NORMALS, SEGMENTATION, AGE))
    before = network(images(33, 33))
    network.heads["normals"].conv.bias.data.add_(1.0)

    after = network(images(33, 33))

    assert list(after) == ["normals", "segmentation", "age"]
    assert torch.allclose(after["normals"], before["normals"] + 1.0, atol=1e-6)
    assert torch.equal(after["segmentation"], before["segmentation"])
    assert after["age"].shape == (2, 100)


def test_a_fused_stream_sees_the_other_task_and_a_single_task_one_does_not() -> None:
    for fusion, sees in (("nddr", True), ("cross_stitch", True), ("sluice", True), ("none", False)):
        network = narrow("vgg16", fusion)
        before = network(images(32, 32))["segmentation"]
        for parameter in network.stages[0]["normals"].parameters():
            parameter.data.mul_(1.5)

        after = network(images(32, 32))["segmentation"]

        assert torch.equal(before, after) != sees


def test_a_shared_trunk_has_one_stream_and_each_task_its_head() -> None:
    network = narrow("vgg16", "shared", DENSE)

    assert network.streams == ("shared",)
    assert network.parameter_counts()["stages"] == narrow("vgg16", "none", DENSE[:1]).parameter_counts()["stages"]
    assert list(network.heads) == ["segmentation", "normals", "depth"]


def test_what_trains_at_the_fusion_rate_is_the_fusion_layers_and_the_shortcut() -> None:
    network = narrow("vgg16", "sluice", shortcut="per_task", fusion_options={"depth_mixing": True})

    parts = {name.partition(".")[0] for name in network.fusion_parameters()}
    rest = {name.partition(".")[0] for name, _ in network.named_parameters() if name not in network.fusion_parameters()}

    assert parts == {"fusions", "shortcut", "depth_mixing"}
    assert rest == {"stages", "heads"}


@pytest.mark.parametrize(
    ("backbone", "options", "minimum"),
    [
        ("vgg16", {}, 32),
        ("vgg16_deeplab", {}, 8),
        ("vgg16_deeplab", {"pool_padding": "same"}, 8),  # these would make a map of one pixel, whose cell has 8
        ("vgg16_deeplab", {"cut": "convolution", "pool_padding": "zeros"}, 8),
        ("resnet18", {}, 32),
        ("resnet18", {"output_stride": 8}, 8),
        ("alexnet", {}, 63),
    ],
)
def test_the_smallest_image_works_and_a_smaller_one_is_refused_with_both_sizes(
    backbone: str, options: dict[str, object], minimum: int
) -> None:
    network = narrow(backbone, "nddr", backbone_options=options)

    assert network(images(minimum, minimum + 3))["normals"].numel() > 0
    with pytest.raises(InputError, match=f"at least {minimum}x{minimum} pixels; got {minimum + 3}x{minimum - 1}"):
        network(images(minimum + 3, minimum - 1))


@pytest.mark.parametrize(
    ("settings", "tasks", "sentence"),
    [
        ({"backbone": "vgg61"}, DENSE, "backbone: 'vgg61' is unknown.*Did you mean 'vgg16'"),
        ({"fusion": "ndr"}, DENSE, "fusion: 'ndr' is unknown.*Did you mean 'nddr'"),
        ({"shortcut": "per-task"}, DENSE, "shortcut: 'per-task' is unknown"),
        ({"resize": "nearest"}, DENSE, "resize: 'nearest' is unknown"),
        ({"head": "large-fov"}, DENSE, "head: 'large-fov' is unknown.*Did you mean 'large_fov'"),
        ({"backbone_options": {"widht": 1}}, DENSE, "backbone_options: 'widht' is unknown.*Did you mean 'width'"),
        ({"backbone_options": {"width": "half"}}, DENSE, "backbone_options.width: expected a number.*got 'half'"),
        ({"backbone_options": {"width": True}}, DENSE, "backbone_options.width: expected a number.*got True"),
        ({"backbone_options": {"width": 0}}, DENSE, "width: expected a positive factor"),
        ({"backbone_options": {"pool_padding": "valid"}}, DENSE, "pool_padding: 'valid' is unknown"),
        ({"fusion_options": {"order": "conv-relu"}}, DENSE, "order: 'conv-relu' is unknown"),
        ({"fusion_options": {"start": "random"}}, DENSE, "start: 'random' is unknown"),
        ({"fusion_options": {"single_side": ["age"]}}, DENSE, "single_side: 'age' is unknown"),
        ({"fusion": "none", "fusion_options": {"own": 1.0}}, DENSE, "'own' was given, but there are no options"),
        ({"fusion_options": {"depth_mixing": True}}, DENSE, "'depth_mixing' is unknown"),
        ({"fusion": "sluice", "fusion_options": {"depth_mixing": 1}}, DENSE, "depth_mixing: expected true or false"),
        ({"shortcut_options": {"order": "conv"}}, DENSE, "shortcut is 'none'"),
        ({"shortcut": "shared", "shortcut_options": {"order": "bn-conv"}}, DENSE, "order: 'bn-conv' is unknown"),
        ({"backbone": "resnet18", "backbone_options": {"output_stride": 4}}, DENSE, "expected 8, 16 or 32; got 4"),
        (
            {"head": "large_fov", "head_options": {"dropout": 2.0}},
            DENSE,
            "head_options: .*between 0 and 1, but got 2.0",
        ),
        ({"head": "pooled_linear"}, DENSE, "makes a pooled output, but task 'segmentation' needs a dense one"),
        ({"pooled_head": "conv1x1"}, (AGE, GENDER), "makes a dense output, but task 'age' needs a pooled one"),
        ({}, DENSE[:1], "at least 2 tasks; got 1: segmentation"),
        ({}, (), "at least one task; got none"),
        ({}, (Normals(), Normals()), "Two tasks are called 'normals'"),
        ({}, (Normals(), Depth("keys")), "cannot be called 'keys'"),
    ],
)
def test_a_wrong_setting_is_one_sentence(settings: dict[str, object], tasks: tuple[Task, ...], sentence: str) -> None:
    settings = {"backbone_options": {"width": NARROW}, "head": "conv1x1", **settings}

    with pytest.raises(ConfigError, match=sentence):
        build_network(NetworkConfig(**settings), tasks)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("backbone", "pooled_head", "options", "weights"),
    [  # what torchvision publishes for its ImageNet classifiers
        ("vgg16", "classifier", {}, 138_357_544),
        ("alexnet", "classifier", {"grid": 6}, 61_100_840),
        ("resnet18", "pooled_linear", {}, 11_689_512),
        ("resnet50", "pooled_linear", {}, 25_557_032),
        ("resnet101", "pooled_linear", {}, 44_549_160),
    ],
)
def test_full_width_networks_have_the_published_number_of_weights(
    backbone: str, pooled_head: str, options: dict[str, object], weights: int
) -> None:
    task = Classification("imagenet", classes=tuple(str(number) for number in range(1000)))
    config = NetworkConfig(backbone, fusion="none", pooled_head=pooled_head, pooled_head_options=options)

    with torch.device("meta"):
        network = build_network(config, [task])

    assert sum(network.parameter_counts().values()) == weights


def test_the_papers_deeplab_pair_has_two_times_20_5_million_weights_and_2_4_million_for_fusion() -> None:
    tasks = (Segmentation(classes=tuple(str(number) for number in range(40))), Normals())

    with torch.device("meta"):
        counts = build_network(NetworkConfig(fusion_options={"order": "conv"}), tasks).parameter_counts()

    assert counts["fusions"] == 2 * 1_220_608
    assert counts["stages"] + counts["heads"] == pytest.approx(2 * 20.5e6, rel=0.005)


def test_a_config_survives_its_plain_form() -> None:
    config = NetworkConfig(backbone="resnet18", backbone_options={"width": 0.5}, fusion="sluice", shortcut="shared")

    assert NetworkConfig.from_dict(config.to_dict()) == config


def test_a_plain_networks_penalties_are_empty() -> None:
    assert narrow("vgg16", "nddr").penalties() == {}


def test_every_backbone_of_the_table_is_described() -> None:
    assert all(function.__doc__ for function in BACKBONES.values())
    assert MultiTaskNetwork.__doc__
