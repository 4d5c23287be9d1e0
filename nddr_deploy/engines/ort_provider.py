"""Whether ONNX Runtime can load one of its GPU providers, and if not, for want of what."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from importlib import import_module

from nddr_deploy.engines.silent_ort import onnxruntime
from nddr_deploy.errors import UnsupportedError

USUAL_SEVERITY, FATAL = 2, 4  # of ONNX Runtime's log; it starts with warnings
MISSING = re.compile(r"(\S+\.so[.\d]*): cannot open shared object file")
PROBE_S = 60.0


def check_installed(provider: str) -> None:
    """Refuse an ONNX Runtime that was built without a provider.

    Raises:
        UnsupportedError: it has only others.
    """
    found = onnxruntime.get_available_providers()
    if provider not in found:
        raise UnsupportedError(
            f"The installed ONNX Runtime {onnxruntime.__version__} has no {provider}, only {', '.join(found)}. The "
            "packages for CPU and GPU share one folder, so replace it: pip uninstall --yes onnxruntime && "
            "pip install --force-reinstall 'nddr-deploy[gpu]' -c constraints.txt"
        )


def load_libraries(provider: str) -> None:
    """Load what pip installed beside ONNX Runtime, for the system's loader would not look there.

    What is not there is left to the loader; what it does not find is told when the session is opened.
    """
    with redirect_stdout(io.StringIO()):  # it prints what it does not find
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
    if provider == "TensorrtExecutionProvider":
        with suppress(ImportError, OSError):
            import_module("tensorrt")


@contextmanager
def quiet() -> Iterator[None]:
    """ONNX Runtime prints to stderr that a provider does not load; the error here says it in one sentence."""
    onnxruntime.set_default_logger_severity(FATAL)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(USUAL_SEVERITY)


def missing_library(provider: str) -> str | None:
    """The shared library without which a provider does not load; None where that is not the reason.

    ONNX Runtime tells it only in its log, so a process of its own is asked, whose log can be read.
    """
    command = [sys.executable, "-c", f"from {__name__} import probe; probe({provider!r})"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PROBE_S)
    except subprocess.TimeoutExpired:
        return None
    found = MISSING.search(said.stderr)
    return found[1] if found else None


def probe(provider: str) -> None:
    """Open a session of one node with a provider; what is wrong with it is printed to stderr."""
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    load_libraries(provider)
    with suppress(Exception):
        onnxruntime.InferenceSession(model.SerializeToString(), providers=[provider], enable_fallback=0)


def requirement(provider: str, library: str) -> str:
    """What brings a library."""
    if "nvinfer" in library or "nvonnxparser" in library:
        major = library.rpartition(".so.")[2].partition(".")[0]
        return f"It belongs to TensorRT {major}: pip install 'tensorrt=={major}.*', which must fit the CUDA driver."
    return "It belongs to CUDA or cuDNN: pip install 'onnxruntime-gpu[cuda,cudnn]' (nddr-doctor names the versions)."
