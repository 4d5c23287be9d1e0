"""What takes part in a pick: every form of one model that this machine can run, in every runtime and precision."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nddr_deploy.benchmark.cases import Case, parse_cases
from nddr_deploy.benchmark.subject import Subject, check_origin
from nddr_deploy.card.card_file import read_card
from nddr_deploy.engines.cuda import count_gpus
from nddr_deploy.engines.onnx_file import OnnxFile
from nddr_deploy.engines.plan_file import PlanFile
from nddr_deploy.errors import ConfigError, NddrError
from nddr_deploy.files import sha256
from nddr_deploy.quantize.recipe import default_output

ON_CPU = ("onnxruntime:fp32", "openvino:fp32", "openvino:bf16", "openvino:fp16")
ON_CPU_INT8 = ("onnxruntime:int8", "openvino:int8", "openvino:int8+bf16")
ON_GPU = ("onnxruntime-cuda:fp32", "onnxruntime-tensorrt:fp32", "onnxruntime-tensorrt:fp16")


@dataclass(frozen=True)
class Contenders:
    """The forms of one model.

    Attributes:
        subject: the float model and, where there is one, its int8 form.
        cases: to measure, the first being what the others are compared with.
        not_run: what else there could be -> why it takes no part.
    """

    subject: Subject
    cases: tuple[Case, ...]
    not_run: dict[str, str] = field(default_factory=dict)


def find_contenders(
    model: str | os.PathLike[str],
    *,
    int8: str | os.PathLike[str] | None = None,
    against: Sequence[str] | None = None,
) -> Contenders:
    """The forms of a model that lie beside it, and what can run them here.

    Args:
        model: in FP32, from nddr-export.
        int8: its int8 form; None looks for `model.int8.onnx`, and else for a card that names the model.
        against: only these cases, `RUNTIME` or `RUNTIME:PRECISION`, all of which must run.

    Raises:
        ConfigError: the model is not in FP32, `int8` is not its int8 form, or several files could be.
        ModelFileError: a file cannot be used.
    """
    path = Path(model)
    if path.suffix.lower() != ".onnx":
        raise ConfigError(f"{path}: --pick starts from the exported model (.onnx); engines beside it take part.")
    if OnnxFile.read(path).precision != "fp32":
        raise ConfigError(
            f"{path} is no FP32 model, which --pick compares with. Give the model that it was made from; this file "
            "then takes part as --int8, or by itself where it is named MODEL.int8.onnx."
        )
    not_run: dict[str, str] = {}
    subject = Subject.read(path, int8=int8) if int8 is not None else _with_int8(path, not_run)
    if against is not None:
        return Contenders(subject, tuple(parse_cases(against, model=path, checkpoint=None, int8=subject.int8)))
    names = [*ON_CPU, *(ON_CPU_INT8 if subject.int8 else ())]
    plans: list[Case] = []
    if count_gpus():
        names += ON_GPU
        plans = _for_tensorrt(subject, not_run)
    else:
        not_run["onnxruntime-cuda, onnxruntime-tensorrt, tensorrt"] = "there is no NVIDIA GPU that can be used here"
    cases = parse_cases(names, model=path, checkpoint=None, int8=subject.int8)
    return Contenders(subject, (*cases, *plans), not_run)


def _with_int8(model: Path, not_run: dict[str, str]) -> Subject:
    beside = default_output(model, "cpu")
    found = beside if beside.is_file() else _int8_by_card(model)
    if found is None:
        not_run["int8"] = f"there is no {beside.name}; make it with nddr-quantize, or name another file with --int8"
        return Subject.read(model)
    try:
        return Subject.read(model, int8=found)
    except NddrError as error:  # a file that nobody named is no reason to stop
        subject = Subject.read(model)
        not_run["int8"] = str(error).removeprefix("--int8 ")
        return subject


def _int8_by_card(model: Path) -> Path | None:
    """The int8 file whose card, beside the model, says that it was made from it."""
    wanted, found = sha256(model), []
    for path in sorted(model.parent.glob("*.card.json")):
        try:
            card = read_card(path)
        except NddrError:
            continue
        origin = {link.sha256 for link in card.chain if link.role == "onnx"}
        file = path.with_name(card.model.name)
        if (
            card.model.precision == "int8"
            and card.model.target in (None, "cpu")
            and wanted in origin
            and file.is_file()
        ):
            found.append(file)
    if len(found) > 1:
        raise ConfigError(
            f"Several int8 forms of {model} lie beside it: {', '.join(file.name for file in found)}. "
            "Name one with --int8."
        )
    return found[0] if found else None


def _for_tensorrt(subject: Subject, not_run: dict[str, str]) -> list[Case]:
    """Engines of nddr-build beside the model, and its int8 form for ONNX Runtime's TensorRT provider."""
    model, cases = subject.path, []
    quantised = default_output(model, "tensorrt")
    if quantised.is_file():
        cases.append(Case("onnxruntime-tensorrt:int8", "onnxruntime-tensorrt", "int8", compiled=False, path=quantised))
    plans = sorted({*model.parent.glob("*.trt")} & {*model.parent.glob(f"{_literal(model.stem)}.*")})
    for path in plans:
        try:
            plan = PlanFile.read(path)
            check_origin(plan, OnnxFile.read(model))
        except NddrError as error:
            not_run[path.name] = str(error)
            continue
        case = Case(f"tensorrt:{plan.about.precision}", "tensorrt", plan.about.precision, compiled=False, path=path)
        if case.label in [other.label for other in cases]:
            not_run[path.name] = f"another engine in {case.precision} takes part already"
            continue
        cases.append(case)
    if not plans:
        not_run["tensorrt"] = f"there is no {model.stem}.trt; build it with nddr-build"
    return cases


def _literal(text: str) -> str:
    """For a pattern: a name may hold brackets."""
    import glob

    return glob.escape(text)
