"""Measures what was asked for, in the time that orders leave.

    claim -> the snapshot's state -> statistics of the editor -> case -> rows kept -> next case
          -> summary -> settle

A generator, like the work of an order: between two of its steps the model serves its head, so an
order may run, and move the head, while an eval stands in the middle of a case. What an eval writes
are states on the side; it never adopts one.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import structlog
from sqlalchemy import select

from app.errors import CasesChanged, ServiceError, as_error
from app.services import eval_work, evals
from app.services.eval_work import ClaimedEval
from app.services.settle import Fenced, NotRunning
from app.store.tables import Snapshot
from editing import walk
from editing.errors import EditingError
from editing.evals.catalogue import Suite, suite
from editing.evals.run import prepared, rows_of, summary_of
from editing.evals.scene import Scene
from editing.model.state import State
from editing.step import Step
from workers.bench import Bench
from workers.patience import Pause, Work, undisturbed
from workers.wanted import Wishes

_LOOK_S = 0.05  # how often a summary that is being made is looked for

Json = dict[str, Any]

log = structlog.stdlib.get_logger()


class Evaluator:
    """Has at most one eval in hand, and takes the next when that is settled.

    `stopping`: the one in hand was cancelled, and only its end is left to be written.
    """

    def __init__(
        self, bench: Bench, *, poll_s: float, called: Callable[[], bool] = lambda: False
    ) -> None:
        self.in_hand: ClaimedEval | None = None
        self.stopping = False
        self._bench = bench
        self._poll_s = poll_s
        self._wishes = Wishes(database=bench.database, poll_s=poll_s, called=called)

    def evals(self) -> Work[None]:
        """Work for ever. Raises Fenced."""
        bench = self._bench
        while True:
            self.in_hand = yield from bench.ask(
                lambda tx: eval_work.claim(tx, bench.host.model, epoch=bench.epoch)
            )
            if self.in_hand is None:
                yield Pause(self._poll_s)
                continue
            yield from self._run(self.in_hand)
            self.in_hand, self.stopping = None, False

    def put_back(self) -> None:
        """Leave the eval in hand to the next worker."""
        if self.in_hand is not None:
            with self._bench.database.tx() as tx:
                eval_work.put_back(tx, self.in_hand.id, epoch=self._bench.epoch)
            self.in_hand = None

    def _run(self, mine: ClaimedEval) -> Work[None]:
        log.info("eval.running", eval=mine.id, suite=mine.suite, done=mine.done, total=mine.total)
        try:
            done = yield from self._wishes.until_unwanted(
                self._measure(mine),
                lambda tx: eval_work.stop_wanted(tx, mine.id, epoch=self._bench.epoch),
            )
            self.stopping = not done
            summary = yield from self._summary(mine)
            yield from self._settle(mine, "finished" if done else "cancelled", summary=summary)
        except Fenced:
            raise
        except NotRunning as error:
            log.warning("eval.dropped", eval=mine.id, reason=repr(error))
        except (EditingError, ServiceError) as error:
            yield from self._fail(mine, as_error(error))
        except Exception as error:
            log.exception("eval.crashed", eval=mine.id, model=mine.model)
            self._bench.host.audit(everything=False)
            detail = f"{type(error).__name__} in the worker; its log tells more. Rows are kept."
            yield from self._fail(mine, {"code": "internal-error", "detail": detail})

    # ---- its parts -------------------------------------------------------------------------------

    def _measure(self, mine: ClaimedEval) -> Work[None]:
        """Every case that is not done yet, each kept before the next begins."""
        kind = suite(mine.suite)
        options = kind.options_of(mine.options)
        records = yield from undisturbed(lambda: self._records(mine))
        cases = kind.read(records, options)
        if len(cases) * len(mine.snapshots) != mine.total:  # a newer version reads them otherwise
            raise CasesChanged(asked=mine.total, found=len(cases) * len(mine.snapshots))
        began, opened, scene, start = time.monotonic(), -1, None, State()
        for number in range(mine.done, mine.total):
            which, case = divmod(number, len(cases))
            if scene is None or which != opened:
                scene, start = yield from self._opened(mine, mine.snapshots[which], options)
                opened = which
            rows = yield from rows_of(kind, scene, cases[case], case, start)
            if len(mine.snapshots) > 1:
                rows = [{"snapshot": mine.snapshots[which], **row} for row in rows]
            rate = (number + 1 - mine.done) / max(time.monotonic() - began, 1e-9)
            progress = {"rate": rate, "eta_s": (mine.total - number - 1) / rate}
            yield from self._keep(mine, number, rows, progress)

    def _opened(
        self,
        mine: ClaimedEval,
        snapshot: str,
        options: Any,  # noqa: ANN401
    ) -> Work[tuple[Scene, State]]:
        """The snapshot that is measured, and the editor, if one writes, with what it needs."""
        host = self._bench.host

        def build() -> Work[tuple[Scene, State]]:
            state, lineage = host.content_of(snapshot)
            yield Step("solve", 1, 1)
            plan = walk.Plan.of(host.view, mine.editor, mine.hparams) if mine.editor else None
            history = host.history_of(lineage)
            return Scene(view=host.view, options=options, plan=plan, history=history), state

        scene, state = yield from undisturbed(build)
        yield from undisturbed(lambda: prepared(scene))
        return scene, state

    def _records(self, mine: ClaimedEval) -> Work[list[Json]]:
        yield from ()
        return evals.unpacked(self._bench.blobs.get(None, mine.records))

    def _keep(self, mine: ClaimedEval, case: int, rows: list[Json], progress: Json) -> Work[None]:
        epoch, passing = self._bench.epoch, self._bench.failpoint.passing
        passing("before_rows")
        yield from self._bench.ask(
            lambda tx: eval_work.keep(
                tx, mine.id, epoch=epoch, case=case, rows=rows, progress=progress
            )
        )
        passing("after_rows")

    def _summary(self, mine: ClaimedEval) -> Work[Json]:
        """What all rows say together. In a thread: intervals take time, and nobody waits for them.

        The thread reads the rows too. It is left alone when the work is closed.
        """
        kind = suite(mine.suite)
        options = kind.options_of(mine.options)
        database = self._bench.database

        def summed() -> Json:
            with database.tx() as tx:
                rows = list(evals.every_row(tx, mine.id))
            if len(mine.snapshots) == 1:
                return summary_of(kind, rows, options)
            each = [
                {
                    "snapshot": snapshot,
                    **summary_of(kind, [r for r in rows if r["snapshot"] == snapshot], options),
                }
                for snapshot in mine.snapshots
            ]
            return {"snapshots": each}

        def made() -> Work[Json]:
            pool = ThreadPoolExecutor(1, thread_name_prefix="summary")
            try:
                making: Future[Json] = pool.submit(summed)
                while not making.done():
                    yield Pause(_LOOK_S)
                return making.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

        told = yield from undisturbed(made)
        return {**told, "made_by": (yield from self._made_by(mine, kind))}

    def _made_by(self, mine: ClaimedEval, kind: Suite) -> Work[Json]:
        """All that has to be the same for two summaries to be compared."""
        host = self._bench.host
        asked = select(Snapshot.id, Snapshot.fingerprint).where(Snapshot.id.in_(mine.snapshots))
        prints = yield from self._bench.ask(
            lambda tx: [tuple(row) for row in tx.session.execute(asked)]
        )
        plan = walk.Plan.of(host.view, mine.editor, mine.hparams) if mine.editor else None
        return {
            "suite": kind.name,
            "model": host.view.info,
            "base": host.view.fingerprint(State()),
            "fingerprints": dict(prints),
            "editor": mine.editor,
            "hparams": None if plan is None else asdict(plan.hparams),
            "options": asdict(kind.options_of(mine.options)),
        }

    def _settle(self, mine: ClaimedEval, status: str, **end: Json) -> Work[None]:
        epoch = self._bench.epoch
        yield from self._bench.ask(
            lambda tx: eval_work.settle(tx, mine.id, epoch=epoch, status=status, **end)
        )
        log.info("eval.ended", eval=mine.id, suite=mine.suite, status=status)

    def _fail(self, mine: ClaimedEval, error: Json) -> Work[None]:
        try:
            yield from self._settle(mine, "failed", error=error)
        except NotRunning as gone:  # stopped or settled meanwhile
            log.warning("eval.dropped", eval=mine.id, reason=repr(gone))
