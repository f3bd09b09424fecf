"""How a model does, told from what its promotions have measured: no model is asked.

live        an edit with a fact that stands: the head holds it, and no later one asks the same
disturbed   a live one of which a standing fact was said once, and was not when it was last asked
superseded  an applied edit whose every fact a later live one has written again, or replaced; where
            a retract or a restore has taken it out, there is nothing to supersede
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ScalarSelect, func, null, or_, select
from sqlalchemy.orm import aliased

from app.errors import EditOfAnotherModel, Json
from app.services import edits, models
from app.services.standing import standing
from app.store.db import Tx
from app.store.journal import TAKEN_OUT
from app.store.tables import Edit, Fact, JournalRow, Snapshot
from editing.guard import Guard

Query = Any  # Select[...] of columns that only Postgres knows


@dataclass(frozen=True, slots=True)
class Member:
    """An edit in one of the lists, and its facts that are the reason for it."""

    edit: str
    ord: int
    editor: str | None
    facts: list[int]
    by: str | None  # the snapshot that found it disturbed, or the edit that supersedes it


@dataclass(frozen=True, slots=True)
class Promotion:
    """A snapshot, and what was measured of it before it was served."""

    snapshot: str
    seq: int
    kind: str
    edit: str | None
    created_at: datetime
    measured: Json | None


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of a model."""

    model: str
    head: str | None
    seq: int | None
    guard: Guard
    counts: dict[str, int]
    live: Sequence[Member]
    disturbed: Sequence[Member]
    superseded: Sequence[Member]
    snapshots: Sequence[Promotion]


def look(tx: Tx, model_id: str, *, after: str | None, limit: int) -> Health:
    """Look at a model. Lists are newest first; `after` shows edits older than that one.

    Raises ModelNotFound, EditNotFound, and EditOfAnotherModel.
    """
    model = models.get(tx, model_id)
    before = None if after is None else _cursor(tx, model_id, after)
    live, disturbed, superseded = _live(model_id), _disturbed(model_id), _superseded(model_id)
    found_by = _members(tx, disturbed, before, limit)
    seen = _snapshots(tx, model_id, [one.by for one in found_by])
    return Health(
        model=model_id,
        head=model.head_id,
        seq=model.head_seq,
        guard=Guard.of(model.guard),
        counts={
            "live": _count(tx, live),
            "disturbed": _count(tx, disturbed),
            "superseded": _count(tx, superseded),
        },
        live=_members(tx, live, before, limit),
        disturbed=[replace(one, by=seen.get(str(one.by))) for one in found_by],
        superseded=_members(tx, superseded, before, limit),
        snapshots=_promotions(tx, model_id, limit),
    )


def _cursor(tx: Tx, model_id: str, after: str) -> int:
    edit = edits.get(tx, after)
    if edit.model_id != model_id:
        raise EditOfAnotherModel(edit=after, model=model_id, owner=edit.model_id)
    return edit.ord


def _live(model_id: str) -> Query:
    return _by_edit(model_id, null()).where(Edit.live, standing())


def _disturbed(model_id: str) -> Query:
    """Those that are live, by the number of the snapshot that has found it."""
    found = _by_edit(model_id, func.max(Fact.asked_seq))
    return found.where(Edit.live, standing(), Fact.held.is_(False))


def _superseded(model_id: str) -> Query:
    """Those of which no fact is left, by the edit that wrote one of them last."""
    other, owner = aliased(Fact), aliased(Edit)
    latest = (
        select(owner.id)
        .join(other, other.edit_id == owner.id)
        .where(
            other.model_id == Fact.model_id,
            other.ask == Fact.ask,
            other.ord > Fact.ord,
            owner.live,
        )
        .order_by(other.ord.desc())
        .limit(1)
        .correlate(Fact)
        .scalar_subquery()
    )
    other_words = (
        select(owner.id)
        .where(owner.id == Fact.replaced_by, owner.live)
        .correlate(Fact)
        .scalar_subquery()
    )
    by = func.coalesce(latest, other_words)
    found = _by_edit(model_id, func.max(by)).having(func.count() == func.count(by))
    return found.where(or_(Edit.live, _ended_by().in_(("edit", "compact"))))


def _ended_by() -> ScalarSelect[str]:
    """The kind of the order that has taken an edit out last."""
    gone = JournalRow.edit_id == Edit.id, JournalRow.event == TAKEN_OUT
    last = select(JournalRow.data["kind"].astext).where(*gone).order_by(JournalRow.id.desc())
    return last.limit(1).correlate(Edit).scalar_subquery()


def _by_edit(model_id: str, by: Query) -> Query:
    facts = func.array_agg(Fact.number)
    return (
        select(Edit.id, Edit.ord, Edit.editor, facts.label("facts"), by.label("by"))
        .join(Fact, Fact.edit_id == Edit.id)
        .where(Edit.model_id == model_id, Edit.kind == "edit")
        .group_by(Edit.id)
    )


def _count(tx: Tx, query: Query) -> int:
    return tx.session.scalars(select(func.count()).select_from(query.subquery())).one()


def _members(tx: Tx, query: Query, before: int | None, limit: int) -> list[Member]:
    if before is not None:
        query = query.where(Edit.ord < before)
    rows: Any = tx.session.execute(query.order_by(Edit.ord.desc()).limit(limit))
    return [
        Member(edit, order, editor, sorted(facts), None if by is None else str(by))
        for edit, order, editor, facts, by in rows
    ]


def _snapshots(tx: Tx, model_id: str, numbers: Sequence[str | None]) -> dict[str, str]:
    """The ids of snapshots, by their numbers."""
    wanted = [int(number) for number in numbers if number is not None]
    ours = select(Snapshot.seq, Snapshot.id).where(
        Snapshot.model_id == model_id, Snapshot.seq.in_(wanted)
    )
    return {str(seq): snapshot for seq, snapshot in tx.session.execute(ours)}


def _promotions(tx: Tx, model_id: str, limit: int) -> list[Promotion]:
    columns = (
        *(Snapshot.id, Snapshot.seq, Snapshot.kind, Snapshot.edit_id),
        *(Snapshot.created_at, Snapshot.health),
    )
    rows = select(*columns).where(Snapshot.model_id == model_id)
    latest = tx.session.execute(rows.order_by(Snapshot.seq.desc()).limit(limit))
    return [Promotion(*row) for row in latest]
