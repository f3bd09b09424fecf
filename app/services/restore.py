"""Order that an older snapshot's content becomes the head again."""

from app.errors import SnapshotOfAnotherModel
from app.services import models, snapshots
from app.services.submit import enqueue
from app.store.db import Tx
from app.store.tables import Edit


def restore(
    tx: Tx, snapshot_id: str, *, model: str | None = None, if_match: str | None = None
) -> Edit:
    """Journal a restore. It runs after what is queued already, like any other order.

    `model`, when given, must be the snapshot's own: a guard for callers who keep the two apart.
    """
    snapshot = snapshots.get(tx, snapshot_id)
    if model is not None and model != snapshot.model_id:
        raise SnapshotOfAnotherModel(snapshot=snapshot_id, model=model, owner=snapshot.model_id)
    models.get(tx, snapshot.model_id)
    return enqueue(
        tx,
        snapshot.model_id,
        kind="restore",
        editor=None,
        payload={"snapshot": snapshot_id},
        if_match=if_match,
    )
