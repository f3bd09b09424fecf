"""The end of an order: one transaction that makes the snapshot, moves the head and says so.

Each function checks first that the caller still holds the lease, under a lock on the lease row,
so that a thief cannot take it before the caller's transaction is over. Locks are taken in one
order everywhere: lease, model, edit.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, func, select, update

from app.errors import BlobMissing, HeadMoved, Json, ModelNotFound
from app.queue import outbox, streams
from app.queue.messages import Settled
from app.services import standing
from app.services.lineage import Entry, manifest, without
from app.store import journal
from app.store.arrays import among, not_among
from app.store.db import Tx
from app.store.ids import new_id
from app.store.journal import BROUGHT_BACK, TAKEN_OUT
from app.store.tables import Blob, Edit, Lease, Model, Snapshot
from editing.errors import FingerprintMismatch


class Fenced(Exception):
    """Another worker holds the lease: what this one has computed is void."""


class NotRunning(Exception):
    """The order is not running any more: settled already, cancelled, or its model removed."""


def fence(tx: Tx, model_id: str, epoch: int) -> None:
    """Go on only while the lease has my epoch; it cannot change until this transaction ends."""
    mine = select(Lease.model_id).where(Lease.model_id == model_id, Lease.epoch == epoch)
    if tx.session.scalar(mine.with_for_update()) is None:
        raise Fenced(model_id, epoch)


def locked_model(tx: Tx, model_id: str) -> Model:
    """Return the model, locked against whoever else would move its head or its queue."""
    model = tx.session.get(Model, model_id, with_for_update={"key_share": True})
    if model is None:
        raise ModelNotFound(model_id)
    return model


def require_head(head: str | None, if_match: str | None) -> None:
    """Raise HeadMoved unless a model's head is the one that a caller named, if one was."""
    if if_match is not None and if_match != head:
        raise HeadMoved(expected=if_match, head=head)


def in_hand(tx: Tx, model_id: str, epoch: int | None) -> bool:
    """Say whether a living worker holds what runs under an epoch. A dead one's is nobody's to stop.

    Should it only seem dead, nothing is lost: what it settles must still be running then.
    """
    alive: ColumnElement[bool] = Lease.expires_at.is_(None) | (
        Lease.expires_at > func.clock_timestamp()
    )
    holder = select(Lease.model_id).where(Lease.model_id == model_id, Lease.epoch == epoch, alive)
    return tx.session.scalar(holder) is not None


def settle_edit(
    tx: Tx,
    edit_id: str,
    *,
    epoch: int,
    blob: str,
    fingerprint: str,
    report: Json,
    timings: Json,
    checkpoint: str | None = None,
    removes: tuple[str, ...] = (),
    ends: tuple[str, ...] = (),
    holds: tuple[str, ...] = (),
) -> str:
    """Make an order's delta part of the head. Returns the new snapshot's id.

    removes, ends: earlier edits that it takes out or ends, which are not live from here on; holds:
    those that a retract brings back, which are live again.
    """
    model, edit = _mine(tx, edit_id, epoch)
    _held(tx, blob, checkpoint)
    snapshot = Snapshot(
        kind=edit.kind,
        extends_id=edit.parent_id,
        entries=[Entry(edit.id, blob, removes, ends, holds, kind=edit.kind).stored],
        depth=_depth(tx, edit.parent_id) + 1,
        fingerprint=fingerprint,
        report=report,
        checkpoint=checkpoint,
    )
    _promote(tx, model, edit, snapshot, epoch)
    edit.live = edit.kind == "edit"
    if removes or ends:
        _taken_out(tx, model, edit, among(Edit.id, (*removes, *ends)))
    if holds:
        _brought_back(tx, model, edit, holds)
    standing.promoted(tx, edit, snapshot)
    _end(tx, edit, "applied", snapshot=snapshot.id, report=report, timings=timings)
    return snapshot.id


def settle_without(
    tx: Tx,
    edit_id: str,
    *,
    epoch: int,
    gone: Collection[str],
    fingerprint: str,
    report: Json,
    timings: Json,
    blob: str | None = None,
    holds: tuple[str, ...] = (),
    checkpoint: str | None = None,
) -> str:
    """Make the head's content without the deltas of some orders the head, and give its id.

    A retract leaves one edit's delta out; a compaction leaves out all that its own, the blob, is
    the solution of, and `holds` what they wrote.
    """
    model, edit = _mine(tx, edit_id, epoch)
    _held(tx, blob, checkpoint)
    rest = without(tx, str(edit.parent_id), gone)
    own = [Entry(edit.id, blob, holds=holds, kind=edit.kind)] if blob else []
    snapshot = Snapshot(
        kind=edit.kind,
        extends_id=rest.extends,
        entries=[entry.stored for entry in (*rest.entries, *own)],
        depth=_depth(tx, rest.extends) + len(rest.entries) + len(own),
        fingerprint=fingerprint,
        report=report,
        checkpoint=checkpoint,
    )
    _promote(tx, model, edit, snapshot, epoch)
    _live_now(tx, model, edit, manifest(tx, snapshot.id).live)
    standing.promoted(tx, edit, snapshot)
    _end(tx, edit, "applied", snapshot=snapshot.id, report=report, timings=timings)
    return snapshot.id


