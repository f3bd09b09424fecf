"""Orders, from claim to settled. Each may run twice; none may hurt.

    claim -> parent in memory -> answered already? -> prepare -> edit -> the state after it
          -> promotion report -> blob -> settle (one transaction) -> swap the weights

Everything here is a generator: a Step after each piece of work, a Pause where there is nothing to
compute. No transaction is open while the model computes, and until the last line of a job the model
serves its head.
"""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from app.errors import HeadMoved, ServiceError
from app.services import work
from app.services.work import Claimed, Entry, Fenced, NotRunning
from app.store.blobs import Blobs
from app.store.db import Database, Tx
from app.store.tables import Edit
from editing import walk
from editing.delta import Outcome
from editing.errors import EditingError
from editing.model.state import State
from editing.request import EditRequest
from editing.run import Stopwatch
from editing.step import Step
from workers.failpoints import FailPoint
from workers.host import ModelHost
from workers.metrics import WorkerMetrics
from workers.patience import Pause, Work, is_away, patiently, pauses, say_away, undisturbed

_EARLIER = 32  # facts of earlier live edits that a promotion report asks for

T = TypeVar("T")
Json = dict[str, Any]

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a job works with."""

    host: ModelHost
    database: Database
    blobs: Blobs
    epoch: int
    checkpoint_every: int
    failpoint: FailPoint = field(default_factory=FailPoint)

    def ask(self, question: Callable[[Tx], T]) -> Work[T]:
        """Run a short transaction that may run twice, once Postgres is there."""
        return patiently(self.database, question)

    def keep(self, data: bytes) -> Work[str]:
        """Put bytes into the blob store."""
        return self.ask(lambda tx: self.blobs.put(tx, data))

    def checkout(self, snapshot: str) -> Work[None]:
        """Bring the weights to a snapshot."""

        def go() -> Work[None]:
            self.host.checkout(snapshot)
            yield from ()

        return undisturbed(go)

    def settle(self, order: Claimed, write: Callable[[Tx], str | None]) -> Work[str | None]:
        """Commit the end of an order, exactly once, and return its snapshot.

        When the reply to a COMMIT is lost, the order itself tells whether it was settled; it is
        asked again when a second try finds it settled, for the first may have been slow to end.
        """
        unsure = False
        for pause in pauses():
            try:
                with self.database.tx() as tx:
                    snapshot = write(tx)
                    self.failpoint.passing("before_commit")
                self.failpoint.passing("after_commit")
                return snapshot  # noqa: TRY300 - what follows is for those that failed
            except NotRunning:
                if not unsure:
                    raise
            except SQLAlchemyError as error:
                if not is_away(error):
                    raise
                say_away(error, pause)
                unsure = True
                yield pause
            fate = yield from self.ask(lambda tx: _fate(tx, order.id))
            if fate.epoch != self.epoch:
                raise Fenced(order.model, self.epoch)
            if fate.status != "running":
                return fate.snapshot
        raise AssertionError  # pauses() has no end


@dataclass(frozen=True, slots=True)
class _Fate:
    status: str
    epoch: int | None
    snapshot: str | None


def _fate(tx: Tx, edit: str) -> _Fate:
    found = select(Edit.status, Edit.epoch, Edit.snapshot_id).where(Edit.id == edit)
    return _Fate(*tx.session.execute(found).one())


def run_edit(bench: Bench, order: Claimed, watch: Stopwatch) -> Work[None]:
    """Write facts into the model. Raises EditingError with the weights untouched."""
    host, view = bench.host, bench.host.view
    requests = [EditRequest.from_dict(request) for request in order.requests]
    plan = walk.Plan.of(view, order.editor or "", order.hparams)
    live = yield from bench.ask(lambda tx: work.live_edits(tx, order.model, _EARLIER))
    earlier = still_standing(requests, [facts for _, facts in live])[:_EARLIER]

    if (yield from watch.timed(walk.already_answers(view, requests))):
        report = yield from watch.timed(
            walk.promotion_report(view, requests, view.current, earlier)
        )
        end: Json = {"report": report, "timings": watch.report()}
        yield from bench.settle(
            order, lambda tx: work.settle_noop(tx, order.id, epoch=bench.epoch, **end)
        )
        return

    yield from watch.timed(walk.prepare(view, plan))
    outcome = yield from undisturbed(
        lambda: watch.timed(bench.failpoint.inside(walk.edit(view, plan, requests, host.history())))
    )
    delta = outcome.to_bytes()
    # From the bytes that will be replayed, so that the head is what a restart makes of it.
    after = view.after(Outcome.from_bytes(delta).deltas)
    report = yield from watch.timed(walk.promotion_report(view, requests, after, earlier))

    report["editor"] = dict(outcome.notes)

    blob = yield from bench.keep(delta)
    bench.failpoint.passing("after_blob")
    checkpoint = yield from _checkpoint(bench, after)
    end = {
        "blob": blob,
        "fingerprint": view.fingerprint(after),
        "report": report,
        "timings": watch.report(),
        "checkpoint": checkpoint,
    }
    snapshot = yield from bench.settle(
        order, lambda tx: work.settle_edit(tx, order.id, epoch=bench.epoch, **end)
    )
    bench.failpoint.passing("before_swap")
    entry = Entry(edit=order.id, blob=blob)
    lineage = host.lineage.extended(entry, checkpoint=checkpoint is not None)
    host.adopt(_named(snapshot, order), after, lineage)


def run_restore(bench: Bench, order: Claimed, watch: Stopwatch) -> Work[None]:
    """Make an older snapshot's content the head again, bit for bit."""
    host, source = bench.host, order.source or ""

    def replay() -> Generator[Step, None, State]:
        state = host.state_of(source)
        yield Step("solve", 1, 1)
        return state

    state = yield from undisturbed(lambda: watch.timed(replay()))
    lineage = yield from bench.ask(lambda _: host.lineage_of(source))
    end: Json = {
        "source": source,
        "fingerprint": host.view.fingerprint(state),
        "report": None,
        "timings": watch.report(),
    }
    snapshot = yield from bench.settle(
        order, lambda tx: work.settle_restore(tx, order.id, epoch=bench.epoch, **end)
    )
    bench.failpoint.passing("before_swap")
    host.adopt(_named(snapshot, order), state, lineage)


