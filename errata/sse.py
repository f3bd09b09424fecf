"""Server-sent events, read line by line."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One event of an order: `name` is a journal name, `data` what it carries."""

    name: str
    data: Any
    id: str | None = None


def parse(lines: Iterable[str]) -> Iterator[Event]:
    """Give the events of a stream; comments and keep-alives are left out."""
    name, data, last = "message", list[str](), None
    for line in lines:
        if not line:
            if data:
                yield Event(name, _value("\n".join(data)), last)
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            last = value


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
