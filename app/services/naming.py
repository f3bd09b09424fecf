"""Names of things as they are compared: without case, without stray blanks, and as a hash."""

import hashlib
from collections.abc import Mapping
from typing import Any

from editing.request import EditRequest


def name_of(text: str) -> str:
    """The hash of a name. "LeBron  james" and "LeBron James" are one."""
    return _hashed(" ".join(text.casefold().split()))


def ask_of(subject: str, prompt: str) -> str:
    """The hash of what is asked, letter by letter: a model hears the difference."""
    return _hashed(f"{subject}\0{prompt}")


def fact_names(request: EditRequest) -> dict[str, str]:
    """Whose fact it is, what its object is, and what is asked."""
    return {
        "subject": name_of(request.subject),
        "object": name_of(request.object or request.target_new),
        "ask": ask_of(request.subject, request.prompt),
    }


def names_of(given: Mapping[str, Any]) -> dict[str, str]:
    """The same of a request as the journal has it."""
    return fact_names(EditRequest.from_dict(given))


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