_RUN = {"edit": run_edit, "restore": run_restore}


class Foreman:
    """Takes the orders of one model from the journal, in their order, one after another."""

    def __init__(
        self, bench: Bench, *, poll_s: float, metrics: WorkerMetrics | None = None
    ) -> None:
        self.in_hand: Claimed | None = None
        self._bench = bench
        self._poll_s = poll_s
        self._metrics = metrics or WorkerMetrics(bench.host.model)

    def orders(self) -> Work[None]:
        """Work for ever. Raises Fenced, and ModelNotFound once the model was removed."""
        while True:
            self.in_hand = yield from self._bench.ask(self._claim)
            if self.in_hand is None:
                yield Pause(self._poll_s)
                continue
            yield from self._run(self.in_hand)
            self.in_hand = None

    def put_back(self) -> bool:
        """Put the order in hand back into the queue, unharmed, if there is one."""
        if self.in_hand is None:
            return False
        with self._bench.database.tx() as tx:
            work.unclaim(tx, self.in_hand.id, epoch=self._bench.epoch)
        self.in_hand = None
        return True

    def _claim(self, tx: Tx) -> Claimed | None:
        # An order may have been claimed in a commit whose reply was lost. That was no attempt.
        mine = Edit.model_id == self._bench.host.model, Edit.epoch == self._bench.epoch
        dropped = select(Edit.id).where(*mine, Edit.status == "running")
        for edit in tx.session.scalars(dropped).all():
            work.unclaim(tx, edit, epoch=self._bench.epoch)
        return work.claim(tx, self._bench.host.model, epoch=self._bench.epoch)

    def _run(self, order: Claimed) -> Work[None]:
        began, watch = time.monotonic(), Stopwatch()
        try:
            yield from self._bench.checkout(order.parent)
            yield from _RUN[order.kind](self._bench, order, watch)
        except Fenced:
            raise
        except (NotRunning, HeadMoved) as error:
            # Cancelled meanwhile, or the head is not where we believed: the next claim knows more.
            log.warning("edit.dropped", edit=order.id, reason=repr(error))
        except (EditingError, ServiceError) as error:
            yield from self._fail(order, watch, work.as_error(error))
        except Exception as error:
            log.exception("edit.crashed", edit=order.id, model=order.model)
            self._bench.host.audit()
            reason = (
                f"{type(error).__name__} in the worker; its log tells more. Nothing was changed."
            )
            yield from self._fail(order, watch, {"code": "internal-error", "detail": reason})
        self._metrics.worked(
            kind=order.kind,
            editor=order.editor,
            seconds=time.monotonic() - began,
            stages=watch.wall,
        )

    def _fail(self, order: Claimed, watch: Stopwatch, error: Json) -> Work[None]:
        end: Json = {"error": error, "timings": watch.report()}
        epoch = self._bench.epoch
        self._bench.host.audit(everything=False)
        yield from self._bench.settle(
            order, lambda tx: work.settle_failed(tx, order.id, epoch=epoch, **end)
        )


def still_standing(requests: list[EditRequest], earlier: list[list[Json]]) -> list[EditRequest]:
    """Earlier facts, latest first, that nothing later has written again."""
    taken = {(request.subject, request.prompt) for request in requests}
    standing: list[EditRequest] = []
    for facts in earlier:
        for fact in reversed(facts):
            request = EditRequest.from_dict(fact)
            if (request.subject, request.prompt) not in taken:
                taken.add((request.subject, request.prompt))
                standing.append(request)
    return standing


def _checkpoint(bench: Bench, after: State) -> Work[str | None]:
    """Write the state down when the way to it from the last checkpoint has become long."""
    if bench.host.lineage.uncovered + 1 < bench.checkpoint_every:
        return None
    return (yield from bench.keep(after.to_bytes()))


def _named(snapshot: str | None, order: Claimed) -> str:
    if snapshot is None:  # settled as something else while the reply was lost
        raise NotRunning(order.id)
    return snapshot
