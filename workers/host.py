"""The model in memory, and how it comes to any snapshot: base, checkpoint, deltas in order."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from app.errors import BlobDamaged, BlobMissing, SnapshotNotFound, SnapshotOfAnotherModel
from app.services.work import Entry, Manifest, Rest, live_of, manifest
from app.store.blobs import Blobs
from app.store.db import Database
from app.store.tables import Snapshot
from editing.errors import BlobUnreadable, FingerprintMismatch
from editing.history import Entry as Made
from editing.history import History
from editing.model.state import State
from editing.model.view import ModelView
from editing.outcome import Outcome
from editing.step import Step
from workers.states import OutcomeCache, StateCache

LOST = (BlobDamaged, BlobMissing, BlobUnreadable)  # a snapshot that needs such a blob is unknown
_CACHE_BYTES = 1 << 30  # of older states, and as much of deltas

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a snapshot consists of: its entries, and how many of them no checkpoint covers."""

    entries: tuple[Entry, ...] = ()
    uncovered: int = 0

    @classmethod
    def of(cls, found: Manifest) -> "Lineage":
        """The lineage of a folded manifest."""
        return cls(found.entries, len(found.after_checkpoint))

    @property
    def live(self) -> list[str]:
        """The edits it holds that no later one has taken out, as its entries stand."""
        return live_of(self.entries)

    def holder(self, edit: str) -> Entry | None:
        """The entry that holds a live edit: its own, or that of a compaction."""
        return next((entry for entry in self.entries if edit in entry.edits), None)

    def extended(self, *entries: Entry, checkpoint: bool = False) -> "Lineage":
        """The same with further deltas, perhaps with a checkpoint right behind them."""
        uncovered = 0 if checkpoint else self.uncovered + len(entries)
        return Lineage((*self.entries, *entries), uncovered)


