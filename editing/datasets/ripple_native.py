"""RippleEdits' own files (METRICS 2.1): whole statements, ids for names, tests with conditions.

An edit reads "The name of the country of citizenship of Leonardo DiCaprio is Syria.", with the ids
of subject and target. Where the target stands is known from the tests that ask for it, or from the
statement of the old fact; where the subject stands, from the words of the relation's template.

Two kinds of conditions are left out: those without an answer (their builder found no object), and,
where something should follow, those that ask the edit's own question (their builder takes the edit
for done): no model could answer it before the edit.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from editing.errors import BadRequest
from editing.request import EditRequest

from .ripple_types import CRITERIA, RippleCase, RippleQuery, RippleTest
from .ripple_words import Sieve, answer_groups, criterion_named, plain

Json = Mapping[str, Any]

# What stands around the subject, where it is not "<the relation's name> of {} is".
_FRAMES = {
    "SIBLING": "siblings of {} are",
    "CAST_MEMBER": "cast members of {} are",
    "SEX_OR_GENDER": "gender of {} is",
    "NATIVE_LANGUAGE": "mother tongue of {} is",
    "CAPITAL": "capital city of {} is",
    "CURRENCY": "currency in {} is",
    "LIKELY_ANTHEM": "performed in {} is",
    "POSITION_HELD": "position held by {} is",
    "AWARD_RECEIVED": "award {} won is",
    "NUMBER_OF_CHILDREN": "children {} has is",
    "COUNTRY": "which {} is associated with is",
    "ETHNIC_GROUP": "which {} is associated with is",
    "RELIGION": "which {} is associated with is",
    "CONTINENT": "which {} is part of is",
    "CAPITAL_OF": "which {} is the capital of is",
    "LEAGUE": "which {} plays in is",
    "MEMBER_OF_SPORTS_TEAM": "which {} is a member of is",
    "FOLLOWS": "{} follows",
    "FOLLOWED_BY": "{} is followed by",
}


def native_case(number: int, record: Json) -> RippleCase:
    """One record as a case. Raises KeyError or BadRequest where it is not of this form."""
    edit = record["edit"]
    lists = {criterion_named(name): tests for name, tests in record.items() if _is_list(name)}
    if not lists:
        raise BadRequest("it has none of the six criteria.")
    groups = {name: [_test(name, test) for test in tests] for name, tests in lists.items()}
    targets = _targets(lists.values(), edit["target_id"])
    old = edit.get("original_fact") or edit.get("previous_fact")
    request, why = _request(edit, old, targets)
    sieve = Sieve(request)
    for name, tests in groups.items():
        if not tests:
            sieve.skip("the criterion is empty.", name)
        for test in tests:
            sieve.take(replace(test, conditions=_that_can_be_met(test, request)))
    tests, skipped = sieve.found
    new = "" if request is None else request.target_new
    return RippleCase(
        number=number,
        form="native",
        edit=request,
        why=why,
        tests=tests,
        skipped=skipped,
        split=record.get("example_type"),
        aliases=tuple(name for name in targets if name != new),
    )


def _is_list(name: str) -> bool:
    try:
        return criterion_named(name) in CRITERIA
    except BadRequest:
        return False


def _test(criterion: str, given: Json) -> RippleTest:
    condition = str(given.get("test_condition", "OR")).lower()
    if condition not in {"and", "or"}:
        raise BadRequest(f"a test's condition is AND or OR, not {condition!r}.")
    return RippleTest(
        criterion=criterion,
        queries=tuple(map(_query, given["test_queries"])),
        condition=cast("Literal['and', 'or']", condition),
        conditions=tuple(map(_query, given.get("condition_queries") or ())),
    )


def _that_can_be_met(test: RippleTest, request: EditRequest | None) -> tuple[RippleQuery, ...]:
    """The conditions of a test that a model could meet before the edit."""
    conditions = [query for query in test.conditions if query.answers]
    if request is None or test.preserves:
        return tuple(conditions)
    question = plain(request.question)
    return tuple(query for query in conditions if plain(query.prompt) != question)


def _query(given: Json) -> RippleQuery:
    # A phrase replaces the template's prompt, where there is one.
    prompt = str(given.get("prompt") or given.get("phrase") or "").strip()
    return RippleQuery(prompt=prompt, answers=answer_groups(given["answers"]))


def _targets(lists: Iterable[Sequence[Json]], target_id: str) -> tuple[str, ...]:
    """The new target's names, from a query that asks for it alone; its label first."""
    for tests in lists:
        for test in tests:
            for query in test["test_queries"]:
                answers = answer_groups(query["answers"])
                asked = query.get("target_ids")
                asked = [asked] if isinstance(asked, str) else asked
                if asked == [target_id] and "second_relation" not in query and len(answers) == 1:
                    return answers[0]
    return ()


def _request(
    edit: Json, old: Json | None, targets: Sequence[str]
) -> tuple[EditRequest | None, str]:
    """The edit as a request, or why it cannot be told."""
    text, relation = str(edit["prompt"]).strip(), str(edit["relation"])
    frame = _FRAMES.get(relation, f"{relation.lower().replace('_', ' ')} of {{}} is")
    before, after = frame.split("{}")
    stem = _stem(text, after, None if old is None else str(old["prompt"]).strip(), targets)
    if stem is None:
        return None, f"where the target begins in {text!r} cannot be told."
    start = stem.find(f" {before}") + 1 if before else 0
    subject = stem[start + len(before) : len(stem) - len(after)]
    if (before and not start) or not subject.strip():
        return None, f"the subject of {text!r} cannot be told from the relation {relation!r}."
    new, true = _rest(text, stem), "" if old is None else _rest(str(old["prompt"]).strip(), stem)
    if not new or new == true:  # a label that was missing; an object drawn twice
        return None, f"{text!r} changes nothing."
    request = EditRequest(
        subject=subject,
        prompt=f"{stem[: start + len(before)]}{{}}{after}",
        target_new=new,
        target_true=true or None,
        relation=relation,
    )
    return request, ""


def _stem(text: str, after: str, old: str | None, targets: Sequence[str]) -> str | None:
    """The statement up to its target, ending in `after`."""
    for target in targets:
        stem = text.removesuffix(".").removesuffix(target.removesuffix(".")).rstrip()
        if len(stem) < len(text) - 1 and stem.endswith(after):
            return stem
    cuts = [i + len(after) for i in range(len(text)) if text.startswith(f"{after} ", i)]
    if len(cuts) > 1 and old is not None:  # the old statement begins in the same way
        cuts = [cut for cut in cuts if old.startswith(text[: cut + 1])]
        cuts = cuts[-1:]
    return text[: cuts[0]] if len(cuts) == 1 else None


def _rest(statement: str, stem: str) -> str:
    return statement[len(stem) :].strip().removesuffix(".") if statement.startswith(stem) else ""
