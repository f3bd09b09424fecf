"""Queries by which GradSim is known to fail, generated for an edit (METRICS 1.4).

negation       the edit's question with " not" behind it, and the same target
over-ripple    a ripple query with the answer that is right, and with the edit's new target instead
cross-lingual  the same fact in French and German (languages.py)

Records of ripple benchmarks (RippleEdits, KnowEdit, our own requests with `ripples`) have ripple
queries; all others have none, and most of CounterFact has a relation that is covered in French and
German. What a record cannot give is left out and counted. Standard library only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from editing.request import EditRequest

from .facts import request_of
from .languages import LANGUAGES, asked_in, translated
from .ripple import _case as ripple_case
from .ripple_types import RippleCase, RippleQuery

if TYPE_CHECKING:
    from editing.evals.options import FailuresOptions

Json = Mapping[str, Any]
_OF_RIPPLES = {"edit", "portability", "locality", "ripples"}
_OF_OTHERS = {"requested_rewrite", "src"}  # CounterFact and zsRE, whose portability is another


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """The edited fact asked in another language; `english` is the target as it was written."""

    language: str
    question: str
    answer: str
    english: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureCase:
    """One edit with its queries, and why it has none of some kind (kind: why)."""

    number: int
    request: EditRequest
    aliases: tuple[str, ...] = ()  # other names of the new target
    negation: str | None = None
    over: tuple[RippleQuery, ...] = ()
    foreign: tuple[Foreign, ...] = ()
    skipped: Mapping[str, str]


def cases(records: Sequence[Json], options: "FailuresOptions") -> list[FailureCase]:
    """One case a record. Raises BadRecord."""
    return [_case(number, record, options) for number, record in enumerate(records)]


def negated(question: str) -> str:
    """The question with the answer denied: "... is" becomes "... is not"."""
    return f"{question.rstrip()} not"


def _case(number: int, record: Json, options: "FailuresOptions") -> FailureCase:
    ripple = _ripple(number, record)
    request = ripple.request if ripple else request_of(number, record)
    wanted = {"negation", "over_ripple", "cross_lingual"}
    if options.kinds != "all":
        wanted = {options.kinds}
    skipped: dict[str, str] = {}
    aliases = ripple.aliases if ripple else ()
    over: tuple[RippleQuery, ...] = ()
    if "over_ripple" in wanted:
        over = _over(ripple, {request.target_new, *aliases})[: options.queries or None]
        if not over:
            skipped["over_ripple"] = "it has no ripple query with another answer than the edit's."
    foreign: list[Foreign] = []
    if "cross_lingual" in wanted:
        foreign, why = _foreign(request)
        if why:
            skipped["cross_lingual"] = why
    return FailureCase(
        number=number,
        request=request,
        aliases=aliases,
        negation=negated(request.question) if "negation" in wanted else None,
        over=over,
        foreign=tuple(foreign),
        skipped=skipped,
    )


def _ripple(number: int, record: Json) -> RippleCase | None:
    """The record as a ripple case, where it is of a ripple benchmark."""
    fields = set(record) if isinstance(record, Mapping) else set[str]()
    if fields & _OF_OTHERS or not fields & _OF_RIPPLES:
        return None
    return ripple_case(number, record)


def _over(ripple: RippleCase | None, target: set[str]) -> tuple[RippleQuery, ...]:
    """The queries that should not be answered with the edit's new target."""
    if ripple is None:
        return ()
    names = {name.casefold() for name in target}
    queries = dict.fromkeys(query for test in ripple.tests for query in test.queries)
    return tuple(
        query
        for query in queries
        if not names & {name.casefold() for group in query.answers for name in group}
    )


def _foreign(request: EditRequest) -> tuple[list[Foreign], str]:
    """The fact in other languages, and why it has none."""
    relation = request.relation
    found: list[Foreign] = []
    for language in LANGUAGES:
        question = asked_in(relation, request.subject, language)
        answer = translated(relation, request.target_new, language)
        if question is None:
            return [], f"its relation ({relation}) was not written in other languages."
        if answer is None:
            return [], f"its target ({request.target_new}) was not translated."
        found.append(
            Foreign(language=language, question=question, answer=answer, english=request.target_new)
        )
    return found, ""
