"""A server of one test alone, that can be stopped, shot, and started again."""

import os
import signal

from errata.stack.child import Child
from errata.stack.postgres import Postgres
from errata.stack.valkey import Valkey
from tests.conftest import wait_until

# What was committed outlives the death of Postgres, if not of the machine.
LASTING = {"fsync": "off", "full_page_writes": "off"}


class Outage:
    """A server, and what happens to it."""

    def __init__(self, server: Postgres | Valkey) -> None:
        self.server = server
        self.child: Child | None = None

    def begin(self) -> None:
        assert self.child is not None
        self.child.stop()

    def shoot(self) -> None:
        assert self.child is not None
        os.kill(self.child.pid, signal.SIGKILL)
        self.child.wait()

    def end(self) -> None:
        self.child = self.server.start()
        wait_until(self.server.answers, seconds=60)
