"""The suite `failures`: where gradients do not tell what follows from an edit (METRICS 1.4).

A case is one edit; rows are its negation, its ripple queries with the right and with the wrong
answer, and the same fact in other languages.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from editing.datasets.failures import FailureCase
from editing.datasets.ripple_types import RippleQuery
from editing.metrics.answers import answers, replies, sayable, says_any, scored
from editing.metrics.gradsim import Fact, Scope, similarities, weights_written
from editing.model.scoring import Score
from editing.run import under
from editing.step import Step

from .catalogue import Json
from .scene import Scene

_TEXT = 80  # characters of a continuation that a row keeps


@dataclass(frozen=True, slots=True)
class _Told:
    """What is known of each fact that was asked: GradSim with the edit, before and after."""

    gradsim: Mapping[Fact, float]
    before: Mapping[Fact, Score]
    after: Mapping[Fact, Score]
    texts_before: Mapping[str, str]
    texts: Mapping[str, str]

    def row(self, fact: Fact, name: str = "") -> Json:
        """One fact's numbers, log-probabilities in nats over the whole answer."""
        end = f"_{name}" if name else ""
        before, after = self.before[fact].logprob, self.after[fact].logprob
        return {
            f"gradsim{end}": self.gradsim[fact],
            f"logprob{end}_before": before,
            f"logprob{end}_after": after,
            f"gain{end}": after - before,
        }


def measure(scene: Scene, case: FailureCase) -> Generator[Step, None, list[Json]]:
    """The rows of one edit. Raises EditFailed or BadRequest."""
    request = case.request
    edit: Fact = (request.question, request.target_new)
    over = {query: name for query in case.over if (name := _sayable(scene, query))}
    facts = [] if case.negation is None else [(case.negation, request.target_new)]
    facts += [(one.question, one.answer) for one in case.foreign]
    for query, name in over.items():
        facts += [(query.prompt, name), (query.prompt, request.target_new)]
    rows: list[Json] = [
        {"kind": "skipped", "of": kind, "why": why} for kind, why in case.skipped.items()
    ]
    rows += [
        {"kind": "skipped", "of": "over_ripple", "why": "its answer cannot be said."}
        for query in case.over
        if query not in over
    ]
    if not facts:
        return rows
    told = yield from _told(scene, case, edit, facts)
    names = [request.target_new, *case.aliases]
    success = says_any(told.texts[request.question], names)
    rows += _negation(case, told) if case.negation is not None else []
    rows += [_over(case, query, name, told) for query, name in over.items()]
    rows += _foreign(case, told)
    return [
        {
            **row,
            "subject": request.subject,
            "target_new": request.target_new,
            "edit_gain": told.after[edit].logprob - told.before[edit].logprob,
            "success": success,
        }
        if row["kind"] != "skipped"
        else row
        for row in rows
    ]


def _sayable(scene: Scene, query: RippleQuery) -> str | None:
    names = [name for group in query.answers for name in group]
    found = sayable(scene.view, query.prompt, names, 1, scene.options.max_tokens)
    return found[0] if found else None


def _told(
    scene: Scene, case: FailureCase, edit: Fact, facts: Sequence[Fact]
) -> Generator[Step, None, _Told]:
    view, options = scene.view, scene.options
    start, after = view.current, (yield from scene.edited([case.request])).state
    assert scene.plan is not None  # noqa: S101 - scene.edited has refused that already
    named = options.scope == "edited_layers"
    written = weights_written(view, scene.plan) if named else ()
    scope = Scope.of(view, options.scope, written)
    compared = after if options.weights == "post" else start
    found = yield from under(view, compared, similarities(view, [edit], facts, scope))
    asked = [edit, *facts]
    prompts = [question for question, _ in asked]
    scores: list[list[Score]] = []
    texts: list[dict[str, str]] = []
    for state in (start, after):
        scores.append((yield from under(view, state, scored(view, asked))))
        work = replies(view, prompts, options.max_tokens)
        texts.append((yield from under(view, state, work)))
    before, now = (dict(zip(asked, some, strict=True)) for some in scores)
    cosines = dict(zip(facts, found.cosine[0].tolist(), strict=True))
    return _Told(cosines, before, now, *texts)


def _negation(case: FailureCase, told: _Told) -> list[Json]:
    assert case.negation is not None  # noqa: S101 - the caller has asked
    request = case.request
    edit, denied = (request.question, request.target_new), (case.negation, request.target_new)
    text = told.texts[case.negation]
    return [
        {
            "kind": "negation",
            "prompt": case.negation,
            **told.row(denied),
            "logprob_edit_before": told.before[edit].logprob,
            "logprob_edit_after": told.after[edit].logprob,
            "says_before": says_any(told.texts_before[case.negation], [request.target_new]),
            "says_after": says_any(text, [request.target_new, *case.aliases]),
            "text": text[:_TEXT],
        }
    ]


def _over(case: FailureCase, query: RippleQuery, name: str, told: _Told) -> Json:
    target = case.request.target_new
    right, wrong = (query.prompt, name), (query.prompt, target)
    names = [target, *case.aliases]
    old, text = told.texts_before[query.prompt], told.texts[query.prompt]

    def prefers_wrong(scores: Mapping[Fact, Score]) -> bool:
        return scores[wrong].mean_probability > scores[right].mean_probability

    return {
        "kind": "over_ripple",
        "prompt": query.prompt,
        "answer": name,
        **told.row(right, "right"),
        **told.row(wrong, "wrong"),
        "says_right_before": answers(old, query.answers),
        "says_right_after": answers(text, query.answers),
        "says_wrong_before": says_any(old, names),
        "says_wrong_after": says_any(text, names),
        "prefers_wrong_before": prefers_wrong(told.before),
        "prefers_wrong_after": prefers_wrong(told.after),
        "text": text[:_TEXT],
    }


def _foreign(case: FailureCase, told: _Told) -> list[Json]:
    rows: list[Json] = []
    for one in case.foreign:
        fact, names = (one.question, one.answer), (one.answer, one.english)
        old, text = told.texts_before[one.question], told.texts[one.question]
        row: Json = {
            "kind": "cross_lingual",
            "language": one.language,
            "relation": case.request.relation,
            "prompt": one.question,
            "answer": one.answer,
            **told.row(fact),
            "says_before": says_any(old, names),
            "says_after": says_any(text, names),
            "forced_before": told.before[fact].greedy,
            "forced_after": told.after[fact].greedy,
            "text": text[:_TEXT],
        }
        rows.append(row)
    return rows


__all__ = ["measure"]
