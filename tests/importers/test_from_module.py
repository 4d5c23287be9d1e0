"""Networks of the user's own code: `--from-module`."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from nddr_deploy.engines import open_engine
from nddr_deploy.errors import ConfigError
from nddr_deploy.export.recipe import export_checkpoint
from nddr_deploy.importers.module import load_from_module

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_network.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("own_network", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def weights(example: ModuleType, tmp_path: Path) -> Path:
    """A state dict of the example's layout, with BatchNorm statistics that look trained."""
    stages = [nn.ModuleDict({t.name: example.stage(*widths) for t in example.TASKS}) for widths in ((3, 16), (16, 32))]
    heads = nn.ModuleDict({task.name: nn.Conv2d(32, task.channels, 1) for task in example.TASKS})
    fusions = nn.ModuleList([example.Exchange(16), example.Exchange(32)])
    everything = nn.ModuleDict({"stages": nn.ModuleList(stages), "fusions": fusions, "heads": heads})
    generator = torch.Generator().manual_seed(3)
    for layer in everything.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in ((layer.running_mean, -0.5, 0.5), (layer.running_var, 0.3, 2.0)):
                assert tensor is not None
                tensor.uniform_(low, high, generator=generator)
    torch.save(everything.state_dict(), tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def test_the_documented_example_is_under_forty_lines() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 40


def test_the_example_exports_from_its_folder_and_agrees_with_a_forward_pass_by_hand(
    example: ModuleType, weights: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "nddr_deploy.export", str(weights), "--from-module", "own_network:load"]

    run = subprocess.run(
        [*command, "--size", "33x48", "--output", str(tmp_path / "model.onnx")],
        cwd=EXAMPLE.parent,
        capture_output=True,
        text=True,
    )

    assert run.returncode == 0, run.stderr
    assert "loaded by own_network:load" in run.stdout
    image = np.random.default_rng(0).integers(0, 256, (1, 33, 48, 3), dtype=np.uint8)
    network = example.load(weights)
    x = torch.from_numpy(network.preprocess.apply(image))
    features = {task.name: x for task in network.tasks}
    with torch.no_grad():
        for stage, fusion in zip(network.stages, network.fusions, strict=True):
            features = fusion.eval()({name: module.eval()(features[name]) for name, module in stage.items()})
        expected = {name: head(features[name]).numpy() for name, head in network.heads.items()}
    with open_engine(tmp_path / "model.onnx") as engine:
        found = engine.infer(image)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5)  # float32 sums of a small network


def test_choices_for_foreign_files_do_not_go_with_a_function_that_says_everything(weights: Path) -> None:
    with pytest.raises(ConfigError, match="leave format, assume, mean, std and rename out"):
        export_checkpoint(weights, from_module="own_network:load", assume={"bn": "after-relu"})


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("own_network", "Write package.module:function"),
        ("no_such_module_anywhere:load", "cannot be imported"),
        ("json:no_such_function", "cannot be imported"),
        ("os.path:basename", "returned a str; expected nddr_deploy.importers.module.StagedNetwork"),
    ],
)
def test_a_target_that_is_no_such_function_is_refused(target: str, said: str, weights: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        load_from_module(target, weights)
