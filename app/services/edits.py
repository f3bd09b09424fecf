"""Orders: look at one, list them, read what the journal says of one."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from app.errors import EditNotFound
from app.services import models
from app.services.pages import Page, cut
from app.store.arrays import among
from app.store.db import Tx
from app.store.journal import TAKEN_OUT
from app.store.tables import Edit, JournalRow

SETTLED = frozenset({"applied", "failed", "rejected", "cancelled"})

_ID = re.compile(r"edt_[0-9a-z]{26}")


def get(tx: Tx, edit_id: str) -> Edit:
    """Return an order."""
    found = tx.session.get(Edit, edit_id) if _ID.fullmatch(edit_id) else None
    if found is None:
        raise EditNotFound(edit_id)
    return found


def latest(tx: Tx, orders: Iterable[str], most: int) -> list[Edit]:
    """Return the last of some orders, newest first."""
    found = select(Edit).where(among(Edit.id, orders)).order_by(Edit.ord.desc())
    return list(tx.session.scalars(found.limit(most)))


def page(
    tx: Tx,
    *,
    after: str | None,
    limit: int,
    model: str | None = None,
    status: str | None = None,
    subject: str | None = None,
) -> Page[Edit]:
    """List orders, newest first; `subject` is one that an edit request names, exactly."""
    query = select(Edit)
    if model is not None:
        models.require_known(tx, model)
        query = query.where(Edit.model_id == model)
    if status is not None:
        query = query.where(Edit.status == status)
    if subject is not None:
        if "\0" in subject:  # no stored text holds one, and Postgres would not look for it
            return Page(data=[], has_more=False, next=None)
        query = query.where(Edit.payload.contains({"requests": [{"subject": subject}]}))
    if after is not None:
        query = query.where(Edit.id < get(tx, after).id)
    return cut(tx.session.scalars(query.order_by(Edit.id.desc()).limit(limit + 1)).all(), limit)


@dataclass(frozen=True, slots=True)
class TakenOut:
    """The order after which an edit was not live any more, and its kind."""

    order: str
    kind: str


def taken_out_by(tx: Tx, rows: Sequence[Edit]) -> dict[str, TakenOut]:
    """Return, by id, what took those edits out that were live once and are not now."""
    gone = [row.id for row in rows if row.snapshot_id and row.kind == "edit" and not row.live]
    if not gone:
        return {}
    lines = select(func.max(JournalRow.id)).where(
        among(JournalRow.edit_id, gone), JournalRow.event == TAKEN_OUT
    )
    last = select(JournalRow).where(JournalRow.id.in_(lines.group_by(JournalRow.edit_id)))
    return {
        str(line.edit_id): TakenOut(line.data["by"], line.data["kind"])
        for line in tx.session.scalars(last)
    }


def events(tx: Tx, edit_id: str, *, after: int) -> Sequence[JournalRow]:
    """Return what the journal says of an order, after the line with this id."""
    query = select(JournalRow).where(JournalRow.edit_id == edit_id, JournalRow.id > after)
    return tx.session.scalars(query.order_by(JournalRow.id)).all()
