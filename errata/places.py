"""The folders of this user, and what a stack writes into its own for others to read."""

import os
from dataclasses import dataclass
from pathlib import Path

LOCK = "lock"  # two lines, written by whoever holds it: the pid, and the URL once there is one


def default_data_folder() -> Path:
    """Give the data folder of this user."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "errata"


def default_cache_folder() -> Path:
    """Give the folder of this user for what can be computed again: weights, statistics."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "errata"


def benchmark_folder() -> Path:
    """Give the folder of benchmark data: ERRATA_DATA, or this user's own."""
    return Path(os.environ.get("ERRATA_DATA") or default_data_folder() / "benchmarks")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a data folder, as the lock file tells it."""

    pid: int | None
    url: str | None

    def lives(self) -> bool:
        """Say whether that process is a stack and there; the lock itself is left alone."""
        if self.pid is None:
            return False
        try:
            line = Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except OSError:
            return False
        return b"errata" in line


def holder(folder: Path) -> Holder | None:
    """Read who holds a data folder, or held it last."""
    try:
        lines = (folder / LOCK).read_text().split()
    except (OSError, ValueError):
        return None
    pid = int(lines[0]) if lines and lines[0].isdecimal() else None
    return Holder(pid, lines[1] if len(lines) > 1 else None)
