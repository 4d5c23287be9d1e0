"""What nddr-build was asked for, as a plan's manifest keeps it: for saying the command again, and nothing else.

A manifest may come from a stranger, and the command is printed for a person to copy: every value has a form that
cannot be another option, another file or a terminal's orders.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StringConstraints


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("not a line of plain text")
    return text


def _file_name(text: str) -> str:
    if "/" in text or "\\" in text or text in (".", ".."):
        raise ValueError("not the name of a file")
    return text


Line = Annotated[str, StringConstraints(min_length=1, max_length=300), AfterValidator(_printable)]
FileName = Annotated[Line, AfterValidator(_file_name)]
Numbers = Annotated[str, StringConstraints(pattern=r"^\d{1,6}(,\d{1,6},\d{1,6})?$")]
Sizes = Annotated[str, StringConstraints(pattern=r"^\d{1,6}x\d{1,6}(,\d{1,6}x\d{1,6},\d{1,6}x\d{1,6})?$")]


class PlanOptions(BaseModel):
    """Options of nddr-build, under their names there; what was not asked for is None or False.

    Those that say where files are, and what may differ, are not kept: they do not change the plan.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=lambda name: name.replace("_", "-"), populate_by_name=True
    )

    size: Sizes | None = None
    batch: Numbers | None = None
    outputs: Literal["raw"] | None = None
    keep: tuple[Line, ...] = ()
    workspace: StrictFloat | StrictInt | None = Field(default=None, gt=0, allow_inf_nan=False)
    opt_level: StrictInt | None = Field(default=None, ge=0, le=5)
    aux_streams: StrictInt | None = Field(default=None, ge=0)
    version_compatible: StrictBool = False
    hardware_compatible: StrictBool = False

    def to_dict(self) -> dict[str, Any]:
        """What was asked for alone, as JSON values."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    def words(self) -> list[str]:
        """As on a command line."""
        words = []
        for name, value in self.to_dict().items():
            if name == "keep":
                words.append(f"--keep={','.join(value)}")  # a name that begins with a dash is still one
            else:
                words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        return words
