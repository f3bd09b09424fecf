"""What a benchmark has already done, on disk, so that a restart goes on where it was killed.

One folder a run: run.json says what made it, records.jsonl has a line for each finished piece, and
what pieces build on lies beside it as blobs named by their sha256. A line is appended when its
piece is finished, never changed. One that was torn by a kill is dropped, and its piece done again.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import editing

_RUN, _LINES = "run.json", "records.jsonl"
Entry = Mapping[str, Any]


def digest(*parts: str) -> str:
    """A short name for texts."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@cache
def code() -> str:
    """A short name for the source of the core as it is now."""
    folder = Path(editing.__file__).parent
    return digest(*(file.read_text("utf-8") for file in sorted(folder.rglob("*.py"))))[:12]


class Ledger:
    """The ledger of one run, open for writing by this process alone."""

    def __init__(self, runs: Path, about: Entry, *, redo: bool = False) -> None:
        """Open the ledger of what `about` describes; with `redo`, what other code made is gone."""
        self.about = about
        text = json.dumps(about, sort_keys=True, indent=1)
        self.folder = runs / f"{about['method']}.{about['mode']}.{digest(text)[:12]}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = (self.folder / _LINES).open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise RuntimeError(f"Another process writes {self.folder}. Wait for its end.") from None
        self._drop_torn_line()
        self._lay(_RUN, text.encode())  # again each time: the newest is what is reported
        self.entries = {
            key: entry
            for key, entry in entries_of(self.folder).items()
            if not redo or entry["code"] == code()
        }

    def put(self, key: str, entry: Entry) -> Entry:
        """Write down a finished piece."""
        kept = {**entry, "code": code()}
        self._file.write(json.dumps({"key": key, **kept}).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.entries[key] = kept
        return kept

    def keep(self, data: bytes) -> str:
        """Lay bytes down, and give their name."""
        name = hashlib.sha256(data).hexdigest()
        self._lay(f"{name}.safetensors", data)
        return name

    def kept(self, name: str) -> bytes | None:
        """The bytes of a name; None where they are gone or not what they were."""
        path = self.folder / f"{name}.safetensors"
        data = path.read_bytes() if path.exists() else b""
        return data if hashlib.sha256(data).hexdigest() == name else None

    def close(self) -> None:
        """Let others write."""
        self._file.close()

    def _lay(self, name: str, data: bytes) -> None:
        partial = self.folder / f"{name}.part"
        partial.write_bytes(data)
        partial.replace(self.folder / name)

    def _drop_torn_line(self) -> None:
        self._file.seek(0)
        self._file.truncate(self._file.read().rfind(b"\n") + 1)


def entries_of(folder: Path) -> dict[str, Entry]:
    """All whole lines of a ledger by key; of two the later one."""
    found: dict[str, Entry] = {}
    path = folder / _LINES
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
        try:
            entry = json.loads(line) if line.endswith(b"\n") else {}
        except ValueError:  # a crash of the machine may leave zeros
            continue
        if "key" in entry:
            found[entry.pop("key")] = entry
    return found


def newest(runs: Path, asked: Entry) -> tuple[Entry, dict[str, Entry]] | None:
    """What was last made of something asked for: about it, and its entries. Writes nothing."""
    matching: list[tuple[float, Path, Entry]] = []
    for path in runs.glob(f"*/{_RUN}"):
        about = json.loads(path.read_text())
        if all(about.get(name) == value for name, value in asked.items()):
            matching.append((path.stat().st_mtime, path.parent, about))
    if not matching:
        return None
    _, folder, about = max(matching, key=lambda one: one[0])
    return about, entries_of(folder)
