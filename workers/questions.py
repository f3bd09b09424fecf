"""Questions that take many steps: GradSim of an answer with an edit, and forecasts of edits.

Like the work of an order they are generators, and at every step the model serves its head. They run
under the snapshot that they ask about.
"""

from collections.abc import Generator
from typing import Any

from app.errors import UnknownQuestion
from app.queue.messages import ProbeMessage
from editing.editors.slots import by_edit
from editing.forecast import forecast
from editing.metrics.gradsim import similarities
from editing.metrics.ripple import ripple_of
from editing.model.state import State
from editing.probe import probe
from editing.request import EditRequest
from editing.run import under
from editing.step import Step
from workers.host import ModelHost

Json = dict[str, Any]
Question = Generator[Step, None, Json]


def question(host: ModelHost, message: ProbeMessage) -> Question:
    """The work of answering; what it returns is the one datum of the reply."""
    about = message.about or {}
    match about.get("kind"):
        case "gradsim":
            work = _gradsim(host, message, about)
        case "forecast":
            work = _forecast(host, about, message.snapshot or host.head)
        case other:
            raise UnknownQuestion(str(other))
    return (yield from work)


def _gradsim(host: ModelHost, message: ProbeMessage, about: Json) -> Question:
    """An ordinary probe, with how much its answer has to do with the facts of some edits."""
    view, snapshot = host.view, message.snapshot or host.head
    state = host.state_of(snapshot)
    (prompt,) = message.prompts
    answer: str = about["answer"]
    with view.showing(state):
        (said,) = probe(
            view,
            [prompt],
            targets=message.targets,
            top_k=message.top_k,
            max_tokens=message.max_tokens,
        )
    yield Step("measure", 1, 1)
    facts: list[Json] = about["facts"]
    told: list[Json] = []
    if facts:
        pairs = [(fact["prompt"], fact["target_new"]) for fact in facts]
        # Of the model before the edit, where there is one: that is what predicts its ripples.
        start = host.state_of(about["before"]) if about.get("before") else state
        found = yield from under(view, start, similarities(view, pairs, [(prompt, answer)]))
        cosines = found.cosine[:, 0].tolist()
        told = [{**fact, "gradsim": value} for fact, value in zip(facts, cosines, strict=True)]
    return {
        "model": host.model,
        "snapshot": snapshot,
        **said,
        "gradsim": max((fact["gradsim"] for fact in told), key=abs, default=None),
        "facts": told,
        "ripple": (yield from _ripple(host, about, prompt, answer)),
    }


def _ripple(
    host: ModelHost, about: Json, prompt: str, answer: str
) -> Generator[Step, None, Json | None]:
    """What became of the answer between two snapshots; None where the edit made none."""
    if not about.get("before") or not about.get("after"):
        return None
    states: dict[str, State] = {name: host.state_of(about[name]) for name in ("before", "after")}
    moved = yield from ripple_of(host.view, prompt, answer, **states)
    return {"before": about["before"], "after": about["after"], **moved}


def _forecast(host: ModelHost, about: Json, snapshot: str) -> Question:
    state, lineage = host.content_of(snapshot)
    request = EditRequest.from_dict(about["request"])
    ripples = [(each["prompt"], tuple(each["answers"])) for each in about["ripples"]]
    live = yield from by_edit(host.history_of(lineage))
    work = forecast(host.view, request, ripples, live)
    found = yield from under(host.view, state, work)
    return {"model": host.model, "snapshot": snapshot, **found}
