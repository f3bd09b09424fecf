"""The data folder: whose it is, what lies where in it, and the lock that one supervisor holds."""

import fcntl
import os
from pathlib import Path
from typing import IO

from errata.places import LOCK, holder
from errata.stack.errors import DataFolderBusy, DataFolderUnusable

LARGEST_LOG = 10 << 20


class DataFolder:
    """A folder that belongs to one running stack at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self._lock: IO[str] | None = None

    @property
    def postgres(self) -> Path:
        """The files of Postgres."""
        return self.path / "postgres"

    @property
    def valkey(self) -> Path:
        """The files of Valkey."""
        return self.path / "valkey"

    def log(self, name: str) -> Path:
        """Give the log file of one child."""
        return self.path / "logs" / f"{name}.log"

    def take(self) -> None:
        """Create the folder and lock it. The kernel lets go of the lock when we die."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.path / "logs").mkdir(mode=0o700, exist_ok=True)
            # Opened without truncating: until the lock is ours, the text in it is another's.
            lock = os.fdopen(os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o600), "r+")
        except OSError as error:
            message = (
                f"the data folder {self.path} cannot be used: {error.strerror}; "
                "give another with --data-dir"
            )
            raise DataFolderUnusable(message) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            other = holder(self.path)
            message = (
                f"another `errata up` (pid {other and other.pid}) works in {self.path}; stop it, "
                "or give another --data-dir"
            )
            raise DataFolderBusy(message) from error
        self._lock = lock
        self.sign()
        self._put_large_logs_aside()

    def sign(self, url: str = "") -> None:
        """Write into the lock file who holds the folder, and where the API is, once it is."""
        if self._lock is not None:
            self._lock.seek(0)
            self._lock.truncate()
            self._lock.write(f"{os.getpid()}\n{url}\n")
            self._lock.flush()

    def release(self) -> None:
        """Let another supervisor have the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _put_large_logs_aside(self) -> None:
        for log in (self.path / "logs").glob("*.log"):
            if log.stat().st_size > LARGEST_LOG:
                log.replace(log.with_suffix(".log.1"))
