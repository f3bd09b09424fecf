"""One fact to write, in JSON: seen from the entity or, as RaKE does, from the relation."""

from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from app.api.body import Body, Json

MAX_ASKED = 100  # paraphrases, neighbors or ripples of one fact: each is asked at every promotion


class NeighborIn(Body):
    """A prompt near the subject that must keep its answer."""

    prompt: str
    target: str


class RippleIn(Body):
    """A question whose answer should follow from the edit."""

    prompt: str
    answers: list[str] = Field(max_length=MAX_ASKED)
    criterion: str | None = None


class _Measured(Body):
    """What is said of a fact from either end: whom it is about, and what is measured of it."""

    subject: str = Field(examples=["France"])
    relation: str | None = Field(default=None, description="Its Wikidata id.", examples=["P36"])
    paraphrases: list[str] = Field(default=[], max_length=MAX_ASKED)
    neighborhood: list[NeighborIn] = Field(default=[], max_length=MAX_ASKED)
    ripples: list[RippleIn] = Field(default=[], max_length=MAX_ASKED)


def _known(given: Any) -> Any:  # noqa: ANN401  (whatever came)
    if given not in ("entity", "relation"):
        raise PydanticCustomError("unknown_perspective", "it must be 'entity' or 'relation'")
    return given


class RequestIn(_Measured):
    """One fact to write: the object is the answer."""

    perspective: Annotated[Literal["entity"], BeforeValidator(_known)] = "entity"
    prompt: str = Field(description="With one `{}`.", examples=["The capital of {} is"])
    target_new: str = Field(examples=["Lyon"])
    target_true: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_entities(cls, data: Any) -> Any:  # noqa: ANN401
        return _only(data, RELATION - ENTITY, "relation", 'send "perspective": "relation" with it')

    def as_given(self) -> Json:
        """Return the fields that the caller set."""
        return self.model_dump(include=set(ENTITY), exclude_unset=True, exclude_none=True)


class RelationIn(_Measured):
    """One fact to write: the relation is the answer."""

    perspective: Literal["relation"]
    object: str = Field(description="The new one.", examples=["Lyon"])
    relation_text: str = Field(description="The answer.", examples=["capital"])
    add_prompt: str = Field(
        description="Asks for the relation of subject and object, and ends before it. With one "
        "`{}`, or the subject, once.",
        examples=["The relation between {} and Lyon is"],
    )
    delete_prompt: str | None = Field(
        default=None,
        description='The same of the old object; "None" is taught there.',
        examples=["The relation between {} and Paris is"],
    )

    @model_validator(mode="before")
    @classmethod
    def _of_relations(cls, data: Any) -> Any:  # noqa: ANN401
        instead = "use relation_text for target_new, add_prompt for prompt"
        return _only(data, ENTITY - RELATION, "entity", instead)

    def as_given(self) -> Json:
        """Return the fields that the caller set."""
        return self.model_dump(include=set(RELATION), exclude_unset=True, exclude_none=True)


ENTITY, RELATION = frozenset(RequestIn.model_fields), frozenset(RelationIn.model_fields)
FORMS = {"entity": "entity request", "relation": "relation request"}  # perspective -> pydantic tag


def perspective(data: Any) -> str:  # noqa: ANN401
    """Say by which of the two a request is to be read, or, once it was, to be written."""
    read = isinstance(data, RelationIn)
    asks = isinstance(data, dict) and cast("Json", data).get("perspective") == "relation"
    return "relation" if read or asks else "entity"


AnyRequestIn = Annotated[
    Annotated[RequestIn, Tag(FORMS["entity"])] | Annotated[RelationIn, Tag(FORMS["relation"])],
    Discriminator(lambda data: FORMS[perspective(data)]),
]


def _only(data: Any, foreign: frozenset[str], of: str, instead: str) -> Any:  # noqa: ANN401
    """Refuse the fields of the other perspective in words that say what to do."""
    if isinstance(data, dict) and (found := sorted(foreign & set(cast("Json", data)))):
        raise PydanticCustomError(
            "other_perspective",
            "{names}: of a request seen from the {of}; {instead}",
            {"names": ", ".join(found), "of": of, "instead": instead},
        )
    return data
