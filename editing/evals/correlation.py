"""The suite `correlation`: whether GradSim tells before an edit what it will move (METRICS 1.3).

A case is one edit; a row is one of its ripple queries, with every predictor and every outcome.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from editing.datasets.ripple_types import PRESERVE, UNNAMED, RippleCase
from editing.metrics.answers import Groups, answers, replies, sayable, says_any, scored
from editing.metrics.gradsim import Fact, GradSim, Scope, similarities, weights_written
from editing.metrics.likeness import likeness
from editing.metrics.sampling import Sampling, sampled_rates
from editing.model.scoring import Score
from editing.model.state import State
from editing.run import under
from editing.step import Step

from .catalogue import Json
from .options import CorrelationOptions
from .scene import Scene

_TEXT = 80  # characters of a continuation that a row keeps
_LEAST_GAIN = 0.5  # nats: where the edit itself gained less, nothing can be relative to it


@dataclass(frozen=True, slots=True)
class _Query:
    """A ripple query, asked with the first name of its answer that the model can say."""

    criterion: str
    prompt: str
    answer: str
    groups: Groups


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one state gives, of the edit itself and then of each query."""

    scores: Sequence[Score]
    texts: Mapping[str, str]


def measure(scene: Scene, case: RippleCase) -> Generator[Step, None, list[Json]]:
    """The rows of one edit. Raises EditFailed or BadRequest."""
    view, options, request = scene.view, scene.options, case.request
    queries, skipped = _queries(scene, case)
    if not queries:
        return [*skipped, {"kind": "skipped", "why": "it has no query that can be asked."}]
    facts = [(query.prompt, query.answer) for query in queries]
    start, after = view.current, (yield from scene.edited([request])).state
    compared = after if options.weights == "post" else start
    found = yield from under(
        view, compared, _compared(scene, (request.question, request.target_new), facts)
    )
    cheap = yield from under(view, compared, likeness(view, request, facts, _layers(scene)))
    asked = [(request.question, request.target_new), *facts]
    before = yield from under(view, start, _read(scene, asked))
    readings = (before, (yield from under(view, after, _read(scene, asked))))
    rates = yield from _sampled(scene, queries, after)
    edit = _edit_row(case, readings)
    rows: list[Json] = []
    for at, query in enumerate(queries):
        row = {"kind": "pair", "prompt": query.prompt, "answer": query.answer}
        row |= {"criterion": query.criterion, "group": _group(query.criterion)}
        row |= {name: cosines[at] for name, cosines in found.items()}
        row |= {name: cosines[at] for name, cosines in cheap.items()}
        row |= _outcomes(query, at + 1, readings, edit["gain"])
        row |= {"sampled": rates[at], "edit_gain": edit["gain"], "success": edit["success"]}
        rows.append(row)
    return [edit, *rows, *skipped]


def _queries(scene: Scene, case: RippleCase) -> tuple[list[_Query], list[Json]]:
    """The first queries of each criterion, and rows for those that cannot be asked."""
    options: CorrelationOptions = scene.options
    found: list[_Query] = []
    skipped: list[Json] = []
    taken: dict[str, int] = {}
    for test in case.tests:
        for query in test.queries:
            count = taken.get(test.criterion, 0)
            if options.queries and count >= options.queries:
                continue
            names = [group[0] for group in query.answers]
            names += [name for group in query.answers for name in group[1:]]
            said = sayable(scene.view, query.prompt, names, 1, options.max_tokens)
            if not said:
                skipped.append(_skipped(test.criterion, query.prompt))
                continue
            taken[test.criterion] = count + 1
            found.append(_Query(test.criterion, query.prompt, said[0], query.answers))
    return found, skipped


def _skipped(criterion: str, prompt: str) -> Json:
    why = "its answer tokenizes to nothing, or there is no room for it."
    return {"kind": "skipped", "criterion": criterion, "prompt": prompt, "why": why}


def _layers(scene: Scene) -> Sequence[int]:
    """The layers whose down-projections the editor writes; none where it writes none."""
    assert scene.plan is not None  # noqa: S101 - scene.edited has refused that already
    writes = "down_proj" in scene.plan.method.writes
    return getattr(scene.plan.hparams, "layers", ()) if writes else ()


