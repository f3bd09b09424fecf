"""Cancel an order: at once while it waits, between two steps while it runs.

A cancel and the order's own end meet at the lock on its model, and whoever comes first is right:
either the order is settled and the cancel is refused, or it is cancelled and cannot be settled
as anything else.
"""

from sqlalchemy import select

from app.errors import OrderSettled
from app.queue import outbox, streams
from app.queue.messages import CancelEdit
from app.services import edits
from app.services.settle import cancel, in_hand, locked_model, require_head
from app.store import journal
from app.store.db import Tx
from app.store.tables import Edit


def request(tx: Tx, edit_id: str, *, if_match: str | None = None) -> Edit:
    """Cancel an order, or have its worker stop; the order's status says which it was.

    Raises EditNotFound, and OrderSettled when there is nothing left to cancel.
    """
    edit = edits.get(tx, edit_id)
    # The claim holds this lock, so the queue does not change under it.
    require_head(locked_model(tx, edit.model_id).head_id, if_match)
    tx.session.refresh(edit, with_for_update={"key_share": True})
    if edit.status in edits.SETTLED:
        changed = edit.snapshot_id is not None and not edit.noop
        raise OrderSettled(edit=edit_id, status=edit.status, kind=edit.kind, changed=changed)
    if edit.status == "queued" or not in_hand(tx, edit.model_id, edit.epoch):
        cancel(tx, edit)
    elif not edit.cancel_requested:
        edit.cancel_requested = True
        journal.append(tx, "edit.cancel-requested", model=edit.model_id, edit=edit_id)
        outbox.add(tx, streams.edits(edit.model_id), CancelEdit(edit_id=edit_id))
    tx.session.flush()
    return edit


def queued(tx: Tx, model_id: str) -> list[Edit]:
    """Cancel what waits in a model's queue, and not what runs. The caller holds the model."""
    waiting = select(Edit).where(Edit.model_id == model_id, Edit.status == "queued")
    found = list(tx.session.scalars(waiting.order_by(Edit.ord).with_for_update(key_share=True)))
    for edit in found:
        cancel(tx, edit)
    return found
