"""What lies between two snapshots of one model: the edits that one has and the other has not."""

from dataclasses import dataclass

from sqlalchemy import select

from app.services import models, snapshots
from app.services.lineage import edits_of
from app.store.db import Tx
from app.store.tables import Edit, Snapshot


@dataclass(frozen=True, slots=True)
class Difference:
    """The way from one snapshot's content to another's."""

    removed: list[Edit]  # newest first, as one would take them off
    added: list[Edit]  # oldest first, as one would lay them on

    @property
    def of_prefaces(self) -> bool:
        """Whether another text may stand before the prompts."""
        return any(edit.editor in snapshots.TELLS for edit in (*self.removed, *self.added))

    @property
    def of_memories(self) -> bool:
        """Whether other entries may stand beside the weights."""
        return any(edit.editor in snapshots.KEEPS for edit in (*self.removed, *self.added))

    @property
    def of_weights(self) -> bool:
        """Whether the weights may differ: what both have, they have in the same order."""
        beside = snapshots.TELLS | snapshots.KEEPS
        return any(edit.editor not in beside for edit in (*self.removed, *self.added))


def between(tx: Tx, start: str, end: str) -> Difference:
    """Compare the ordered edits of two manifests. Neither need be a prefix of the other."""
    content = edits_of(tx, {start, end})
    before, after = content[start], content[end]
    gone, new = set(before) - set(after), set(after) - set(before)
    rows = {
        edit.id: edit for edit in tx.session.scalars(select(Edit).where(Edit.id.in_(gone | new)))
    }
    return Difference(
        removed=[rows[edit] for edit in reversed(before) if edit in gone],
        added=[rows[edit] for edit in after if edit in new],
    )


def pair(tx: Tx, start: str, end: str | None) -> tuple[Snapshot, Snapshot]:
    """Return two snapshots of one model; without an end, the model's head."""
    first = snapshots.get(tx, start)
    last = models.head_of(tx, first.model_id) if end is None else end
    return first, snapshots.get(tx, last, of=first.model_id)
