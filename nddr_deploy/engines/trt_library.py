"""TensorRT itself: loaded only where it can be used, with a log that is kept instead of printed."""

from __future__ import annotations

from functools import cache
from typing import Any

from nddr_deploy import optional
from nddr_deploy.engines.cuda import Gpu, describe_gpu
from nddr_deploy.errors import MissingPackageError, UnsupportedError

OLDEST, NEWEST = (8, 6), 11
KEPT = 50  # messages of a log


class TensorRT:
    """The library on this machine's GPU. Everything else asks it what version it is dealing with.

    Attributes:
        trt: the module `tensorrt`.
        version: "10.13.3.9".
        major: 8, 10 or 11: what decides how precision is asked for.
        gpu: that it runs on.
        log: what the library had to say.
    """

    def __init__(self) -> None:
        """Ask the driver, then load.

        Raises:
            UnsupportedError: no GPU, a TensorRT that is not supported, or one whose libraries cannot be loaded.
            MissingPackageError: TensorRT is not installed.
        """
        self.gpu: Gpu = describe_gpu()  # first: TensorRT ends the process where there is none
        self.trt = _load()
        self.version: str = self.trt.__version__
        numbers = [int(part) for part in self.version.split(".")[:2]]
        self.major = numbers[0]
        if tuple(numbers) < OLDEST or self.major not in (8, 10, 11):
            raise UnsupportedError(
                f"TensorRT {self.version} is installed; this program knows {OLDEST[0]}.{OLDEST[1]}, 10.x and "
                f"{NEWEST}.x. Install one of these: pip install 'nddr-deploy[gpu]' -c constraints.txt"
            )
        self.log = open_log(self.trt)
        self.trt.init_libnvinfer_plugins(self.log, "")

    def load(self, plan: bytes, *, version_compatible: bool) -> Any:
        """The engine of a plan; None where TensorRT refuses it, which `log` then explains.

        Args:
            version_compatible: such a plan carries a small runtime of its own, whose code has to be allowed.
        """
        self.log.errors()
        runtime = self.trt.Runtime(self.log)
        if version_compatible:
            runtime.engine_host_code_allowed = True
        return runtime.deserialize_cuda_engine(plan)


def _load() -> Any:
    try:
        return optional.load("tensorrt", extra="gpu")
    except MissingPackageError as error:
        raise MissingPackageError(f"{error} (On a Jetson, JetPack brings it: see nddr-doctor.)") from error
    except (ImportError, OSError) as error:  # libnvinfer is not found, or is another version's
        raise UnsupportedError(
            f"TensorRT is installed, but its libraries cannot be loaded ({error}). See nddr-doctor."
        ) from error


@cache
def open_log(trt: Any) -> Any:
    """A logger that keeps the library's warnings and errors: `errors()` gives them for our own messages.

    One for the whole process: TensorRT holds on to the first that it is given. Made here, because its base class is
    only known once TensorRT is loaded.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[tuple[int, str]] = []

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.Severity.WARNING):
                self.messages = [*self.messages[1 - KEPT :], (int(severity), message.strip())]

        def errors(self) -> list[str]:
            """What it called an error, the oldest first; they are forgotten."""
            found = [text for severity, text in self.messages if severity <= int(trt.ILogger.Severity.ERROR)]
            self.messages = []
            return found

    return Log()


def reason(log: Any) -> str:
    """The library's own words on what just failed, in one line."""
    errors = log.errors()
    return "; ".join(" ".join(text.split()) for text in errors[-3:]) or "TensorRT gave no reason"
