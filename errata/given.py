"""What a caller gave, checked before anything is sent.

What is of the wrong Python type stays a TypeError; what has the right type and cannot be sent, or
would be read as something else, is BadArgument.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from errata.errors import BadArgument

LONGEST_KEY = 255
LONGEST = 1e8  # seconds; a socket takes no longer limit

_ID = re.compile(r"[!#-~]+")  # what may stand between the quotes of an ETag, in ASCII
_KEY = re.compile(r"[!-~](?:[ -~]*[!-~])?")  # a header loses the blanks at its ends


def part(name: str) -> str:
    """Check one part of a path: a name that would lead to another path is none."""
    if not name:
        raise BadArgument("an id", "must not be empty")
    if "/" in name or name in {".", ".."}:
        raise BadArgument(f"the id {name!r}", "leads to another path than its own")
    return name


def etag(argument: str, name: str) -> str:
    """Write the id of a snapshot for a header. An empty one would guard nothing."""
    if not _ID.fullmatch(name):
        raise BadArgument(argument, f"is {name!r}, and must be the id of a snapshot")
    return f'"{name}"'


def key(name: str) -> str:
    """Check an Idempotency-Key."""
    if not _KEY.fullmatch(name) or len(name) > LONGEST_KEY:
        why = f"is {name!r}, and must be 1 to {LONGEST_KEY} printable characters of ASCII"
        raise BadArgument("idempotency_key", why)
    return name


def fields(argument: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a mapping. Raises TypeError when it is none."""
    if not isinstance(given, Mapping):
        message = f"{argument} must be a mapping, not {type(given).__name__}"
        raise TypeError(message)
    return dict(given)


def seconds(argument: str, given: float, *, zero: bool = True, endless: bool = True) -> float:
    """Check a time."""
    longest = math.inf if endless else LONGEST
    if not (0 <= given <= longest) or (given == 0 and not zero):
        raise BadArgument(argument, f"is {given!r}, and must be a number of seconds")
    return given
