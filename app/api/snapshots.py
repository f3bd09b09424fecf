"""Snapshots: look at one, make an older one the head again."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from app.api import ordering
from app.api.bodies import RestoreIn
from app.api.deps import HouseDep, IdempotencyKeyDep, IfMatchDep, TxDep, WaitDep
from app.api.problems import problems
from app.api.schemas import OrderOut, SnapshotOut
from app.errors import (
    BadHeader,
    HeadMoved,
    KeyInFlight,
    KeyReused,
    ModelNotFound,
    SnapshotNotFound,
    SnapshotOfAnotherModel,
)
from app.services import lineage, restore, snapshots

router = APIRouter(prefix="/snapshots", tags=["snapshots"])


@router.get("/{snapshot_id}", responses=problems(SnapshotNotFound))
def get_snapshot(snapshot_id: str, tx: TxDep) -> SnapshotOut:
    """Look at one snapshot: what it consists of, and what making it moved."""
    snapshot = snapshots.get(tx, snapshot_id)
    return SnapshotOut.of(snapshot, lineage.edits_of(tx, [snapshot_id])[snapshot_id])


@router.post(
    "/{snapshot_id}/restore",
    status_code=202,
    response_model=OrderOut,
    responses={
        **ordering.RESPONSES,
        **problems(
            BadHeader,
            SnapshotNotFound,
            ModelNotFound,
            KeyInFlight,
            HeadMoved,
            KeyReused,
            SnapshotOfAnotherModel,
        ),
    },
)
async def restore_snapshot(
    *,
    snapshot_id: str,
    request: Request,
    house: HouseDep,
    key: IdempotencyKeyDep,
    if_match: IfMatchDep,
    wait: WaitDep,
    body: RestoreIn | None = None,
) -> JSONResponse:
    """Order that this snapshot's content becomes the head again, after what is queued already.

    The result is a new snapshot; nothing in the lineage is removed.
    """
    model = body.model if body else None
    return await ordering.take(
        house,
        request,
        lambda tx: restore.restore(tx, snapshot_id, model=model, if_match=if_match),
        key=key,
        about=[model, if_match],
        wait=wait,
    )
