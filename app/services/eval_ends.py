"""The end of an eval: in one place, for whoever ends it."""

from typing import Any

from sqlalchemy import func, select

from app.store import journal
from app.store.db import Tx
from app.store.tables import Eval


def end(tx: Tx, found: Eval, status: str, **written: Any) -> None:  # noqa: ANN401
    """Settle an eval. The caller has locked its row."""
    found.status = status
    found.settled_at = tx.session.scalars(select(func.clock_timestamp())).one()
    for column, value in written.items():
        setattr(found, column, value)
    tx.session.flush()
    journal.append(
        tx,
        "eval.settled",
        model=found.model_id,
        eval=found.id,
        suite=found.suite,
        status=status,
        done=found.done,
    )


def cancel_all(tx: Tx, model_id: str) -> None:
    """End all evals of a model that is taken out of service; what they have measured stays."""
    waiting = select(Eval).where(Eval.model_id == model_id, Eval.status.in_(("queued", "running")))
    for found in tx.session.scalars(waiting.order_by(Eval.id).with_for_update()):
        end(tx, found, "cancelled")
