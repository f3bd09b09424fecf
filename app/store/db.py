"""One engine, plain sessions, and a transaction that tells what it did once it is committed.

A use case takes an open `Tx` and never commits. The edge (an endpoint, the worker's loop) opens
it with `database.tx()`: it commits on the way out and rolls back when an exception passes.
"""

import json
import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.orm import Session

Json = dict[str, Any]

log = structlog.stdlib.get_logger()


@dataclass(slots=True)
class Tx:
    """An open transaction: a session, and what is to be told when it is committed."""

    session: Session
    events: list[tuple[str, Json]] = field(default_factory=list)
    announced: bool = False  # the outbox has something new


class Database:
    """The door to Postgres."""

    def __init__(self, url: str, *, pool_size: int = 10, max_overflow: int = 30) -> None:
        self.url = url
        self.engine: Engine = create_engine(
            driver_url(url),
            pool_size=pool_size,
            max_overflow=max_overflow,
            pool_timeout=10,
            pool_pre_ping=True,  # Postgres may have been restarted under us
            json_serializer=_dumps,
            connect_args={
                "connect_timeout": 5,
                # A host that is gone without a word is noticed in seconds, not in hours.
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": 25_000,  # milliseconds
                "application_name": "errata",
                "options": "-c timezone=utc",
                "prepare_threshold": None,  # a pooler in transaction mode keeps no statements
            },
        )
        self._listeners: list[Callable[[], None]] = []
        self._told: list[Callable[[str, Json], None]] = []

    @contextmanager
    def tx(self) -> Generator[Tx]:
        """Open a transaction; commit it on exit, roll it back on an error."""
        # Rows stay readable after the commit: an edge may answer with what it wrote.
        with Session(self.engine, expire_on_commit=False) as session:
            tx = Tx(session)
            with session.begin():
                yield tx
        for event, data in tx.events:
            log.info(event, **data)
            for told in self._told:
                told(event, data)
        if tx.announced:
            for listener in self._listeners:
                listener()

    def on_announcement(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each commit that put something into the outbox."""
        self._listeners.append(listener)

    def on_event(self, told: Callable[[str, Json], None]) -> None:
        """Call `told` with each line of the journal, once its transaction is committed."""
        self._told.append(told)

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def driver_url(url: str) -> URL:
    """Return the URL with the one driver we use, whichever the operator wrote."""
    parsed = make_url(url)
    if parsed.drivername in {"postgres", "postgresql"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed


def _dumps(value: object) -> str:
    """JSON for jsonb, which knows no NaN: a measure that is not finite is stored as null."""
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, ensure_ascii=False)


def _finite(value: Any) -> Any:  # noqa: ANN401  (any JSON)
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {key: _finite(inner) for key, inner in value.items()}  # pyright: ignore[reportUnknownVariableType]
        case list() | tuple():
            return [_finite(inner) for inner in value]  # pyright: ignore[reportUnknownVariableType]
        case _:
            return value
