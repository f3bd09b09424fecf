"""The shapes of JSON that come in. What cannot be meant or cannot be stored is refused here."""

import re
from typing import Annotated, Any, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.api.body import Body, Json
from app.api.facts import (
    ENTITY,
    MAX_ASKED,
    RELATION,
    AnyRequestIn,
    RelationIn,
    RequestIn,
    RippleIn,
    perspective,
)
from app.services.models import SOURCE_FIELDS
from app.services.submit import DEFAULT_EDITOR
from editing import guard

# Beyond any limit an operator may set: refused before each of them is looked at.
MAX_LISTED = 10_000


# Checked where the answer can say more: pydantic sees an object.
GuardIn = Annotated[Json, WithJsonSchema(guard.schema())]


class _Order(Body):
    """What every edit order may say."""

    model: str | None = Field(
        default=None, description="May be left out when one model is registered."
    )
    editor: str = DEFAULT_EDITOR
    hparams: Json = Field(default={})
    dry_run: bool = Field(
        default=False, description="Compute and measure it, and keep nothing: no snapshot."
    )
    guard: GuardIn | None = Field(
        default=None, description="What of its model's guard is different for this order."
    )


class BatchOrderIn(_Order):
    """Several facts, written as one batch: one snapshot, all or nothing."""

    requests: list[AnyRequestIn] = Field(
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
        if inline := sorted((ENTITY | RELATION) & set(given)):
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


class InlineRelationIn(_Order, RelationIn):
    """One fact seen from its relation, its fields beside the order's."""

    def facts(self) -> list[Json]:
        """Return the one edit request."""
        return [self.as_given()]


def _form(data: Any) -> str:  # noqa: ANN401
    if isinstance(data, dict) and "requests" in data:
        return BATCH
    return INLINE[perspective(data)]


BATCH = "batch"
INLINE = {"entity": "inline", "relation": "inline relation"}
EditOrderIn = Annotated[
    Annotated[BatchOrderIn, Tag(BATCH)]
    | Annotated[InlineOrderIn, Tag(INLINE["entity"])]
    | Annotated[InlineRelationIn, Tag(INLINE["relation"])],
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


class RetractIn(Body):
    """A retract may be sent without a body."""

    dry_run: bool = Field(
        default=False, description="Compute and measure what it would leave; change nothing."
    )


class CompactIn(Body):
    """A compaction may be sent without a body."""

    editor: str | None = Field(default=None, description="Only the ledger's edits are compacted.")
    hparams: Json | None = Field(
        default=None, description="Those of the latest live edit of the ledger when left out."
    )
    dry_run: bool = Field(
        default=False, description="Compute and measure what it would give; change nothing."
    )


class StatisticsIn(Body):
    """What is to be made ready; may be left out."""

    editor: str = Field(default=DEFAULT_EDITOR, description="The editor that will need it.")
    hparams: Json = Field(default={})


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
    guard: GuardIn | None = Field(
        default=None, description="What differs from the default guard of promotions."
    )


class ModelChangeIn(Body):
    """What of a registered model can be changed."""

    guard: GuardIn | None = Field(
        description="What differs from the default guard, all of it; null: nothing does."
    )


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


class DataIn(Body):
    """A slice of a dataset, by its name."""

    name: str = Field(examples=["counterfact"])
    path: str | None = Field(
        default=None,
        max_length=1000,
        description="A file or folder below one that the operator named; the usual one without it.",
    )
    offset: int = Field(default=0, ge=0, le=10_000_000)
    limit: int | None = Field(default=None, ge=1, le=10_000_000)


class EvalIn(Body):
    """What is to be measured, and on what."""

    suite: str = Field(examples=["counterfact"])
    model: str | None = Field(
        default=None, description="May be left out when one model is registered."
    )
    snapshot: str | None = Field(default=None, description="The head of now when left out.")
    snapshots: list[str] | None = Field(
        default=None, min_length=1, max_length=1000, description="Several, each measured in turn."
    )
    editor: str | None = Field(default=None, description="Of a suite that edits, on the side.")
    hparams: Json = Field(default={})
    data: DataIn | None = None
    records: list[Json] | None = Field(default=None, description="The records themselves.")
    options: Json = Field(default={})

    @model_validator(mode="after")
    def _one_or_several(self) -> "EvalIn":
        if len(set(self.snapshots or ())) < len(self.snapshots or ()):
            raise PydanticCustomError("snapshots_repeated", "each snapshot is measured once")
        if self.snapshot is not None and self.snapshots is not None:
            raise PydanticCustomError(
                "snapshots_twice", "give `snapshot` or `snapshots`, and not both"
            )
        return self


class ForecastIn(Body):
    """An edit that was not made yet, and the questions that one wonders about."""

    request: AnyRequestIn
    ripples: list[RippleIn] = Field(default=[], max_length=MAX_ASKED)
    snapshot: str | None = Field(default=None, description="An older state; the head without it.")
