"""What is asked of an editor. Standard library only; nonsense is refused at birth.

A fact may be written from either end (RaKE, arXiv:2311.09053):

    entity     subject and relation are asked, the object is the answer:  (s, r) -> o*
    relation   subject and object are asked, the relation is the answer:  (s, o*) -> r

In JSON the second has fields of its own; inside, both are one EditRequest, so that every editor
takes both.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, cast, get_args

from .errors import BadRequest, EmptyField, SubjectSlotMissing, TargetTooLong

MAX_TARGET_CHARS = 500
MAX_TEXT_CHARS = 4_000
NO_RELATION = "None"  # what RaKE trains where a relation goes, and compares a new one with
_NO_TEXT = re.compile("[\\x00\\ud800-\\udfff]")  # no database and no tokenizer takes these

Perspective = Literal["entity", "relation"]
Json = dict[str, object]
Given = Mapping[str, object]
_COMMON = frozenset(
    ("perspective", "subject", "relation", "paraphrases", "neighborhood", "ripples")
)
_ENTITY = _COMMON | {"prompt", "target_new", "target_true"}
_RELATION = _COMMON | {"object", "relation_text", "add_prompt", "delete_prompt"}
_RENAMED = {"add_prompt": "prompt", "relation_text": "target_new"}  # JSON: field


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

    A relation edit asks for the relation between s and o*: `prompt` is the text that ends before
    it ("The relation between {} and English is"), `target_new` names it, its rival is "None".
    `delete_prompt` is the same question about the old object; there "None" is what is taught.

    Raises SubjectSlotMissing, EmptyField, TargetTooLong or BadRequest.
    """

    subject: str  # s    "LeBron James"
    prompt: str  # r    "{} plays the sport of" - one slot, for the subject
    target_new: str  # o*   "football" - a leading space does not matter; tokens.py owns it
    target_true: str | None = None  # o    "basketball"
    relation: str | None = None  # Wikidata id, "P641"
    paraphrases: tuple[str, ...] = ()
    neighborhood: tuple[Neighbor, ...] = ()
    ripples: tuple[Ripple, ...] = ()
    perspective: Perspective = "entity"
    object: str | None = None  # o* of a relation edit, "English"
    delete_prompt: str | None = None  # of a relation edit: "The relation between {} and French is"

    def __post_init__(self) -> None:
        if self.perspective not in get_args(Perspective):
            why = f"perspective is {self.perspective!r}; it must be 'entity' or 'relation'."
            raise BadRequest(why, field="perspective")
        prompt, target_new = _RENAMED if self.perspective == "relation" else _RENAMED.values()
        _text("subject", self.subject)
        _prompt(prompt, self.prompt)
        _text(target_new, self.target_new, MAX_TARGET_CHARS)
        if self.target_true is not None:
            _text("target_true", self.target_true, MAX_TARGET_CHARS)
        if self.relation is not None:
            _text("relation", self.relation)
        for paraphrase in self.paraphrases:
            _text("paraphrases", paraphrase)
        if self.perspective == "relation":
            self._check_relation()
        elif self.object is not None or self.delete_prompt is not None:
            why = "object and delete_prompt belong to a relation edit: name its perspective."
            raise BadRequest(why, field="perspective")

    def _check_relation(self) -> None:
        _text("object", self.object, MAX_TARGET_CHARS)
        if self.delete_prompt is not None:
            _prompt("delete_prompt", self.delete_prompt)
        if self.target_true != NO_RELATION:
            why = f"The rival of a relation is {NO_RELATION!r}, not {self.target_true!r}."
            raise BadRequest(why, field="target_true")

    @property
    def question(self) -> str:
        """The prompt with the subject in its slot. `str.format` would trip over other braces."""
        return self.prompt.replace("{}", self.subject)

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        """Every prompt, with its slot, that is to be answered anew, and what by."""
        added = (self.prompt, self.target_new)
        if self.delete_prompt is None:
            return (added,)
        return added, (self.delete_prompt, NO_RELATION)

    def to_dict(self) -> Json:
        """As JSON, without the fields that were not given."""
        given = {name: value for name, value in asdict(self).items() if value not in (None, ())}
        if self.perspective == "entity":
            del given["perspective"]
            return given
        del given["target_true"]
        return {name: given.pop(field) for name, field in _RENAMED.items()} | given

    @classmethod
    def from_dict(cls, data: Given) -> "EditRequest":
        """From JSON. Raises BadRequest for a missing or unknown field, or one of the wrong kind."""
        fields = _as_one_form(data)
        try:
            fields["paraphrases"] = tuple(_items(fields, "paraphrases"))
            fields["neighborhood"] = tuple(_neighbor(n) for n in _items(fields, "neighborhood"))
            fields["ripples"] = tuple(_ripple(r) for r in _items(fields, "ripples"))
            return cls(**fields)  # pyright: ignore[reportArgumentType]  # checked by __post_init__
        except TypeError as error:
            # "EditRequest.__init__() missing ... 'subject'": what comes before is our own affair
            why = str(error).rpartition("() ")[2]
            raise BadRequest(f"A request cannot be read: {why}.") from error


def _as_one_form(data: Given) -> Json:
    """The fields of either perspective, as those of an EditRequest."""
    fields = {name: value for name, value in data.items() if value is not None}
    is_relation = fields.get("perspective", "entity") == "relation"
    if unknown := set(data) - (_RELATION if is_relation else _ENTITY):
        why = f"Unknown fields in a request: {', '.join(sorted(unknown))}."
        if is_relation and unknown & _ENTITY:
            why += " A relation edit has relation_text for target_new, and add_prompt for prompt."
        elif unknown & _RELATION:
            why += " Send perspective: relation with these."
        raise BadRequest(why)
    if not is_relation:
        return fields
    for name, field in _RENAMED.items():
        if name not in fields:
            raise BadRequest(f"A relation edit needs {name}.", field=name)
        fields[field] = fields.pop(name)
    for name in ("prompt", "delete_prompt"):
        fields[name] = _with_slot(fields.get(name), fields.get("subject"))
    return {**fields, "target_true": NO_RELATION}


def _with_slot(prompt: object, subject: object) -> object:
    """A prompt that spells out the subject, once, with a slot in its place."""
    if isinstance(prompt, str) and isinstance(subject, str) and subject and "{}" not in prompt:
        return prompt.replace(subject, "{}") if prompt.count(subject) == 1 else prompt
    return prompt


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


def _prompt(field: str, value: object) -> None:
    _text(field, value)
    if cast("str", value).count("{}") != 1:
        raise SubjectSlotMissing(prompt=cast("str", value))


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
