"""What a worker does to the journal: take a model, claim its next order, tell how it goes.

The worker calls these in short transactions of its own; none is open while the model computes.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update

from app.errors import HeadMoved, Json, ModelNotFound, Poisoned, as_error
from app.services.lineage import (
    Checkpoint,
    Entry,
    Manifest,
    Rest,
    bytes_of,
    live_of,
    manifest,
    requests_of,
    without,
    written_again_by,
    written_by,
)
from app.services.settle import (
    Fenced,
    NotRunning,
    cancel,
    fail,
    fence,
    locked_model,
    settle_cancelled,
    settle_dry_run,
    settle_edit,
    settle_failed,
    settle_noop,
    settle_prepared,
    settle_rejected,
    settle_restore,
    settle_without,
)
from app.services.standing import LiveFact, sample
from app.store import journal
from app.store.db import Tx
from app.store.ids import new_id
from app.store.tables import Edit, Model, Snapshot
from editing.errors import FingerprintMismatch
from editing.guard import Guard

__all__ = [
    "Checkpoint",
    "Claimed",
    "Entry",
    "Fenced",
    "LiveFact",
    "Manifest",
    "NotRunning",
    "Rest",
    "as_error",
    "bytes_of",
    "cancel_wanted",
    "claim",
    "fence",
    "live_of",
    "manifest",
    "model_failed",
    "model_loading",
    "model_ready",
    "progress",
    "requests_of",
    "sample",
    "settle_cancelled",
    "settle_dry_run",
    "settle_edit",
    "settle_failed",
    "settle_noop",
    "settle_prepared",
    "settle_rejected",
    "settle_restore",
    "settle_without",
    "unclaim",
    "without",
    "written_again_by",
    "written_by",
]

MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Claimed:
    """An order in the hands of a worker, with the parent it builds on."""

    id: str
    model: str
    ord: int
    kind: str
    editor: str | None
    requests: list[Json]
    hparams: Json
    parent: str
    parent_seq: int
    source: str | None  # the snapshot that a restore brings back
    attempts: int
    dry_run: bool  # compute and measure, keep nothing
    target: str | None = None  # the edit that a retract takes out
    guards: tuple[Json | None, ...] = ()  # the model's, and over it the order's own, as stored

    @property
    def guard(self) -> Guard:
        """What judges it. Raises InvalidGuard: what was stored once need not be known any more."""
        return Guard.of(*self.guards)


def model_loading(tx: Tx, model_id: str) -> Model:
    """Say that a worker is loading the model. Raises ModelNotFound when it was removed."""
    model = _present(tx, model_id)
    model.status = "loading"
    model.error = None
    return model


def model_ready(tx: Tx, model_id: str, *, epoch: int, fingerprint: str, info: Json) -> str:
    """Say that the model is loaded, and return its head.

    `fingerprint` is that of the untouched weights. The first worker to load the model writes the
    base snapshot; a later one must find the same weights, or the lineage would mean nothing.
    """
    fence(tx, model_id, epoch)
    model = _present(tx, model_id)
    if model.head_id is None:
        model.base_fingerprint = fingerprint
        base = Snapshot(
            id=new_id("snp"),
            model_id=model_id,
            seq=0,
            kind="base",
            entries=[],
            depth=0,
            epoch=epoch,
            fingerprint=fingerprint,
        )
        tx.session.add(base)
        tx.session.flush()
        model.head_id, model.head_seq = base.id, base.seq
        journal.append(
            tx, "snapshot.created", model=model_id, snapshot=base.id, seq=base.seq, kind=base.kind
        )
    elif model.base_fingerprint != fingerprint:
        raise FingerprintMismatch(
            expected=str(model.base_fingerprint), found=fingerprint, what=f"model {model_id}"
        )
    model.status, model.error, model.info = "ready", None, info
    journal.append(tx, "model.ready", model=model_id, snapshot=model.head_id, epoch=epoch)
    return model.head_id


def model_failed(tx: Tx, model_id: str, *, error: Json) -> None:
    """Say that the model could not be loaded, and why."""
    model = _present(tx, model_id)
    model.status, model.error = "failed", error
    journal.append(tx, "model.failed", model=model_id, code=error.get("code"))


def claim(tx: Tx, model_id: str, *, epoch: int) -> Claimed | None:
    """Take the order that is next, or return None when nothing waits.

    Orders that cannot run any more end here, and the next one is looked at: one whose worker has
    died three times, and one that was meant for another head.
    """
    fence(tx, model_id, epoch)
    model = _present(tx, model_id)
    if model.head_id is None or model.head_seq is None:
        return None  # nobody has called model_ready yet
    while (edit := _next(tx, model_id)) is not None:
        if edit.cancel_requested:
            cancel(tx, edit)
        elif edit.attempts >= MAX_ATTEMPTS:
            fail(tx, edit, as_error(Poisoned(attempts=edit.attempts)))
        elif edit.if_match is not None and edit.if_match != model.head_id:
            fail(tx, edit, as_error(HeadMoved(expected=edit.if_match, head=model.head_id)))
        else:
            return _take(tx, edit, model, epoch)
    return None


def unclaim(tx: Tx, edit_id: str, *, epoch: int) -> None:
    """Put a claimed order back, unharmed: only crashes count as attempts.

    One that was to be cancelled ends here: the next worker may be long in coming.
    """
    mine = select(Edit).where(Edit.id == edit_id, Edit.status == "running", Edit.epoch == epoch)
    edit = tx.session.scalar(mine.with_for_update(key_share=True))
    if edit is None:
        return
    edit.attempts = max(edit.attempts - 1, 0)
    if edit.cancel_requested:
        cancel(tx, edit)
        return
    edit.status = "queued"
    edit.progress = edit.parent_id = edit.started_at = None
    tx.session.flush()


def cancel_wanted(tx: Tx, edit_id: str, *, epoch: int) -> bool:
    """Say whether the order in hand is to stop. Takes no lock: ask as often as you like.

    Also true when it does not run under this epoch any more, for its model was removed or its
    worker taken for dead; `settle_cancelled` then says which, by NotRunning or Fenced.
    """
    running = select(Edit.cancel_requested).where(
        Edit.id == edit_id, Edit.status == "running", Edit.epoch == epoch
    )
    wanted = tx.session.scalar(running)
    return wanted is None or wanted


def progress(tx: Tx, edit_id: str, *, epoch: int, progress: Json) -> None:
    """Note how far a running order has come. A fenced worker's note is dropped."""
    tx.session.execute(
        update(Edit)
        .where(Edit.id == edit_id, Edit.status == "running", Edit.epoch == epoch)
        .values(progress=progress)
    )


