"""Takes the orders of one model from the journal, in their order, one after another."""

import time
from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy import select

from app.errors import HeadMoved, ServiceError
from app.services import work
from app.services.work import Claimed, Fenced, NotRunning
from app.store.db import Tx
from app.store.tables import Edit
from editing.errors import EditingError
from editing.run import Stopwatch
from workers.bench import Bench
from workers.metrics import WorkerMetrics
from workers.orders import RUN
from workers.patience import Pause, Work
from workers.wanted import Wishes

Json = dict[str, Any]

_LOST = (
    "A delta of the head, {}, is lost. Bring it back from a backup of the blobs and this order "
    "goes on; or cancel the orders that wait, and restore a snapshot that is whole."
)

log = structlog.stdlib.get_logger()


class Foreman:
    """Has at most one order in hand, and takes the next when that is settled."""

    def __init__(
        self,
        bench: Bench,
        *,
        poll_s: float,
        called: Callable[[], bool] = lambda: False,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        self.in_hand: Claimed | None = None
        self._bench = bench
        self._poll_s = poll_s
        self._wishes = Wishes(database=bench.database, poll_s=poll_s, called=called)
        self._metrics = metrics or WorkerMetrics(bench.host.model)

    def orders(self) -> Work[None]:
        """Work for ever. Raises Fenced, and ModelNotFound once the model was removed."""
        while True:
            self.in_hand = yield from self._bench.ask(self._claim)
            if self.in_hand is None:
                if self._bench.host.lost:  # perhaps somebody has brought it back
                    yield from self._bench.follow()
                yield Pause(self._poll_s)
                continue
            lost = self._bench.host.lost
            yield from self._run(self.in_hand)
            self.in_hand = None
            if lost and self._bench.host.head:  # a restore has left it behind
                yield from self._bench.tell(None)

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
            job, epoch = self._work(order, watch), self._bench.epoch
            done = yield from self._wishes.until_unwanted(
                job, lambda tx: work.cancel_wanted(tx, order.id, epoch=epoch)
            )
            if not done:
                yield from self._cancel(order, watch)
        except Fenced:
            raise
        except (NotRunning, HeadMoved) as error:
            # Taken away, or settled by a COMMIT whose reply was lost: the head may have moved.
            log.warning("edit.dropped", edit=order.id, reason=repr(error))
            yield from self._bench.follow()
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

    def _work(self, order: Claimed, watch: Stopwatch) -> Work[None]:
        if order.kind in {"edit", "retract", "compact"}:  # the others do not build on the head
            yield from self._build_on(order.parent)
        yield from RUN[order.kind](self._bench, order, watch)

    def _build_on(self, parent: str) -> Work[None]:
        """Bring the weights to an order's parent. Where that is lost the order waits.

        To fail it would fail all that are queued, and the parent may be brought back.
        """
        yield from self._bench.serve(parent)
        while self._bench.host.head != parent:
            yield Pause(self._poll_s, _LOST.format(parent))
            yield from self._bench.serve(parent)

    def _cancel(self, order: Claimed, watch: Stopwatch) -> Work[None]:
        epoch, timings = self._bench.epoch, watch.report()
        self._bench.host.audit(everything=False)
        yield from self._bench.settle(
            lambda tx: work.settle_cancelled(tx, order.id, epoch=epoch, timings=timings)
        )

    def _fail(self, order: Claimed, watch: Stopwatch, error: Json) -> Work[None]:
        end: Json = {"error": error, "timings": watch.report()}
        epoch = self._bench.epoch
        self._bench.host.audit(everything=False)
        yield from self._bench.settle(
            lambda tx: work.settle_failed(tx, order.id, epoch=epoch, **end)
        )
