"""Where a model's card lies, and how it is read."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from nddr_deploy.card.schema import Card
from nddr_deploy.engines.plan_file import PlanFile
from nddr_deploy.errors import ModelFileError, NddrError

LARGEST_BYTES = 16 * 2**20  # of a card: a network of a thousand layers makes less than one


def card_path(model: str | os.PathLike[str]) -> Path:
    """`model.int8.onnx` -> `model.int8.card.json`."""
    path = Path(model)
    return path.with_name(f"{path.stem}.card.json")


def page_path(model: str | os.PathLike[str]) -> Path:
    """`model.int8.onnx` -> `model.int8.card.html`."""
    path = Path(model)
    return path.with_name(f"{path.stem}.card.html")


def find_card(model: str | os.PathLike[str]) -> Path:
    """The card of an ONNX file or of a TensorRT plan: a plan has that of the ONNX file it was built from.

    Raises:
        ModelFileError: there is none, or the plan has no manifest.
    """
    path = Path(model)
    places = [card_path(path)]
    if path.suffix == ".trt":
        places.append(card_path(path.with_name(PlanFile.read(path).about.onnx)))
    for place in places:
        if place.is_file():
            return place
    names = " or ".join(dict.fromkeys(place.name for place in places))
    raise ModelFileError(f"{path} has no card ({names} beside it). Copy it along, or name it with --card.")


def read_card(path: str | os.PathLike[str]) -> Card:
    """Read a card that anybody may have written.

    Raises:
        ModelFileError: no file, too large, or not a card.
    """
    file = Path(path)
    try:
        if file.stat().st_size > LARGEST_BYTES:
            raise ModelFileError(
                f"{file} is no card: it has {file.stat().st_size / 1e6:.0f} MB, and a card at most "
                f"{LARGEST_BYTES / 1e6:.0f}."
            )
        content = file.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{file} cannot be read ({error.strerror}); expected a card (.card.json).") from error
    try:
        return Card.model_validate_json(content, strict=True)
    except (ValidationError, NddrError) as error:
        first = error.errors(include_input=False, include_url=False)[0] if isinstance(error, ValidationError) else None
        why = f"{'.'.join(map(str, first['loc'])) or 'the document'}: {first['msg']}" if first else str(error)
        why = why if why.isprintable() else ascii(why)
        raise ModelFileError(
            f"{file} is no card that can be used ({why}). Make it again with nddr-quantize."
        ) from error
