"""TensorRT over a simulated GPU, for `checked`: it computes with ONNX Runtime, and refuses what TensorRT refuses."""

from __future__ import annotations

from functools import partial
from typing import Any

from simulated.api import Api
from simulated.cuda import Runtime as Cuda
from simulated.gpu import Gpu
from simulated.trt_builder import Build, Builder
from simulated.trt_engine import Runtime
from simulated.trt_network import OnnxParser

MIB = 1 << 20


class Logger:
    """See `Logger`; keeps what it is told."""

    def __init__(self, min_severity: Any = None) -> None:
        self.min_severity = min_severity
        self.messages: list[tuple[str, str]] = []

    def log(self, severity: Any, message: str) -> None:
        self.messages.append((severity.name, message))


class World:
    """The library in one process, as `checked` wants it: classes by their names.

    Args:
        api: of the version.
        gpu, cuda: that it runs on.
        pretend: "Float", as if the builder had found nothing narrower; None for what is asked for.

    Attributes:
        builds: what was built, in its order.
        contexts: execution contexts that exist.
        scratch_bytes: memory that a context takes on the device.
    """

    def __init__(self, api: Api, gpu: Gpu, cuda: Cuda, pretend: str | None = None) -> None:
        self.version, self.major = api.version, api.major
        self.gpu, self.cuda, self.pretend = gpu, cuda, pretend
        self.builds: list[Build] = []
        self.contexts = 0
        self.scratch_bytes = MIB
        self._api = api
        self.Logger = Logger
        self.Builder = partial(Builder, self)
        self.OnnxParser = partial(OnnxParser, self)
        self.Runtime = partial(Runtime, self)

    def init_libnvinfer_plugins(self, logger: Any, namespace: str) -> bool:
        return True

    def say_error(self, logger: Any, text: str) -> None:
        logger.log(self._api.member("ILogger.Severity", "ERROR"), text)

    def set_bits(self, enum: str, bits: int) -> set[str]:
        """Names of the members whose bits are set."""
        members = self._api.classes[enum].members
        return {name for name, number in members.items() if bits & (1 << number)}