def _present(tx: Tx, model_id: str) -> Model:
    model = locked_model(tx, model_id)
    if model.removed_at is not None:
        raise ModelNotFound(model_id)
    return model


def _next(tx: Tx, model_id: str) -> Edit | None:
    return tx.session.scalar(
        select(Edit)
        .where(Edit.model_id == model_id, Edit.status.in_(("queued", "running")))
        .order_by(Edit.ord)
        .limit(1)
        .with_for_update(key_share=True)
    )


def _take(tx: Tx, edit: Edit, model: Model, epoch: int) -> Claimed:
    parent = str(model.head_id)
    edit.status = "running"
    edit.epoch = epoch
    edit.parent_id = parent
    edit.attempts += 1
    edit.progress = None
    edit.started_at = tx.session.scalars(select(func.clock_timestamp())).one()
    journal.append(
        tx,
        "edit.claimed",
        model=edit.model_id,
        edit=edit.id,
        parent=parent,
        epoch=epoch,
        attempt=edit.attempts,
    )
    payload: dict[str, Any] = edit.payload
    return Claimed(
        id=edit.id,
        model=edit.model_id,
        ord=edit.ord,
        kind=edit.kind,
        editor=edit.editor,
        requests=payload.get("requests", []),
        hparams=payload.get("hparams", {}),
        parent=parent,
        parent_seq=model.head_seq or 0,
        source=payload.get("snapshot"),
        attempts=edit.attempts,
        dry_run=edit.dry_run,
        target=next(iter(payload.get("targets", [])), None),
        guards=(model.guard, payload.get("guard")),
    )
