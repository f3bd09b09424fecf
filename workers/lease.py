"""Who may write to a model: an advisory lock, a row with a time to live, and an epoch.

    lock    taken on a connection of its own; the kernel closes a killed worker's socket, and with
            it the lock is free
    row     (holder, epoch, backend_pid, expires_at); a frozen or cut-off holder is replaced once it
            has expired: its connection is ended, then the lock is free
    epoch   raised by every new holder; what settles must still have it, so a late writer is fenced

The heartbeat has a thread and a connection of its own and renews only while the model thread moves,
so a hung step loses the lease. The lock is re-entrant for its session: a holder that was fenced
closes that connection for good, or it would take the lock back.
"""

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import LiteralString

import psycopg
import structlog
from psycopg import sql

from app.store.db import driver_url
from workers.pulse import Pulse

_RETRY_S = 0.25
_BEATS = 3  # heartbeats within one time to live

# One statement, so that nobody can hold the lock without the row saying so.
_TAKE: LiteralString = """
    WITH lock AS MATERIALIZED (SELECT pg_try_advisory_lock(%(key)s) AS got)
    INSERT INTO leases AS mine (model_id, holder, epoch, backend_pid, expires_at)
    SELECT %(model)s, %(holder)s, 1, pg_backend_pid(), clock_timestamp() + %(ttl)s * interval '1 s'
      FROM lock WHERE got
    ON CONFLICT (model_id) DO UPDATE SET holder = excluded.holder, epoch = mine.epoch + 1,
      backend_pid = excluded.backend_pid, expires_at = excluded.expires_at
    RETURNING epoch"""
_RETAKE: LiteralString = """
    WITH lock AS MATERIALIZED (SELECT pg_try_advisory_lock(%(key)s) AS got)
    UPDATE leases SET backend_pid = pg_backend_pid(),
      expires_at = clock_timestamp() + %(ttl)s * interval '1 s'
      FROM lock WHERE got AND model_id = %(model)s AND epoch = %(epoch)s
    RETURNING epoch"""
_RENEW: LiteralString = """
    UPDATE leases SET expires_at = clock_timestamp() + %(ttl)s * interval '1 s'
     WHERE model_id = %(model)s AND epoch = %(epoch)s
    RETURNING epoch"""
_RELEASE: LiteralString = """
    UPDATE leases SET holder = NULL, backend_pid = NULL, expires_at = clock_timestamp()
     WHERE model_id = %(model)s AND epoch = %(epoch)s"""
# The pid is taken from the lock itself: the row's alone might name a session that came later.
_EVICT: LiteralString = """
    SELECT pg_terminate_backend(held.pid)
      FROM pg_locks held JOIN leases ON leases.backend_pid = held.pid
     WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1
       AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND (held.classid::bigint << 32 | held.objid::bigint) = %(key)s
       AND leases.model_id = %(model)s AND {condition}"""
