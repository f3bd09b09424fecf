"""Put an order into a model's queue. Nothing runs here: the journal has it, a worker takes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select, update

from app.errors import Json, ModelNotFound, NoRequests, QueueFull
from app.queue import outbox, streams
from app.queue.messages import RunEdit
from app.services import models
from app.services.settle import require_head
from app.store import journal
from app.store.db import Tx
from app.store.ids import new_id
from app.store.tables import Edit, Model
from editing import guard, knobs
from editing.errors import EditingError, TooManyRequests
from editing.request import EditRequest

DEFAULT_EDITOR = "ledger"


@dataclass(frozen=True, slots=True, kw_only=True)
class EditOrder:
    """What a caller wants written, by which editor, into which model."""

    requests: Sequence[Mapping[str, Any]]
    model: str | None = None  # needed only when more than one is registered
    editor: str = DEFAULT_EDITOR
    hparams: Mapping[str, Any] = field(default_factory=dict)
    if_match: str | None = None
    dry_run: bool = False  # compute and measure, keep nothing
    guard: Mapping[str, Any] | None = None  # what differs from the model's


def submit(tx: Tx, order: EditOrder, *, limit: int, max_queued: int | None = None) -> Edit:
    """Journal an edit. Raises what `editing` finds wrong with it, before anything is written."""
    knobs.check(order.editor, order.hparams)
    guard.check(order.guard)
    requests = _checked(order.requests, limit)
    model = models.get(tx, order.model) if order.model is not None else models.only(tx)
    payload: Json = {"requests": requests, "hparams": dict(order.hparams)}
    if order.guard:
        payload["guard"] = dict(order.guard)
    return enqueue(
        tx,
        model.id,
        kind="edit",
        editor=order.editor,
        payload=payload,
        if_match=order.if_match,
        dry_run=order.dry_run,
        max_queued=max_queued,
    )


def enqueue(
    tx: Tx,
    model_id: str,
    *,
    kind: str,
    editor: str | None,
    payload: Json,
    if_match: str | None = None,
    dry_run: bool = False,
    max_queued: int | None = None,
) -> Edit:
    """Give an order its place in the queue, and have that announced.

    The lock on the model's row is held until the commit, so ord is the order of commits, and
    `max_queued` is not passed by two at once.
    """
    row = tx.session.execute(
        update(Model)
        .where(Model.id == model_id, Model.removed_at.is_(None))
        .values(next_ord=Model.next_ord + 1)
        .returning(Model.next_ord, Model.head_id)
    ).one_or_none()
    if row is None:
        raise ModelNotFound(model_id)
    next_ord, head = row
    require_head(head, if_match)
    if max_queued is not None and _unsettled(tx, model_id, max_queued) >= max_queued:
        raise QueueFull(model=model_id, limit=max_queued)
    edit = Edit(
        id=new_id("edt"),
        model_id=model_id,
        ord=next_ord - 1,
        kind=kind,
        editor=editor,
        payload=payload,
        if_match=if_match,
        dry_run=dry_run,
    )
    tx.session.add(edit)
    tx.session.flush()
    tx.session.refresh(edit)  # the defaults that the database filled in are part of the answer
    journal.append(
        tx,
        "edit.submitted",
        model=model_id,
        edit=edit.id,
        ord=edit.ord,
        kind=kind,
        editor=editor,
        dry_run=edit.dry_run,
        facts=len(payload.get("requests", ())),
    )
    outbox.add(tx, streams.edits(model_id), RunEdit(edit_id=edit.id))
    return edit


def _unsettled(tx: Tx, model_id: str, at_most: int) -> int:
    """Count the orders of a model that are not settled; no further than needed."""
    waiting = select(Edit.id).where(
        Edit.model_id == model_id, Edit.status.in_(("queued", "running"))
    )
    counted = select(func.count()).select_from(waiting.limit(at_most).subquery())
    return tx.session.scalars(counted).one()


def _checked(requests: Sequence[Mapping[str, Any]], limit: int) -> list[Json]:
    if not requests:
        raise NoRequests
    if len(requests) > limit:
        raise TooManyRequests(count=len(requests), limit=limit)
    return [_one(number, request) for number, request in enumerate(requests)]


def _one(number: int, request: Mapping[str, Any]) -> Json:
    try:
        return EditRequest.from_dict(request).to_dict()
    except EditingError as error:
        error.fields = {**error.fields, "request": number}  # which one of the batch
        raise