def settle_restore(
    tx: Tx,
    edit_id: str,
    *,
    epoch: int,
    source: str,
    fingerprint: str,
    report: Json | None,
    timings: Json,
) -> str:
    """Make an older snapshot's content the head again. Returns the new snapshot's id.

    Raises FingerprintMismatch when the worker's weights are not the older snapshot's.
    """
    model, edit = _mine(tx, edit_id, epoch)
    found = manifest(tx, source)
    expected = tx.session.scalar(select(Snapshot.fingerprint).where(Snapshot.id == source))
    if fingerprint != expected:  # the same content must be the same weights, bit for bit
        raise FingerprintMismatch(expected=str(expected), found=fingerprint, what=source)
    snapshot = Snapshot(
        kind="restore",
        source_id=source,
        extends_id=source,
        entries=[],
        depth=len(found.entries),
        fingerprint=fingerprint,
        report=report,
    )
    _promote(tx, model, edit, snapshot, epoch)
    _live_now(tx, model, edit, found.live)
    standing.restored(tx, model, snapshot, source)
    _end(tx, edit, "applied", snapshot=snapshot.id, report=report, timings=timings)
    return snapshot.id


def settle_noop(tx: Tx, edit_id: str, *, epoch: int, report: Json | None, timings: Json) -> None:
    """The model answered so already: nothing was written, the head stays."""
    _, edit = _mine(tx, edit_id, epoch)
    edit.noop = True
    answered_by = None if edit.dry_run else edit.parent_id
    _end(tx, edit, "applied", snapshot=answered_by, report=report, timings=timings)


def settle_dry_run(tx: Tx, edit_id: str, *, epoch: int, report: Json, timings: Json) -> None:
    """What the edit would do was measured; nothing was kept, the head stays."""
    _, edit = _mine(tx, edit_id, epoch)
    if not edit.dry_run:  # it would be called applied, and its delta be lost
        raise NotRunning(edit_id)
    _end(tx, edit, "applied", report=report, timings=timings)


def settle_prepared(tx: Tx, edit_id: str, *, epoch: int, report: Json, timings: Json) -> None:
    """What an editor needs lies ready (an order of kind `statistics`); the head stays."""
    _, edit = _mine(tx, edit_id, epoch)
    if edit.kind != "statistics":
        raise NotRunning(edit_id)
    _end(tx, edit, "applied", report=report, timings=timings)


def settle_rejected(
    tx: Tx, edit_id: str, *, epoch: int, blob: str, error: Json, report: Json, timings: Json
) -> None:
    """The guard would not have it served: the order ends there, the head stays.

    What it has computed and what was measured of it are kept as evidence.
    """
    _, edit = _mine(tx, edit_id, epoch)
    _held(tx, blob)
    end: Json = {"evidence": blob, "error": error, "report": report, "timings": timings}
    _end(tx, edit, "rejected", **end)


def settle_cancelled(tx: Tx, edit_id: str, *, epoch: int, timings: Json | None = None) -> None:
    """The worker has stopped, as it was asked to; the head stays. No crash, so no attempt."""
    _, edit = _mine(tx, edit_id, epoch, cancel_requested=True)
    edit.attempts = max(edit.attempts - 1, 0)
    _end(tx, edit, "cancelled", timings=timings)


def settle_failed(
    tx: Tx, edit_id: str, *, epoch: int, error: Json, timings: Json | None = None
) -> None:
    """The method could not do it: the order ends with its reason, the head stays."""
    _, edit = _mine(tx, edit_id, epoch)
    fail(tx, edit, error, timings=timings)


def fail(tx: Tx, edit: Edit, error: Json, *, timings: Json | None = None) -> None:
    """End an order as failed. The caller has locked it."""
    _end(tx, edit, "failed", error=error, timings=timings)


def cancel(tx: Tx, edit: Edit) -> None:
    """End an order as cancelled. The caller has locked it."""
    _end(tx, edit, "cancelled")


