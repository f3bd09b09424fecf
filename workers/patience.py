"""Waiting for Postgres, or for room on a disk, without letting go of the model.

Work for the journal is a generator: where it would have to wait it yields a Pause, and the loop
answers probes meanwhile. An order that waits keeps its place: to fail it would let those behind it
run on another head than their sender saw, and a full disk would fail the whole queue within
seconds. It says what it waits for, goes on by itself, and can be cancelled.
"""

import errno
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

import structlog
from obstore.exceptions import GenericError
from safetensors import SafetensorError
from sqlalchemy import Engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.store.db import Database, Tx
from editing.step import Step

T = TypeVar("T")

_FIRST_S = 0.1
_LONGEST_S = 2.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing to compute for so many seconds, or until an order is announced."""

    seconds: float
    why: str = ""  # what an order in hand waits for


Work = Generator[Step | Pause, None, T]


def is_away(error: SQLAlchemyError) -> bool:
    """Whether Postgres was not there, rather than asked something wrong."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, OperationalError | InterfaceError | PoolTimeout)


def is_full(error: Exception) -> bool:
    """Whether a disk had no room. Safetensors writes by itself and says so in words alone."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    said = str(error) if isinstance(error, SafetensorError) else ""
    return any(f"os error {number}" in said for number in _FULL)


def undisturbed(make: Callable[[], Work[T]]) -> Work[T]:
    """Run work that may run twice; from its beginning, after a pause, when it met an outage."""
    for seconds in _growing():
        try:
            return (yield from make())
        except (SQLAlchemyError, OSError, SafetensorError, GenericError) as error:
            outage, why = _outage(error)
            if not outage:
                raise
            if seconds == _FIRST_S:  # said once, not with every try
                log.warning(outage, error=str(error).splitlines()[0])
        yield Pause(seconds, why)
    raise AssertionError  # the pauses have no end


def patiently(database: Database, ask: Callable[[Tx], T]) -> Work[T]:
    """Run one transaction, again after a pause when Postgres was away.

    `ask` must be safe to run twice: a commit whose reply was lost is not told from a failed one.
    """

    def once() -> Work[T]:
        yield from ()
        with database.tx() as tx:
            return ask(tx)

    return undisturbed(once)


def _outage(error: Exception) -> tuple[str, str]:
    """Name what was missing, and say it to whoever waits; empty for an error that will stay."""
    if is_full(error):
        name = os.strerror(errno.ENOSPC)
        return "disk.full", f"{name}. Make room where the service keeps its data; nothing is lost."
    if isinstance(error, SQLAlchemyError) and is_away(error):
        return "postgres.away", "Postgres does not answer."
    if isinstance(error, GenericError):  # what a remote store says when it cannot be reached
        return "store.away", "The blob store does not answer."
    return "", ""


def _growing() -> Iterator[float]:
    seconds = _FIRST_S
    while True:
        yield seconds
        seconds = min(seconds * 2, _LONGEST_S)


def end_idle_transactions(engine: Engine, seconds: float) -> None:
    """Have Postgres end a transaction of this engine that its owner has left open.

    A worker frozen in the middle of settling holds locks that the next owner of the model needs.
    SET LOCAL, because a pooler may hand the connection to somebody else afterwards.
    """
    command = f"SET LOCAL idle_in_transaction_session_timeout = {int(seconds * 1000)}"

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(command)
