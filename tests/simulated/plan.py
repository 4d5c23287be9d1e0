"""The plans of a simulated TensorRT: a header that says for whom, the graph, and a digest over both."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, dataclass
from typing import Any

MAGIC = b"ftrt"
DIGEST = 32


@dataclass(frozen=True)
class Header:
    """Attributes:
    tensorrt: the version that built it.
    gpu, compute_capability: that it was built on.
    profiles: of each, input -> (min, opt, max).
    detailed: layers may be asked about.
    layers: what the inspector tells.
    version_compatible, hardware_compatible: also runs elsewhere.
    profile_sharing: several contexts may use one profile at once.
    aux_streams: that it uses besides.
    """

    tensorrt: str
    gpu: str
    compute_capability: tuple[int, int]
    profiles: list[dict[str, list[list[int]]]]
    detailed: bool
    layers: list[dict[str, Any]]
    version_compatible: bool = False
    hardware_compatible: bool = False
    profile_sharing: bool = True
    aux_streams: int = 0


def write(header: Header, graph: bytes) -> bytes:
    text = json.dumps(asdict(header)).encode()
    body = MAGIC + struct.pack("<I", len(text)) + text + graph
    return body + hashlib.sha256(body).digest()


def read(content: bytes) -> tuple[Header, bytes] | None:
    """None where it is damaged, or no plan at all."""
    body = content[:-DIGEST]
    if body[:4] != MAGIC or hashlib.sha256(body).digest() != content[-DIGEST:]:
        return None
    (size,) = struct.unpack("<I", body[4:8])
    return Header(**json.loads(body[8 : 8 + size])), body[8 + size :]
