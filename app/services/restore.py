"""Order that an older snapshot's content becomes the head again, or say what that would undo."""

from dataclasses import dataclass

from sqlalchemy import select

from app.errors import SnapshotOfAnotherModel
from app.services import cancel, models, snapshots
from app.services.diff import Difference, between
from app.services.settle import locked_model, require_head
from app.services.submit import enqueue
from app.store.db import Tx
from app.store.tables import Edit, Model, Snapshot


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a restore would do if it ran on the head of this moment."""

    snapshot: Snapshot
    model: Model
    difference: Difference  # from the head to the snapshot
    unsettled: list[Edit]  # what runs before it, or is cancelled for it


def restore(
    tx: Tx,
    snapshot_id: str,
    *,
    model: str | None = None,
    if_match: str | None = None,
    cancel_queued: bool = False,
    max_queued: int | None = None,
) -> Edit:
    """Journal a restore. It runs after what is queued already, like any other order.

    With `cancel_queued` what waits is cancelled in the same transaction; what runs is not.
    `model`, when given, must be the snapshot's own: a guard for callers who keep the two apart.
    """
    snapshot = _restorable(tx, snapshot_id, model)
    if cancel_queued:
        locked_model(tx, snapshot.model_id)
        cancel.queued(tx, snapshot.model_id)
    return enqueue(
        tx,
        snapshot.model_id,
        kind="restore",
        editor=None,
        payload={"snapshot": snapshot_id},
        if_match=if_match,
        max_queued=max_queued,
    )


def foresee(
    tx: Tx, snapshot_id: str, *, model: str | None = None, if_match: str | None = None
) -> Foreseen:
    """Say what a restore would undo and bring back. Writes nothing."""
    snapshot = _restorable(tx, snapshot_id, model)
    # Locked, so that head and queue are those of one moment.
    row = locked_model(tx, snapshot.model_id)
    require_head(row.head_id, if_match)
    unsettled = select(Edit).where(Edit.model_id == row.id, Edit.status.in_(("queued", "running")))
    return Foreseen(
        snapshot=snapshot,
        model=row,
        difference=between(tx, str(row.head_id), snapshot_id),
        unsettled=list(tx.session.scalars(unsettled.order_by(Edit.ord))),
    )


def _restorable(tx: Tx, snapshot_id: str, model: str | None) -> Snapshot:
    snapshot = snapshots.get(tx, snapshot_id)
    if model is not None and model != snapshot.model_id:
        raise SnapshotOfAnotherModel(snapshot=snapshot_id, model=model, owner=snapshot.model_id)
    models.get(tx, snapshot.model_id)
    return snapshot
