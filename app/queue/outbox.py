"""The outbox: messages written with the facts they tell of, sent once those are committed.

A relay in each process sends what is waiting, when woken by a commit of its own process and once
a second for those of others. It may send a message twice, when it dies between sending and
noting that it did; every listener asks the journal, so twice is harmless. While Redis is down the
messages wait here, and no request fails for it.
"""

import json
import threading
import time
from datetime import timedelta
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import SQLAlchemyError

from app.queue import streams
from app.queue.messages import Message
from app.store.db import Database, Tx
from app.store.tables import OutboxRow

BATCH = 200
KEPT = timedelta(hours=1)  # sent messages stay this long, for whoever asks what was sent
SWEEP_S = 60.0

log = structlog.stdlib.get_logger()


def add(tx: Tx, stream: str, message: Message) -> None:
    """Have the message sent once this transaction is committed."""
    tx.session.add(OutboxRow(stream=stream, message=message.to_dict()))
    tx.announced = True


class Relay:
    """Sends what waits in the outbox, from a thread of its own."""

    def __init__(self, database: Database, redis_url: str, *, every_s: float = 1.0) -> None:
        self._database = database
        self._every_s = every_s
        # Short limits: the rows stay locked while Redis is spoken to.
        self._redis: Redis = Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            redis_url, socket_timeout=2, socket_connect_timeout=1
        )
        self._bell = threading.Event()
        self._stopping = False
        self._stalled = False
        self._swept = 0.0
        self._thread = threading.Thread(target=self._run, name="outbox-relay", daemon=True)
        database.on_announcement(self.wake)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def wake(self) -> None:
        """Say that something waits."""
        self._bell.set()

    def stop(self) -> None:
        """Send what waits, if Redis will take it, and end."""
        self._stopping = True
        self._bell.set()
        self._thread.join(timeout=5)
        self._redis.close()

    def send_waiting(self) -> int:
        """Send one batch and say how many it held."""
        with self._database.tx() as tx:
            # Relays share the work: rows that another one holds are skipped.
            rows = tx.session.scalars(
                select(OutboxRow)
                .where(OutboxRow.sent_at.is_(None))
                .order_by(OutboxRow.id)
                .limit(BATCH)
                .with_for_update(skip_locked=True)
            ).all()
            if not rows:
                return 0
            with self._redis.pipeline(transaction=False) as pipe:
                for row in rows:
                    _send(pipe, row.stream, row.message)
                pipe.execute()
            tx.session.execute(
                update(OutboxRow)
                .where(OutboxRow.id.in_([row.id for row in rows]))
                .values(sent_at=func.clock_timestamp())
            )
            return len(rows)

    def _run(self) -> None:
        while True:
            self._bell.wait(self._every_s)
            self._bell.clear()
            last_round = self._stopping
            try:
                while self.send_waiting() == BATCH:
                    pass
                self._sweep()
                self._stalled = False
            except (RedisError, SQLAlchemyError) as error:
                if not self._stalled:  # said once, not once a second
                    log.warning("outbox.stalled", error=str(error))
                self._stalled = True
            except Exception:
                log.exception("outbox.crashed")  # the next round may do better
            if last_round:
                return

    def _sweep(self) -> None:
        if time.monotonic() - self._swept < SWEEP_S:
            return
        self._swept = time.monotonic()
        with self._database.tx() as tx:
            tx.session.execute(
                delete(OutboxRow).where(OutboxRow.sent_at < func.clock_timestamp() - KEPT)
            )


def _send(pipe: Any, stream: str, message: dict[str, Any]) -> None:  # noqa: ANN401  (untyped pipeline)
    if streams.kind(stream) in streams.CHANNELS:
        pipe.publish(stream, json.dumps(message))
    else:
        pipe.xadd(stream, message, maxlen=streams.STREAM_LENGTH, approximate=True)
