"""Orders, from claim to settled. Each may run twice; none may hurt.

    claim -> parent in memory -> answered already? -> prepare -> edit -> the state after it
          -> promotion report -> guard -> blob -> settle (one transaction) -> swap the weights

Everything here is a generator: a Step after each piece of work, a Pause where there is nothing to
compute. No transaction is open while the model computes, and until the last line of a job the model
serves its head; a job may be closed at any of its steps.
"""

import time
from collections.abc import Generator, Mapping
from typing import Any

from safetensors import safe_open

from app.services import work
from app.services.work import Claimed, Entry
from editing import walk
from editing.model.state import State
from editing.model.view import ModelView
from editing.outcome import Outcome
from editing.request import EditRequest
from editing.run import Stopwatch
from editing.stats.store import MomentKey
from editing.step import Step
from workers.bench import Bench
from workers.guarded import Made, guarded, live_facts
from workers.host import Lineage
from workers.patience import Work, undisturbed

Json = dict[str, Any]


def run_edit(bench: Bench, order: Claimed, watch: Stopwatch) -> Work[None]:
    """Write facts into the model. Raises EditingError with the weights untouched."""
    view = bench.host.view
    requests = [EditRequest.from_dict(request) for request in order.requests]
    plan = walk.Plan.of(view, order.editor or "", order.hparams)
    live = yield from live_facts(bench, order, order.requests)

    if (yield from watch.timed(walk.already_answers(view, requests))):
        report = yield from watch.timed(walk.promotion_report(view, requests, view.current, live))
        end: Json = {"report": report, "timings": watch.report()}
        yield from bench.settle(lambda tx: work.settle_noop(tx, order.id, epoch=bench.epoch, **end))
        return

    yield from undisturbed(lambda: watch.timed(walk.prepare(view, plan)))
    made = yield from guarded(bench, order, plan, requests=requests, live=live, watch=watch)
    end = {"report": made.report, "timings": watch.report()}
    if order.dry_run:
        yield from tell(bench, order, end)
    elif made.error is not None:
        yield from reject(bench, order, made, end)
    else:
        yield from promote(bench, order, made.outcome, made.after, end)


def promote(
    bench: Bench, order: Claimed, outcome: Outcome, after: State, end: Mapping[str, Any]
) -> Work[None]:
    """Keep what an order changes, make the state after it the head, and serve it."""
    host, view = bench.host, bench.host.view
    blob = yield from bench.keep(outcome.to_bytes())
    bench.failpoint.passing("after_blob")
    ids = {"removes": outcome.removes, "ends": outcome.ends, "holds": outcome.holds}
    entry = Entry(order.id, blob, **ids, kind=order.kind)
    lineage = host.lineage.extended(entry)
    checkpoint = yield from checkpointed(bench, after, lineage)
    made: Json = {
        **end,
        "blob": blob,
        "fingerprint": view.fingerprint(after),
        "checkpoint": checkpoint,
        **ids,
    }
    snapshot = yield from bench.settle(
        lambda tx: work.settle_edit(tx, order.id, epoch=bench.epoch, **made)
    )
    bench.failpoint.passing("before_swap")
    host.adopt(snapshot, after, lineage.extended(checkpoint=True) if checkpoint else lineage)


def tell(bench: Bench, order: Claimed, end: Mapping[str, Any]) -> Work[None]:
    """Settle a dry run: what it would have come to is told, and nothing changes."""
    yield from bench.settle(lambda tx: work.settle_dry_run(tx, order.id, epoch=bench.epoch, **end))


def reject(bench: Bench, order: Claimed, made: Made, end: Mapping[str, Any]) -> Work[None]:
    """Keep what the guard would not have served as evidence; the head stays."""
    blob = yield from bench.keep(made.outcome.to_bytes())
    bench.failpoint.passing("after_blob")
    said: Json = {**end, "blob": blob, "error": made.error}
    yield from bench.settle(
        lambda tx: work.settle_rejected(tx, order.id, epoch=bench.epoch, **said)
    )


def run_restore(bench: Bench, order: Claimed, watch: Stopwatch) -> Work[None]:
    """Make an older snapshot's content the head again, bit for bit."""
    host, source = bench.host, order.source or ""

    def replay() -> Generator[Step, None, tuple[State, Lineage]]:
        content = host.content_of(source)
        yield Step("solve", 1, 1)
        return content

    state, lineage = yield from undisturbed(lambda: watch.timed(replay()))
    end: Json = {
        "source": source,
        "fingerprint": host.view.fingerprint(state),
        "report": None,
        "timings": watch.report(),
    }
    snapshot = yield from bench.settle(
        lambda tx: work.settle_restore(tx, order.id, epoch=bench.epoch, **end)
    )
    bench.failpoint.passing("before_swap")
    host.adopt(snapshot, state, lineage)


def run_statistics(bench: Bench, order: Claimed, watch: Stopwatch) -> Work[None]:
    """Make ready what an editor needs to know of the untouched model, ahead of its first edit."""
    view = bench.host.view
    plan = walk.Plan.of(view, order.editor or "", order.hparams)
    began, collected = time.monotonic(), False

    def prepare() -> Generator[Step, None, None]:
        nonlocal collected
        for step in walk.prepare(view, plan):
            collected = True
            yield step

    yield from undisturbed(lambda: watch.timed(prepare()))
    report: Json = {
        "statistics": _counts(view, plan),
        "seconds": time.monotonic() - began,
        "collected": collected,
    }
    end: Json = {"report": report, "timings": watch.report()}
    yield from bench.settle(lambda tx: work.settle_prepared(tx, order.id, epoch=bench.epoch, **end))


def checkpointed(bench: Bench, after: State, lineage: Lineage) -> Work[str | None]:
    """Write a state down when the way to it from the last checkpoint has become long."""
    if lineage.uncovered < bench.checkpoint_every:
        return None
    return (yield from bench.keep(after.to_bytes()))


def _counts(view: ModelView, plan: walk.Plan) -> list[Json]:
    """How many tokens the statistics of each of a plan's layers were taken from."""
    recipe = getattr(plan.hparams, "statistics", None)
    if recipe is None:
        return []
    base = view.fingerprint(State())
    keys = [MomentKey(base, layer=n, recipe=recipe) for n in plan.hparams.layers]
    return [{"layer": k.layer, "tokens": _tokens(view, k), "text": recipe.text} for k in keys]


def _tokens(view: ModelView, key: MomentKey) -> int | None:
    """How many tokens a second moment was taken from; None where nothing is written down."""
    path = view.stats.path(key, "safetensors")
    if path is None or not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        return int((file.metadata() or {})["tokens"])
