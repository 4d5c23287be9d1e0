"""Settings from YAML and the command line; errors are one sentence and exit status 2."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from training_fakes import settings

from nddr_deploy.errors import ConfigError
from nddr_deploy.training.__main__ import main
from nddr_deploy.training.config import TrainConfig
from nddr_deploy.training.config_file import (
    changed_settings,
    config_from_dict,
    config_to_dict,
    config_to_yaml,
    read_config,
)

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("steps: 100\noptimiser: {lr: 0.1, momentum: 0.8}\nnetwork:\n  backbone_options: {width: 0.25}\n")
    return path


def test_defaults_are_the_recipe_of_the_paper_and_its_code() -> None:
    config = TrainConfig()

    assert config.optimiser.name == "sgd"
    assert config.optimiser.momentum == 0.9
    assert config.optimiser.fusion_lr_factor == 100
    assert config.schedule.power == 0.9
    assert config.network.fusion == "nddr"


def test_a_file_and_words_make_a_config_and_words_win(config_file: Path) -> None:
    words = ["optimiser.lr=1e-3", "augment.crop_hw=[64, 96]", "tasks=[depth]", "loss.weights.depth=2", "device=cpu"]

    config = read_config(config_file, [*words, "network.backbone_options.batchnorm=true"])

    assert config.optimiser.lr == 1e-3
    assert config.optimiser.momentum == 0.8
    assert config.augment.crop_hw == (64, 96)
    assert config.tasks == ("depth",)
    assert config.loss.weights == {"depth": 2.0}
    assert config.network.backbone_options == {"width": 0.25, "batchnorm": True}
    assert config.steps == 100


def test_a_config_survives_yaml(tmp_path: Path) -> None:
    config = config_from_dict(settings(tmp_path, augment={"crop_hw": [32, 32]}, optimiser={"clip_norm": 1.5}))

    again = config_from_dict(yaml.safe_load(config_to_yaml(config)))

    assert again == config
    assert config_to_dict(again)["augment"]["crop_hw"] == [32, 32]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["optimiser.lrr=1"], "optimiser: setting: 'lrr' is unknown. Choose one of: .* Did you mean 'lr'?"),
        (["stepz=1"], "'stepz' is unknown.*Did you mean 'steps'"),
        (["preprocess.meen=[0,0,0]"], "Did you mean 'mean'"),
        (["optimiser.lr=fast"], r"optimiser.lr: found 'fast'; expected a number\."),
        (["optimiser.decay=some"], r"optimiser.decay: found 'some'; expected 'weights' or 'fusion' or 'all'\."),
        (["augment.crop_hw=[64]"], r"augment.crop_hw: found \[64\]; expected a list of 2 whole numbers or null\."),
        (["network.resize=cubic"], "network.resize: found 'cubic'; expected 'half_pixel' or 'align_corners'"),
        (["network.fused_stages=3"], r"found 3; expected a list of whole numbers or null\."),
        (["ema=much"], r"ema: found 'much'; expected a number or null\."),
        (["tasks=3"], r"tasks: found 3; expected a list of texts\."),
        (["steps=1.5"], r"steps: found 1.5; expected a whole number\."),
        (["optimiser=3"], "optimiser: expected settings.*found 3"),
        (["steps.count=3"], "steps is a single value"),
        (["steps"], "Write key=value"),
        (["=3"], "Write key=value"),
        (["loss.weights={depth: x}"], "loss.weights.*; expected settings, as in `name: value`, each value a number"),
        (["data.options=3"], "data.options: found 3; expected settings, as in `name: value`"),
        (["batch_size="], r"batch_size: found nothing \(null\); expected a whole number\."),
        (["data.options="], r"data.options: found nothing \(null\); expected settings"),
        (["tasks=null"], r"tasks: found nothing \(null\); expected a list of texts\."),
        (["loss="], "loss: expected settings.*; found None"),
    ],
)
def test_a_wrong_setting_is_one_sentence(config_file: Path, words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        read_config(config_file, words)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"), [("- 1\n- 2\n", "expected settings"), ("a: [1", "not YAML"), (None, "cannot be read")]
)
def test_a_file_that_is_no_configuration_is_one_sentence(tmp_path: Path, text: str | None, sentence: str) -> None:
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)

    with pytest.raises(ConfigError, match=sentence) as caught:
        read_config(path)

    assert "\n" not in str(caught.value)


def test_an_empty_file_means_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")

    assert read_config(tmp_path / "config.yaml") == TrainConfig()


def test_print_config_prints_a_file_that_trains_the_same(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(
        [str(config_file), "steps=7", "--output", str(tmp_path / "run"), "--print_config", "optimiser.lr=0.5"]
    )

    printed = config_from_dict(yaml.safe_load(capsys.readouterr().out))
    assert status == 0
    assert (printed.steps, printed.optimiser.lr, printed.output) == (7, 0.5, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_command_turns_a_typo_into_exit_status_2(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main([str(config_file), "optimizer.lr=1"])

    assert status == 2
    assert capsys.readouterr().err.startswith("error: the configuration: setting: 'optimizer' is unknown.")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_a_valid_configuration(path: Path) -> None:
    read_config(path)


def test_the_changed_settings_are_those_beside_the_defaults_and_make_the_same_config() -> None:
    values = {"steps": 7, "data": {"options": {"size_hw": [32, 40]}}, "optimiser": {"lr": 0.2}, "seed": 0}

    config = config_from_dict(values)

    assert changed_settings(config) == {key: value for key, value in values.items() if key != "seed"}
    assert config_from_dict(changed_settings(config)) == config
    assert changed_settings(TrainConfig()) == {}
