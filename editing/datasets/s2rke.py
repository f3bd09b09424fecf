"""Edits of one subject, from S2RKE's own file, from CounterFact, or from LRE's relations.

S2RKE (Duan et al. 2025, arXiv:2502.06868): subject{name}, and in Star_Topology its facts, each
requested_rewrite{prompt, relation, target_true, target_new}, paraphrase_prompts and
neighborhood_prompts. CounterFact: records that share a subject. LRE: one record a relation, joined
on the subjects' names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, cast

from editing.errors import BadRecord, BadRequest
from editing.request import EditRequest, Neighbor

from . import counterfact
from .relations import facts_of, is_relation
from .same_subject import Design, Fact, SameSubject, build

_DATASET = "s2rke"

Record = Mapping[str, Any]


class Chosen(Protocol):
    """The options that say what sets are built."""

    @property
    def design(self) -> Design: ...  # noqa: D102

    @property
    def k(self) -> int: ...  # noqa: D102

    @property
    def subjects(self) -> int: ...  # noqa: D102

    @property
    def neighbors(self) -> int: ...  # noqa: D102

    @property
    def seed(self) -> int: ...  # noqa: D102


def cases(records: Sequence[Record], options: Chosen) -> list[SameSubject]:
    """Sets of edits, from records of one of the three forms. Raises BadRecord or BadRequest."""
    facts = facts_in(records, neighbors=options.neighbors, seed=options.seed)
    return build(
        facts,
        design=options.design,
        k=options.k,
        subjects=options.subjects,
        seed=options.seed,
    )


def facts_in(records: Sequence[Record], *, neighbors: int, seed: int) -> list[Fact]:
    """Every fact that could be edited. The first record says which form all have."""
    first = records[0] if records else {}
    if is_relation(first):
        return facts_of(records, neighbors=neighbors, seed=seed)
    if "Star_Topology" in first:
        return [fact for n, record in enumerate(records) for fact in _star(n, record, neighbors)]
    sets = counterfact.cases(records, _Alone())
    found = [record.request for one in sets for record in one.records]
    return [_given(request, neighbors) for request in _unlike(found)]


def _unlike(requests: Sequence[EditRequest]) -> list[EditRequest]:
    """One request for each subject and old object where the relation is not named.

    Two such requests are likely one fact in other words, to be written in two ways.
    """
    seen: set[tuple[str, str | None]] = set()
    kept: list[EditRequest] = []
    for request in requests:
        place = (request.subject, request.target_true)
        if request.relation is not None or place not in seen:
            kept.append(request)
        seen.add(place)
    return kept


@dataclass(frozen=True, slots=True)
class _Alone:
    mode: Literal["single"] = "single"
    size: int | None = None


def _star(number: int, record: Record, neighbors: int) -> list[Fact]:
    """The facts of one subject; one whose new object is its old one says nothing, and is left."""
    try:
        subject = _text(record["subject"]["name"])
        rays = [_ray(subject, ray) for ray in record["Star_Topology"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise BadRecord(number, why=f"it lacks {error}.", dataset=_DATASET) from error
    except BadRequest as error:
        raise BadRecord(number, why=str(error), dataset=_DATASET) from error
    return [_given(ray, neighbors) for ray in rays if ray.target_new != ray.target_true]


def _ray(subject: str, ray: Record) -> EditRequest:
    rewrite = ray["requested_rewrite"]
    true = _text(rewrite["target_true"])
    return EditRequest(
        subject=subject,
        prompt=rewrite["prompt"],
        target_new=_text(rewrite["target_new"]),
        target_true=true,
        relation=rewrite["relation"],
        paraphrases=tuple(ray["paraphrase_prompts"]),
        neighborhood=tuple(
            Neighbor(prompt=one, target=true) for one in ray["neighborhood_prompts"]
        ),
    )


def _text(value: object) -> str:
    """A text, or CounterFact's {"str": text}."""
    return cast("str", value["str"] if isinstance(value, Mapping) else value)


def _given(request: EditRequest, neighbors: int) -> Fact:
    made = replace(request, neighborhood=request.neighborhood[:neighbors])
    whole = bool(made.paraphrases and made.neighborhood)
    return Fact(request.subject, request.relation or request.prompt, lambda: made, whole)
