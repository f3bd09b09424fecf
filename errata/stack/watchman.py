"""Workers that live and have stopped renewing their lease: nothing but a kill brings them back.

A worker that is frozen (SIGSTOP, a debugger, a device that hangs in the kernel) does not exit, so
nobody would start it again, and its model would stay without one. The row of the lease tells: it
names its holder, and when it runs out (workers/lease.py).
"""

import socket
import time
from threading import Event, Thread

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app.store.db import Database
from app.store.tables import Lease

LOOKS = 4  # within one time to live, so that no holder comes and goes unseen
PATIENCE = 2.0  # times to live for which a lease has to be seen expired


class Watchman:
    """Looks at the leases in a thread of its own: Postgres may be as frozen as a worker.

    Only who was seen to hold a lease can be silent, so a worker that is still on its way to one is
    let be, and so is everybody while Postgres does not answer. The silence is counted by our own
    clock, from when it was seen: a machine that slept wakes up with every lease expired.
    """

    def __init__(self, database_url: str, ttl: float) -> None:
        self._database = Database(database_url, pool_size=1)
        self._ttl = ttl
        self._host = socket.gethostname()
        self._held: set[tuple[str, str]] = set()
        self._since: dict[tuple[str, str], float] = {}
        self._ended = Event()
        self._thread = Thread(target=self._watch, name="watchman", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join(timeout=1)
        self._database.close()

    def frozen(self, model: str, pid: int) -> bool:
        """Say whether this process of ours has held the model, and not renewed that for long."""
        since = self._since.get((model, f"{self._host}:{pid}"))
        return since is not None and time.monotonic() - since > PATIENCE * self._ttl

    def _watch(self) -> None:
        while not self._ended.wait(self._ttl / LOOKS):
            try:
                live, expired = self._look()
            except SQLAlchemyError:
                self._since = {}
                continue
            self._held = (self._held & expired) | live
            now = time.monotonic()
            self._since = {each: self._since.get(each, now) for each in expired & self._held}

    def _look(self) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
        """Give who holds a lease now, and whose has run out, each as (model, holder)."""
        live: set[tuple[str, str]] = set()
        expired: set[tuple[str, str]] = set()
        held = select(Lease.model_id, Lease.holder, Lease.expires_at > func.clock_timestamp())
        with self._database.tx() as tx:
            for model, holder, lives in tx.session.execute(held.where(Lease.holder.is_not(None))):
                (live if lives else expired).add((model, str(holder)))
        return live, expired
