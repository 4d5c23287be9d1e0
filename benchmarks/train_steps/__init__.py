"""What `benchmarks/train.py` measures, one subject a file."""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
if str(CHECKOUT) not in sys.path:
    sys.path.append(str(CHECKOUT))  # a machine that is only borrowed need not have this package installed
