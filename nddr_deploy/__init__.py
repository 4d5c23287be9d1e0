"""Train multi-task NDDR-CNNs, export them to ONNX, and run every task head from one pass.

Every command is one function here, with the same parameter names:

    train              nddr-train
    import_checkpoint  nddr-import
    export_checkpoint  nddr-export, python -m nddr_deploy.export
    quantize_model     nddr-quantize
    verify             nddr-verify
    inspect_model      nddr-inspect
    build_engine       nddr-build
    infer              nddr-infer
    score              nddr-eval
    run_benchmark      nddr-bench
    diagnose           nddr-doctor
    open_engine        what all of them run models with

Names are imported when they are first used, so `import nddr_deploy` is cheap and needs none of the extras.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nddr_deploy.benchmark.run import run_benchmark
    from nddr_deploy.build.recipe import build_engine
    from nddr_deploy.card.verify import verify
    from nddr_deploy.checkpoint import load_checkpoint, save_checkpoint
    from nddr_deploy.data import open_dataset
    from nddr_deploy.doctor import diagnose
    from nddr_deploy.engines import open_engine
    from nddr_deploy.errors import NddrError
    from nddr_deploy.evaluate.score import score
    from nddr_deploy.export.recipe import export_checkpoint
    from nddr_deploy.importers import import_checkpoint
    from nddr_deploy.inference.run import infer
    from nddr_deploy.inspect.recipe import inspect_model
    from nddr_deploy.manifest import Manifest
    from nddr_deploy.network import build_network
    from nddr_deploy.network.config import NetworkConfig
    from nddr_deploy.quantize.recipe import quantize_model
    from nddr_deploy.training.run import train

__all__ = [
    "Manifest",
    "NddrError",
    "NetworkConfig",
    "build_engine",
    "build_network",
    "diagnose",
    "export_checkpoint",
    "import_checkpoint",
    "infer",
    "inspect_model",
    "load_checkpoint",
    "open_dataset",
    "open_engine",
    "quantize_model",
    "run_benchmark",
    "save_checkpoint",
    "score",
    "train",
    "verify",
]
__version__ = "0.1.0"

_HOME = {
    "Manifest": "manifest",
    "NddrError": "errors",
    "NetworkConfig": "network.config",
    "build_engine": "build.recipe",
    "build_network": "network",
    "diagnose": "doctor",
    "export_checkpoint": "export.recipe",
    "import_checkpoint": "importers",
    "infer": "inference.run",
    "inspect_model": "inspect.recipe",
    "load_checkpoint": "checkpoint",
    "open_dataset": "data",
    "open_engine": "engines",
    "quantize_model": "quantize.recipe",
    "run_benchmark": "benchmark.run",
    "save_checkpoint": "checkpoint",
    "score": "evaluate.score",
    "train": "training.run",
    "verify": "card.verify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nddr_deploy' has no attribute {name!r}")
    return getattr(import_module(f"nddr_deploy.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
