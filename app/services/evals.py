"""Evals: ask for one, look at them, read their rows, stop one.

An eval is no order: it measures one snapshot, never moves the head, and has no place in the queue.
Its records are kept with it, so that it can go on wherever a worker finds it, whatever becomes of
the file that they were read from.
"""

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select

from app.errors import EvalNotFound, EvalSettled, Json, ModelNotFound, NoEditorNeeded, QueueFull
from app.queue import outbox, streams
from app.queue.messages import CancelEval, RunEval
from app.services import models, snapshots
from app.services.eval_ends import end
from app.services.pages import Page, cut
from app.services.settle import in_hand, locked_model
from app.services.submit import DEFAULT_EDITOR
from app.store import journal
from app.store.blobs import Blobs
from app.store.db import Tx
from app.store.ids import new_id
from app.store.tables import Eval, EvalRow
from editing import knobs
from editing.evals.catalogue import Suite, suite

SETTLED = frozenset({"finished", "failed", "cancelled"})

_ID = re.compile(r"evl_[0-9a-z]{26}")
_BATCH = 1000  # rows read at a time where all are wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalOrder:
    """What a caller wants measured. Made by `checked`, so all of it can be."""

    suite: Suite
    records: Sequence[Json]
    cases: int
    options: Json
    editor: str | None
    hparams: Json
    data: Json = field(default_factory=dict)
    model: str | None = None
    snapshots: Sequence[str] = ()  # none: the head; several: each is measured, in this order


def checked(
    name: str,
    records: Sequence[Json],
    *,
    options: Mapping[str, Any],
    editor: str | None,
    hparams: Mapping[str, Any],
    data: Json,
    model: str | None,
    snapshots: Sequence[str],
) -> EvalOrder:
    """Read everything before anything is written. Raises what `editing` finds wrong with it."""
    found = suite(name)
    chosen = found.options_of(options)
    writes = found.edits or (found.may_edit and editor is not None)
    if not writes and (editor is not None or hparams):
        raise NoEditorNeeded(name)
    editor = (editor or DEFAULT_EDITOR) if writes else None
    if editor is not None:
        knobs.check(editor, hparams)
    return EvalOrder(
        suite=found,
        records=records,
        cases=len(found.read(records, chosen)),
        options=dict(options),
        editor=editor,
        hparams=dict(hparams),
        data=data,
        model=model,
        snapshots=snapshots,
    )


def submit(tx: Tx, blobs: Blobs, order: EvalOrder, *, max_waiting: int) -> Eval:
    """Journal an eval, bound to the head of this moment unless it names a snapshot."""
    model = models.get(tx, order.model) if order.model is not None else models.only(tx)
    for snapshot in order.snapshots:
        snapshots.get(tx, snapshot, of=model.id)
    # Before the lock: whoever submits or settles an order of this model would wait for it.
    records = blobs.put(tx, packed(order.records))
    model = locked_model(tx, model.id)  # so that two at once do not pass the limit
    if model.removed_at is not None:  # meanwhile
        raise ModelNotFound(model.id)
    if _waiting(tx, model.id) >= max_waiting:
        raise QueueFull(model=model.id, limit=max_waiting)
    made = Eval(
        id=new_id("evl"),
        model_id=model.id,
        suite=order.suite.name,
        snapshot_id=next(iter(order.snapshots), model.head_id),
        snapshots=list(order.snapshots) if len(order.snapshots) > 1 else None,
        editor=order.editor,
        hparams=order.hparams,
        options=order.options,
        data=order.data,
        records=records,
        total=order.cases * max(len(order.snapshots), 1),
    )
    tx.session.add(made)
    tx.session.flush()
    tx.session.refresh(made)
    journal.append(
        tx, "eval.submitted", model=model.id, eval=made.id, suite=made.suite, cases=made.total
    )
    outbox.add(tx, streams.edits(model.id), RunEval(eval_id=made.id))
    return made


def get(tx: Tx, eval_id: str) -> Eval:
    """Return an eval."""
    found = tx.session.get(Eval, eval_id) if _ID.fullmatch(eval_id) else None
    if found is None:
        raise EvalNotFound(eval_id)
    return found


def page(
    tx: Tx,
    *,
    after: str | None,
    limit: int,
    model: str | None = None,
    suite: str | None = None,
    status: str | None = None,
) -> Page[Eval]:
    """List evals, newest first."""
    query = select(Eval)
    if model is not None:
        models.require_known(tx, model)
        query = query.where(Eval.model_id == model)
    if suite is not None:
        if "\0" in suite:  # no stored text holds one, and Postgres would not look for it
            return Page(data=[], has_more=False, next=None)
        query = query.where(Eval.suite == suite)
    if status is not None:
        query = query.where(Eval.status == status)
    if after is not None:
        query = query.where(Eval.id < get(tx, after).id)
    return cut(tx.session.scalars(query.order_by(Eval.id.desc()).limit(limit + 1)).all(), limit)


def rows(
    tx: Tx, eval_id: str, *, after: int = -1, limit: int, match: Mapping[str, Any] | None = None
) -> tuple[list[EvalRow], bool]:
    """Rows of an eval in order, behind the one numbered `after`, and whether there are more.

    match: only rows that hold all these fields with these values.
    """
    get(tx, eval_id)
    query = select(EvalRow).where(EvalRow.eval_id == eval_id, EvalRow.number > after)
    if match:
        query = query.where(EvalRow.data.contains(dict(match)))
    found = tx.session.scalars(query.order_by(EvalRow.number).limit(limit + 1)).all()
    return list(found[:limit]), len(found) > limit


def every_row(tx: Tx, eval_id: str) -> Iterator[Json]:
    """All rows of an eval, in order."""
    after, more = -1, True
    while more:
        found, more = rows(tx, eval_id, after=after, limit=_BATCH)
        for row in found:
            after = row.number
            yield row.data


def cancel(tx: Tx, eval_id: str) -> Eval:
    """Stop an eval: at once where nobody has it in hand, else between two of its steps.

    What it has measured stays. Raises EvalNotFound or EvalSettled.
    """
    found = get(tx, eval_id)
    tx.session.refresh(found, with_for_update=True)
    if found.status in SETTLED:
        raise EvalSettled(eval_id=eval_id, status=found.status)
    if found.status == "queued" or not in_hand(tx, found.model_id, found.epoch):
        end(tx, found, "cancelled")
    else:
        found.cancel_requested = True
        outbox.add(tx, streams.edits(found.model_id), CancelEval(eval_id=eval_id))
    tx.session.flush()
    return found


def packed(records: Sequence[Json]) -> bytes:
    """Records as bytes; equal ones give equal bytes."""
    text = json.dumps(list(records), sort_keys=True, ensure_ascii=False, allow_nan=False)
    return gzip.compress(text.encode(), mtime=0)


def unpacked(data: bytes) -> list[Json]:
    """Read what `packed` wrote."""
    return json.loads(gzip.decompress(data))


def _waiting(tx: Tx, model_id: str) -> int:
    waiting = select(func.count()).where(
        Eval.model_id == model_id, Eval.status.in_(("queued", "running"))
    )
    return tx.session.scalars(waiting).one()
