"""Embedded Postgres: made once, run in the foreground, reached over a socket in its own folder."""

import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psycopg
import psycopg.sql

from errata.stack.account import Account, account_for, own
from errata.stack.child import Child, Command, tail
from errata.stack.errors import DataFolderUnusable, ServerFailed
from errata.stack.sockets import leave, socket_folder
from errata.stack.squatters import see_off
from errata.stack.wheels import POSTGRES_MAJOR, binaries

# A server that runs as another user must not need the right to walk down to its folder: it starts
# in it, and calls it by this name. Nothing above the folder has to be opened for it.
HERE = "/proc/self/cwd"
USER = "errata"
DATABASE = "errata"
SOCKET = ".s.PGSQL.5432"
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "io_method": "sync",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "cluster_name": "errata",
}


class Postgres:
    """The files of one Postgres, and how to start it on them."""

    name = "postgres"

    def __init__(self, folder: Path, log: Path, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder.absolute()
        self.log = log.absolute()
        self.account: Account | None = account_for(self.folder)
        self._settings = {**SETTINGS, **(settings or {})}
        self._sockets = socket_folder(self.folder, SOCKET, self.account)

    def url(self, database: str = DATABASE) -> str:
        """Give the SQLAlchemy URL of a database of this server."""
        return f"postgresql+psycopg://{USER}@/{database}?host={quote(str(self._sockets))}"

    def conninfo(self, database: str = "postgres") -> str:
        """Give the libpq URL of a database of this server."""
        return f"postgresql://{USER}@/{database}?host={quote(str(self._sockets))}"

    def prepare(self) -> None:
        """Make the folder a database cluster, if it is none yet."""
        version = self.folder / "PG_VERSION"
        if not version.exists():
            self._initialise()
        elif (found := version.read_text().strip()) != POSTGRES_MAJOR:
            message = (
                f"{self.folder} was made by Postgres {found}, and this errata brings "
                f"{POSTGRES_MAJOR}; use another --data-dir, or dump and load the data."
            )
            raise DataFolderUnusable(message)

    def command(self) -> Command:
        """Give the command that runs the server in the foreground."""
        sockets = "." if self._sockets == self.folder else str(self._sockets)
        settings = {**self._settings, "unix_socket_directories": sockets}
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Command(
            argv=[str(binaries(self.account).postgres), "-D", HERE, *flags],
            cwd=self.folder,
            log=self.log,
            account=self.account,
            stop_signal=signal.SIGINT,  # fast: end the sessions, write a checkpoint
            death_signal=signal.SIGQUIT,  # at once, but the postmaster takes its own children along
            patience=20.0,
        )

    def start(self) -> Child:
        """Start the server; `answers` says when it is there."""
        if see_off(self.folder, "postgres"):
            # Nobody lives here and the data folder is locked by us. The pid in the file, if there
            # is one, may by now be anybody's: Postgres would believe it and refuse to start.
            (self.folder / "postmaster.pid").unlink(missing_ok=True)
        return Child(self.command())

    def leave(self) -> None:
        """Remove what lies outside of the folder; for after the end."""
        leave(self.folder, self._sockets)

    def answers(self) -> bool:
        """Say whether the server takes a query."""
        try:
            with psycopg.connect(self.conninfo(), connect_timeout=2) as connection:
                connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def ensure_database(self, name: str = DATABASE) -> None:
        """Create the database unless it exists."""
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            if known.fetchone() is None:
                connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(_name(name)))

    def _initialise(self) -> None:
        """Make the cluster beside its place, then move it: a kill leaves no half of it."""
        fresh = self.folder.with_name(f"{self.folder.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        own(fresh, self.account)
        run = Command(
            argv=[
                str(binaries(self.account).initdb),
                *("-D", HERE, "-U", USER, "--auth=trust", "--encoding=UTF8"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
                *("--no-sync", "--no-instructions"),
            ],
            cwd=fresh,
            log=self.log,
            account=self.account,
        )
        if Child(run).wait(patience=120) != 0:
            said = " | ".join(tail(self.log, 3))
            message = f"initdb failed in {fresh}: {said}"
            raise ServerFailed(message)
        if self.folder.exists():
            self.folder.rmdir()
        fresh.rename(self.folder)


def _name(name: str) -> psycopg.sql.Identifier:
    return psycopg.sql.Identifier(name)
