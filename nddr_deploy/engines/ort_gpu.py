"""ONNX Runtime on a GPU: its CUDA provider and its TensorRT provider, without a fallback to anything."""

from __future__ import annotations

import os
import sys
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from nddr_deploy.engines.base import Engine, PassTimes
from nddr_deploy.engines.cuda import Gpu, describe_gpu
from nddr_deploy.engines.cuda_runtime import Stream
from nddr_deploy.engines.machine import default_threads
from nddr_deploy.engines.onnx_file import OnnxFile
from nddr_deploy.engines.ort import reason, session_options
from nddr_deploy.engines.ort_binding import BoundSession
from nddr_deploy.engines.ort_provider import check_installed, load_libraries, missing_library, quiet, requirement
from nddr_deploy.engines.silent_ort import onnxruntime
from nddr_deploy.errors import ModelFileError, UnsupportedError
from nddr_deploy.preprocess import Image
from nddr_deploy.tasks.base import Array

NO_FALLBACK = "session.disable_cpu_ep_fallback"
TF32_SWITCH = "NVIDIA_TF32_OVERRIDE"  # what TensorRT, cuBLAS and cuDNN read when they load; "0" is off
FIRST_WITH_TF32 = (8, 0)  # compute capability
STRONGLY_TYPED_ONLY = 11  # the TensorRT from which precision is in the graph alone


class OrtGpuEngine(Engine):
    """What both providers share: one stream of our own, and images and results that stay on the GPU during a pass.

    ONNX Runtime would run nodes that a provider lacks on the CPU, and the whole model there if the provider's
    libraries are missing. Here both are errors. It keeps the arithmetic of shapes on the CPU, so a model that leaves
    its size open may be refused: export it with a fixed one.
    """

    provider: str
    kind: str
    as_written: tuple[str, ...]
    makes: tuple[str, ...]

    def __init__(self, path: Path, *, threads: int | None = None, precision: str | None = None) -> None:
        file = OnnxFile.read(path)
        self.manifest = file.manifest
        self.precision = file.check_precision(precision, self.makes, self.kind, as_written=self.as_written)
        gpu = describe_gpu()
        check_installed(self.provider)
        load_libraries(self.provider)
        self.threads = threads or default_threads()  # of the host's part
        self.device = gpu.name
        self._bound: BoundSession | None = None
        with ExitStack() as opened:
            stream = opened.enter_context(closing(Stream()))
            options = {**self._options(file, gpu), "device_id": "0", "user_compute_stream": str(stream.pointer)}
            session = open_gpu_session(path, self.provider, options, threads=self.threads)
            names = [task.name for task in file.manifest.tasks]
            self._bound = opened.enter_context(closing(BoundSession(session, names, stream)))
            self._opened = opened.pop_all()

    @abstractmethod
    def _options(self, file: OnnxFile, gpu: Gpu) -> dict[str, str]:
        """Of the provider, for the precision."""

    def _run(self, images: Image) -> dict[str, Array]:
        return self._held(self._bound).infer(images)

    def time_pass(self, images: Image) -> PassTimes:
        """One pass, split into its parts: copies by the host's clock, from call to return (ONNX Runtime waits for them;
        they go through memory that is not pinned); the start of the computation by the host's clock, too; and the
        computation by two events of the GPU around it, in the provider's own stream."""
        bound = self._held(self._bound)
        self._check(images)
        return bound.time(images)

    def close(self) -> None:
        if self._bound is not None:
            self._bound = None
            self._opened.close()


class OrtCudaEngine(OrtGpuEngine):
    """Runs an exported model with ONNX Runtime's CUDA provider: cuDNN and cuBLAS, layer by layer.

    Convolution algorithms are tried out at the first pass of each shape. TF32 is off, so fp32 is fp32.

    Args:
        path: an ONNX file that nddr-export wrote.
        threads: of the host's part; None is `machine.default_threads()`.
        precision: what the file is written for: "fp32" or "fp16". (Q/DQ nodes would run as floats.)

    Raises:
        ModelFileError: the file cannot be used.
        UnsupportedError: no GPU; another precision; an ONNX Runtime without this provider, or whose libraries are
            missing; nodes that it would run on the CPU.
        MissingPackageError: onnxruntime or cuda-bindings is not installed.
    """

    backend = "onnxruntime-cuda"
    provider = "CUDAExecutionProvider"
    kind = "ONNX Runtime's CUDA provider"
    makes = ("fp32",)
    as_written = ("fp16",)

    def _options(self, file: OnnxFile, gpu: Gpu) -> dict[str, str]:
        return {"use_tf32": "0", "cudnn_conv_algo_search": "EXHAUSTIVE"}


