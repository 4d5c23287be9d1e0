"""The steps of `benchmarks/gpu.py`, one subject a file."""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
if str(CHECKOUT) not in sys.path:
    sys.path.append(str(CHECKOUT))  # interpreters that only bring a library need not have this package installed