_EVICT_EXPIRED = sql.SQL(_EVICT).format(condition=sql.SQL("expires_at < clock_timestamp()"))
_EVICT_FORMER_SELF = sql.SQL(_EVICT).format(condition=sql.SQL("epoch = %(epoch)s"))

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a lease is about."""

    url: str
    model: str
    holder: str
    ttl: float

    @property
    def values(self) -> dict[str, object]:
        """The parameters of every statement above."""
        digest = hashlib.sha256(f"errata model {self.model}".encode()).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        return {"key": key, "model": self.model, "holder": self.holder, "ttl": self.ttl}

    def connect(self) -> psycopg.Connection:
        """Open a connection that notices a dead peer before the lease has run out."""
        plain = driver_url(self.url).set(drivername="postgresql")
        return psycopg.connect(
            plain.render_as_string(hide_password=False),
            autocommit=True,
            connect_timeout=5,
            prepare_threshold=None,
            application_name="errata lease",
            keepalives_idle=max(1, int(self.ttl)),
            keepalives_interval=max(1, int(self.ttl / _BEATS)),
            keepalives_count=_BEATS,
            tcp_user_timeout=int(self.ttl * 1000),
        )


class Lease:
    """The right to write to one model. `acquire`, then `watch`, at last `release`."""

    def __init__(
        self,
        terms: Terms,
        pulse: Pulse,
        *,
        wake: Callable[[], None],
        changed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.epoch = 0
        self.lost = threading.Event()
        self._terms = terms
        self._pulse = pulse
        self._wake = wake
        self._changed = changed  # told one of metrics.LEASE_CHANGES
        self._lock: psycopg.Connection | None = None
        self._beat: psycopg.Connection | None = None
        self._away = False  # Postgres did not answer the last heartbeat
        self._released = threading.Event()
        self._on_hung: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._watch, name="lease", daemon=True)

    # ---- taking it -------------------------------------------------------------------------------

    def acquire(self) -> int:
        """Wait until the model has no other holder, take it, and return the new epoch."""
        waiting = False
        while True:
            try:
                if self._try():
                    log.info("lease.taken", model=self._terms.model, epoch=self.epoch)
                    self._changed("taken")
                    return self.epoch
                if not waiting:
                    log.info("lease.waiting", model=self._terms.model)
            except psycopg.OperationalError as error:
                self._drop_lock()
                if not waiting:
                    log.warning("postgres.away", error=str(error).splitlines()[0])
            waiting = True
            time.sleep(_RETRY_S)

    def _try(self) -> bool:
        if self._lock is None or self._lock.broken:
            self._lock = self._terms.connect()
        values = self._terms.values
        row = self._lock.execute(_TAKE, values).fetchone()
        if row is None and self._lock.execute(_EVICT_EXPIRED, values).fetchall():
            log.warning("lease.evicted", model=self._terms.model)
            self._changed("evicted")
        if row is not None:
            self.epoch = row[0]
        return row is not None

    # ---- keeping it ------------------------------------------------------------------------------

    def watch(self, on_hung: Callable[[], None]) -> None:
        """Renew from now on, for as long as the model thread moves.

        When it has not moved for a whole time to live beyond its budget, `on_hung` is called: the
        model is another's by then.
        """
        self._on_hung = on_hung
        self._thread.start()

    def _watch(self) -> None:
        missed = 0
        while not self._released.wait(self._terms.ttl / _BEATS):
            if self._pulse.overdue:
                missed += 1
                if missed == 1:
                    log.error("worker.hung", model=self._terms.model, epoch=self.epoch)
                # Counted in beats, not in seconds: a process that was frozen is not hung.
                if missed > _BEATS:
                    self._on_hung()
                    return
                continue
            missed = 0
            if not self._kept():
                self._lose()
                return

    def _kept(self) -> bool:
        """Renew once. False when the lease is another's; True also while Postgres is away."""
        values = {**self._terms.values, "epoch": self.epoch}
        try:
            if self._beat is None:
                self._beat = self._terms.connect()
            if self._beat.execute(_RENEW, values).fetchone() is None:
                return False
            self._keep_lock(values)
            self._away = False
        except psycopg.OperationalError as error:
            if not self._away:  # said once, not with every beat
                log.warning("lease.unrenewed", error=str(error).splitlines()[0])
            self._away = True
            self._close(self._beat)
            self._beat = None
        return True

    def _keep_lock(self, values: dict[str, object]) -> None:
        """Take the lock again after its connection broke, as long as the epoch is still ours."""
        if self._lock is not None:
            try:
                self._lock.execute("SELECT 1")
            except psycopg.OperationalError:
                self._drop_lock()
            else:
                return
        self._lock = self._terms.connect()
        if self._lock.execute(_RETAKE, values).fetchone() is not None:
            log.info("lease.retaken", model=self._terms.model, epoch=self.epoch)
            self._changed("retaken")
            return
        # Perhaps Postgres has not noticed yet that the former connection is gone.
        self._lock.execute(_EVICT_FORMER_SELF, values)
        self._drop_lock()

    def _lose(self) -> None:
        self._drop_lock()
        self._close(self._beat)
        self._beat = None
        self.lost.set()
        self._changed("lost")
        self._wake()

    # ---- giving it up ----------------------------------------------------------------------------

    def release(self) -> None:
        """Let the next worker have the model at once."""
        self._released.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=5)
        if self.epoch and self._lock is not None and not self.lost.is_set():
            try:
                self._lock.execute(_RELEASE, {**self._terms.values, "epoch": self.epoch})
            except psycopg.Error as error:
                log.warning("lease.unreleased", error=str(error).splitlines()[0])
        self._drop_lock()
        self._close(self._beat)

    def _drop_lock(self) -> None:
        self._close(self._lock)
        self._lock = None

    @staticmethod
    def _close(connection: psycopg.Connection | None) -> None:
        if connection is not None:
            connection.close()
