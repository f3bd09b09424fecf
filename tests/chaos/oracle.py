"""Reads the books after the storm: was every order settled once, in its place, on what came before?

The lineage is compared with a clean replay: the same orders, one after another, in one process,
without a journal, a worker or an accident. Every snapshot must have the replay's fingerprint, and
every answer to a probe must be what the replayed snapshot says.
"""

from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from sqlalchemy import select

from app.store.db import Database
from app.store.tables import Edit, Model, Snapshot
from editing import walk
from editing.history import History
from editing.model.load import load_view
from editing.model.state import State
from editing.outcome import Outcome
from editing.probe import probe
from editing.request import EditRequest
from editing.run import finish
from tests.chaos.customers import Books
from tests.workers.shop import MODEL

Json = dict[str, Any]

# A batch of another size may differ in the last bits; another state differs by far more.
_CLOSE = 1e-4
_NEVER = datetime.max.replace(tzinfo=UTC)
_AT_MOST = 10  # violations of a kind that are told


class Verdict:
    """What was found: counts, and what is wrong."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def blame(self, kind: str, what: str) -> None:
        """Note a violation."""
        self.counts[kind] += 1
        if self.counts[kind] <= _AT_MOST:
            self.wrong.append(f"{kind}: {what}")


def judge(database: Database, books: Books, tiny: Path, cache: Path) -> Verdict:
    """Compare what was ordered with what became of it."""
    with database.tx() as tx:
        orders = list(
            tx.session.scalars(select(Edit).where(Edit.model_id == MODEL).order_by(Edit.ord))
        )
        lineage = list(
            tx.session.scalars(
                select(Snapshot).where(Snapshot.model_id == MODEL).order_by(Snapshot.seq)
            )
        )
        model = tx.session.get_one(Model, MODEL)
    verdict = Verdict()
    for order in orders:
        verdict.counts[order.status] += 1
    _count(verdict, orders, books)
    _order(verdict, orders, lineage, model)
    _replay(verdict, orders, lineage, books, tiny, cache)
    return verdict


def _count(verdict: Verdict, orders: list[Edit], books: Books) -> None:
    """Every order that was taken is there, once, and settled."""
    there = {order.id for order in orders}
    for key, order in books.orders.items():
        if order not in there:
            verdict.blame("lost", f"{order}, taken as {key}")
    for order in orders:
        if order.settled_at is None:
            verdict.blame("lost", f"{order.id} is still {order.status}")
        if order.status == "failed":
            verdict.blame("failed without cause", f"{order.id}: {order.error}")
    if len(set(books.orders.values())) != len(books.orders):
        verdict.blame("twice", "one order answers two keys")
    for stranger in there - set(books.orders.values()):
        verdict.blame("twice", f"{stranger} was journaled, but no key was answered with it")


def _order(verdict: Verdict, orders: list[Edit], lineage: list[Snapshot], model: Model) -> None:
    """One snapshot an order, in the queue's order, each on top of the one before."""
    if [order.ord for order in orders] != list(range(1, len(orders) + 1)):
        verdict.blame("out of order", "the numbers of the orders have gaps")
    if [snapshot.seq for snapshot in lineage] != list(range(len(lineage))):
        verdict.blame("out of order", "the numbers of the snapshots have gaps")
    if lineage[-1].id != model.head_id:
        verdict.blame("out of order", "the head is not the last snapshot")
    for before, after in pairwise(lineage):
        if after.parent_id != before.id:
            verdict.blame("out of order", f"snapshot {after.seq} is not on top of {before.seq}")
    ran = [order for order in orders if order.settled_at and order.status != "cancelled"]
    if ran != sorted(ran, key=lambda order: order.settled_at or _NEVER):
        verdict.blame("out of order", "orders have ended in another order than they were given")
    made = [snapshot.edit_id for snapshot in lineage[1:]]
    for edit, times in Counter(made).items():
        if times > 1:
            verdict.blame("twice", f"{edit} made {times} snapshots")
    if made != [order.id for order in ran if order.status == "applied" and _writes(order)]:
        verdict.blame("out of order", "the snapshots are not those of the applied orders, in order")


def _writes(order: Edit) -> bool:
    return order.kind in {"edit", "restore"} and not order.noop and not order.dry_run


class _Replay:
    """The clean model, at one snapshot after another."""

    def __init__(self, tiny: Path, cache: Path) -> None:
        source = {"kind": "folder", "path": str(tiny)}
        self.view = load_view(source, cache=cache)
        self.states: list[State] = [self.view.current]
        self.contents: list[list[tuple[str, Outcome]]] = [[]]
        self.folds = History.empty().folds

    def edit(self, order: Edit) -> bool:
        """Apply an edit; False when there was nothing to write."""
        view = self.view
        requests = [EditRequest.from_dict(request) for request in order.payload["requests"]]
        plan = walk.Plan.of(view, order.editor or "", order.payload["hparams"])
        if finish(walk.already_answers(view, requests)):
            return False
        finish(walk.prepare(view, plan))
        entries = [(name, lambda outcome=outcome: outcome) for name, outcome in self.contents[-1]]
        found = finish(walk.edit(view, plan, requests, History(entries, self.folds)))
        outcome = Outcome.from_bytes(found.to_bytes())
        self._adopt(view.after(outcome.deltas), [*self.contents[-1], (order.id, outcome)])
        return True

    def restore(self, seq: int) -> None:
        """Go back to what a snapshot held."""
        self._adopt(self.states[seq], self.contents[seq])

    def _adopt(self, state: State, content: list[tuple[str, Outcome]]) -> None:
        self.view.adopt(state)
        self.states.append(state)
        self.contents.append(content)


def _replay(  # noqa: PLR0917
    verdict: Verdict,
    orders: list[Edit],
    lineage: list[Snapshot],
    books: Books,
    tiny: Path,
    cache: Path,
) -> None:
    clean = _Replay(tiny, cache)
    seqs = {snapshot.id: snapshot.seq for snapshot in lineage}
    for order in orders:
        if order.status != "applied" or order.dry_run or order.kind == "statistics":
            continue
        if order.kind == "restore":
            clean.restore(seqs[order.payload["snapshot"]])
        elif clean.edit(order) == order.noop:
            verdict.blame("different", f"order {order.ord} wrote, and does not in the replay")
    if len(clean.states) != len(lineage):
        verdict.blame("different", f"{len(lineage)} snapshots, {len(clean.states)} in the replay")
    for snapshot, state in zip(lineage, clean.states, strict=False):
        if clean.view.fingerprint(state) != snapshot.fingerprint:
            verdict.blame("different", f"snapshot {snapshot.seq} has other weights than the replay")
            break  # so have all that follow
    for said in books.answers:
        _compare(verdict, clean, said, seqs)


def _compare(verdict: Verdict, clean: _Replay, said: Json, seqs: dict[str, int]) -> None:
    """An answer must be that of the snapshot it names."""
    seq = seqs.get(said["snapshot"])
    if seq is None or seq >= len(clean.states):
        verdict.blame("half", f"an answer names {said['snapshot']}, which is no snapshot")
        return
    with clean.view.showing(clean.states[seq]):
        (known,) = probe(clean.view, [said["prompt"]], top_k=3, max_tokens=1)
    top: Any = known["top"]
    if any(abs(a["p"] - b["p"]) > _CLOSE for a, b in zip(said["top"], top, strict=True)):
        verdict.blame("half", f"at snapshot {seq}, {said['prompt']!r}: {said['top']}, not {top}")
    verdict.counts["answers"] += 1
