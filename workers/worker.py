"""The life of one worker: own the model, load it, serve it, let it go."""

import faulthandler
import os
import signal
import socket
import time
from contextlib import ExitStack
from types import FrameType
from typing import Any, NoReturn, TypeVar

import psycopg
import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.errors import ModelNotFound, ServiceError
from app.queue.outbox import Relay
from app.services import work
from app.services.work import Fenced
from app.settings import Settings
from app.store.blobs import Blobs
from app.store.db import Database
from editing.errors import EditingError
from editing.model.load import load_view
from workers.bell import Bell
from workers.bench import Bench
from workers.evaluator import Evaluator
from workers.failpoints import FailPoint
from workers.foreman import Foreman
from workers.herald import Herald
from workers.host import ModelHost
from workers.lease import Lease, Terms
from workers.listeners import OrderListener, ProbeListener
from workers.loop import Loop
from workers.metrics import WorkerMetrics
from workers.parent import end_with_parent
from workers.patience import Pause, Work, end_idle_transactions, is_away, patiently
from workers.probes import Inbox, Prober
from workers.pulse import Budgets, Pulse

STOPPED, CRASHED, MISSET, FENCED, CANNOT_LOAD, HUNG = range(6)

_PARTING_TRIES = 5
_PARTING_PAUSE_S = 0.5
_STDERR = 2

T = TypeVar("T")

log = structlog.stdlib.get_logger()


class Stopped(BaseException):
    """Raised by SIGTERM where nothing is in hand: while waiting for the lease, or loading."""


class CannotLoad(Exception):
    """The model is not in memory, and the journal says why."""


