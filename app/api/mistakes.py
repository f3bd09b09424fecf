"""What a caller got wrong in a body or a query, as pydantic found it, in our words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.api.bodies import BATCH, INLINE
from app.api.facts import FORMS

# What pydantic calls it -> (our code, what to do). The rest is `invalid-request`.
KINDS: Mapping[str, tuple[str, str]] = {
    "json_invalid": ("bad-json", "The body cannot be read as JSON"),
    "non_finite": ("non-finite-value", "A number is not finite"),
    "unstorable_text": ("unstorable-text", "A text cannot be stored"),
    "extra_forbidden": ("unknown-field", "There is no such field"),
    "other_perspective": ("unknown-field", "There are no such fields"),
    "bad_label": ("bad-label", "The label cannot be used"),
    "requests_twice": ("requests-twice", "The request is given in two forms"),
    "too_many_requests": ("too-many-requests", "The order has too many requests"),
}
OTHER = ("invalid-request", "The request cannot be read")
WRONG_TYPE = "unsupported-media-type"
_SHOWN = 20  # mistakes of one request; the first few are enough to mend it
_TAGS = frozenset({BATCH, *INLINE.values(), *FORMS.values()})  # forms, told apart by pydantic


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is answered."""

    status: int
    code: str
    detail: str
    errors: list[dict[str, Any]]


def mistake(found: Sequence[Mapping[str, Any]], content_type: str) -> Mistake:
    """Make one problem of what pydantic found."""
    errors = [{"where": _where(each["loc"]), "what": _what(each)} for each in found[:_SHOWN]]
    kinds = [str(each["type"]) for each in found]
    body_itself = any(_where(each["loc"]) == "body" for each in found)
    if body_itself and not _is_json(content_type):
        came = f"as {content_type[:100]}" if content_type else "without a Content-Type"
        return Mistake(
            415,
            WRONG_TYPE,
            f"The body came {came}. Send JSON, with Content-Type: application/json.",
            errors,
        )
    kind = next((kind for kind in KINDS if kind in kinds), None)
    code, summary = KINDS[kind] if kind else OTHER
    first = next((e for e, k in zip(errors, kinds, strict=False) if k == kind), errors[0])
    detail = f"{summary}: {first['where']}: {first['what']}. Mend it and send the request again."
    return Mistake(400 if code == "bad-json" else 422, code, detail, errors)


def _is_json(content_type: str) -> bool:
    media = content_type.partition(";")[0].strip().lower()
    return media == "application/json" or media.endswith("+json")


def _what(found: Mapping[str, Any]) -> str:
    if found["type"] == "json_invalid":
        return (
            f"{found.get('ctx', {}).get('error', found['msg'])}, near character {found['loc'][-1]}"
        )
    return str(found["msg"])


def _where(loc: Sequence[str | int]) -> str:
    """Write a place as a path: `body.requests[3].prompt`."""
    text = ""
    for part in loc:
        if part in _TAGS:
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
