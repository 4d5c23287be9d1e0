"""ONNX Runtime, without the reports that it sends to its makers from 1.29 on, unless the user asks for them."""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is loaded

import onnxruntime

__all__ = ["onnxruntime"]
