"""KnowEdit's form of RippleEdits: no conditions, and both compositionality criteria in one list.

Both can be had back from the prompts, which are made from templates. With the edit "The name of the
mother of {Ann} is" -> Eve:

compositionality_i    "The occupation of the mother of Ann is" has the edit's own phrase in it; the
                      condition puts the new target there: "The occupation of Eve is"
compositionality_ii   "The name of the mother of the author of X is" is the edit's template around
                      another phrase; the condition is that this phrase is Ann: "The name of the
                      author of X is" -> Ann

A prompt of neither shape ("the mother in law of ...") has no condition; where it names the subject
it is still of the first kind, else it stays `reasoning`.
"""

from collections.abc import Mapping
from typing import Any

from editing.request import EditRequest

from .ripple_types import REASONING, RippleCase, RippleQuery, RippleTest
from .ripple_words import Sieve, answer_groups, criterion_named
from .slot import with_slot

Json = Mapping[str, Any]
_NAME_OF = ("The name of ", "The names of ")
_IS = (" is", " are")


def knowedit_case(number: int, record: Json) -> RippleCase:
    """One record as a case. Raises KeyError or BadRequest where it is not of this form."""
    subject, prompt = str(record["subject"]), str(record["prompt"]).strip()
    slotted = with_slot(prompt, subject)
    lists = _lists(record)
    if slotted is None:
        why = f"the subject {subject!r} does not stand in the prompt {prompt!r}."
        return RippleCase(number=number, form="knowedit", edit=None, why=why)
    old = answer_groups(record.get("ground_truth") or [])
    request = EditRequest(
        subject=subject.strip(),
        prompt=slotted,
        target_new=record["target_new"],
        target_true=old[0][0] if old else None,
    )
    sieve = Sieve(request)
    for name, queries in lists.items():
        criterion = criterion_named(name)
        if not queries:
            sieve.skip("the criterion is empty.", criterion)
        for given in queries:
            query = RippleQuery(
                prompt=str(given["prompt"]).strip(), answers=answer_groups(given["ground_truth"])
            )
            test = RippleTest(criterion=criterion, queries=(query,))
            sieve.take(_told_apart(test, request) if criterion == REASONING else test)
    if not lists:
        sieve.skip("the record has no criterion.")
    tests, skipped = sieve.found
    return RippleCase(
        number=number,
        form="knowedit",
        edit=request,
        tests=tests,
        skipped=skipped,
        aliases=_aliases(request.target_new, tests),
    )


def _lists(record: Json) -> dict[str, list[Json]]:
    """The lists of queries by KnowEdit's names of the criteria."""
    groups = [record.get(name) or {} for name in ("portability", "locality")]
    return {name: list(queries) for group in groups for name, queries in group.items()}


def _told_apart(test: RippleTest, request: EditRequest) -> RippleTest:
    """A test of `reasoning` as one of either compositionality, with its condition."""
    (query,) = test.queries
    phrase = _phrase(request.question)
    for mine in (phrase, phrase.replace("the country which ", "the country ")):
        if mine and mine in query.prompt:
            asked = query.prompt.replace(mine, request.target_new)
            condition = RippleQuery(prompt=asked, answers=query.answers)
            return _as(test, "compositionality_i", condition)
    before, _, after = request.prompt.partition("{}")
    inner = query.prompt.removeprefix(before).removesuffix(after)
    if len(inner) + len(before) + len(after) == len(query.prompt) and inner.startswith("the "):
        condition = RippleQuery(prompt=f"The name of {inner} is", answers=((request.subject,),))
        return _as(test, "compositionality_ii", condition)
    if with_slot(query.prompt, request.subject):
        return _as(test, "compositionality_i")
    return test


def _phrase(question: str) -> str:
    """What stands for the answer: "the mother of Ann" of "The name of the mother of Ann is"."""
    ending = next((word for word in _IS if question.endswith(word)), None)
    opening = next((words for words in _NAME_OF if question.startswith(words)), "")
    if ending is None or not question.startswith("The "):
        return ""
    phrase = question[len(opening) : -len(ending)]
    return phrase[0].lower() + phrase[1:]


def _as(test: RippleTest, criterion: str, *conditions: RippleQuery) -> RippleTest:
    return RippleTest(
        criterion=criterion,
        queries=test.queries,
        condition=test.condition,
        conditions=conditions,
    )


def _aliases(target: str, tests: tuple[RippleTest, ...]) -> tuple[str, ...]:
    """Other names of the new target, as the tests about the subject's aliases give them."""
    groups = [
        group
        for test in tests
        if test.criterion == "subject_aliasing"
        for query in test.queries
        for group in query.answers
        if target in group
    ]
    return tuple(dict.fromkeys(name for group in groups for name in group if name != target))
