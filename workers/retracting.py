"""The order that takes one edit out of the head, all its facts, and keeps the later edits.

exact     the method's edits are one joint solution, or entries of a memory: what takes it out
          is a delta of its own (editing/retract.py); or it is a text before every prompt: left out
dropped   the head is built anew without the edit's delta; later edits were computed on weights
          that had it, and the report measures what that does
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

from app.errors import EditNotLive
from app.services import work
from app.services.work import Claimed
from editing import walk
from editing.catalogue import METHODS
from editing.editors.replaced import LOST, RETURNED
from editing.metrics.counterfact import rivals
from editing.metrics.standing import Live
from editing.model.state import State
from editing.request import EditRequest
from editing.retract import retract
from editing.run import Stopwatch, under
from editing.step import Step
from workers.bench import Bench
from workers.guarded import live_facts, replayed, warned
from workers.host import Lineage
from workers.jobs import checkpointed, promote, tell
from workers.patience import Work, undisturbed

Json = dict[str, Any]


def run_retract(bench: Bench, order: Claimed, watch: Stopwatch) -> Work[None]:
    """Take an edit out of the head. Raises EditNotLive, or EditingError."""
    host, target = bench.host, order.target or ""
    holder = host.lineage.holder(target)
    if holder is None or target not in host.lineage.live:
        raise EditNotLive(edit=target, why="the head does not hold it any more")
    editor, hparams = order.editor or "", order.hparams
    if holder.edit != target:  # what it wrote is part of what a compaction wrote
        asked = yield from bench.ask(lambda tx: work.written_by(tx, holder.edit))
        editor, hparams = asked[0] or "", asked[1]
    method = METHODS.get(editor)
    # What an order asked for years ago need not be known any more; to drop it takes only its delta.
    if method is not None and method.takes_out:
        yield from _solved(bench, order, walk.Plan.of(host.view, editor, hparams), watch)
    else:
        told = method is not None and method.family == "in context"
        yield from _dropped(bench, order, "exact" if told else "dropped", watch)


def _solved(bench: Bench, order: Claimed, plan: walk.Plan, watch: Stopwatch) -> Work[None]:
    host, view, target = bench.host, bench.host.view, order.target or ""
    yield from undisturbed(lambda: watch.timed(walk.prepare(view, plan)))
    outcome = yield from undisturbed(
        lambda: watch.timed(bench.failpoint.inside(retract(view, plan, host.history(), target)))
    )
    after = replayed(view, outcome)
    told: Json = {"edit": target, "how": "exact"}
    if outcome.holds:
        told["brought_back"] = list(outcome.holds)
    if LOST in outcome.notes:
        told[LOST] = outcome.notes[LOST]
    back: Any = outcome.notes.get(RETURNED, [])
    end = yield from _end(bench, order, after, told, watch, back)
    if not order.dry_run:
        yield from promote(bench, order, outcome, after, end)


def _dropped(bench: Bench, order: Claimed, how: str, watch: Stopwatch) -> Work[None]:
    gone = (order.target or "",)
    after, lineage = yield from built_without(bench, order, gone, watch)
    end = yield from _end(bench, order, after, {"edit": order.target or "", "how": how}, watch)
    if not order.dry_run:
        yield from promote_anew(bench, order, after, lineage, {**end, "gone": gone})


def built_without(
    bench: Bench, order: Claimed, gone: Sequence[str], watch: Stopwatch
) -> Work[tuple[State, Lineage]]:
    """The head without the deltas of some orders, and what it consists of then."""
    rest = yield from bench.ask(lambda tx: work.without(tx, order.parent, gone))
    return (yield from undisturbed(lambda: watch.timed(bench.host.rebuilt(rest))))


def promote_anew(
    bench: Bench, order: Claimed, after: State, lineage: Lineage, end: Json
) -> Work[None]:
    """Make a head that was built without some deltas the one that is served."""
    host = bench.host
    checkpoint = yield from checkpointed(bench, after, lineage)
    made: Json = {**end, "fingerprint": host.view.fingerprint(after), "checkpoint": checkpoint}
    snapshot = yield from bench.settle(
        lambda tx: work.settle_without(tx, order.id, epoch=bench.epoch, **made)
    )
    bench.failpoint.passing("before_swap")
    host.adopt(snapshot, after, lineage.extended(checkpoint=True) if checkpoint else lineage)


def _end(  # noqa: PLR0917 - each is one thing
    bench: Bench,
    order: Claimed,
    after: State,
    told: Json,
    watch: Stopwatch,
    returned: Sequence[Json] = (),
) -> Work[Json]:
    """What became of the facts that are taken out and of those that stay; settles a dry run.

    told: what is known of the retract itself, for its report; returned: the facts, edit and number,
    that are live again.
    """
    view, target = bench.host.view, order.target or ""
    asked = yield from bench.ask(lambda tx: work.requests_of(tx, target))
    # What stands when it is gone: also an earlier or later answer to the very same question.
    others = yield from live_facts(bench, order, asked, but=target)
    others = [*others, *(yield from _live_again(bench, returned, others))]
    facts = [EditRequest.from_dict(fact) for fact in asked]
    facts = yield from watch.timed(_with_old_answers(bench, facts, others))
    report = yield from watch.timed(walk.promotion_report(view, facts, after, others))
    rows: Any = report["requests"]
    for row in rows:
        row["gone"] = not row["answers"]
        row["back"] = row["p_rival"] > row["p_new"]
    if again := (yield from bench.ask(lambda tx: work.written_again_by(tx, target))):
        told["written_again_by"] = again
    report["retract"] = told
    live: Any = report["live"]
    live["returned"] = [{"edit": one["edit"], "fact": one["number"]} for one in returned]
    end: Json = {"report": warned(report, order.guard), "timings": watch.report()}
    if order.dry_run:
        yield from tell(bench, order, end)
    return end


def _live_again(bench: Bench, returned: Sequence[Json], others: Sequence[Live]) -> Work[list[Live]]:
    """The facts that are live again, of those that are not among the live ones already."""
    known = {(one.edit, one.number) for one in others}
    found: list[Live] = []
    for one in returned:
        edit, number = one["edit"], one["number"]
        if (edit, number) not in known:
            asked = yield from bench.ask(lambda tx, edit=edit: work.requests_of(tx, edit))
            found.append(
                Live(EditRequest.from_dict(asked[number]), edit, number, same_subject=True)
            )
    return found


def _with_old_answers(
    bench: Bench, facts: Sequence[EditRequest], standing: Sequence[Live]
) -> Generator[Step, None, list[EditRequest]]:
    """The facts with the answer each should give way to.

    What a live edit says to the question, or one that is live again; else what was true; else what
    the untouched model says.
    """
    view = bench.host.view
    says = {one.request.question: one.request.target_new for one in standing}
    asked = [fact for fact in facts if fact.perspective == "entity"]  # others have but one rival
    asked = [replace(one, target_true=says.get(one.question, one.target_true)) for one in asked]
    answers = iter((yield from under(view, State(), rivals(view, asked))))
    return [
        replace(fact, target_true=next(answers)) if fact.perspective == "entity" else fact
        for fact in facts
    ]