class OrtTensorRTEngine(OrtGpuEngine):
    """Runs an exported model with ONNX Runtime's TensorRT provider, all of it: no node is left to another provider.

    The engine is built when the model is opened or at its first pass, for minutes, and is not kept.

    Args:
        path: an ONNX file that nddr-export wrote.
        threads: of the host's part; None is `machine.default_threads()`.
        precision: "fp32" or "fp16" of an fp32 file (TensorRT then chooses per layer), "fp16" of an fp16 file, "int8"
            where the file itself holds Q/DQ nodes. The provider cannot be told to leave out TF32: fp32 needs
            NVIDIA_TF32_OVERRIDE=0 in the environment of the process, on GPUs that have TF32.

    Raises:
        As OrtCudaEngine.
    """

    backend = "onnxruntime-tensorrt"
    provider = "TensorrtExecutionProvider"
    kind = "ONNX Runtime's TensorRT provider"
    makes = ("fp32", "fp16")
    as_written = ("fp16", "int8", "int8+fp16")

    def _options(self, file: OnnxFile, gpu: Gpu) -> dict[str, str]:
        if self.precision == "fp32":
            _check_tf32_is_off(file.path, gpu)
        if self.precision == "fp16" and not file.halves:
            _check_chooses_precision(file.path)
        halves = file.halves or self.precision == "fp16"
        return {"trt_fp16_enable": _flag(halves), "trt_int8_enable": _flag(self.precision == "int8")}


def open_gpu_session(
    model: Path, provider: str, options: Mapping[str, str], *, threads: int
) -> onnxruntime.InferenceSession:
    """A session on one provider and on nothing else, with all graph optimisations.

    Args:
        model: an ONNX file.
        provider: as ONNX Runtime calls it.
        options: of the provider; each must be taken as it is.
        threads: of the host's part.

    Raises:
        ModelFileError: ONNX Runtime cannot load it.
        UnsupportedError: the provider's libraries are missing, or it lacks nodes or options.
    """
    settings = session_options(threads)
    settings.log_severity_level = 4  # what fails is raised; nothing else is said
    settings.add_session_config_entry(NO_FALLBACK, "1")
    try:
        with quiet():
            session = onnxruntime.InferenceSession(
                str(model),
                settings,
                providers=[(provider, dict(options))],
                enable_fallback=0,
                disabled_optimizers=["WeightBiasQuantization"],  # its biases underflow among FP16
            )
    except Exception as error:  # its exceptions share no base class
        raise _refusal(model, provider, error) from error
    session.disable_fallback()
    if session.get_providers()[0] != provider:
        raise UnsupportedError(f"{model}: expected ONNX Runtime's {provider}; it chose {session.get_providers()[0]}.")
    taken = session.get_provider_options()[provider]
    ignored = [name for name, value in options.items() if name in taken and not _same(taken[name], value)]
    if ignored:
        raise UnsupportedError(
            f"{model}: ONNX Runtime {onnxruntime.__version__} does not take {', '.join(ignored)} for its {provider}. "
            "Install a newer onnxruntime-gpu."
        )
    return session


def _refusal(model: Path, provider: str, error: Exception) -> Exception:
    library = missing_library(provider)
    if library is not None:
        return UnsupportedError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load its {provider}: {library} is missing. "
            f"{requirement(provider, library)}"
        )
    if "nknown provider option" in str(error):
        return UnsupportedError(
            f"ONNX Runtime {onnxruntime.__version__} is too old for its {provider} ({reason(error)}). Install a newer "
            "onnxruntime-gpu."
        )
    if "default CPU EP" in str(error):
        return UnsupportedError(
            f"{model}: ONNX Runtime would run some of its nodes on the CPU instead of its {provider}, as it does with "
            "the arithmetic of open sizes, and older versions with ArgMax. Export the model with a fixed size and raw "
            "outputs, install a newer onnxruntime-gpu, or choose another backend."
        )
    return ModelFileError(f"{model}: ONNX Runtime's {provider} cannot load it ({reason(error)}). Export it again.")


def _check_tf32_is_off(path: Path, gpu: Gpu) -> None:
    able = tuple(int(part) for part in gpu.compute_capability.split(".")) >= FIRST_WITH_TF32
    if able and os.environ.get(TF32_SWITCH) != "0":
        raise UnsupportedError(
            f"{path}: ONNX Runtime's TensorRT provider would compute fp32 in TF32, and has no option against it. "
            f"Set {TF32_SWITCH}=0 in the environment before the program starts, or ask for fp16."
        )


def _check_chooses_precision(path: Path) -> None:
    version = tensorrt_version()
    if version and int(version.split(".")[0]) >= STRONGLY_TYPED_ONLY:
        raise UnsupportedError(
            f"{path}: TensorRT {version} takes the precision from the graph, and this graph is fp32. "
            "Give an fp16 file, or build an engine with nddr-build --precision fp16."
        )


def tensorrt_version() -> str | None:
    """Of the TensorRT that `load_libraries` loaded; None where it came without its Python package."""
    found: Any = sys.modules.get("tensorrt")
    return getattr(found, "__version__", None)


def _flag(value: bool) -> str:
    return "1" if value else "0"


def _same(taken: str, asked: str) -> bool:
    """Whether an option has the value it was given; flags come back as words or as digits."""
    return {"true": "1", "false": "0"}.get(taken.lower(), taken) == asked
