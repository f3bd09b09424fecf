"""What is asked of an editor. Standard library only; nonsense is refused at birth."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import cast

from .errors import BadRequest, EmptyField, SubjectSlotMissing, TargetTooLong

MAX_TARGET_CHARS = 500
MAX_TEXT_CHARS = 4_000


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
            neighbors = (dict(cast("Mapping[str, str]", n)) for n in _items(fields, "neighborhood"))
            fields["neighborhood"] = tuple(Neighbor(**n) for n in neighbors)
            fields["ripples"] = tuple(_ripple(r) for r in _items(fields, "ripples"))
            return cls(**fields)  # pyright: ignore[reportArgumentType]  # checked by __post_init__
        except TypeError as error:
            raise BadRequest(f"A request cannot be read: {error}.") from error


def _items(fields: Mapping[str, object], name: str) -> Sequence[object]:
    value = fields.get(name) or ()
    if not isinstance(value, list | tuple):
        raise BadRequest(f"{name} must be a list.")
    return cast("Sequence[object]", value)


def _ripple(value: object) -> Ripple:
    fields = dict(cast("Mapping[str, object]", value))
    return Ripple(
        prompt=cast("str", fields.pop("prompt", "")),
        answers=cast("tuple[str, ...]", tuple(_items(fields, "answers"))),
        criterion=cast("str | None", fields.get("criterion")),
    )


def _text(field: str, value: object, limit: int = MAX_TEXT_CHARS) -> None:
    if not isinstance(value, str):
        raise BadRequest(f"{field} must be a text.", field=field)
    if not value.strip():
        raise EmptyField(field=field)
    if len(value) > limit:
        raise TargetTooLong(target=value, length=len(value), limit=limit, unit="characters")
