"""Raw records from a file or a folder, as they were written; what they mean is for the readers.

file.json    a list of records
file.jsonl   one record a line
folder       every .json file of it, by name: a list gives its records, an object is one
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from editing.errors import BadRequest

Json = dict[str, Any]
LARGEST = 1 << 28  # bytes of one file; read whole, it takes several times as much memory


def read_records(
    path: Path, *, offset: int = 0, limit: int | None = None, largest: int = LARGEST
) -> list[Json]:
    """Records offset .. offset + limit. Raises BadRequest where there are none, or no objects."""
    if not path.exists():
        raise BadRequest(f"There is nothing at {path}. Check the path.", path=str(path))
    chosen: list[Json] = []
    seen = 0
    for record in _records(path, largest):
        if limit is not None and len(chosen) >= limit:
            break
        if seen >= offset:
            if not isinstance(record, dict):
                why = f"Record {seen} of {path.name} is no JSON object."
                raise BadRequest(why, path=str(path), record=seen)
            chosen.append(cast("Json", record))
        seen += 1
    if not chosen:
        why = f"{path.name} has {seen} records, none from number {offset} on."
        raise BadRequest(why, path=str(path), offset=offset)
    return chosen


def _records(path: Path, largest: int) -> Iterator[object]:
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            raise BadRequest(f"The folder {path.name} holds no .json file.", path=str(path))
        for file in files:
            content = _parsed(file, _text(file, largest))
            yield from cast("list[object]", content) if isinstance(content, list) else [content]
    elif path.suffix == ".jsonl":
        for line in _text(path, largest).split("\n"):
            if line.strip():
                yield _parsed(path, line)
    else:
        content = _parsed(path, _text(path, largest))
        if not isinstance(content, list):
            raise BadRequest(f"{path.name} holds no list of records.", path=str(path))
        yield from cast("list[object]", content)


def _text(path: Path, largest: int) -> str:
    size = path.stat().st_size
    if size > largest:
        why = f"{path.name} has {size} bytes; at most {largest} are read. Cut it into parts."
        raise BadRequest(why, path=str(path))
    try:
        return path.read_text("utf-8-sig")  # some tools begin a file with a mark
    except UnicodeDecodeError as error:
        raise BadRequest(f"{path.name} is no UTF-8: {error}.", path=str(path)) from error


def _parsed(path: Path, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{path.name} is no JSON: {error}.", path=str(path)) from error
