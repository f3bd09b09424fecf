"""Snapshots: look at one, name it, compare two, make an older one the head again."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from app.api import ordering
from app.api.bodies import LabelIn, RestoreIn
from app.api.deps import House, HouseDep, IdempotencyKeyDep, IfMatchDep, TxDep, WaitDep
from app.api.problems import problems
from app.api.schemas import DiffOut, OrderBrief, OrderOut, RestorePlanOut, SnapshotOut
from app.errors import (
    BadHeader,
    HeadMoved,
    KeyInFlight,
    KeyReused,
    LabelTaken,
    ModelNotFound,
    QueueFull,
    SnapshotNotFound,
    SnapshotOfAnotherModel,
)
from app.services import diff, restore, snapshots
from app.store.db import Tx
from app.store.tables import Snapshot

router = APIRouter(prefix="/snapshots", tags=["snapshots"])


@router.get("/{snapshot_id}", responses=problems(SnapshotNotFound))
def get_snapshot(snapshot_id: str, tx: TxDep) -> SnapshotOut:
    """Look at one snapshot: what it consists of, and what making it moved."""
    return _shown(tx, snapshots.get(tx, snapshot_id))


@router.patch(
    "/{snapshot_id}", responses=problems(BadHeader, SnapshotNotFound, HeadMoved, LabelTaken)
)
def label_snapshot(snapshot_id: str, body: LabelIn, tx: TxDep, if_match: IfMatchDep) -> SnapshotOut:
    """Give a snapshot a name that is easy to remember, or take it away.

    A label belongs to one snapshot of a model; it neither changes nor keeps anything.
    """
    return _shown(tx, snapshots.label(tx, snapshot_id, body.label, if_match=if_match))


@router.get("/{snapshot_id}/diff", responses=problems(SnapshotNotFound, SnapshotOfAnotherModel))
def compare_snapshots(
    snapshot_id: str,
    tx: TxDep,
    to: Annotated[
        str | None, Query(description="Another snapshot of the model; its head when left out.")
    ] = None,
) -> DiffOut:
    """Say which edits lie between this snapshot and another one of its model."""
    start, end = diff.pair(tx, snapshot_id, to)
    difference = diff.between(tx, start.id, end.id)
    same = start.fingerprint == end.fingerprint
    return DiffOut(
        **{"from": start.id},
        to=end.id,
        model=start.model_id,
        removed=[OrderBrief.of(edit) for edit in difference.removed],
        added=[OrderBrief.of(edit) for edit in difference.added],
        same_weights=same or not difference.of_weights,
        same_preface=same or not difference.of_prefaces,
        same_memory=same or not difference.of_memories,
    )


@router.post(
    "/{snapshot_id}/restore",
    status_code=202,
    response_model=OrderOut,
    responses={
        **ordering.RESPONSES,
        200: {
            "model": OrderOut | RestorePlanOut,
            "description": "Settled while the caller waited; with `dry_run`, what would be done.",
        },
        **problems(
            BadHeader,
            SnapshotNotFound,
            ModelNotFound,
            KeyInFlight,
            HeadMoved,
            QueueFull,
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

    The result is a new snapshot; nothing in the lineage is removed. With `dry_run` nothing is
    ordered, and the answer lists what would be undone.
    """
    asked = body or RestoreIn()
    if asked.dry_run:
        plan = await run_in_threadpool(_foreseen, house, snapshot_id, asked.model, if_match)
        return JSONResponse(plan.model_dump(mode="json"))
    return await ordering.take(
        house,
        request,
        lambda tx: restore.restore(
            tx,
            snapshot_id,
            model=asked.model,
            if_match=if_match,
            cancel_queued=asked.cancel_queued,
            max_queued=house.settings.max_queued,
        ),
        key=key,
        about=[asked.model, if_match, *(["cancel_queued"] if asked.cancel_queued else [])],
        wait=wait,
    )


def _shown(tx: Tx, snapshot: Snapshot) -> SnapshotOut:
    return SnapshotOut.of(snapshot, snapshots.contents(tx, [snapshot])[snapshot.id])


def _foreseen(
    house: House, snapshot_id: str, model: str | None, if_match: str | None
) -> RestorePlanOut:
    with house.database.tx() as tx:
        return RestorePlanOut.of(restore.foresee(tx, snapshot_id, model=model, if_match=if_match))
