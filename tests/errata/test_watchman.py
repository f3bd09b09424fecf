"""Who is frozen and who is not, as the rows of the leases tell."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from errata.stack.watchman import Watchman
from tests.conftest import wait_until

TTL = 0.4
PID = os.getpid()
OURS = f"{socket.gethostname()}:{PID}"


@pytest.fixture
def row(postgres_url: str) -> Iterator[Callable[..., None]]:
    """Writes the lease of the model `m`: its holder, and in how many seconds it runs out."""
    plain = postgres_url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("INSERT INTO models (id, source, status) VALUES ('m', '{}', 'ready')")
        connection.execute("INSERT INTO leases (model_id, epoch) VALUES ('m', 1)")

        def write(holder: str | None, seconds: float) -> None:
            now = "clock_timestamp() + %s * interval '1 s'"
            connection.execute(
                f"UPDATE leases SET holder = %s, expires_at = {now}",  # noqa: S608 - a constant
                [holder, seconds],
            )

        yield write


@pytest.fixture
def watchman(postgres_url: str, row: Any) -> Iterator[Watchman]:  # noqa: ARG001 - rows come first
    made = Watchman(postgres_url, TTL)
    made.start()
    yield made
    made.stop()


def test_one_who_stops_renewing_is_frozen_and_one_who_goes_on_is_not(
    watchman: Watchman, row: Callable[..., None]
) -> None:
    row(OURS, 3600)
    time.sleep(2 * TTL)  # long enough to be seen
    assert not watchman.frozen("m", PID)
    row(OURS, -1)
    wait_until(lambda: watchman.frozen("m", PID))
    assert not watchman.frozen("m", PID + 1)
    assert not watchman.frozen("n", PID)
    row(OURS, 3600)  # it moves again
    wait_until(lambda: not watchman.frozen("m", PID))


@pytest.mark.parametrize("holder", [OURS, None, "elsewhere:1"])
def test_one_who_was_never_seen_to_hold_the_lease_is_on_its_way_to_it(
    watchman: Watchman, row: Callable[..., None], holder: str | None
) -> None:
    """The row may name the same pid of an earlier life, as in a container."""
    row(holder, -3600)
    time.sleep(5 * TTL)
    assert not watchman.frozen("m", PID)
