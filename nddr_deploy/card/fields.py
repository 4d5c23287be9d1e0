"""The forms that a card's values have: none is endless, and none can be a terminal's orders."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from nddr_deploy.engines.plan_options import FileName, Line

__all__ = ["Count", "Digest", "Extent", "FileName", "Hash", "Line", "Number", "Part", "Precision", "Text", "Value"]


def _printable_lines(text: str) -> str:
    if not all(character.isprintable() for character in text):
        raise ValueError("not a line of plain text")
    return text


Text = Annotated[str, StringConstraints(max_length=2000), AfterValidator(_printable_lines)]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]  # the first 64 bits of a SHA-256
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Precision = Literal["fp32", "bf16", "fp16", "int8", "int8+bf16"]  # those of `engines.table`
Extent = Annotated[int, Field(ge=1, le=65536)]
Value = str | bool | int | Number | None


class Part(BaseModel):
    """A part of a card: not changed once made, and nothing in it that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")
