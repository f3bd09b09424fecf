"""What is asked of an editor. Standard library only; nonsense is refused at birth."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import cast

from .errors import BadRequest, EmptyField, SubjectSlotMissing, TargetTooLong

MAX_TARGET_CHARS = 500
MAX_TEXT_CHARS = 4_000
_NO_TEXT = re.compile("[\\x00\\ud800-\\udfff]")  # no database and no tokenizer takes these


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbor:
    """A prompt about another subject, whose answer must stay `target`."""

    prompt: str
    target: str

    def __post_init__(self) -> None:
        _text("neighborhood.prompt", self.prompt)
        _text("neighborhood.target", self.target, MAX_TARGET_CHARS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ripple:
    """A question whose answer should follow from the edit (`criterion`: RippleEdits' six)."""

    prompt: str
    answers: tuple[str, ...]
    criterion: str | None = None

    def __post_init__(self) -> None:
        _text("ripples.prompt", self.prompt)
        if not self.answers:
            raise EmptyField(field="ripples.answers")
        for answer in self.answers:
            _text("ripples.answers", answer, MAX_TARGET_CHARS)
        if self.criterion is not None:
            _text("ripples.criterion", self.criterion)


@dataclass(frozen=True, slots=True, kw_only=True)
class EditRequest:
    """One fact to write: (s, r, o) becomes (s, r, o*).

    Raises SubjectSlotMissing, EmptyField or TargetTooLong.
    """

    subject: str  # s    "LeBron James"
    prompt: str  # r    "{} plays the sport of" - one slot, for the subject
    target_new: str  # o*   "football" - a leading space does not matter; tokens.py owns it
    target_true: str | None = None  # o    "basketball"
    relation: str | None = None  # Wikidata id, "P641"
    paraphrases: tuple[str, ...] = ()
    neighborhood: tuple[Neighbor, ...] = ()
    ripples: tuple[Ripple, ...] = ()

    def __post_init__(self) -> None:
        _text("subject", self.subject)
        _text("prompt", self.prompt)
        _text("target_new", self.target_new, MAX_TARGET_CHARS)
        if self.target_true is not None:
            _text("target_true", self.target_true, MAX_TARGET_CHARS)
        if self.relation is not None:
            _text("relation", self.relation)
        if self.prompt.count("{}") != 1:
            raise SubjectSlotMissing(prompt=self.prompt)
        for paraphrase in self.paraphrases:
            _text("paraphrases", paraphrase)

    @property
    def question(self) -> str:
        """The prompt with the subject in its slot. `str.format` would trip over other braces."""
        return self.prompt.replace("{}", self.subject)

    def to_dict(self) -> dict[str, object]:
        """As JSON, without the fields that were not given."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> "EditRequest":
        """From JSON. Raises BadRequest for a missing or unknown field, or one of the wrong kind."""
        fields = dict(data)
        if unknown := set(fields) - set(cls.__dataclass_fields__):
            raise BadRequest(f"Unknown fields in a request: {', '.join(sorted(unknown))}.")
        try:
            fields["paraphrases"] = tuple(_items(fields, "paraphrases"))
            fields["neighborhood"] = tuple(_neighbor(n) for n in _items(fields, "neighborhood"))
            fields["ripples"] = tuple(_ripple(r) for r in _items(fields, "ripples"))
            return cls(**fields)  # pyright: ignore[reportArgumentType]  # checked by __post_init__
        except TypeError as error:
            # "EditRequest.__init__() missing ... 'subject'": what comes before is our own affair
            why = str(error).rpartition("() ")[2]
            raise BadRequest(f"A request cannot be read: {why}.") from error


def _items(fields: Mapping[str, object], name: str, inside: str = "") -> Sequence[object]:
    value = fields.get(name) or ()
    if not isinstance(value, list | tuple):
        raise BadRequest(f"{inside}{name} must be a list.", field=f"{inside}{name}")
    return cast("Sequence[object]", value)


def _neighbor(value: object) -> Neighbor:
    fields = _fields(value, "neighborhood", {"prompt", "target"})
    return Neighbor(
        prompt=cast("str", fields.get("prompt")), target=cast("str", fields.get("target"))
    )


def _ripple(value: object) -> Ripple:
    fields = _fields(value, "ripples", {"prompt", "answers", "criterion"})
    return Ripple(
        prompt=cast("str", fields.get("prompt")),
        answers=cast("tuple[str, ...]", tuple(_items(fields, "answers", "ripples."))),
        criterion=cast("str | None", fields.get("criterion")),
    )


def _fields(value: object, name: str, known: set[str]) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise BadRequest(f"{name} must be a list of objects.", field=name)
    fields = cast("Mapping[str, object]", value)
    if unknown := set(fields) - known:
        raise BadRequest(f"Unknown fields in {name}: {', '.join(sorted(unknown))}.", field=name)
    return fields


def _text(field: str, value: object, limit: int = MAX_TEXT_CHARS) -> None:
    if not isinstance(value, str):
        raise BadRequest(f"{field} must be a text.", field=field)
    if not value.strip():
        raise EmptyField(field=field)
    if len(value) > limit:
        if limit == MAX_TARGET_CHARS:
            raise TargetTooLong(target=value, length=len(value), limit=limit, unit="characters")
        why = f"{field} has {len(value)} characters; at most {limit} are taken. Shorten it."
        raise BadRequest(why, field=field)
    if _NO_TEXT.search(value):
        why = f"{field} holds a NUL or half a surrogate pair, which is no text. Leave it out."
        raise BadRequest(why, field=field)
