"""Facts to trace: the thousand known facts of ROME (arXiv:2202.05262), or plain ones.

ROME's records: subject, attribute, template (with its slot), prompt (the subject in it; it may go
on behind the template), relation_id. Plain ones: subject, attribute, and a prompt or template.
Where RaKE's relation is not what stands beside the subject, `relation_text` names it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from editing.errors import BadRecord

from .slot import with_slot

_DATASET = "known_facts"
_EDGES = " \t\n,.;:?!'\""  # what no relation begins or ends with


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFact:
    """A fact whose answer should be `attribute`; `prompt` has one slot `{}` for the subject."""

    subject: str
    prompt: str
    attribute: str
    relation: str | None = None  # Wikidata id
    relation_text: str | None = None

    @property
    def text(self) -> str:
        """What the model is asked."""
        return self.prompt.replace("{}", self.subject)

    @property
    def subject_at(self) -> tuple[int, int]:
        """First character of the subject in the text, and the one behind its last."""
        start = self.prompt.index("{}")
        return start, start + len(self.subject)

    @property
    def relation_at(self) -> tuple[int, int] | None:
        """The same of the words that name the relation, None where there are none.

        The named text, else all that stands before the subject or behind it, whichever has more
        letters: "The mother tongue of", and not "is".
        """
        start, end = self.subject_at
        before, behind = self.text[:start], self.text[end:]
        if self.relation_text is not None:
            for side, shift in ((before, 0), (behind, end)):
                if (at := side.find(self.relation_text)) >= 0:
                    return shift + at, shift + at + len(self.relation_text)
            return None
        side, shift = (before, 0) if _letters(before) > _letters(behind) else (behind, end)
        words = side.strip(_EDGES)
        if not _letters(words):
            return None
        return shift + (at := side.index(words)), shift + at + len(words)


@dataclass(frozen=True, slots=True)
class TracedFact:
    """One fact to trace, and all subjects of the data: they set how loud the noise is."""

    fact: KnownFact
    subjects: tuple[str, ...]


def tracing_cases(records: Sequence[Mapping[str, Any]], _: object = None) -> list[TracedFact]:
    """Every record as a case. Raises BadRecord."""
    facts = [known_fact(number, record) for number, record in enumerate(records)]
    subjects = tuple(fact.subject for fact in facts)
    return [TracedFact(fact, subjects) for fact in facts]


def known_fact(number: int, record: Mapping[str, Any]) -> KnownFact:
    """One record, in either form. Raises BadRecord."""

    def text(name: str, *, needed: bool = True) -> str | None:
        value = record.get(name) if isinstance(record, Mapping) else None
        if value is None and not needed:
            return None
        if not isinstance(value, str) or not value.strip():
            raise BadRecord(number, why=f"it has no text as its {name}.", dataset=_DATASET)
        return value

    subject, attribute = str(text("subject")), str(text("attribute"))
    template = text("template", needed=False)
    prompt = text("prompt", needed=template is None) or template
    slotted = _with_slot(str(prompt), template, subject)
    if slotted is None:
        why = f"its prompt {prompt!r} does not name its subject {subject!r}."
        raise BadRecord(number, why=why, dataset=_DATASET)
    return KnownFact(
        subject=subject,
        prompt=slotted,
        attribute=attribute,
        relation=text("relation_id", needed=False),
        relation_text=text("relation_text", needed=False),
    )


def _with_slot(prompt: str, template: str | None, subject: str) -> str | None:
    """The prompt with a slot for its subject; the template decides where it names it twice."""
    if prompt.count("{}") == 1:
        return prompt
    if "{}" in prompt:
        return None
    if template is not None and template.count("{}") == 1:
        filled = template.replace("{}", subject)
        if prompt.startswith(filled):
            return template + prompt[len(filled) :]
    return with_slot(prompt, subject)


def _letters(text: str) -> int:
    return sum(letter.isalnum() for letter in text)
