"""What a snapshot consists of: a fold over the snapshots that it extends.

A snapshot stores only what it adds. Its manifest is the manifest of the one it extends, then its
own entries; a restore extends the snapshot it brings back and adds nothing.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import aliased

from app.errors import SnapshotNotFound
from app.store.arrays import among
from app.store.db import Tx
from app.store.tables import Blob, Edit, Snapshot
from editing.catalogue import METHODS

Json = dict[str, Any]


_IDS = ("removes", "ends", "holds")


@dataclass(frozen=True, slots=True)
class Entry:
    """One delta: the order that made it, of which kind, and the blob that holds it.

    removes: earlier edits of the manifest that this one takes out of the weights, or parts of
    them, "edit#number"; ends: those of which nothing is live any more though they are not named
    there as a whole; holds: the edits that a compaction has solved anew, in place of their own, or
    that are live again by a retract.
    """

    edit: str
    blob: str
    removes: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    kind: str = "edit"

    @classmethod
    def of(cls, stored: Json) -> "Entry":
        """Read an entry as a snapshot keeps it."""
        ids = {name: tuple(stored.get(name, ())) for name in _IDS}
        return cls(stored["edit"], stored["blob"], **ids, kind=stored.get("kind", "edit"))

    @property
    def stored(self) -> Json:
        """The entry as a snapshot keeps it."""
        told: Json = {name: list(getattr(self, name)) for name in _IDS if getattr(self, name)}
        told |= {"kind": self.kind} if self.kind != "edit" else {}
        return {"edit": self.edit, "blob": self.blob, **told}

    @property
    def edits(self) -> tuple[str, ...]:
        """The edits whose facts it holds: its own, a compaction's, or what a retract brings."""
        return (self.edit,) if self.kind == "edit" else self.holds

    @property
    def over(self) -> tuple[str, ...]:
        """The edits that are not live any more behind this entry."""
        return (*self.removes, *self.ends)


def live_of(entries: Iterable[Entry]) -> list[str]:
    """The edits that entries hold and that no later one takes out, as the entries stand.

    Oldest first, but for those that a compaction holds, or a retract has brought back.
    """
    live: dict[str, None] = {}
    for entry in entries:
        for edit in entry.over:
            live.pop(edit, None)
        live |= dict.fromkeys(entry.edits)
    return list(live)


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
        """The edits it holds that no later one has taken out, as its entries stand."""
        return live_of(self.entries)

    @property
    def taken_out(self) -> list[str]:
        """The edits whose deltas it consists of too, and that a later one has taken out."""
        live = set(self.live)
        held = (edit for entry in self.entries for edit in entry.edits if edit not in live)
        return list(dict.fromkeys(held))

    @property
    def after_checkpoint(self) -> tuple[Entry, ...]:
        """The entries still to be laid over the checkpoint, or over the base."""
        return self.entries[self.checkpoint.covers if self.checkpoint else 0 :]


def manifest(tx: Tx, snapshot_id: str) -> Manifest:
    """Fold the manifest of one snapshot."""
    return manifests(tx, [snapshot_id])[snapshot_id]


def manifests(tx: Tx, snapshots: Iterable[str]) -> dict[str, Manifest]:
    """Fold those of several, which share most of the way, in one query."""
    wanted = list(snapshots)
    parts = _ancestors(tx, wanted)
    for missing in (one for one in wanted if one not in parts):
        raise SnapshotNotFound(missing)
    return {one: _folded(_chain(parts, one)) for one in wanted}


def _folded(parts: "list[_Part]") -> Manifest:
    checkpoint = next(
        (
            Checkpoint(snapshot=part.id, blob=part.checkpoint, covers=part.depth)
            for part in reversed(parts)
            if part.checkpoint
        ),
        None,
    )
    entries = tuple(Entry.of(stored) for part in parts for stored in part.entries)
    return Manifest(snapshot=parts[-1].id, entries=entries, checkpoint=checkpoint)


@dataclass(frozen=True, slots=True)
class Rest:
    """How a snapshot is told without some of its entries: what to extend, and what follows."""

    extends: str
    entries: tuple[Entry, ...]


def without(tx: Tx, snapshot_id: str, orders: Collection[str]) -> Rest:
    """Tell a snapshot without the entries of some orders, from the latest one before them all.

    What that one extends stands as it is, with its checkpoints; those after it contain what is
    left out. Raises KeyError where an order is not in the manifest.
    """
    parts = _chain(_ancestors(tx, [snapshot_id]), snapshot_id)
    missing = set(orders)
    extends, later = snapshot_id, list[Entry]()
    for part in reversed(parts):
        if not missing:
            break
        own = [Entry.of(stored) for stored in part.entries]
        missing.difference_update(entry.edit for entry in own)
        later = [*(entry for entry in own if entry.edit not in orders), *later]
        extends = part.extends or part.id
    if missing:
        raise KeyError(*missing)
    return Rest(extends, tuple(later))


def requests_of(tx: Tx, edit: str) -> list[Json]:
    """Return what an edit asked for."""
    return tx.session.scalars(select(Edit.payload["requests"]).where(Edit.id == edit)).one()


def written_by(tx: Tx, order: str) -> tuple[str | None, Json]:
    """Return the editor of an order, and its hparams as they were asked for."""
    editor, payload = tx.session.execute(
        select(Edit.editor, Edit.payload).where(Edit.id == order)
    ).one()
    return editor, payload.get("hparams", {})


def written_again_by(tx: Tx, edit: str) -> list[str]:
    """Return the live edits whose repair has written facts of this one again, as facts of theirs.

    Where a method has a way of its own for that, the facts have stayed those of the edit.
    """
    apart = Edit.editor.not_in([name for name, one in METHODS.items() if one.again])
    repaired = Edit.report["repair"]["disturbed"].contains([{"edit": edit}])
    model = select(Edit.model_id).where(Edit.id == edit).scalar_subquery()
    found = select(Edit.id).where(Edit.model_id == model, Edit.live, Edit.id != edit)
    return list(tx.session.scalars(found.where(apart, repaired).order_by(Edit.ord)))


def bytes_of(tx: Tx, entries: Iterable[Entry]) -> int:
    """Return how many bytes the deltas of some entries take, each blob once."""
    of_these = among(Blob.sha256, {entry.blob for entry in entries})
    counted = select(func.coalesce(func.sum(Blob.size), 0)).where(of_these)
    return int(tx.session.scalars(counted).one())


@dataclass(frozen=True, slots=True)
class _Part:
    id: str
    extends: str | None
    entries: list[Json]
    depth: int
    checkpoint: str | None


def _ancestors(tx: Tx, snapshots: list[str]) -> dict[str, _Part]:
    """Read the given snapshots and everything they extend, each once."""
    walked = select(Snapshot.id, Snapshot.extends_id).where(among(Snapshot.id, snapshots))
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
