"""What a worker does to an eval: take it, keep the rows of a case, settle it.

A case is kept in one transaction that moves `done` from its number to the next, so it is counted
once, whoever measured it and however often a COMMIT's reply was lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from app.errors import Json, Poisoned, as_error
from app.services.eval_ends import end
from app.services.settle import NotRunning, fence
from app.store import journal
from app.store.db import Tx
from app.store.tables import Eval, EvalRow, Model

MAX_ATTEMPTS = 3  # at one case


@dataclass(frozen=True, slots=True)
class ClaimedEval:
    """An eval in the hands of a worker, and how far it has come."""

    id: str
    model: str
    suite: str
    snapshots: list[str]
    editor: str | None
    hparams: Json
    options: Json
    records: str  # the blob that holds them
    done: int
    total: int


def claim(tx: Tx, model_id: str, *, epoch: int) -> ClaimedEval | None:
    """Take the oldest eval that is not settled; None when there is none.

    One in whose hands three workers have died at the same case ends here.
    """
    fence(tx, model_id, epoch)
    while (found := _next(tx, model_id)) is not None:
        if found.cancel_requested:
            end(tx, found, "cancelled")
        elif found.attempts >= MAX_ATTEMPTS:
            error = as_error(Poisoned(attempts=found.attempts))
            end(tx, found, "failed", error=error)
        else:
            return _take(tx, found, epoch)
    return None


def keep(
    tx: Tx, eval_id: str, *, epoch: int, case: int, rows: Sequence[Json], progress: Json
) -> None:
    """Write down the rows of one case. Raises Fenced or NotRunning."""
    found = _mine(tx, eval_id, epoch)
    if found.done > case:
        return  # committed already; only the reply was lost
    tx.session.add_all(
        EvalRow(eval_id=eval_id, number=found.rows + number, data=row)
        for number, row in enumerate(rows)
    )
    found.rows += len(rows)
    found.done = case + 1
    found.attempts = 1
    found.progress = progress
    tx.session.flush()


def settle(
    tx: Tx,
    eval_id: str,
    *,
    epoch: int,
    status: str,
    summary: Json | None = None,
    error: Json | None = None,
) -> None:
    """End an eval. Raises Fenced or NotRunning."""
    found = _mine(tx, eval_id, epoch)
    end(tx, found, status, summary=summary, error=error, progress=None)


def put_back(tx: Tx, eval_id: str, *, epoch: int) -> None:
    """Leave an eval to the next worker, unharmed: only crashes count as attempts."""
    found = tx.session.scalar(_running(eval_id, epoch))
    if found is None:
        return
    found.attempts = max(found.attempts - 1, 0)
    if found.cancel_requested:
        end(tx, found, "cancelled", progress=None)
        return
    found.status = "queued"
    tx.session.flush()


def stop_wanted(tx: Tx, eval_id: str, *, epoch: int) -> bool:
    """Say whether the eval in hand is to stop; also when it is not ours any more."""
    asked = select(Eval.cancel_requested).where(
        Eval.id == eval_id, Eval.status == "running", Eval.epoch == epoch
    )
    wanted = tx.session.scalar(asked)
    return wanted is None or wanted


def _next(tx: Tx, model_id: str) -> Eval | None:
    present = select(Model.id).where(Model.id == model_id, Model.removed_at.is_(None))
    return tx.session.scalar(
        select(Eval)
        .where(Eval.model_id.in_(present), Eval.status.in_(("queued", "running")))
        .order_by(Eval.id)
        .limit(1)
        .with_for_update()
    )


def _take(tx: Tx, found: Eval, epoch: int) -> ClaimedEval:
    if found.snapshot_id is None:  # asked for before the model had a head
        head = select(Model.head_id).where(Model.id == found.model_id)
        found.snapshot_id = tx.session.scalars(head).one()
    found.status, found.epoch = "running", epoch
    found.attempts += 1
    if found.started_at is None:
        found.started_at = tx.session.scalars(select(func.clock_timestamp())).one()
    journal.append(
        tx,
        "eval.claimed",
        model=found.model_id,
        eval=found.id,
        snapshot=found.snapshot_id,
        epoch=epoch,
        done=found.done,
    )
    tx.session.flush()
    return ClaimedEval(
        id=found.id,
        model=found.model_id,
        suite=found.suite,
        snapshots=found.snapshots or [str(found.snapshot_id)],
        editor=found.editor,
        hparams=found.hparams,
        options=found.options,
        records=str(found.records),
        done=found.done,
        total=found.total,
    )


def _mine(tx: Tx, eval_id: str, epoch: int) -> Eval:
    """Lock lease and eval, and make sure that it still runs here."""
    model = tx.session.scalar(select(Eval.model_id).where(Eval.id == eval_id))
    if model is None:
        raise NotRunning(eval_id)
    fence(tx, model, epoch)
    found = tx.session.scalar(_running(eval_id, epoch))
    if found is None:
        raise NotRunning(eval_id)
    return found


def _running(eval_id: str, epoch: int):  # noqa: ANN202 - a statement
    mine = Eval.id == eval_id, Eval.status == "running", Eval.epoch == epoch
    return select(Eval).where(*mine).with_for_update()