def _mine(
    tx: Tx, edit_id: str, epoch: int, *, cancel_requested: bool = False
) -> tuple[Model, Edit]:
    """Lock lease, model and order, and make sure that all three are as the worker left them.

    An order that somebody has asked to stop has no other end than that: the settle and the cancel
    meet at the lock on its row, and whoever comes first is right.
    """
    model_id = tx.session.scalar(select(Edit.model_id).where(Edit.id == edit_id))
    if model_id is None:
        raise NotRunning(edit_id)
    fence(tx, model_id, epoch)
    model = locked_model(tx, model_id)
    running = select(Edit).where(
        Edit.id == edit_id,
        Edit.status == "running",
        Edit.epoch == epoch,
        Edit.cancel_requested == cancel_requested,
    )
    edit = tx.session.scalar(running.with_for_update(key_share=True))
    if edit is None:
        raise NotRunning(edit_id)
    return model, edit


def _held(tx: Tx, *blobs: str | None) -> None:
    """Lock blobs, so that a clean-up by age cannot take one that is coming into use."""
    for sha256 in filter(None, blobs):
        held = select(Blob.sha256).where(Blob.sha256 == sha256).with_for_update(key_share=True)
        if tx.session.scalar(held) is None:
            raise BlobMissing(sha256)


def _live_now(tx: Tx, model: Model, by: Edit, live: Collection[str]) -> None:
    """These edits and no others are live, because of an order; the journal says what that changed.

    What the journal says here stands behind the end of the edits that it is about.
    """
    _taken_out(tx, model, by, not_among(Edit.id, live))
    _brought_back(tx, model, by, live)


def _brought_back(tx: Tx, model: Model, by: Edit, which: Collection[str]) -> None:
    back = update(Edit).where(Edit.model_id == model.id, ~Edit.live, among(Edit.id, which))
    for edit in tx.session.scalars(back.values(live=True).returning(Edit.id)).all():
        journal.append(tx, BROUGHT_BACK, model=model.id, edit=edit, by=by.id, kind=by.kind)


def _taken_out(tx: Tx, model: Model, by: Edit, which: ColumnElement[bool]) -> None:
    gone = update(Edit).where(Edit.model_id == model.id, Edit.live, which, Edit.id != by.id)
    for edit in tx.session.scalars(gone.values(live=False).returning(Edit.id)).all():
        journal.append(tx, TAKEN_OUT, model=model.id, edit=edit, by=by.id, kind=by.kind)


def _depth(tx: Tx, snapshot_id: str | None) -> int:
    return tx.session.scalars(select(Snapshot.depth).where(Snapshot.id == snapshot_id)).one()


def _promote(tx: Tx, model: Model, edit: Edit, snapshot: Snapshot, epoch: int) -> None:
    """Insert the snapshot and move the head to it, if the head is still the order's parent."""
    if model.head_seq is None or model.head_id != edit.parent_id:
        raise HeadMoved(expected=str(edit.parent_id), head=model.head_id)
    snapshot.id = new_id("snp")
    snapshot.model_id = model.id
    snapshot.seq = model.head_seq + 1
    snapshot.parent_id = edit.parent_id
    snapshot.edit_id = edit.id
    snapshot.epoch = epoch
    tx.session.add(snapshot)
    tx.session.flush()
    moved = tx.session.scalar(
        update(Model)
        .where(Model.id == model.id, Model.head_id == edit.parent_id)
        .values(head_id=snapshot.id, head_seq=snapshot.seq)
        .returning(Model.id)
    )
    if moved is None:
        raise HeadMoved(expected=str(edit.parent_id), head=model.head_id)
    journal.append(
        tx,
        "snapshot.created",
        model=model.id,
        edit=edit.id,
        snapshot=snapshot.id,
        seq=snapshot.seq,
        kind=snapshot.kind,
    )


def _end(tx: Tx, edit: Edit, status: str, *, snapshot: str | None = None, **written: Any) -> None:  # noqa: ANN401
    edit.status = status
    edit.snapshot_id = snapshot
    edit.progress = None
    edit.settled_at = tx.session.scalars(select(func.clock_timestamp())).one()
    for column, value in written.items():
        setattr(edit, column, value)
    tx.session.flush()
    error: Json = written.get("error") or {}
    journal.append(
        tx,
        "edit.failed" if status == "failed" else "edit.settled",
        model=edit.model_id,
        edit=edit.id,
        kind=edit.kind,
        status=status,
        snapshot=snapshot,
        ord=edit.ord,
        **({"code": error.get("code")} if error else {"noop": edit.noop, "dry_run": edit.dry_run}),
    )
    outbox.add(
        tx,
        streams.settled(edit.model_id),
        Settled(edit=edit.id, status=status, snapshot=snapshot),
    )
