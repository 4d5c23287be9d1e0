"""How long each layer of a pass takes, where TensorRT is asked to tell."""

from __future__ import annotations

from typing import Any


def open_profiler(trt: Any) -> Any:
    """What TensorRT tells layer times to; `seconds` has them, by layer.

    Made here, because its base class is only known once TensorRT is loaded.
    """

    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.seconds: dict[str, float] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.seconds[layer_name] = self.seconds.get(layer_name, 0.0) + ms / 1000

    return Profiler()
