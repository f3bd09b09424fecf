"""The records of an eval: sent inline, or read from a folder that the operator has named."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import DataNotAllowed, DataNotFound, Json
from editing.datasets.catalogue import dataset
from editing.datasets.files import read_records


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A slice of a dataset, by its name."""

    name: str
    path: str | None = None
    offset: int = 0
    limit: int | None = None

    def to_dict(self) -> Json:
        """As it was asked, without what was left out."""
        given = {"name": self.name, "path": self.path, "limit": self.limit}
        said: Json = {name: value for name, value in given.items() if value is not None}
        return {**said, "offset": self.offset}


def read(named: Named, roots: Sequence[Path], *, at_most: int) -> list[Json]:
    """Raw records of the slice; at most `at_most`, where the caller names no smaller limit.

    Raises UnknownDataset, DataNotAllowed, DataNotFound, and BadRequest for a file that holds none.
    """
    known = dataset(named.name)
    file = _allowed(named.path, roots) if named.path else _usual(known.files, roots)
    limit = at_most if named.limit is None else named.limit
    try:
        return read_records(file, offset=named.offset, limit=limit)
    except OSError as error:  # not ours to read, or a folder where a file should be
        raise DataNotFound(named.path or named.name) from error


def _allowed(path: str, roots: Sequence[Path]) -> Path:
    """Where a path leads, links followed, if that is below one of the folders."""
    if "\0" in path:
        raise DataNotAllowed(path)
    inside: list[Path] = []
    try:
        for root in roots:
            found = (root / path).resolve()  # an absolute path stays what it is
            if found.is_relative_to(root.resolve()):
                inside.append(found)
        there = [found for found in inside if found.exists()]
    except OSError as error:  # a name that is too long, a folder that is not ours to read
        raise DataNotFound(path) from error
    if not inside:
        raise DataNotAllowed(path)
    if not there:
        raise DataNotFound(path)
    return there[0]


def _usual(files: Sequence[str], roots: Sequence[Path]) -> Path:
    for root in roots:
        for name in files:
            if (root / name).exists():
                return root / name
    raise DataNotFound(files[0])
