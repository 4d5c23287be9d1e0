"""Which commands can run here, with which backends, and what stops the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nddr_deploy.doctor import ort, trt
from nddr_deploy.doctor.ask import Answer
from nddr_deploy.doctor.facts import Facts
from nddr_deploy.doctor.finding import Finding
from nddr_deploy.doctor.gpu import driver_runs, expects_gpu, gpu_count
from nddr_deploy.doctor.packages import lacking
from nddr_deploy.engines.table import BACKENDS

NO_GPU = "no NVIDIA GPU here"
NO_DRIVER = "the NVIDIA GPU cannot be used: see above"


@dataclass(frozen=True)
class Command:
    """What is known of a command.

    Attributes:
        name: "nddr-infer".
        ways: in which it can run: backends, devices, or what it builds; empty where it cannot run.
        stopped: the other ways, or the whole command under its own name -> what stops it.
        verb, no: how to say in a sentence what it can do, and what it cannot.
    """

    name: str
    ways: tuple[str, ...]
    stopped: Mapping[str, str]
    verb: str = "runs on"
    no: str = "not on"

    @property
    def runs(self) -> bool:
        return bool(self.ways)

    def to_dict(self) -> dict[str, Any]:
        return {"runs": self.runs, "with": list(self.ways), "stopped": dict(self.stopped)}


def examine(facts: Facts, findings: Iterable[Finding]) -> tuple[Command, ...]:
    """The commands, from the facts and what was found wrong with them."""
    broken = {(finding.subject, finding.what): finding.found for finding in findings if finding.state == "problem"}
    stops = {backend: _stops(facts, backend, broken) for backend in BACKENDS}
    return (_train(facts, stops), _export(facts, stops), _infer(facts, stops), _build(facts, stops))


def _stops(facts: Facts, backend: str, broken: Mapping[tuple[str, str], str]) -> str:
    """What stops a backend; "" where nothing does."""
    if backend in ("torch-cuda", "onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt") and not gpu_count(facts):
        return NO_DRIVER if expects_gpu(facts) else NO_GPU
    if backend.startswith("torch"):
        return _loads(facts.torch, "PyTorch") or _torch_cuda(facts, backend)
    if backend == "openvino":
        return _loads(facts.openvino, "OpenVINO") or broken.get(("OpenVINO", "devices"), "")
    if backend == "tensorrt":
        return _tensorrt(facts, broken)
    stop = _loads(facts.onnxruntime, "ONNX Runtime")
    if stop or backend in ("onnxruntime", "onnxruntime-as-written"):
        return stop
    return _provider(facts, backend.removeprefix("onnxruntime-"))


def _loads(answer: Answer, title: str) -> str:
    if answer.missing:
        return f"{title} is not installed"
    return f"{title} does not load" if answer.problem else ""


def _torch_cuda(facts: Facts, backend: str) -> str:
    if backend == "torch" or facts.torch.get("usable"):
        return ""
    return "PyTorch finds no GPU" if facts.torch.get("cuda") else "this PyTorch is for CPUs only"


def _tensorrt(facts: Facts, broken: Mapping[tuple[str, str], str]) -> str:
    stop = _loads(facts.tensorrt, "TensorRT") or _loads(facts.cuda_bindings, "cuda-bindings")
    if stop:
        return stop
    for what in ("TensorRT", "fit with the driver", "fit with the GPU", "cuda-bindings"):
        if (trt.SUBJECT, what) in broken:
            return (
                f"TensorRT does not {what.replace('with ', '')}" if what.startswith("fit") else f"{what} does not fit"
            )
    return ""


def _provider(facts: Facts, name: str) -> str:
    if not ort.has_provider(facts, name):
        return "this ONNX Runtime has no such provider"
    provider = facts.providers[name]
    if provider.problem or provider.lacking():
        return f"its provider lacks {provider.lacking()[0]}" if provider.lacking() else provider.problem
    cuda = ort.cuda_major(facts)
    if cuda is not None and driver_runs(facts, cuda) is False:
        return f"this ONNX Runtime is for CUDA {cuda}, and the driver is older"
    return ""


def _train(facts: Facts, stops: Mapping[str, str]) -> Command:
    needs = _needs(lacking(facts, "") + lacking(facts, "train")) or stops["torch"]
    if needs:
        return Command("nddr-train", (), {"nddr-train": needs})
    ways = ("the CPU",) if stops["torch-cuda"] else ("the GPU", "the CPU")
    return Command("nddr-train", ways, {"the GPU": stops["torch-cuda"]} if stops["torch-cuda"] else {})


def _export(facts: Facts, stops: Mapping[str, str]) -> Command:
    """The exported file is compared with the network, in ONNX Runtime."""
    needs = _needs(lacking(facts, "")) or stops["torch"] or stops["onnxruntime"]
    if needs:
        return Command("nddr-export", (), {"nddr-export": needs})
    return Command("nddr-export", ("the CPU",), {})


def _infer(facts: Facts, stops: Mapping[str, str]) -> Command:
    needs = _needs(lacking(facts, ""))
    for answer, title in ((facts.pyav, "PyAV"), (facts.opencv, "OpenCV")):
        needs = needs or _loads(answer, title)
    if needs:
        return Command("nddr-infer", (), {"nddr-infer": needs})
    ways = tuple(backend for backend, stop in stops.items() if not stop)
    stopped = {backend: stop for backend, stop in stops.items() if stop}
    return Command("nddr-infer", ways, stopped, verb="runs with", no="not with")


def _build(facts: Facts, stops: Mapping[str, str]) -> Command:
    """Both are compared with ONNX Runtime; a graph needs no TensorRT."""
    # onnx-graphsurgeon appends the decoders
    tools = [name for name in lacking(facts, "gpu") if name == "onnx-graphsurgeon"]
    needs = _needs(lacking(facts, "") + tools) or stops["onnxruntime"]
    if needs:
        return Command("nddr-build", (), {"nddr-build": needs})
    if stops["tensorrt"]:
        return Command("nddr-build", ("graphs (--graph)",), {"engines": stops["tensorrt"]}, "builds", "no")
    return Command("nddr-build", ("engines", "graphs (--graph)"), {}, "builds", "no")


def _needs(missing: list[str]) -> str:
    if not missing:
        return ""
    return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
