"""How long a restore takes: by distance from the head, and by the number of snapshots.

The lineage is written into Postgres and the blob store directly, deltas of rank one with the shape
that a batch editor leaves, checkpoints as the settings have them: what is timed is the restore, not
the editing. Each row restores to the snapshot so many edits behind the head and back again, in a
process that has nothing of it in memory, then once more while it has.

    python -m benchmarks.restore [--snapshots 16,128,1024] [--distances 1,15,100,1000]
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import torch

from app.services import models, restore, submit, work
from app.services.work import Claimed
from app.settings import Settings
from app.store.blobs import Blobs
from app.store.db import Database
from app.store.migrate import upgrade
from app.store.tables import Lease
from benchmarks.common import loaded, parser
from editing.delta import LowRank
from editing.model.state import State
from editing.model.view import ModelView
from editing.outcome import Outcome, Written
from editing.run import Stopwatch, finish
from editing.walk import Plan
from errata.stack.postgres import Postgres
from workers.bench import Bench
from workers.host import ModelHost
from workers.jobs import run_restore

EPOCH = 1
REPEATS = 5
FACT = {"subject": "France", "prompt": "The capital of {} is", "target_new": "Rome"}


def main() -> None:
    """Grow a lineage, and restore within it at each size."""
    made = parser(__doc__, records=0)
    made.add_argument("--snapshots", default="16,128,1024")
    made.add_argument("--distances", default="1,15,100,1000")
    args = made.parse_args()
    torch.set_num_threads(args.threads)
    view = loaded(args)
    with tempfile.TemporaryDirectory() as folder, postgres(Path(folder)) as database:
        lineage = Lineage(view, args.model, database, Path(folder) / "blobs")
        print(f"model {args.model}  a checkpoint every {lineage.every} deltas  n {REPEATS} a row")
        print("snapshots  distance  restore p50 ms (cold)  max   back p50 ms (in memory)")
        for size in map(int, args.snapshots.split(",")):
            lineage.grow(size)
            for distance in map(int, args.distances.split(",")):
                if distance + REPEATS < size:
                    lineage.time(size, distance)
        print(f"reading one checkpoint: {lineage.checkpoint_ms():.0f} ms")


class Lineage:
    """One model's snapshots, made without an editor."""

    def __init__(self, view: ModelView, model: str, database: Database, blobs: Path) -> None:
        self.every = Settings().checkpoint_every
        self._view, self._model, self._database = view, model, database
        self._blobs = Blobs(database, blobs)
        self._seqs: list[str] = []  # snapshot ids of edits, by number
        self._checkpoint = ""
        self._plan = Plan.of(view, "memit-history")
        expires = datetime.now(UTC) + timedelta(days=1)
        with database.tx() as tx:
            models.register(tx, model, model_id=model, roots=())
            tx.session.flush()
            row = Lease(model_id=model, holder="benchmark", epoch=EPOCH, expires_at=expires)
            tx.session.merge(row)  # registering has made one
            tx.session.flush()
            fingerprint = view.fingerprint(State())
            base = work.model_ready(
                tx, model, epoch=EPOCH, fingerprint=fingerprint, info=dict(view.info)
            )
        self._host = self._fresh()
        self._host.checkout(base)

    def grow(self, size: int) -> None:
        """Add edits until there are so many."""
        self._to(self._seqs[-1]) if self._seqs else None
        while len(self._seqs) < size:
            self._add(len(self._seqs))

    def time(self, size: int, distance: int) -> None:
        """Restore to REPEATS neighbouring snapshots that far back, and to the newest again."""
        cold: list[float] = []
        warm: list[float] = []
        newest = self._seqs[-1]
        for shift in range(REPEATS):
            self._host = self._fresh()
            self._host.checkout(self._head())
            cold.append(self._to(self._seqs[-1 - distance - shift]))
            warm.append(self._to(newest))
        print(
            f"{size:9}  {distance:8}  {statistics.median(cold):21.0f}  {max(cold):4.0f}"
            f"  {statistics.median(warm):23.0f}",
            flush=True,
        )

    def checkpoint_ms(self) -> float:
        """Milliseconds to read a checkpoint and check its name."""
        began = time.perf_counter()
        State.from_bytes(self._blobs.get(None, self._checkpoint))
        return 1000 * (time.perf_counter() - began)

    def _to(self, snapshot: str) -> float:
        """Milliseconds of one restore, from claim to served."""
        with self._database.tx() as tx:
            restore.restore(tx, snapshot)
        began = time.perf_counter()
        finish(run_restore(self._bench(), self._claim(), Stopwatch()))  # pyright: ignore[reportArgumentType]
        return 1000 * (time.perf_counter() - began)

    def _add(self, number: int) -> None:
        outcome = self._outcome(number)
        data = outcome.to_bytes()
        after = self._view.after(outcome.deltas)
        blob = self._blobs.put(None, data)
        uncovered = self._host.lineage.uncovered + 1
        kept = self._blobs.put(None, after.to_bytes()) if uncovered >= self.every else None
        self._checkpoint = kept or self._checkpoint
        with self._database.tx() as tx:
            submit.submit(tx, submit.EditOrder(requests=[FACT]), limit=1)
        order = self._claim()
        with self._database.tx() as tx:
            snapshot = work.settle_edit(
                tx, order.id, epoch=EPOCH, blob=blob, fingerprint=self._view.fingerprint(after),
                report={}, timings={}, checkpoint=kept,
            )  # fmt: skip
        entry = work.Entry(edit=order.id, blob=blob)
        grown = self._host.lineage.extended(entry, checkpoint=kept is not None)
        self._host.adopt(snapshot, after, grown)
        self._seqs.append(snapshot)

    def _outcome(self, number: int) -> Outcome:
        """A change of rank one in every layer of the band, small, another each time."""
        chance = torch.Generator().manual_seed(number)
        facts, deltas, written = self._view.facts, {}, {}
        for layer in self._plan.hparams.layers:
            left = torch.randn(facts.d_model, 1, generator=chance) * 1e-3
            right = torch.randn(1, facts.d_key, generator=chance) * 1e-3
            name = self._view.down_proj(layer)
            deltas[name] = LowRank(left, right)
            written[name] = Written(right.T.clone(), left.clone(), left.clone())
        return Outcome(deltas, written, {})

    def _claim(self) -> Claimed:
        with self._database.tx() as tx:
            order = work.claim(tx, self._model, epoch=EPOCH)
        assert order is not None
        return order

    def _head(self) -> str:
        with self._database.tx() as tx:
            return str(models.get(tx, self._model).head_id)

    def _fresh(self) -> ModelHost:
        """A host that has nothing in memory but the untouched model."""
        self._view.adopt(State())
        return ModelHost(self._view, self._model, self._database, self._blobs)

    def _bench(self) -> Bench:
        return Bench(
            host=self._host,
            database=self._database,
            blobs=self._blobs,
            epoch=EPOCH,
            checkpoint_every=self.every,
        )


@contextmanager
def postgres(folder: Path) -> Generator[Database]:
    """A server of our own with all migrations, as durable as the service's."""
    server = Postgres(folder / "postgres", folder / "postgres.log")
    server.prepare()
    child = server.start()
    try:
        for _ in itertools.takewhile(lambda _: not server.answers(), range(600)):
            time.sleep(0.05)
        server.ensure_database("errata")
        upgrade(server.url("errata"))
        database = Database(server.url("errata"))
        yield database
        database.close()
    finally:
        child.stop()


if __name__ == "__main__":
    main()
