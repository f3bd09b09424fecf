"""An edit computed, measured and judged, and repaired once where the guard says so.

    edit -> the state after it -> promotion report -> judge
         -> repair: again from the parent, with what it has disturbed -> promotion report -> judge

Nothing is served meanwhile, and nothing is written: what comes of it is the caller's to settle.
Compactions and retracts bring no new fact; what is judged of them is the rest.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.errors import GuardBreached
from app.services import work
from app.services.work import Claimed, as_error
from editing import walk
from editing.editors.entries import NOTE as ENTRIES
from editing.editors.replaced import replaced_in
from editing.editors.slots import NOTE as SLOTS
from editing.errors import EditingError
from editing.guard import Breach, Guard, judge, verdict
from editing.metrics.standing import Live
from editing.model.state import State
from editing.model.view import ModelView
from editing.outcome import Outcome
from editing.repair import Disturbed, repair
from editing.request import EditRequest
from editing.run import Stopwatch
from editing.step import Step
from workers.bench import Bench
from workers.patience import Work, undisturbed

Json = dict[str, Any]
Solving = Generator[Step, None, Outcome]

_KEPT = (SLOTS, ENTRIES)  # notes for later edits, and for nobody else


@dataclass(frozen=True, slots=True)
class Made:
    """An outcome that was measured and judged; `error` says why it is not to be served."""

    outcome: Outcome
    after: State
    report: Json
    error: Json | None


def guarded(
    bench: Bench,
    order: Claimed,
    plan: walk.Plan,
    *,
    requests: Sequence[EditRequest],
    live: Sequence[Live],
    watch: Stopwatch,
) -> Work[Made]:
    """Compute an edit as its guard will have it. Raises EditingError; no weight is changed."""
    view, history, guard = bench.host.view, bench.host.history, order.guard

    def first() -> Solving:
        return bench.failpoint.inside(walk.edit(view, plan, requests, history()))

    outcome, after, report = yield from _measured(view, first, requests, live, watch)
    breaches = judge(report, guard)
    disturbed = _disturbed(report, live)
    said = verdict(breaches, guard, repairable=bool(disturbed))
    if said == "repair":

        def again() -> Solving:
            return repair(view, plan, history(), requests, disturbed)

        tried: Json = {
            "disturbed": [{"edit": edit, "fact": number} for edit, number, _ in disturbed],
            "breaches": [one.to_dict() for one in breaches],  # of the first try
        }
        try:
            outcome, after, report = yield from _measured(
                view, again, requests, live, watch, anew=disturbed
            )
        except EditingError as error:  # the first try is what there is to look at
            tried["error"] = as_error(error)
        breaches = judge(report, guard)
        # One repair and no more: what breaches still is not served.
        said = verdict(breaches, guard, repairable=False)
        report["repair"] = tried
    report["guard"] = _judged(guard, breaches, said)
    error = as_error(GuardBreached(breaches)) if said == "reject" else None
    return Made(outcome, after, report, error)


def kept(order: Claimed, outcome: Outcome, after: State, report: Json) -> Made:
    """What writes live facts anew, judged by what becomes of them: there is nothing to repair."""
    guard = _of_standing(order.guard)
    breaches = judge(report, guard)
    said = verdict(breaches, guard, repairable=False)
    error = as_error(GuardBreached(breaches, kind=order.kind)) if said == "reject" else None
    return Made(outcome, after, {**report, "guard": _judged(guard, breaches, said)}, error)


def warned(report: Json, guard: Guard) -> Json:
    """The report of what takes facts out, where nothing but a warning follows a breach."""
    guard = _of_standing(guard)
    breaches = judge(report, guard)
    return {**report, "guard": _judged(guard, breaches, "warn" if breaches else "passed")}


def live_facts(
    bench: Bench, order: Claimed, requests: Sequence[Json], *, but: str = ""
) -> Work[list[Live]]:
    """The facts of live edits that a promotion report asks for; none of the edit `but`."""
    size = order.guard.sample
    found = yield from bench.ask(
        lambda tx: work.sample(tx, order.model, order.id, requests, size, but=but)
    )
    return [
        Live(EditRequest.from_dict(one.request), one.edit, one.number, one.same_subject)
        for one in found
    ]


def replayed(view: ModelView, outcome: Outcome) -> State:
    """The head with an outcome's deltas, from the bytes that a restart would read."""
    return view.after(Outcome.from_bytes(outcome.to_bytes()).deltas)


def _measured(
    view: ModelView,
    make: Callable[[], Solving],
    requests: Sequence[EditRequest],
    live: Sequence[Live],
    watch: Stopwatch,
    *,
    anew: Sequence[Disturbed] = (),
) -> Work[tuple[Outcome, State, Json]]:
    """An outcome and its report; live facts that it replaces, but for those of `anew`, are over."""
    outcome = yield from undisturbed(lambda: watch.timed(make()))
    after = replayed(view, outcome)
    again = {(edit, number) for edit, number, _ in anew}
    over = [one for one in replaced_in(outcome) if one not in again]
    asked = [fact for fact in live if (fact.edit, fact.number) not in over]
    report: Json = yield from watch.timed(walk.promotion_report(view, requests, after, asked))
    report["live"]["replaced"] = [{"edit": edit, "fact": number} for edit, number in over]
    report["editor"] = {name: said for name, said in outcome.notes.items() if name not in _KEPT}
    return outcome, after, report


def _disturbed(report: Json, live: Sequence[Live]) -> list[Disturbed]:
    """The facts that were said before and are not now, with what they asked for."""
    gone = {(one["edit"], fact) for one in report["live"]["disturbed"] for fact in one["facts"]}
    return [
        (fact.edit, fact.number, fact.request) for fact in live if (fact.edit, fact.number) in gone
    ]


def _of_standing(guard: Guard) -> Guard:
    """The same for an order that brings no new fact: whether its facts are said is no breach."""
    return replace(guard, success=None, accuracy=None)


def _judged(guard: Guard, breaches: Sequence[Breach], said: str) -> Json:
    return {
        "verdict": said,
        "breaches": [one.to_dict() for one in breaches],
        "on_breach": guard.on_breach,
        "on_collapse": guard.on_collapse,
    }
