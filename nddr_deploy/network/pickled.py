"""What a PyTorch file would ask for when it is loaded, found without making any of it.

`torch.load` believes what a pickle claims: how large its storages are, how long its memo is, how often it copies
a list. So the pickle is read once with blanks in the place of every object, and only what adds up is loaded.
"""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from collections.abc import Collection, Iterator, Sized
from io import BytesIO
from pathlib import Path
from typing import Any

from nddr_deploy.errors import ModelFileError
from nddr_deploy.network.container import ZIP
from nddr_deploy.network.nesting import DEEPEST, largest_extent

LARGEST = 4 * 2**20  # bytes of pickle beside the tensors: 400 tensors take 0.06 MB, those of an optimiser as much again
LEGACY_PICKLES = 5  # a magic number, the protocol, the system, the content, the storages' keys
# The name of each kind of storage, and the bytes of one value.
STORAGES = {
    **dict.fromkeys(("UntypedStorage", "ByteStorage", "CharStorage", "BoolStorage"), 1),
    **dict.fromkeys(("ShortStorage", "HalfStorage", "BFloat16Storage"), 2),
    **dict.fromkeys(("IntStorage", "FloatStorage"), 4),
    **dict.fromkeys(("LongStorage", "DoubleStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}


def pickled_names(path: Path, allowed: Collection[str]) -> set[str]:
    """The Python objects that loading the file asks for, such as `collections.OrderedDict`; storages left out.

    Args:
        path: a file that `check_container` accepted.
        allowed: what it may ask for, as `module.name`.

    Raises:
        ModelFileError: it asks for something else, claims more values than the file holds, or is damaged.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(len(ZIP)) == ZIP
        return _names_in_zip(path, allowed) if is_zip else _names_in_legacy(path, allowed)
    except _NotAllowed as error:
        raise ModelFileError(
            f"{path} asks for the Python object {error} when it is loaded, which could run code: refused. Expected "
            "only plain values and tensors: if you trust it, load it with its own code and save its state dict alone."
        ) from error
    except _Claim as error:
        raise ModelFileError(
            f"{path}: {error}: refused, for it may take any amount of memory. Save its state dict alone."
        ) from error
    except Exception as error:  # broken pickles raise almost anything
        raise ModelFileError(
            f"{path} cannot be read as a PyTorch file: it is truncated, damaged or of another kind. Copy it again."
        ) from error


class _NotAllowed(Exception):
    """A name, in quotes."""


class _Claim(Exception):
    """A pickle that claims more than its file holds: what was found."""


def _names_in_zip(path: Path, allowed: Collection[str]) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        folder = archive.namelist()[0].split("/")[0]
        sizes = {record.filename: record.file_size for record in archive.infolist()}
        if sizes[f"{folder}/data.pkl"] > LARGEST:
            raise _Claim(f"{sizes[f'{folder}/data.pkl']} bytes of its pickle are no tensors")
        content = archive.read(f"{folder}/data.pkl")
    pickles = _Pickles(content, allowed)
    pickles.skip()
    for key, size in pickles.storages.items():
        if size != sizes.get(f"{folder}/data/{key}"):
            raise _Claim(f"its storage {key[:100]!r} claims {size} bytes, of which it holds fewer or more")
    return pickles.names


def _names_in_legacy(path: Path, allowed: Collection[str]) -> set[str]:
    with path.open("rb") as file:
        pickles = _Pickles(file.read(LARGEST), allowed)
    for _ in range(LEGACY_PICKLES):
        pickles.skip()
    size, claimed = path.stat().st_size, sum(pickles.storages.values())
    if claimed > size:
        raise _Claim(f"its storages claim {claimed} bytes, but the file has {size}")
    return pickles.names


class _Pickles:
    """Pickles one after the other: the names they ask for, and the bytes of each storage by its key."""

    def __init__(self, content: bytes, allowed: Collection[str]) -> None:
        self.names: set[str] = set()
        self.storages: dict[str, int] = {}
        self._file = BytesIO(content)
        self._most = 2 * len(content) + 1000
        self._blanks = _blanks(self._most)
        self._allowed = allowed

    def skip(self) -> None:
        """Read one pickle, and forget it."""
        start = self._file.tell()
        extent = largest_extent(self._operations(), self._most)
        if extent.depth > DEEPEST:
            raise _Claim(f"its values are nested deeper than {DEEPEST} times")
        if extent.size > self._most:
            raise _Claim("it repeats its values again and again")
        self._file.seek(start)
        (blank, blank_tensor), names, storages, allowed = self._blanks, self.names, self.storages, self._allowed

        class Unpickler(pickle.Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                if module in ("torch", "torch.cuda", "torch.storage") and name in STORAGES:
                    return _StorageKind(name)
                if f"{module}.{name}" not in allowed:
                    raise _NotAllowed(repr(f"{module}.{name}"[:100]))
                names.add(f"{module}.{name}")
                return blank_tensor if module.startswith("torch.") else blank

            def persistent_load(self, found: Any) -> Any:
                key, size = _storage(found)
                if storages.setdefault(key, size) != size:
                    raise _Claim(f"its storage {key[:100]!r} has two sizes")
                return blank()

        Unpickler(self._file, encoding="latin1").load()

    def _operations(self) -> Iterator[Any]:
        """Those of the next pickle, without what would pass by `find_class` or make the memo large."""
        for operation, argument, position in pickletools.genops(self._file):
            if operation.name.startswith("EXT"):  # a number for a name
                raise _NotAllowed(f"number {argument} of copyreg")
            if operation.name.endswith("PUT") and int(argument or 0) > (position or 0):  # the memo grows to this index
                raise _Claim(f"its memo has the index {argument}")
            yield operation, argument, position


class _StorageKind(str):
    """The name of a kind of storage, which takes no attributes."""

    __slots__ = ()


def _storage(found: Any) -> tuple[str, int]:
    """The key and the bytes of a storage that a pickle refers to."""
    if found[0] != "storage":
        raise _NotAllowed("kept with its source code")
    _, kind, key, _, values = found[:5]
    if type(key) is not str or type(values) is not int or values < 0 or type(kind) is not _StorageKind:
        raise _Claim("one of its storages has no key or no size")
    return key, values * STORAGES[kind]


def _blanks(most: int) -> tuple[type, type]:
    """What takes the place of objects, and of tensors. `most`: how many values all calls together may be given."""
    given = 0

    def count(*values: Any) -> int:
        nonlocal given
        length = sum(len(value) for value in values if isinstance(value, Sized))
        given += length
        if given > most:
            raise _Claim("it copies its values again and again")
        return length

    class Blank:
        length: int

        def __new__(cls, *arguments: Any) -> Any:
            made = super().__new__(cls)
            made.length = count(*arguments)
            return made

        def __len__(self) -> int:
            return self.length

        def __setitem__(self, key: Any, value: Any) -> None:
            self.length += 1

        def __setstate__(self, state: Any) -> None:
            count(state)

    class BlankTensor(Blank):
        def __setstate__(self, state: Any) -> None:
            if isinstance(state, tuple) and any(type(item) is int for item in state):
                raise _Claim("a tensor takes another shape after it was made")  # `set_` would make its storage larger

    return Blank, BlankTensor
