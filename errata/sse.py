"""Server-sent events, read line by line."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One event of an order: `name` is a journal name, `data` what it carries."""

    name: str
    data: Any
    id: str | None = None


class Parser:
    """Takes the lines of a stream, and gives an event whenever one is whole."""

    def __init__(self, last_id: str | None = None) -> None:
        self.last_id = last_id  # of the last whole event; that of half an event is not counted
        self._id = last_id
        self._name = "message"
        self._data: list[str] = []

    def feed(self, line: str) -> Event | None:
        """Take a line; comments and keep-alives are left out."""
        if not line:
            self.last_id = self._id
            whole, self._data = self._data, []
            name, self._name = self._name, "message"
            return Event(name, _value("\n".join(whole)), self.last_id) if whole else None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        elif field == "id":
            self._id = value
        return None


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
