"""What a snapshot consists of: a fold over the snapshots that it extends.

A snapshot stores only what it adds. Its manifest is the manifest of the one it extends, then its
own entries; a restore extends the snapshot it brings back and adds nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import aliased

from app.errors import SnapshotNotFound
from app.store.db import Tx
from app.store.tables import Edit, Snapshot

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One delta: the order that made it, and the blob that holds it.

    removes: earlier edits of the manifest that this one takes out of the weights, or parts of
    them, "edit#number"; ends: those of which nothing is live any more though they are not named
    there as a whole.
    """

    edit: str
    blob: str
    removes: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()

    @classmethod
    def of(cls, stored: Json) -> "Entry":
        """Read an entry as a snapshot keeps it."""
        ids = {name: tuple(stored.get(name, ())) for name in ("removes", "ends")}
        return cls(stored["edit"], stored["blob"], **ids)

    @property
    def stored(self) -> Json:
        """The entry as a snapshot keeps it."""
        ids = {"removes": list(self.removes), "ends": list(self.ends)}
        return {"edit": self.edit, "blob": self.blob} | {n: some for n, some in ids.items() if some}

    @property
    def over(self) -> tuple[str, ...]:
        """The edits that are not live any more behind this entry."""
        return (*self.removes, *self.ends)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights as they stood after the first `covers` entries of a manifest."""

    snapshot: str
    blob: str
    covers: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The ordered content of a snapshot, and the nearest checkpoint on the way to it."""

    snapshot: str
    entries: tuple[Entry, ...]
    checkpoint: Checkpoint | None

    @property
    def live(self) -> list[str]:
        """The orders whose deltas are in it and were not taken out by later ones."""
        gone = {edit for entry in self.entries for edit in entry.over}
        return [entry.edit for entry in self.entries if entry.edit not in gone]

    @property
    def after_checkpoint(self) -> tuple[Entry, ...]:
        """The entries still to be laid over the checkpoint, or over the base."""
        return self.entries[self.checkpoint.covers if self.checkpoint else 0 :]


def manifest(tx: Tx, snapshot_id: str) -> Manifest:
    """Fold the manifest of one snapshot."""
    chain = _ancestors(tx, [snapshot_id])
    if snapshot_id not in chain:
        raise SnapshotNotFound(snapshot_id)
    parts = _chain(chain, snapshot_id)
    entries = tuple(Entry.of(stored) for part in parts for stored in part.entries)
    checkpoint = next(
        (
            Checkpoint(snapshot=part.id, blob=part.checkpoint, covers=part.depth)
            for part in reversed(parts)
            if part.checkpoint
        ),
        None,
    )
    return Manifest(snapshot=snapshot_id, entries=entries, checkpoint=checkpoint)


def edits_of(tx: Tx, snapshots: Iterable[str]) -> dict[str, list[str]]:
    """Return, for each snapshot, the ids of the edits it consists of, in order."""
    wanted = list(snapshots)
    chain = _ancestors(tx, wanted)
    return {
        one: [entry["edit"] for part in _chain(chain, one) for entry in part.entries]
        for one in wanted
    }


def live_edits(tx: Tx, model_id: str, limit: int) -> list[tuple[str, list[Json]]]:
    """Return the latest live edits of the head, newest first, with what they asked for."""
    rows = tx.session.execute(
        select(Edit.id, Edit.payload["requests"])
        .where(Edit.model_id == model_id, Edit.live, Edit.kind == "edit")
        .order_by(Edit.ord.desc())
        .limit(limit)
    )
    return [(edit, requests) for edit, requests in rows]


def without(tx: Tx, snapshot_id: str, edit: str) -> tuple[str, tuple[Entry, ...]]:
    """How a snapshot is told without one edit: the snapshot to extend, and what follows there.

    Raises KeyError where the edit is not in its manifest.
    """
    later: list[Entry] = []
    for part in reversed(_chain(_ancestors(tx, [snapshot_id]), snapshot_id)):
        own = [Entry.of(stored) for stored in part.entries]
        rest = [entry for entry in own if entry.edit != edit]
        later = [*rest, *later]
        if len(rest) < len(own):
            assert part.extends is not None  # noqa: S101 - only the base extends nothing
            return part.extends, tuple(later)
    raise KeyError(edit)


def requests_of(tx: Tx, edit: str) -> list[Json]:
    """Return what an edit asked for."""
    return tx.session.scalars(select(Edit.payload["requests"]).where(Edit.id == edit)).one()


@dataclass(frozen=True, slots=True)
class _Part:
    id: str
    extends: str | None
    entries: list[Json]
    depth: int
    checkpoint: str | None


def _ancestors(tx: Tx, snapshots: list[str]) -> dict[str, _Part]:
    """Read the given snapshots and everything they extend, each once."""
    walked = select(Snapshot.id, Snapshot.extends_id).where(Snapshot.id.in_(snapshots))
    lineage = walked.cte("lineage", recursive=True)
    older = aliased(Snapshot)
    lineage = lineage.union(
        select(older.id, older.extends_id).join(lineage, older.id == lineage.c.extends_id)
    )
    rows = tx.session.execute(
        select(
            Snapshot.id,
            Snapshot.extends_id,
            Snapshot.entries,
            Snapshot.depth,
            Snapshot.checkpoint,
        ).join(lineage, Snapshot.id == lineage.c.id)
    )
    return {row[0]: _Part(*row) for row in rows}


def _chain(parts: dict[str, _Part], snapshot: str) -> list[_Part]:
    """Order the parts of one manifest, oldest first."""
    found: list[_Part] = []
    at: str | None = snapshot
    while at is not None:
        part = parts[at]
        found.append(part)
        at = part.extends
    return found[::-1]
