"""Waiting for Postgres without letting go of the model.

Work for the journal is a generator: where it would have to wait it yields a Pause, and the loop
answers probes meanwhile.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

import structlog
from sqlalchemy import Engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.store.db import Database, Tx
from editing.step import Step

T = TypeVar("T")

_FIRST_S = 0.1
_LONGEST_S = 2.0

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing to compute for so many seconds, or until an order is announced."""

    seconds: float


Work = Generator[Step | Pause, None, T]


def is_away(error: SQLAlchemyError) -> bool:
    """Whether Postgres was not there, rather than asked something wrong."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, OperationalError | InterfaceError | PoolTimeout)


def pauses() -> Iterator[Pause]:
    """Growing pauses, without end."""
    seconds = _FIRST_S
    while True:
        yield Pause(seconds)
        seconds = min(seconds * 2, _LONGEST_S)


def patiently(database: Database, ask: Callable[[Tx], T]) -> Work[T]:
    """Run one transaction, again after a pause when Postgres was away.

    `ask` must be safe to run twice: a commit whose reply was lost is not told from a failed one.
    """
    for pause in pauses():
        try:
            with database.tx() as tx:
                return ask(tx)
        except SQLAlchemyError as error:
            if not is_away(error):
                raise
            say_away(error, pause)
        yield pause
    raise AssertionError  # pauses() has no end


def undisturbed(make: Callable[[], Work[T]]) -> Work[T]:
    """Run pure work that reads from Postgres on its way, from its beginning when that was away."""
    for pause in pauses():
        try:
            return (yield from make())
        except SQLAlchemyError as error:
            if not is_away(error):
                raise
            say_away(error, pause)
        yield pause
    raise AssertionError


def say_away(error: SQLAlchemyError, pause: Pause) -> None:
    """Tell the operator what is being waited for, once."""
    if pause.seconds == _FIRST_S:
        log.warning("postgres.away", error=str(error).splitlines()[0])


def end_idle_transactions(engine: Engine, seconds: float) -> None:
    """Have Postgres end a transaction of this engine that its owner has left open.

    A worker frozen in the middle of settling holds locks that the next owner of the model needs.
    SET LOCAL, because a pooler may hand the connection to somebody else afterwards.
    """
    command = f"SET LOCAL idle_in_transaction_session_timeout = {int(seconds * 1000)}"

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(command)
