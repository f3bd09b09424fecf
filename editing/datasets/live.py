"""Cases of what is measured without a benchmark: a state's own weights, and the edits it holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from editing.errors import BadRecord
from editing.request import EditRequest

from .requests import requests_of

_TEXTS = 4  # of one case


@dataclass(frozen=True, slots=True)
class KeysCase:
    """The live edits among themselves, or a new request against them."""

    request: EditRequest | None = None


@dataclass(frozen=True, slots=True)
class DriftCase:
    """The changed weights, or some texts; no text stands for those that ship with the project."""

    weights: bool = False
    texts: tuple[str, ...] = ()


def keys_cases(records: Sequence[Mapping[str, Any]], _: object = None) -> list[KeysCase]:
    """The live edits first, then every record as a request of our own form. Raises BadRecord."""
    return [KeysCase(), *(KeysCase(request) for request in requests_of(records))]


def drift_cases(records: Sequence[Mapping[str, Any]], _: object = None) -> list[DriftCase]:
    """The weights first, then the texts of the records, {"text"} each. Raises BadRecord."""
    texts: list[str] = []
    for number, record in enumerate(records):
        text = record.get("text")
        if not isinstance(text, str) or not text.strip():
            raise BadRecord(number, why="it has no text as its text.", dataset="texts")
        texts.append(text)
    groups = [tuple(texts[n : n + _TEXTS]) for n in range(0, len(texts), _TEXTS)] or [()]
    return [DriftCase(weights=True), *(DriftCase(texts=some) for some in groups)]
