"""What nobody needs any more, taken away by age: old Idempotency-Keys, and blobs nothing holds.

A blob is put before the snapshot or eval that holds it is committed, and an order may fail in
between. So only what has long been unused goes, and a blob's row is locked while that is found out:
whoever brings it into use locks it too (app/services/settle.py), or puts it anew
(app/store/blobs.py).

The API does this once an hour; `python -m app.store.cleanup` does it now. With `--orphans` it also
takes objects into account that no row speaks of, left by a process that died between the two:
only for a store that belongs to this database alone.
"""

import sys
import threading
from dataclasses import asdict, dataclass
from datetime import timedelta

import structlog
from sqlalchemy import ColumnElement, and_, delete, exists, func, select
from sqlalchemy.dialects.postgresql import JSONB, insert

from app import logs
from app.settings import Settings
from app.store.blobs import Blobs
from app.store.db import Database, Tx
from app.store.tables import Blob, Edit, Eval, IdempotencyKey, Snapshot

BATCH = 100  # rows of one transaction; they stay locked for as long as it lasts
FIRST_S = 60.0  # after the start, so that services restarted every few minutes clean up too

log = structlog.stdlib.get_logger()


@dataclass(slots=True)
class Swept:
    """What a round has taken away."""

    keys: int = 0
    blobs: int = 0
    bytes: int = 0
    leftovers: int = 0  # halves of objects, from writers that died
    orphans: int = 0  # objects that have a row from now on; they go when it is old


def sweep(
    database: Database,
    blobs: Blobs,
    *,
    keys_older_than: timedelta,
    blobs_older_than: timedelta,
    orphans: bool = False,
) -> Swept:
    """Do one round, in short transactions, and say what it took."""
    swept = Swept()
    while (gone := _sweep_keys(database, keys_older_than)) > 0:
        swept.keys += gone
    while (sizes := _sweep_blobs(database, blobs, blobs_older_than)) is not None:
        swept.blobs += len(sizes)
        swept.bytes += sum(sizes)
    swept.leftovers = blobs.remove_leftovers(blobs_older_than)
    if orphans:
        swept.orphans = _adopt(database, blobs, blobs_older_than)
    return swept


class Cleaner:
    """Sweeps once in a while, from a thread of its own."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cleanup", daemon=True)

    def start(self) -> None:
        """Begin, unless the operator has turned it off."""
        if self._settings.cleanup_every_s > 0:
            self._thread.start()

    def stop(self) -> None:
        """End after the round that is going on; a round can be cut anywhere without harm."""
        self._stopped.set()

    def _run(self) -> None:
        pause = min(FIRST_S, self._settings.cleanup_every_s)
        while not self._stopped.wait(pause):
            pause = self._settings.cleanup_every_s
            try:
                swept = once(self._database, self._settings)
            except Exception as error:  # noqa: BLE001  (a store or a database that is away)
                log.warning("cleanup.failed", error=str(error).partition("\n")[0])
            else:
                if swept != Swept():
                    log.info("cleanup.done", **asdict(swept))


def once(database: Database, settings: Settings, *, orphans: bool = False) -> Swept:
    """Do one round as the settings say."""
    return sweep(
        database,
        Blobs(database, settings.blobs, small=settings.small_blob_bytes),
        keys_older_than=timedelta(seconds=settings.keep_keys_s),
        blobs_older_than=timedelta(seconds=settings.keep_unused_blobs_s),
        orphans=orphans,
    )


def _sweep_keys(database: Database, age: timedelta) -> int:
    old = select(IdempotencyKey.key).where(IdempotencyKey.created_at < func.clock_timestamp() - age)
    # Skipped where locked: a request with that key is being answered at this moment.
    some = old.limit(BATCH).with_for_update(skip_locked=True).cte("old")
    with database.tx() as tx:
        gone = delete(IdempotencyKey).where(IdempotencyKey.key.in_(select(some.c.key)))
        return len(tx.session.scalars(gone.returning(IdempotencyKey.key)).all())


def _sweep_blobs(database: Database, blobs: Blobs, age: timedelta) -> list[int] | None:
    """Take away some unused blobs and return their sizes, or None when there are none left."""
    old = (
        select(Blob.sha256)
        .where(Blob.created_at < func.clock_timestamp() - age, _unused())
        .order_by(Blob.created_at)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    with database.tx() as tx:
        locked = list(tx.session.scalars(old))
        return take_away(tx, blobs, locked) if locked else None


def take_away(tx: Tx, blobs: Blobs, locked: list[str]) -> list[int]:
    """Remove those of the locked blobs that nothing holds, and return their sizes.

    Asked once more, under the lock: a statement that finds and locks rows sees the snapshots as
    they were when it began, and one may have been committed since.
    """
    free = select(Blob).where(Blob.sha256.in_(locked), _unused())
    unused = tx.session.scalars(free).all()
    for blob in unused:
        # The object first: a row without one can be put again, an object without one is lost.
        if blob.location is not None:
            blobs.remove_object(blob.location)
        tx.session.delete(blob)
    return [blob.size for blob in unused]


def _unused() -> ColumnElement[bool]:
    """Say of a blob that nothing holds it: no snapshot (checkpoint or delta), eval or rejection."""
    entry = func.jsonb_build_array(func.jsonb_build_object("blob", Blob.sha256), type_=JSONB)
    return and_(
        ~exists().where(Snapshot.checkpoint == Blob.sha256),
        ~exists().where(Eval.records == Blob.sha256),
        ~exists().where(Edit.evidence == Blob.sha256),
        ~exists().where(Snapshot.entries.contains(entry)),
    )


def _adopt(database: Database, blobs: Blobs, age: timedelta) -> int:
    """Give a row to every old object that has none. It is new, so a putter has a whole age."""
    adopted = 0
    for rows in blobs.old_objects(age, batch=BATCH):
        fresh = insert(Blob).values(rows).on_conflict_do_nothing().returning(Blob.sha256)
        with database.tx() as tx:
            adopted += len(tx.session.scalars(fresh).all())
    return adopted


if __name__ == "__main__":
    settings = Settings()
    logs.configure(settings)
    done = once(Database(settings.database_url), settings, orphans="--orphans" in sys.argv[1:])
    log.info("cleanup.done", **asdict(done))
