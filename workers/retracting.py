"""The order that takes one edit out of the head and keeps the later ones.

exact     the method's edits are one joint solution: solved without it, a delta of its own
          (editing/retract.py); or the edit is a text before every prompt: left out
dropped   the head is built anew without the edit's delta; later edits were computed on weights
          that had it, and the report measures what that does
"""

from collections.abc import Generator
from typing import Any

from app.errors import EditNotLive
from app.services import work
from app.services.work import Claimed
from editing import walk
from editing.model.state import State
from editing.outcome import Outcome
from editing.request import EditRequest
from editing.retract import retract
from editing.run import Stopwatch
from editing.step import Step
from workers.bench import Bench
from workers.guarded import live_facts, replayed, warned
from workers.jobs import promote
from workers.patience import Work, undisturbed

Json = dict[str, Any]


def run_retract(bench: Bench, order: Claimed, watch: Stopwatch) -> Work[None]:
    """Take an edit out of the head. Raises EditNotLive, or EditingError."""
    host, view, target = bench.host, bench.host.view, order.target or ""
    if target not in host.lineage.live:
        raise EditNotLive(edit=target, why="the head does not hold it")
    plan = walk.Plan.of(view, order.editor or "", order.hparams)
    outcome: Outcome | None = None
    if plan.method.metric:
        yield from undisturbed(lambda: watch.timed(walk.prepare(view, plan)))
        outcome = yield from undisturbed(
            lambda: watch.timed(retract(view, plan, host.history(), target))
        )
        after = replayed(view, outcome)
    else:
        rest = host.lineage.without(target)
        after = yield from undisturbed(lambda: watch.timed(host.rebuilt(rest)))
    report = yield from _report(bench, order, after, watch)
    end: Json = {
        "report": {**report, "retract": {"edit": target, "how": plan.method.retract}},
        "timings": watch.report(),
    }
    if order.dry_run:
        yield from bench.settle(
            lambda tx: work.settle_dry_run(tx, order.id, epoch=bench.epoch, **end)
        )
    elif outcome is not None:
        yield from promote(bench, order, outcome, after, end)
    else:
        yield from _drop(bench, order, target, after, end)


def _report(
    bench: Bench, order: Claimed, after: State, watch: Stopwatch
) -> Generator[Any, None, Json]:
    """What becomes of the facts that are taken out, and of those that stay."""
    view, target = bench.host.view, order.target or ""
    asked = yield from bench.ask(lambda tx: work.requests_of(tx, target))
    facts = [EditRequest.from_dict(fact) for fact in asked]
    others = yield from live_facts(bench, order, asked, but=target)
    report = yield from watch.timed(walk.promotion_report(view, facts, after, others))
    return warned(report, order.guard)


def _drop(
    bench: Bench, order: Claimed, target: str, after: State, end: Json
) -> Generator[Step | Any, None, None]:
    host = bench.host
    made = {**end, "target": target, "fingerprint": host.view.fingerprint(after)}
    snapshot = yield from bench.settle(
        lambda tx: work.settle_drop(tx, order.id, epoch=bench.epoch, **made)
    )
    bench.failpoint.passing("before_swap")
    host.adopt(snapshot, after, host.lineage.without(target))
