"""One tree of errors. Every message says what was found, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class NddrError(Exception):
    """Something the user can mend. A command prints it as one line and exits with `exit_status`."""

    exit_status = 2


class ConfigError(NddrError):
    """A setting, an option or a combination of them is wrong."""


class InputError(NddrError):
    """An array, a picture, a video or a data set is not what was expected."""


class UnreadableError(InputError):
    """A picture, a video or a stream that is there cannot be read, or not to its end."""

    exit_status = 1


class OutputError(NddrError):
    """A result could not be written, for example because the disk is full."""

    exit_status = 1


class ModelFileError(NddrError):
    """A checkpoint, an ONNX file, an engine or a manifest cannot be used."""


class MissingPackageError(NddrError):
    """An optional package is not installed."""


class UnsupportedError(NddrError):
    """What was asked for cannot be had here: a precision, a backend, an operation."""


class ParityError(NddrError):
    """Two forms of one model disagree."""

    exit_status = 1


class BudgetError(NddrError):
    """A promise about a model's accuracy cannot be kept."""

    exit_status = 1


class TrainingError(NddrError):
    """Training cannot go on, for example because a loss is not a number."""

    exit_status = 1


class DivergedError(TrainingError):
    """A loss or a weight became infinite or NaN."""


class OtherProcessError(TrainingError):
    """Another process of this training met an error, which it says itself."""


LISTED = 40  # choices that a message names all of; of more, such as the layers of a network, the nearest few


def unknown_choice(what: str, found: str, choices: Iterable[str]) -> ConfigError:
    """`fusion: 'ndr' is unknown. Choose one of: none, nddr. Did you mean 'nddr'?`"""
    names = list(choices)
    shown = names if len(names) <= LISTED else get_close_matches(str(found), names, n=3, cutoff=0.0)
    many = "" if shown is names else f" {len(names)}, as in"
    message = f"{what}: {found!r} is unknown. Choose one of{many}: {', '.join(shown)}."
    near = get_close_matches(str(found), names, n=1)
    if near:
        message += f" Did you mean {near[0]!r}?"
    return ConfigError(message)
