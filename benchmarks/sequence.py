"""Edits made one after another, each kept: one commit each, and all of them on disk.

An edit is a line in a ledger and its outcome a blob beside it, by what it was built on. The state
is base with their deltas added in order, so a run that was killed goes on at the edit where it was;
what its history reads of earlier edits is read from the blobs, a bounded part of it kept at hand.
Folds are made anew after a restart: to rounding, not bit for bit, what went on without one.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping

import torch

from benchmarks.ledger import Entry, Ledger, digest
from benchmarks.task import key_of, state_after
from editing import history
from editing.errors import (
    BadRequest,
    EditFailed,
    HypernetworkDamaged,
    HypernetworkMissing,
    InvalidHparam,
    UnknownHparam,
    UnsupportedArchitecture,
)
from editing.history import History
from editing.model.state import State
from editing.model.view import ModelView
from editing.outcome import Outcome
from editing.request import EditRequest
from editing.retract import retract
from editing.run import Stopwatch, finish
from editing.step import Step
from editing.walk import Plan, edit

_AT_HAND = 1 << 28  # bytes of outcomes, as they lie on disk, that are kept in memory

# What no other record would mend: the run fails, not the edit.
OF_THE_METHOD = (
    HypernetworkDamaged,
    HypernetworkMissing,
    InvalidHparam,
    UnknownHparam,
    UnsupportedArchitecture,
)

Seen = Callable[[Step], None]
Work = Generator[Step, None, Outcome]


class Outcomes:
    """Outcomes read from a ledger's blobs, the last used ones kept up to a number of bytes."""

    def __init__(self, ledger: Ledger, most: int = _AT_HAND) -> None:
        self._ledger, self._most = ledger, most
        self._kept: OrderedDict[str, tuple[Outcome, int]] = OrderedDict()
        self._held = 0

    def load(self, blob: str) -> Outcome:
        """The outcome of this name."""
        if blob in self._kept:
            self._kept.move_to_end(blob)
            return self._kept[blob][0]
        data = self._ledger.kept(blob) or b""
        found = Outcome.from_bytes(data)
        self._kept[blob] = (found, len(data))
        self._held += len(data)
        while self._held > self._most and len(self._kept) > 1:
            _, (_, size) = self._kept.popitem(last=False)
            self._held -= size
        return found


class Chain:
    """A lineage that grows by one commit at a time; what its ledger holds is not done again."""

    def __init__(self, view: ModelView, plan: Plan, ledger: Ledger, *, seed: int = 0) -> None:
        self.view, self.plan, self.ledger = view, plan, ledger
        self.entries: list[history.Entry] = []
        self.name = ""  # of the state: by all that led to it
        self._seed = seed
        self._folds = History().folds
        self._outcomes = Outcomes(ledger)
        view.adopt(State())

    @property
    def state(self) -> State:
        """What all commits so far made of base; served, and edited next."""
        return self.view.current

    @property
    def history(self) -> History:
        """All commits so far."""
        return History(list(self.entries), self._folds)

    def edited(self, request: EditRequest, seen: Seen | None = None) -> tuple[str, Entry]:
        """Write one fact; the key of the commit, and what is written down about it.

        Only the fact itself is handed on: an editor is not to see the prompts that test it.
        """
        fact = bare(request)

        def work() -> Work:
            return edit(self.view, self.plan, [fact], self.history)

        return self.committed(key_of("edit", [fact], self.name), work, seen)

    def committed(
        self,
        key: str,
        work: Callable[[], Work],
        seen: Seen | None = None,
        told: Mapping[str, object] | None = None,
    ) -> tuple[str, Entry]:
        """Do what `work` says on the state so far, or take what an earlier process made of it.

        What fails is written down, and leaves the state as it is. `told` is written down too, as it
        is when the work is done.
        """
        entry = self.ledger.entries.get(key)
        if entry is None or (entry["blob"] and self.ledger.kept(entry["blob"]) is None):
            made = self._made(work, seen)
            entry = self.ledger.put(key, {**made, **(told or {})})
        self._add(key, entry)
        return key, entry

    def retracted(self, edit_id: str, seen: Seen | None = None) -> tuple[str, Entry]:
        """Take one commit out and keep the later ones: exactly where the method can, else dropped.

        Dropped: all other deltas are added anew, each as it was computed with the one that is gone.
        """
        method = self.plan.method
        if method.metric or method.without:

            def work() -> Work:
                return retract(self.view, self.plan, self.history, edit_id)

            return self.committed(digest("retract", self.name, edit_id), work, seen)
        key = digest("drop", self.name, edit_id)
        cpu, wall = time.process_time(), time.monotonic()
        self._drop(edit_id)
        took = {"cpu_s": time.process_time() - cpu, "wall_s": time.monotonic() - wall}
        entry = self.ledger.entries.get(key) or self.ledger.put(
            key, {"blob": None, "removes": (edit_id,), "failed": None, "why": "", **took}
        )
        self.name = state_after(key, entry)
        return key, entry

    def _drop(self, edit_id: str) -> None:
        self.entries = [entry for entry in self.entries if entry.id != edit_id]
        self.view.adopt(State())
        for entry in self.entries:
            self.view.adopt(self.view.after(entry.load().deltas))

    def _add(self, key: str, entry: Entry) -> None:
        if blob := entry["blob"]:
            self.view.adopt(self.view.after(self._outcomes.load(blob).deltas))
            loader = _loader(self._outcomes, blob)
            self.entries.append(history.Entry(key, loader, tuple(entry["removes"])))
        self.name = state_after(key, entry)

    def _made(self, work: Callable[[], Work], seen: Seen | None) -> Entry:
        watch, data, failed, why = Stopwatch(), b"", None, ""
        removes: tuple[str, ...] = ()
        ends: tuple[str, ...] = ()
        torch.manual_seed(self._seed)
        try:
            outcome = finish(watch.timed(work()), seen)
            with self.view.overlaid(outcome.deltas):
                pass  # what cannot be served did not succeed
            data, removes, ends = outcome.to_bytes(), outcome.removes, outcome.ends
        except OF_THE_METHOD:
            raise
        except (EditFailed, BadRequest) as error:
            failed, why = error.code, str(error)
        return {
            "blob": self.ledger.keep(data) if data else None,
            "bytes": len(data),
            "removes": removes,
            "ends": ends,
            "failed": failed,
            "why": why,
            "cpu_s": sum(watch.cpu.values()),
            "wall_s": sum(watch.wall.values()),
            "stages": watch.cpu,
        }


def _loader(outcomes: Outcomes, blob: str) -> Callable[[], Outcome]:
    return lambda: outcomes.load(blob)


def bare(request: EditRequest) -> EditRequest:
    """The fact of a request, without what tests it."""
    given = request.to_dict()
    tests = ("paraphrases", "neighborhood", "ripples")
    return EditRequest.from_dict({name: v for name, v in given.items() if name not in tests})
