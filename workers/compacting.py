"""The order that solves all live facts of one joint solution anew, from the untouched model.

The head then consists of the deltas of other editors, in their order, and of one that holds all
those facts. Its report says what that gained, and what became of what the model says; the guard
judges it as it does an edit.
"""

from typing import Any

from app.errors import NothingToCompact
from app.services import work
from app.services.work import Claimed, Entry
from editing import walk
from editing.compact import compact
from editing.editors.slots import NOTE as SLOTS
from editing.editors.slots import slots_of
from editing.model.state import State
from editing.outcome import Outcome
from editing.retract import metric_of
from editing.run import Stopwatch
from workers.bench import Bench
from workers.guarded import kept, live_facts
from workers.host import Lineage
from workers.jobs import reject, tell
from workers.patience import Work, undisturbed
from workers.retracting import built_without, promote_anew

Json = dict[str, Any]


def run_compact(bench: Bench, order: Claimed, watch: Stopwatch) -> Work[None]:
    """Write what is live as one solution. Raises NothingToCompact, or EditingError."""
    host, view = bench.host, bench.host.view
    plan = walk.Plan.of(view, order.editor or "", order.hparams)
    yield from undisturbed(lambda: watch.timed(walk.prepare(view, plan)))
    _, solution = metric_of(view, plan)
    if not slots_of(host.history(), solution):  # no fact is live under these hparams
        raise NothingToCompact(model=order.model, editor=plan.method.name)
    outcome = yield from undisturbed(
        lambda: watch.timed(bench.failpoint.inside(compact(view, plan, host.history())))
    )
    data = outcome.to_bytes()
    gone = yield from undisturbed(lambda: watch.timed(host.kin(outcome.solution)))
    state, lineage = yield from built_without(bench, order, gone, watch)
    after = view.after(Outcome.from_bytes(data).deltas, state)  # as a restart would read it
    report = yield from _report(bench, order, after, watch)
    report["editor"] = {name: said for name, said in outcome.notes.items() if name != SLOTS}
    report["compact"] = yield from _gained(bench, lineage, len(outcome.holds), len(data))
    made = kept(order, outcome, after, report)
    end: Json = {"report": made.report, "timings": watch.report()}
    if order.dry_run:
        yield from tell(bench, order, end)
        return
    if made.error is not None:
        yield from reject(bench, order, made, end)
        return
    blob = yield from bench.keep(data)
    bench.failpoint.passing("after_blob")
    entry = Entry(order.id, blob, holds=outcome.holds, kind=order.kind)
    end |= {"gone": gone, "blob": blob, "holds": outcome.holds}
    yield from promote_anew(bench, order, after, lineage.extended(entry), end)


def _report(bench: Bench, order: Claimed, after: State, watch: Stopwatch) -> Work[Json]:
    """What a sample of the live facts is answered with before and after, and the drift."""
    live = yield from live_facts(bench, order, [])
    facts = [one.request for one in live]
    return (yield from watch.timed(walk.promotion_report(bench.host.view, facts, after, live)))


def _gained(bench: Bench, rest: Lineage, edits: int, size: int) -> Work[Json]:
    """How many deltas and bytes a manifest has before and after."""
    old, kept = bench.host.lineage.entries, rest.entries
    before = yield from bench.ask(lambda tx: work.bytes_of(tx, old))
    left = yield from bench.ask(lambda tx: work.bytes_of(tx, kept))
    return {
        "edits": edits,
        "entries": {"before": len(old), "value": len(kept) + 1},
        "bytes": {"before": before, "value": left + size},
    }
