"""The factual relations of LRE (Hernandez et al. 2023, arXiv:2308.09124) as facts to edit.

A record is one relation: name, prompt_templates, prompt_templates_zs, samples[{subject, object}].
The first template is the prompt, the others are paraphrases. What is written is another object of
the same relation; neighbors are other subjects with the same object, which must keep it.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from editing.errors import BadRecord, BadRequest
from editing.request import EditRequest, Neighbor

from .same_subject import Fact

_DATASET = "relations"


@dataclass(frozen=True, slots=True)
class Relation:
    """One relation: its templates, and the objects of every subject."""

    name: str
    templates: tuple[str, ...]
    objects: Mapping[str, tuple[str, ...]]  # subject -> its objects, the first one first
    subjects: Mapping[str, tuple[str, ...]]  # object -> the subjects that have it

    def request(self, subject: str, *, neighbors: int, seed: int) -> EditRequest:
        """The edit of one subject; the same for one seed, whatever else is edited."""
        chance = random.Random(f"{seed} {self.name} {subject}")  # noqa: S311 - no secret
        mine = self.objects[subject]
        others = [answer for answer in self.subjects if answer not in mine]
        prompt, *rest = self.templates
        near = [name for name in self.subjects[mine[0]] if name != subject]
        return EditRequest(
            subject=subject,
            prompt=prompt,
            target_new=chance.choice(others),
            target_true=mine[0],
            relation=self.name,
            paraphrases=tuple(text.replace("{}", subject) for text in rest),
            neighborhood=tuple(
                Neighbor(prompt=prompt.replace("{}", name), target=mine[0])
                for name in chance.sample(near, min(neighbors, len(near)))
            ),
        )

    def facts(self, *, neighbors: int, seed: int) -> list[Fact]:
        """All of its subjects for which another object could be written."""
        return [
            Fact(
                name,
                self.name,
                partial(self.request, name, neighbors=neighbors, seed=seed),
                whole=len(self.templates) > 1 and len(self.subjects[mine[0]]) > 1,
            )
            for name, mine in self.objects.items()
            if len(self.subjects) > len(mine)
        ]


def is_relation(record: Mapping[str, Any]) -> bool:
    """Whether a record has LRE's form."""
    return "samples" in record or "prompt_templates" in record


def relation_of(number: int, record: Mapping[str, Any]) -> Relation:
    """One record. Raises BadRecord."""
    try:
        templates = [*record["prompt_templates"], *record.get("prompt_templates_zs", ())]
        samples = [(one["subject"], one["object"]) for one in record["samples"]]
        name = cast("str", record["name"])
    except (KeyError, TypeError, AttributeError) as error:
        raise BadRecord(number, why=f"it lacks {error}.", dataset=_DATASET) from error
    objects: dict[str, list[str]] = {}
    subjects: dict[str, list[str]] = {}
    for one in (*templates, *(text for pair in samples for text in pair), name):
        if not isinstance(one, str) or not one.strip():
            why = f"{one!r} stands where a text is needed."
            raise BadRecord(number, why=why, dataset=_DATASET)
    for subject, answer in dict.fromkeys(samples):
        objects.setdefault(subject, []).append(answer)
        subjects.setdefault(answer, []).append(subject)
    if not templates or not objects or any(text.count("{}") != 1 for text in templates):
        why = "it needs samples, and templates with exactly one {} each."
        raise BadRecord(number, why=why, dataset=_DATASET)
    found = Relation(
        name,
        tuple(dict.fromkeys(templates)),
        {subject: tuple(some) for subject, some in objects.items()},
        {answer: tuple(some) for answer, some in subjects.items()},
    )
    try:  # requests are made later; what they would refuse is told now
        for subject, answer in samples:
            Neighbor(prompt=subject, target=answer)
    except BadRequest as error:
        raise BadRecord(number, why=str(error), dataset=_DATASET) from error
    return found


def facts_of(records: Sequence[Mapping[str, Any]], *, neighbors: int, seed: int) -> list[Fact]:
    """The facts of all relations. Raises BadRecord."""
    return [
        fact
        for number, record in enumerate(records)
        for fact in relation_of(number, record).facts(neighbors=neighbors, seed=seed)
    ]
