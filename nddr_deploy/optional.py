"""The only place that knows which extra brings which package."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from nddr_deploy.errors import MissingPackageError


def load(target: str, *, extra: str | None = None) -> Any:
    """Import `"module"` or `"module:name"`, or say which extra of nddr-deploy brings it.

    Args:
        target: a module, or a name inside one, as in `"openvino:Core"`.
        extra: the extra of this package that installs it, as in `"cpu"`; None where none does.

    Raises:
        MissingPackageError: the module's package is not installed.
    """
    module_name, _, attribute = target.partition(":")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        what = missing if extra is None else f"'nddr-deploy[{extra}]'"
        raise MissingPackageError(
            f"The package {missing!r} is not installed. Install it with: pip install {what} -c constraints.txt"
        ) from error
    return getattr(module, attribute) if attribute else module
