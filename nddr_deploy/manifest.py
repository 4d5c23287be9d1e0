"""What a model file takes and returns. Stored in the ONNX metadata, and as JSON beside an engine."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError

from nddr_deploy.errors import ModelFileError, NddrError
from nddr_deploy.preprocess import Preprocess
from nddr_deploy.resize import Convention
from nddr_deploy.tasks import Task, task_from_dict

METADATA_KEY = "nddr_deploy.manifest"


def _task(value: Any) -> Task:
    return value if isinstance(value, Task) else task_from_dict(value)


def _preprocess(value: Any) -> Preprocess:
    return value if isinstance(value, Preprocess) else Preprocess.from_dict(value)


class Manifest(BaseModel):
    """Everything an engine's user needs to know, and nothing about how the network was trained.

    Attributes:
        tasks: in the order of the outputs; an output carries its task's name.
        outputs: "raw" (the heads' outputs before resizing) or "decoded" (full size, in the task's unit).
        size_hw: the image size; the default one where `dynamic` has "size".
        dynamic: which of "batch" and "size" the model leaves open.
        batch: images per pass; the fewest where it is open.
        resize: the convention in which raw outputs are to be resized to the image size.
        network: one line for people, as in "vgg16 + nddr (bn-conv)".
        hashes: SHA-256 of the files this one was made from, by role ("checkpoint", "onnx", ...).
        versions: of the packages that made it.
        notes: things worth knowing: what was assumed, what could not be folded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    format: Literal["nddr-deploy/1"] = "nddr-deploy/1"
    tasks: tuple[Annotated[Task, PlainValidator(_task), PlainSerializer(Task.to_dict)], ...]
    outputs: Literal["raw", "decoded"] = "raw"
    preprocess: Annotated[Preprocess, PlainValidator(_preprocess), PlainSerializer(Preprocess.to_dict)] = Preprocess()
    size_hw: tuple[int, int]
    batch: Annotated[int, Field(ge=1, le=65536)] = 1
    dynamic: tuple[Literal["batch", "size"], ...] = ()
    resize: Convention = "half_pixel"
    network: str = ""
    opset: int | None = None
    hashes: dict[str, str] = {}
    versions: dict[str, str] = {}
    notes: tuple[str, ...] = ()

    def task(self, name: str) -> Task:
        """The task of that name; KeyError where there is none."""
        return {task.name: task for task in self.tasks}[name]

    def to_json(self) -> str:
        return self.model_dump_json(indent=1)

    @classmethod
    def from_json(cls, text: str, *, source: str) -> Manifest:
        """Read what `to_json` wrote.

        Args:
            text: JSON.
            source: the file it came from, for the error.

        Raises:
            ModelFileError: not a manifest, or one of another format.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the document"
            reason = f"{where}: {first['msg']}"
            raise ModelFileError(f"{source}: its manifest cannot be read ({reason}). Export it again.") from error
        except NddrError as error:
            raise ModelFileError(f"{source}: its manifest cannot be read ({error}). Export the model again.") from error
