"""Picture files: one frame each; one that cannot be read does not keep the others from being done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from nddr_deploy.data.pictures import read_picture
from nddr_deploy.errors import InputError, UnreadableError
from nddr_deploy.inference.base import Frame, Remarks, SourceInfo


class PictureSource:
    """Frames of picture files, in the given order.

    Args:
        paths: the files.
        name: for people: the folder, the pattern or the file.
        strict: raise for a file that cannot be read, instead of telling it in `remarks.problems` and going on.
    """

    def __init__(self, paths: Sequence[Path], name: str, *, strict: bool = False) -> None:
        self.remarks = Remarks()
        self.info = SourceInfo(name=name, kind="pictures", frames=len(paths))
        self._paths = tuple(paths)
        self._strict = strict

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        for path, name in zip(self._paths, unique_names(self._paths), strict=True):
            try:
                image = read_picture(path)
            except InputError as error:
                if self._strict:
                    raise UnreadableError(str(error)) from error
                self.remarks.problems.append(str(error))
                continue
            yield Frame(image, index, None, name, path)
            index += 1

    def close(self) -> None:
        """Nothing is held between two pictures."""


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A name for each file's results: its stem; "a.jpg" where stems repeat; "a.jpg-3" where even that repeats.

    >>> unique_names([Path("a.jpg"), Path("b.jpg"), Path("b.png")])
    ['a', 'b.jpg', 'b.png']
    """
    stems = Counter(path.stem for path in paths)
    names = Counter(path.name for path in paths)
    unique = []
    for number, path in enumerate(paths):
        if stems[path.stem] == 1:
            unique.append(path.stem)
        else:
            unique.append(path.name if names[path.name] == 1 else f"{path.name}-{number}")
    return unique