def _compared(
    scene: Scene, edit: Fact, facts: Sequence[Fact]
) -> Generator[Step, None, dict[str, list[float]]]:
    """GradSim of the edit with each query; of the whole model also in narrower scopes."""
    view, name = scene.view, scene.options.scope
    assert scene.plan is not None  # noqa: S101 - scene.edited has refused that already
    written = weights_written(view, scene.plan) if name == "edited_layers" else ()
    found = yield from similarities(view, [edit], facts, Scope.of(view, name, written))
    told = {"gradsim": found.cosine[0].tolist()}
    if name == "all":
        told |= _narrower(found, _layers(scene))
    return told


def _narrower(found: GradSim, layers: Sequence[int]) -> dict[str, list[float]]:
    """The same by the matrices of MLPs, by down-projections, and by those of the edited layers."""
    parts = {
        "gradsim_mlp": found.over(kinds=("mlp_in", "down_proj")),
        "gradsim_down_proj": found.over(kinds=("down_proj",)),
    }
    if layers:
        parts["gradsim_edited"] = found.over(kinds=("down_proj",), layers=layers)
    return {name: inner.cosine[0].tolist() for name, inner in parts.items()}


def _read(scene: Scene, asked: Sequence[Fact]) -> Generator[Step, None, _Reading]:
    """Ask what the model serves while this runs: how likely each answer is, and its own words."""
    scores = yield from scored(scene.view, asked)
    prompts = [question for question, _ in asked]
    texts = yield from replies(scene.view, prompts, scene.options.max_tokens)
    return _Reading(scores, texts)


def _sampled(
    scene: Scene, queries: Sequence[_Query], after: State
) -> Generator[Step, None, list[float | None]]:
    """The share of samples of the edited model that name the answer; None where none are drawn."""
    options: CorrelationOptions = scene.options
    if not options.samples:
        return [None] * len(queries)
    how = Sampling(
        samples=options.samples,
        temperature=options.temperature,
        max_tokens=options.max_tokens,
        seed=options.seed,
    )
    asked = [(query.prompt, query.groups) for query in queries]
    rates = yield from under(scene.view, after, sampled_rates(scene.view, asked, how))
    return [*rates]


def _edit_row(case: RippleCase, readings: Sequence[_Reading]) -> Json:
    request = case.request
    before, after = (reading.scores[0] for reading in readings)
    text = readings[1].texts[request.question]
    return {
        "kind": "edit",
        "record": case.number,
        "subject": request.subject,
        "prompt": request.prompt,
        "target_new": request.target_new,
        "logprob_before": before.logprob,
        "logprob_after": after.logprob,
        "gain": after.logprob - before.logprob,
        "success": says_any(text, [request.target_new, *case.aliases]),
        "forced": after.greedy,
        "text": text[:_TEXT],
    }


def _outcomes(query: _Query, at: int, readings: Sequence[_Reading], edit_gain: float) -> Json:
    """What became of a query's answer; gains in nats, over the whole answer unless said."""
    before, after = (reading.scores[at] for reading in readings)
    texts = [reading.texts[query.prompt] for reading in readings]
    gain = after.logprob - before.logprob
    return {
        "tokens": after.tokens,
        "logprob_before": before.logprob,
        "logprob_after": after.logprob,
        "gain": gain,
        "gain_per_token": gain / after.tokens,
        "relative_gain": gain / edit_gain if abs(edit_gain) >= _LEAST_GAIN else None,
        "says_before": answers(texts[0], query.groups),
        "says_after": answers(texts[1], query.groups),
        "forced_before": before.greedy,
        "forced_after": after.greedy,
        "text": texts[1][:_TEXT],
    }


def _group(criterion: str) -> str:
    """Whether a query should follow the edit ("ripple") or stay as it is ("preserve")."""
    if criterion == UNNAMED:
        return "unnamed"
    return "preserve" if criterion in PRESERVE else "ripple"
