"""`torch.compile` of the network that learns: as it was asked for, or refused; never a quiet return to the slow way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from nddr_deploy import optional
from nddr_deploy.engines.eager import check_compiler
from nddr_deploy.errors import UnsupportedError


@contextmanager
def strict_compiler(wanted: bool) -> Iterator[None]:
    """PyTorch's compiler for one training; what it has compiled is forgotten afterwards.

    Args:
        wanted: False does nothing, and does not even load the compiler.

    Raises:
        UnsupportedError: the compiler is switched off, or cannot compile what ran inside.
    """
    if not wanted:
        yield
        return
    import torch._dynamo as dynamo
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    if dynamo.config.disable:
        raise UnsupportedError(
            "compile: TORCH_COMPILE_DISABLE=1 in the environment switches torch.compile off. Remove it, or set "
            "compile=false."
        )
    dynamo.utils.counters.clear()
    try:
        # Both would otherwise go on without a compiled network, and at most warn.
        with dynamo.config.patch(suppress_errors=False, fail_on_recompile_limit_hit=True):
            yield
    except (TorchDynamoException, FailOnRecompileLimitHit) as error:
        raise UnsupportedError(
            f"compile: torch.compile cannot translate this network ({_first_words(error)}). Set "
            "compile=false; if something else is wrong, it then says what."
        ) from error
    finally:
        dynamo.reset()  # a process may train many networks, and only so many fit


def _first_words(error: Exception) -> str:
    """Of PyTorch's report, which goes on for pages: "backend='inductor' raised: CppCompileError: C++ compile error"."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    words = 2 if lines and lines[0].endswith(":") else 1
    return " ".join(lines[:words]).rstrip(".") or type(error).__name__


def compile_network(model: nn.Module, device: torch.device) -> nn.Module:
    """The model, translated at its first step of each image size; its weights are the model's own.

    Args:
        model: already wrapped for distributed training and mixed precision.
        device: where it learns.

    Raises:
        UnsupportedError: no C++ compiler.
        MissingPackageError: a GPU without Triton.
    """
    check_compiler()
    if device.type == "cuda":
        optional.load("triton")
    return torch.compile(model)  # type: ignore[return-value]


def graphs() -> str:
    """In how many pieces the network was translated since `strict_compiler` began."""
    from torch._dynamo.utils import counters

    made, breaks = counters["stats"]["unique_graphs"], counters["graph_break"].total()
    return f"torch.compile made {made} graph{'s' if made != 1 else ''}, with {breaks} breaks between them."
