"""Related-knowledge perturbation: edits of one subject against a matched set of several subjects.

The sets of a case begin with the same edit. After all edits of a set each of them is scored, as it
was before any; of sets that share their subject throughout, also after every edit on the way. What
the keys and changes have in common is taken down beside it.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from editing.datasets.same_subject import SameSubject
from editing.metrics.answers import replies, says
from editing.metrics.counterfact import FactScores, accuracy_rate, measure_facts, success_rate
from editing.metrics.drift import base_logprobs, measure_drift
from editing.metrics.keys import SAME, cosines, keys_of, prefixes_of, sites_of
from editing.metrics.perturbation import compared
from editing.model.scoring import score
from editing.request import EditRequest
from editing.run import under
from editing.step import Step

from .arms import written
from .scene import Edited, Scene

Json = dict[str, Any]
Arms = Mapping[str, Sequence[EditRequest]]


def measure(scene: Scene, case: SameSubject) -> Generator[Step, None, list[Json]]:
    """Rows of three sorts: "arm", "edit" and "pair"; one row that says why where there is none."""
    about = {"subject": case.subject, "k": case.k}
    arms = yield from _chosen(scene, case)
    if arms is None:
        return [{**about, "skipped": "too-few-known"}]
    every = list(dict.fromkeys(request for some in arms.values() for request in some))
    scores = yield from _scored(scene, every, said=True)
    before = dict(zip(every, scores, strict=True))
    drift_before = yield from _drift(scene)
    states = yield from written(scene, arms, batch=scene.options.commits == "batch")
    rows: list[Json] = []
    for arm, requests in arms.items():
        mine = {**about, "arm": arm}
        last = states[arm][-1].state
        drift = yield from under(scene.view, last, _drift(scene))
        drift |= {f"{name}_before": value for name, value in drift_before.items()}
        rows.append({**mine, "row": "arm", **drift})
        for after, edited in _looked_at(case, states[arm]):
            some = requests[:after]
            work = _scored(scene, some, said=edited.state is last)
            found = yield from under(scene.view, edited.state, work)
            rows += [
                {
                    **mine,
                    "row": "edit",
                    "after": after,
                    "position": position,
                    **_named(request),
                    **now,
                    **{f"{name}_before": value for name, value in before[request].items()},
                }
                for position, (request, now) in enumerate(zip(some, found, strict=True))
            ]
        pairs = yield from _pairs(scene, case, requests, states[arm])
        rows += [{**mine, "row": "pair", **pair} for pair in pairs]
    return rows


def _chosen(scene: Scene, case: SameSubject) -> Generator[Step, None, Arms | None]:
    """The requests of each arm; with `known` only facts that the model answers as they were."""
    made = {fact: fact.make() for fact in case.candidates}
    fitting = set(made)
    if scene.options.known:
        asked = [(one.question, one.target_true or "") for one in made.values()]
        scores = yield from score(scene.view, asked)
        fitting = {fact for fact, one in zip(made, scores, strict=True) if one.greedy}
    arms = case.arms(fitting.__contains__)
    if arms is None:
        return None
    names = {fact.subject for some in arms.values() for fact in some}
    return {arm: [_without(made[fact], names) for fact in some] for arm, some in arms.items()}


def _without(request: EditRequest, names: set[str]) -> EditRequest:
    """The request without neighbors that are edited themselves."""
    near = request.neighborhood
    others = names - {request.subject}
    kept = tuple(one for one in near if not any(name in one.prompt for name in others))
    return replace(request, neighborhood=kept)


def _looked_at(case: SameSubject, states: Sequence[Edited]) -> list[tuple[int, Edited]]:
    """After how many edits an arm is scored, and the state then."""
    every = list(enumerate(states, start=1))
    if len(states) == 1:  # one order
        return [(case.k, states[0])]
    return every if case.design == "all-same" else every[-1:]


# ---- scores --------------------------------------------------------------------------------------


def _scored(
    scene: Scene, requests: Sequence[EditRequest], *, said: bool
) -> Generator[Step, None, list[Json]]:
    """ES, PS and NS of each request, with what the model says by itself where that is asked for."""
    rivals = [request.target_true or "" for request in requests]
    found = yield from measure_facts(scene.view, requests, rivals)
    rows = [_scores(one) for one in found]
    if said and scene.options.max_tokens:
        questions = [request.question for request in requests]
        texts = yield from replies(scene.view, questions, scene.options.max_tokens)
        for request, row in zip(requests, rows, strict=True):
            row["said"] = texts[request.question]
            row["generated"] = says(row["said"], request.target_new)
    return rows


def _scores(fact: FactScores) -> Json:
    return {
        "es": fact.prompt.success,
        "accuracy": fact.prompt.wanted.greedy,
        "p_new": fact.prompt.wanted.mean_probability,
        "p_true": fact.prompt.rival.mean_probability,
        "ps": success_rate(fact.paraphrases),
        "ps_accuracy": accuracy_rate(fact.paraphrases),
        "ps_n": len(fact.paraphrases),
        "ns": success_rate(fact.neighborhood),
        "ns_accuracy": accuracy_rate(fact.neighborhood),
        "ns_n": len(fact.neighborhood),
    }


def _named(request: EditRequest) -> Json:
    return {
        "edited": request.subject,
        "relation": request.relation,
        "prompt": request.question,
        "target_new": request.target_new,
        "target_true": request.target_true,
    }


def _drift(scene: Scene) -> Generator[Step, None, Json]:
    """Of the state that is shown."""
    untouched = base_logprobs(scene.view)
    yield Step("measure", 0, 1)
    found = yield from measure_drift(scene.view, scene.view.current, untouched)
    return {"kl": found.kl, "perplexity": found.perplexity, "norm_ratio": found.norm_ratio}


# ---- what two edits have in common ---------------------------------------------------------------


def _pairs(
    scene: Scene, case: SameSubject, requests: Sequence[EditRequest], states: Sequence[Edited]
) -> Generator[Step, None, list[Json]]:
    """The first edit with the later ones of its subject, or with what stands in their place."""
    partners = {"homogeneous": [case.k - 1], "all-same": list(range(1, case.k)), "density": []}
    later = partners[case.design]
    if not later:
        return []
    keys = yield from _cosines(scene, [requests[0], *(requests[n] for n in later)])
    rows: list[Json] = []
    for number, position in enumerate(later):
        found = [cosine[number] for cosine in keys.values()]
        row: Json = {
            "position": position,
            "spots": list(keys),
            "key_cosine": [round(one, 6) for one in found],
            "duplicates": sum(one > SAME for one in found),
        }
        if len(states) > 1:
            row |= yield from _changes(states[0], states[position])
        rows.append(row)
    return rows


def _cosines(
    scene: Scene, requests: Sequence[EditRequest]
) -> Generator[Step, None, dict[str, list[float]]]:
    """By spot: cosines of the first request's key with each other's, in the measured state."""
    hparams = scene.plan.hparams if scene.plan else None
    found: dict[str, list[float]] = {}
    for sites in sites_of(hparams):
        prefixes = prefixes_of(scene.view, hparams)
        keys = yield from keys_of(scene.view, requests, sites, prefixes)
        for (kind, layer), some in keys.items():
            name = f"{kind} {layer} {sites.key_at}"
            found[name] = cosines(some[:1], some[1:])[0].tolist()
    return found


def _changes(first: Edited, later: Edited) -> Generator[Step, None, Json]:
    """What the changes of two edits have in common, by weight."""
    one, other = first.outcome.changes, later.outcome.changes
    weights = [name for name in one if name in other]
    found: list[dict[str, float | None]] = []
    for number, name in enumerate(weights):
        found.append(compared(one[name], other[name]))
        yield Step("measure", number + 1, len(weights))
    names = found[0] if found else {}
    rounded = {
        name: [None if (value := part[name]) is None else round(value, 6) for part in found]
        for name in names
    }
    return {"weights": [name.removesuffix(".weight") for name in weights], **rounded}