class ModelHost:
    """One model in memory. Only the model thread may call it.

    `head` is the snapshot that the weights are at; it is empty while they are at none that may be
    served as the head, and then `lost` is the head that cannot be built. The methods that read from
    Postgres open their own short transactions and raise what SQLAlchemy raises; none of them
    changes a weight unless it has succeeded.
    """

    def __init__(
        self,
        view: ModelView,
        model: str,
        database: Database,
        blobs: Blobs,
        *,
        cache_bytes: int = _CACHE_BYTES,
    ) -> None:
        self.view = view
        self.model = model
        self.head = ""
        self.lost = ""
        self.fingerprint = view.fingerprint()
        self.lineage = Lineage()
        self._database = database
        self._blobs = blobs
        self._states = StateCache(cache_bytes)
        self._folds = History.empty().folds
        self._outcome = OutcomeCache(cache_bytes, self._read_outcome).get

    # ---- going somewhere -------------------------------------------------------------------------

    def checkout(self, snapshot: str) -> None:
        """Bring the weights to a snapshot. Raises FingerprintMismatch before changing any."""
        if snapshot != self.head:
            state, lineage = self.materialise(snapshot)
            self.adopt(snapshot, state, lineage)

    def adopt(self, snapshot: str, state: State, lineage: Lineage) -> None:
        """Serve a state that is known to be this snapshot's; read back what is served then.

        Raises FingerprintMismatch when other bits lie in the weights than were to be there.
        """
        if self.head:
            self._states.put(self.head, self.view.current)
        self.view.adopt(state)
        self.head, self.lost, self.lineage = snapshot, "", lineage
        self.fingerprint = self.view.fingerprint()
        self.audit(everything=False)

    def lose(self, snapshot: str) -> None:
        """Serve no head: this one cannot be built, and what lies in the weights is another's."""
        self.head, self.lost = "", snapshot

    # ---- looking somewhere -----------------------------------------------------------------------

    def state_of(self, snapshot: str) -> State:
        """The weights of any snapshot of this model, from memory or built again."""
        state = self._at_hand(snapshot)
        return self._built(snapshot)[0] if state is None else state

    def content_of(self, snapshot: str) -> tuple[State, Lineage]:
        """Both the weights of a snapshot and what it consists of; one fold serves both."""
        state = self._at_hand(snapshot)
        return self._built(snapshot) if state is None else (state, self.lineage_of(snapshot))

    def _at_hand(self, snapshot: str) -> State | None:
        return self.view.current if snapshot == self.head else self._states.get(snapshot)

    def _built(self, snapshot: str) -> tuple[State, Lineage]:
        state, lineage = self.materialise(snapshot)
        self._states.put(snapshot, state)
        return state, lineage

    def lineage_of(self, snapshot: str) -> Lineage:
        """What a snapshot consists of."""
        if snapshot == self.head:
            return self.lineage
        with self._database.tx() as tx:
            return Lineage.of(manifest(tx, snapshot))

    def materialise(self, snapshot: str) -> tuple[State, Lineage]:
        """Build a snapshot's weights from the base and check them against its fingerprint.

        One delta after another, each term by term: the canonical order, and so the same bits.
        """
        with self._database.tx() as tx:
            row = tx.session.get(Snapshot, snapshot)
            if row is None:
                raise SnapshotNotFound(snapshot)
            if row.model_id != self.model:
                raise SnapshotOfAnotherModel(
                    snapshot=snapshot, model=self.model, owner=row.model_id
                )
            found, expected = manifest(tx, snapshot), row.fingerprint
        state, rest = self._checkpointed(found)
        for entry in rest:
            state = self.view.after(self._outcome(entry.blob).deltas, state)
        self.verify(state, expected, snapshot)
        return state, Lineage.of(found)

    def rebuilt(self, rest: Rest) -> Generator[Step, None, tuple[State, Lineage]]:
        """What some deltas make, laid on a snapshot one after another: the canonical order."""
        state, lineage = self.content_of(rest.extends)
        yield Step("solve", 0, len(rest.entries))
        for number, entry in enumerate(rest.entries):
            state = self.view.after(self._outcome(entry.blob).deltas, state)
            yield Step("solve", number + 1, len(rest.entries))
        return state, lineage.extended(*rest.entries)

    def kin(self, solution: str | None) -> Generator[Step, None, list[str]]:
        """The orders of the head whose deltas are part of a joint solution."""
        found: list[str] = []
        for number, entry in enumerate(self.lineage.entries):
            if self._outcome(entry.blob).solution == solution:
                found.append(entry.edit)
            yield Step("solve", number + 1, len(self.lineage.entries))
        return found

    def _checkpointed(self, found: Manifest) -> tuple[State, Sequence[Entry]]:
        """The state to start from, and what is to be laid on it.

        A checkpoint only shortens the way: where it is lost, everything is laid on the base.
        """
        if found.checkpoint is None:
            return State(), found.entries
        try:
            saved = State.from_bytes(self._blobs.get(None, found.checkpoint.blob))
        except LOST as error:
            log.error("checkpoint.lost", model=self.model, detail=str(error))  # noqa: TRY400
            return State(), found.entries
        return saved.to(self.view.device), found.after_checkpoint

    def audit(self, *, everything: bool = True) -> None:
        """Raise FingerprintMismatch unless the bits in the weights are those of the head.

        everything=False reads only the weights that were ever edited.
        """
        found = self.view.audit(everything=everything)
        if found != self.fingerprint:
            raise FingerprintMismatch(expected=self.fingerprint, found=found, what=self.head)

    def verify(self, state: State, expected: str, what: str) -> None:
        """Raise FingerprintMismatch unless the state is, bit for bit, what it should be."""
        fingerprint = self.view.fingerprint(state)
        if fingerprint != expected:
            raise FingerprintMismatch(expected=expected, found=fingerprint, what=what)

    # ---- remembering -----------------------------------------------------------------------------

    def history(self) -> History:
        """What the live edits of the head wrote, oldest first, read when an editor asks for it."""
        return History(self._entries(self.lineage), self._folds)

    def history_of(self, lineage: Lineage) -> History:
        """The same of any content; its folds are its own, so those of the head stay warm."""
        return History(self._entries(lineage))

    def _entries(self, lineage: Lineage) -> list[Made]:
        return [Made(e.edit, partial(self._outcome, e.blob), e.removes) for e in lineage.entries]

    def _read_outcome(self, blob: str) -> Outcome:
        return Outcome.from_bytes(self._blobs.get(None, blob))
