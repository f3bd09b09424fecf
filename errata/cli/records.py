"""Records that a person names: a file of this machine, or a dataset that the server reads."""

import json
from pathlib import Path
from typing import Any

import typer

Json = dict[str, Any]


def given(
    data: str | None, *, offset: int, limit: int | None
) -> tuple[Json | None, list[Json] | None]:
    """What to send: the name of a dataset with a slice of it, or the records of a local file."""
    if data is None:
        return None, None
    path = Path(data)
    if not path.exists():
        slice_of = {"offset": offset or None, "limit": limit}
        return {"name": data} | {k: v for k, v in slice_of.items() if v is not None}, None
    found = _read(path)
    end = None if limit is None else offset + limit
    return None, found[offset:end]


def _read(path: Path) -> list[Json]:
    """A list of JSON objects: of a .json file, of the lines of a .jsonl, of a folder's files."""
    if path.is_dir():
        found = [_parsed(file, _text(file)) for file in sorted(path.glob("*.json"))]
        records: Any = [
            one for each in found for one in (each if isinstance(each, list) else [each])
        ]
    elif path.suffix == ".jsonl":
        # Not splitlines: a JSON text may hold other line separators as they are.
        lines = _text(path).split("\n")
        records = [_parsed(path, line) for line in lines if line.strip()]
    else:
        records = _parsed(path, _text(path))
    if not isinstance(records, list) or not all(isinstance(each, dict) for each in records):
        raise typer.BadParameter(f"{path} must hold a list of objects", param_hint="--data")
    return records


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{path} cannot be read: {error}", param_hint="--data") from error


def _parsed(path: Path, text: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{path} is not JSON: {error}", param_hint="--data") from error
