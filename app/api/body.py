"""What every body of a request has in common: nothing in it that cannot be stored."""

import math
from collections.abc import Iterator
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

Json = dict[str, Any]

DEEPEST = 32
LARGEST = 2**63 - 1


class Body(BaseModel):
    """What a caller sends. Unknown fields, other types and unstorable values are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:  # noqa: ANN401  (whatever came)
        """Refuse what cannot be stored."""
        return storable(data)


def storable(data: Any) -> Any:  # noqa: ANN401
    """Refuse what JSON lets through and Postgres does not: NaN, infinity, NUL, half a pair."""
    for depth, value in _parts(data):
        if depth > DEEPEST:
            raise PydanticCustomError("too_deep", "nested deeper than anything here is")
        if isinstance(value, float) and not math.isfinite(value):
            raise PydanticCustomError("non_finite", "NaN and infinity are not numbers here")
        if isinstance(value, int) and abs(value) > LARGEST:
            raise PydanticCustomError("too_large", "a whole number beyond 64 bits")
        if isinstance(value, str) and ("\0" in value or not _encodable(value)):
            raise PydanticCustomError(
                "unstorable_text", "a text may hold neither NUL nor half of a surrogate pair"
            )
    return data


def _parts(data: Any) -> Iterator[tuple[int, Any]]:  # noqa: ANN401
    """Go through everything in a piece of JSON, keys too, with its depth; without recursion."""
    waiting: list[tuple[int, Any]] = [(0, data)]
    while waiting:
        depth, one = waiting.pop()
        yield depth, one
        if isinstance(one, dict):
            inside = cast("Json", one)
            waiting.extend((depth + 1, part) for part in (*inside, *inside.values()))
        elif isinstance(one, list):
            waiting.extend((depth + 1, part) for part in cast("list[Any]", one))


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
