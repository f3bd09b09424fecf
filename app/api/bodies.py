"""The shapes of JSON that come in. What cannot be meant or cannot be stored is refused here."""

import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.services.models import SOURCE_FIELDS
from app.services.submit import DEFAULT_EDITOR

Json = dict[str, Any]

DEEPEST = 32
LARGEST = 2**63 - 1
MAX_ASKED = 100  # paraphrases, neighbors or ripples of one fact: each is asked at every promotion
# Beyond any limit an operator may set: refused before each of them is looked at.
MAX_LISTED = 10_000


class Body(BaseModel):
    """What a caller sends. Unknown fields, other types and unstorable values are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:  # noqa: ANN401  (whatever came)
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


class NeighborIn(Body):
    """A prompt near the subject that must keep its answer."""

    prompt: str
    target: str


class RippleIn(Body):
    """A question whose answer should follow from the edit."""

    prompt: str
    answers: list[str] = Field(max_length=MAX_ASKED)
    criterion: str | None = None


class RequestIn(Body):
    """One fact to write."""

    subject: str = Field(examples=["France"])
    prompt: str = Field(description="With one `{}`.", examples=["The capital of {} is"])
    target_new: str = Field(examples=["Lyon"])
    target_true: str | None = None
    relation: str | None = None
    paraphrases: list[str] = Field(default=[], max_length=MAX_ASKED)
    neighborhood: list[NeighborIn] = Field(default=[], max_length=MAX_ASKED)
    ripples: list[RippleIn] = Field(default=[], max_length=MAX_ASKED)

    def as_given(self) -> Json:
        """Return the fields that the caller set."""
        names = set(RequestIn.model_fields)
        return self.model_dump(include=names, exclude_unset=True, exclude_none=True)


class _Order(Body):
    """What every edit order may say."""

    model: str | None = Field(
        default=None, description="May be left out when one model is registered."
    )
    editor: str = DEFAULT_EDITOR
    hparams: Json = {}
    dry_run: bool = Field(
        default=False, description="Compute and measure it, and keep nothing: no snapshot."
    )


class BatchOrderIn(_Order):
    """Several facts, written as one batch: one snapshot, all or nothing."""

    requests: list[RequestIn] = Field(
        # Said here for callers to read; checked where the answer can say more.
        json_schema_extra={"minItems": 1}
    )

    @model_validator(mode="before")
    @classmethod
    def _one_form(cls, data: Any) -> Any:  # noqa: ANN401
        given = cast("Json", data) if isinstance(data, dict) else {}
        listed = given.get("requests")
        if isinstance(listed, list) and (count := len(cast("list[Any]", listed))) > MAX_LISTED:
            raise PydanticCustomError(
                "too_many_requests", "there are {count}; split them into orders", {"count": count}
            )
        if inline := [name for name in RequestIn.model_fields if name in given]:
            raise PydanticCustomError(
                "requests_twice",
                "`requests` is given together with {inline}: use one of the two forms",
                {"inline": ", ".join(inline)},
            )
        return data

    def facts(self) -> list[Json]:
        """Return the edit requests."""
        return [request.as_given() for request in self.requests]


class InlineOrderIn(_Order, RequestIn):
    """One fact, its fields beside the order's."""

    def facts(self) -> list[Json]:
        """Return the one edit request."""
        return [self.as_given()]


def _form(data: Any) -> str:  # noqa: ANN401
    return "batch" if isinstance(data, dict) and "requests" in data else "inline"


EditOrderIn = Annotated[
    Annotated[BatchOrderIn, Tag("batch")] | Annotated[InlineOrderIn, Tag("inline")],
    Discriminator(_form),
]


class RestoreIn(Body):
    """A restore may be sent without a body."""

    model: str | None = Field(
        default=None, description="If given, it must be the snapshot's model."
    )
    dry_run: bool = Field(default=False, description="Say what would be undone; order nothing.")
    cancel_queued: bool = Field(
        default=False, description="Cancel what waits in the queue first; what runs is let run."
    )


class StatisticsIn(Body):
    """What is to be made ready; may be left out."""

    editor: str = Field(default=DEFAULT_EDITOR, description="The editor that will need it.")
    hparams: Json = {}


LABEL = r"^[A-Za-z][A-Za-z0-9._-]{0,63}$"


def _label(given: str) -> str:
    if not re.fullmatch(LABEL.strip("^$"), given):
        raise PydanticCustomError(
            "bad_label",
            "a label is a letter, then up to 63 letters, digits, dots, dashes or underscores",
        )
    return given


class LabelIn(Body):
    """A name for a snapshot, its own among those of the model."""

    label: (
        Annotated[str, AfterValidator(_label), WithJsonSchema({"type": "string", "pattern": LABEL})]
        | None
    ) = Field(description="null takes it away.", examples=["before-the-merge"])


def _source_schema() -> Json:
    """Describe a source as an object: the fields that each kind must have, and may have."""
    forms: list[Json] = []
    for kind, (must, may) in SOURCE_FIELDS.items():
        texts: Json = {name: {"type": "string", "minLength": 1} for name in sorted(must | may)}
        forms.append(
            {
                "type": "object",
                "properties": {"kind": {"const": kind}, **texts},
                "required": ["kind", *sorted(must)],
                "additionalProperties": False,
            }
        )
    return {"oneOf": forms}


class ModelIn(Body):
    """A base to register."""

    source: str | Annotated[Json, WithJsonSchema(_source_schema())] = Field(
        description="A name, `hub:org/name@revision`, a folder or a GGUF file; or the same as an "
        "object with `kind`.",
        examples=["smollm2-135m"],
    )
    id: str | None = Field(default=None, description="Derived from the source when left out.")


def _whole(given: Any) -> Any:  # noqa: ANN401  (whatever came)
    """Take 5.0 for 5: JSON has one kind of number, and some callers' libraries write it so."""
    return int(given) if isinstance(given, float) and given.is_integer() else given


Whole = Annotated[int, BeforeValidator(_whole)]
Prompt = Annotated[str, Field(min_length=1, max_length=20_000)]
MAX_PROMPTS = 256
MAX_TARGETS = 64
MAX_TOKENS = 512
MAX_TOP = 100


class ProbeIn(Body):
    """Questions to one model."""

    prompts: list[Prompt] = Field(min_length=1, max_length=MAX_PROMPTS)
    targets: list[Prompt] = Field(default_factory=list, max_length=MAX_TARGETS)
    snapshot: str | None = Field(
        default=None, description="An older state; the head when left out."
    )
    compare: str | None = Field(default=None, description="A second state to ask the same.")
    top_k: Whole = Field(default=5, ge=0, le=MAX_TOP)
    max_tokens: Whole = Field(default=20, ge=0, le=MAX_TOKENS)