class Worker:
    """The parts of one worker, and the order in which they come and go."""

    def __init__(self, settings: Settings, model: str) -> None:
        self.settings = settings
        self.model = model
        self.failpoint = FailPoint.parse(settings.failpoint)
        self.holder = f"{socket.gethostname()}:{os.getpid()}"
        self.bell = Bell()
        self.pulse = Pulse()
        self.budgets = Budgets(step=settings.step_budget_s, load=settings.load_budget_s)
        self.metrics = WorkerMetrics(model, device=settings.device)
        self.database = Database(settings.database_url, pool_size=2, max_overflow=4)
        self.database.on_event(self.metrics.committed)
        end_idle_transactions(self.database.engine, settings.lease_ttl_s)
        self.blobs = Blobs(self.database, settings.blobs, small=settings.small_blob_bytes)
        terms = Terms(
            url=settings.database_url,
            model=model,
            holder=self.holder,
            ttl=settings.lease_ttl_s,
        )
        self.lease = Lease(
            terms, self.pulse, wake=self.bell.ring, changed=self.metrics.lease_changed
        )
        self._drop_everything = True  # nothing is in hand: SIGTERM may interrupt

    # ---- from start to end -----------------------------------------------------------------------

    def run(self) -> int:
        """Serve until the end, and say with which code to exit."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        end_with_parent()
        with ExitStack() as leaving:
            leaving.callback(self.metrics.close)
            self.metrics.serve(self.settings.worker_metrics_host, self.settings.worker_metrics_port)
            leaving.callback(self.database.close)
            leaving.callback(self.lease.release)
            try:
                self._own()
                self._serve(self._load(), leaving)
            except Stopped:
                pass
            except ModelNotFound:
                self._drop_everything = False
                log.info("worker.unneeded", model=self.model)
                return STOPPED
            except Fenced:
                log.error("worker.fenced", model=self.model, epoch=self.lease.epoch)  # noqa: TRY400
                return FENCED
            except CannotLoad:
                self._drop_everything = False  # what is left is putting away
                return CANNOT_LOAD
        log.info("worker.stopped", model=self.model, epoch=self.lease.epoch)
        return STOPPED

    def _own(self) -> None:
        try:
            self.lease.acquire()
        except psycopg.errors.ForeignKeyViolation:
            raise ModelNotFound(self.model) from None
        self.pulse.tick(self.budgets.load)
        self.lease.watch(self._on_hung)

    def _load(self) -> ModelHost:
        """Bring the model into memory, at its head."""
        row = self._wait(patiently(self.database, lambda tx: work.model_loading(tx, self.model)))
        log.info("worker.loading", model=self.model, source=row.source)
        began = time.monotonic()
        try:
            host = self._loaded(row.source)
        except (Fenced, ModelNotFound):
            raise
        except (EditingError, ServiceError) as error:
            self._cannot_load(work.as_error(error))
        except Exception as error:
            log.exception("worker.crashed", model=self.model)
            detail = f"{type(error).__name__}: {error}"
            self._cannot_load({"code": "internal-error", "detail": detail})
        log.info(
            "worker.serving",
            model=self.model,
            snapshot=host.head,
            epoch=self.lease.epoch,
            seconds=round(time.monotonic() - began, 2),
        )
        return host

    def _loaded(self, source: dict[str, Any]) -> ModelHost:
        settings = self.settings
        view = load_view(source, cache=settings.cache, device=settings.device, dtype=settings.dtype)
        host = ModelHost(view, self.model, self.database, self.blobs)
        ready: dict[str, Any] = {
            "epoch": self.lease.epoch,
            "fingerprint": host.fingerprint,
            "info": view.info,
        }
        head = self._wait(
            patiently(self.database, lambda tx: work.model_ready(tx, self.model, **ready))
        )
        self.pulse.tick(self.budgets.load)
        self._wait(self._bench(host).serve(head))
        return host

    def _cannot_load(self, error: dict[str, Any]) -> NoReturn:
        log.error("worker.cannot-load", model=self.model, **error)
        self._wait(
            patiently(self.database, lambda tx: work.model_failed(tx, self.model, error=error))
        )
        raise CannotLoad

    def _serve(self, host: ModelHost, leaving: ExitStack) -> None:
        settings, inbox = self.settings, Inbox()
        herald = Herald(settings.redis_url, self.model, self.database)
        relay = Relay(self.database, settings.redis_url)
        orders = OrderListener(settings.redis_url, self.model, self.bell)
        probes = ProbeListener(settings.redis_url, self.model, inbox, self.bell)
        foreman = Foreman(
            self._bench(host),
            poll_s=settings.poll_s,
            called=self.bell.take_cancel,
            metrics=self.metrics,
        )
        evaluator = Evaluator(
            self._bench(host),
            poll_s=settings.poll_s,
            called=lambda: self.bell.take_cancel("evals"),
        )
        prober = Prober(
            host,
            inbox,
            herald.reply,
            lambda: self.pulse.tick(self.budgets.solve),
            answered=self.metrics.answered,
        )
        loop = Loop(
            foreman=foreman,
            evaluator=evaluator,
            prober=prober,
            herald=herald,
            lease=self.lease,
            pulse=self.pulse,
            bell=self.bell,
            budgets=self.budgets,
        )

        def serving() -> dict[str, Any] | None:
            if self.lease.lost.is_set() or self.pulse.overdue:
                return None
            return {"holder": self.holder, "epoch": self.lease.epoch, "snapshot": host.head}

        self.metrics.ready_when(lambda: serving() is not None)
        # Last in, first out: the order goes back first, the lease is given up last.
        leaving.callback(relay.stop)
        leaving.callback(herald.stop)
        leaving.callback(lambda: probes.give_back([*prober.unfinished(), *inbox.take()]))
        leaving.callback(probes.stop)
        leaving.callback(orders.stop)
        leaving.callback(probes.hush)
        self._drop_everything = False
        relay.start()
        herald.start(serving)
        orders.start()
        probes.start()
        try:
            loop.run()
        except Fenced:
            self._put_back(foreman, evaluator)
            raise
        self._put_back(foreman, evaluator)

    # ---- small parts -----------------------------------------------------------------------------

    def _bench(self, host: ModelHost) -> Bench:
        return Bench(
            host=host,
            database=self.database,
            blobs=self.blobs,
            epoch=self.lease.epoch,
            checkpoint_every=self.settings.checkpoint_every,
            failpoint=self.failpoint,
        )

    def _wait(self, waiting: Work[T]) -> T:
        """Run patient work where there is no loop yet."""
        while True:
            if self.lease.lost.is_set():
                raise Fenced(self.model, self.lease.epoch)
            try:
                said = next(waiting)
            except StopIteration as end:
                return end.value
            self.pulse.tick(self.budgets.load)
            if isinstance(said, Pause):
                time.sleep(said.seconds)

    def _put_back(self, foreman: Foreman, evaluator: Evaluator) -> None:
        """Leave nothing in hand; without Postgres, the next worker finds it in ours."""
        order = foreman.in_hand
        for _ in range(_PARTING_TRIES):
            try:
                evaluator.put_back()
                if foreman.put_back():
                    log.info("edit.returned", model=self.model, edit=order.id if order else None)
            except SQLAlchemyError as error:
                if not is_away(error):
                    raise
                time.sleep(_PARTING_PAUSE_S)
            else:
                return

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        self.bell.ring_stop()
        if self._drop_everything:
            raise Stopped

    def _on_hung(self) -> None:
        """End the process from the lease's thread: nothing else can end a step that hangs."""
        log.critical("worker.ended", model=self.model, reason="a step hung beyond its budget")
        faulthandler.dump_traceback(_STDERR)
        os._exit(HUNG)
