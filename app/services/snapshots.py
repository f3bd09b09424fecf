"""Snapshots: every state a model has been in, and their labels.

Those of a removed model stay readable.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select

from app.errors import LabelTaken, SnapshotNotFound, SnapshotOfAnotherModel
from app.services import models
from app.services.lineage import manifests
from app.services.pages import Page, cut
from app.services.settle import locked_model, require_head
from app.store import journal
from app.store.arrays import among
from app.store.db import Tx
from app.store.tables import Edit, Snapshot
from editing.catalogue import METHODS

_ID = re.compile(r"snp_[0-9a-z]{26}")
TELLS = frozenset(name for name, one in METHODS.items() if one.family == "in context")
KEEPS = frozenset(name for name, one in METHODS.items() if one.family == "side memory")


@dataclass(frozen=True, slots=True)
class Content:
    """What a snapshot consists of."""

    edits: list[str]  # the ids of those that are live in it, oldest first
    taken_out: list[str]  # of those whose deltas it consists of too, and that nothing is left of
    preface: str  # what its in-context edits put before every prompt


def get(tx: Tx, snapshot_id: str, *, of: str | None = None) -> Snapshot:
    """Return a snapshot; with `of`, only one of that model."""
    found = tx.session.get(Snapshot, snapshot_id) if _ID.fullmatch(snapshot_id) else None
    if found is None:
        raise SnapshotNotFound(snapshot_id)
    if of is not None and found.model_id != of:
        raise SnapshotOfAnotherModel(snapshot=snapshot_id, model=of, owner=found.model_id)
    return found


def page(tx: Tx, model_id: str, *, after: str | None, limit: int) -> Page[Snapshot]:
    """List a model's snapshots, newest first."""
    models.require_known(tx, model_id)
    query = select(Snapshot).where(Snapshot.model_id == model_id)
    if after is not None:
        query = query.where(Snapshot.seq < get(tx, after, of=model_id).seq)
    return cut(
        tx.session.scalars(query.order_by(Snapshot.seq.desc()).limit(limit + 1)).all(), limit
    )


def contents(tx: Tx, rows: Iterable[Snapshot]) -> dict[str, Content]:
    """Return what snapshots of one model consist of, by their ids."""
    owners = {row.id: row.model_id for row in rows}
    found = manifests(tx, owners)
    told = select(Edit.id, Edit.report["editor"]["preface"].astext).where(
        Edit.model_id.in_(set(owners.values())), Edit.editor.in_(TELLS), Edit.status == "applied"
    )
    texts = {edit: text or "" for edit, text in tx.session.execute(told)}
    live = {name: one.live for name, one in found.items()}
    # A manifest has them as its deltas stand; a compaction is one delta of many.
    held = among(Edit.id, {edit for each in live.values() for edit in each})
    ages = tx.session.execute(select(Edit.id, Edit.ord).where(held))
    age = dict(iter(ages))
    return {
        name: Content(
            sorted(live[name], key=lambda edit: age[edit]),
            one.taken_out,
            "".join(texts.get(entry.edit, "") for entry in one.entries),
        )
        for name, one in found.items()
    }


def label(tx: Tx, snapshot_id: str, name: str | None, *, if_match: str | None = None) -> Snapshot:
    """Give a snapshot a label of its own among its model's, or take it away.

    Raises LabelTaken when another snapshot of the model has it.
    """
    snapshot = get(tx, snapshot_id)
    # Locked, so that two callers who want one label come one after the other.
    require_head(locked_model(tx, snapshot.model_id).head_id, if_match)
    tx.session.refresh(snapshot)
    if snapshot.label == name:
        return snapshot
    if name is not None:
        holder = select(Snapshot.id).where(
            Snapshot.model_id == snapshot.model_id, Snapshot.label == name
        )
        if (taken := tx.session.scalar(holder)) is not None:
            raise LabelTaken(label=name, snapshot=taken)
    before, snapshot.label = snapshot.label, name
    tx.session.flush()
    journal.append(
        tx,
        "snapshot.labelled",
        model=snapshot.model_id,
        snapshot=snapshot_id,
        label=name,
        before=before,
    )
    return snapshot
