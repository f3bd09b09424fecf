"""What lies between two snapshots of one model: the edits that one has and the other has not."""

from dataclasses import dataclass

from sqlalchemy import select

from app.services import models, snapshots
from app.services.lineage import manifests
from app.store.arrays import among
from app.store.db import Tx
from app.store.tables import Edit, Snapshot


@dataclass(frozen=True, slots=True)
class Difference:
    """The way from one snapshot's content to another's: its edits, and how its deltas differ."""

    removed: list[Edit]  # live in the first alone; newest first, as one would take them off
    added: list[Edit]  # live in the second alone; oldest first, as one would lay them on
    of_weights: bool  # whether the weights may differ: what both have, they have in the same order
    of_prefaces: bool  # whether another text may stand before the prompts
    of_memories: bool  # whether other entries may stand beside the weights


def between(tx: Tx, start: str, end: str) -> Difference:
    """Compare two manifests. Neither need be a prefix of the other."""
    found = manifests(tx, {start, end})
    before, after = set(found[start].live), set(found[end].live)
    gone, new = before - after, after - before
    deltas = {entry.edit for entry in found[start].entries} ^ {
        entry.edit for entry in found[end].entries
    }
    wanted = select(Edit).where(among(Edit.id, gone | new | deltas))
    rows = {edit.id: edit for edit in tx.session.scalars(wanted)}
    editors = {rows[order].editor for order in deltas}
    return Difference(
        removed=sorted((rows[edit] for edit in gone), key=lambda edit: -edit.ord),
        added=sorted((rows[edit] for edit in new), key=lambda edit: edit.ord),
        of_weights=bool(editors - snapshots.TELLS - snapshots.KEEPS),
        of_prefaces=bool(editors & snapshots.TELLS),
        of_memories=bool(editors & snapshots.KEEPS),
    )


def pair(tx: Tx, start: str, end: str | None) -> tuple[Snapshot, Snapshot]:
    """Return two snapshots of one model; without an end, the model's head."""
    first = snapshots.get(tx, start)
    last = models.head_of(tx, first.model_id) if end is None else end
    return first, snapshots.get(tx, last, of=first.model_id)
