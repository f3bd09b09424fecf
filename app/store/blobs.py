"""Bytes named by their sha256: small ones in Postgres, large ones in an object store.

Putting the same bytes twice writes nothing the second time, but makes them young again for the
clean-up (app/store/cleanup.py), and mends what was damaged. Reading checks the name, so that what
comes out is what went in, or an error that says which of the two ways it was lost.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import LocalStore, ObjectStore, from_url
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert

from app.errors import BlobDamaged, BlobMissing
from app.store.db import Database, Tx
from app.store.tables import Blob

Row = dict[str, str | int | bytes]

_OBJECT = re.compile(r"[0-9a-f]{2}/(?P<sha256>[0-9a-f]{64})")
_LEFTOVER = re.compile(r"[0-9a-f]{2}/\.[0-9a-f]{64}\.\d+\.tmp")


class Blobs:
    """The content-addressed store."""

    def __init__(self, database: Database, place: str | Path, *, small: int = 1 << 20) -> None:
        self._database = database
        self._small = small
        self._folder = _local_folder(place)
        self._store: ObjectStore = (
            LocalStore(self._folder, mkdir=True) if self._folder else from_url(str(place))
        )

    def put(self, tx: Tx | None, data: bytes) -> str:
        """Keep the bytes and return their name. Without a transaction, opens its own."""
        sha256 = hashlib.sha256(data).hexdigest()
        row: Row
        if len(data) <= self._small:
            row = {"sha256": sha256, "size": len(data), "data": data}
        else:
            location = f"{sha256[:2]}/{sha256}"
            if not self._holds(location, data):
                self._write(location, data)
            row = {"sha256": sha256, "size": len(data), "location": location}
        if tx is None:
            with self._database.tx() as own:
                self._insert(own, row, data)
        else:
            self._insert(tx, row, data)
        return sha256

    def get(self, tx: Tx | None, sha256: str) -> bytes:
        """Return the bytes, checked against their name."""
        if tx is None:
            with self._database.tx() as own:
                row = own.session.get(Blob, sha256)
        else:
            row = tx.session.get(Blob, sha256)
        if row is None:
            raise BlobMissing(sha256)
        # Without a caller's transaction none is open by now: a large object may take long to read.
        data = row.data if row.location is None else self._read(row.location, sha256)
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            raise BlobDamaged(sha256)
        return data

    def remove_object(self, location: str) -> None:
        """Remove an object of the store; one that is not there is no error."""
        with suppress(FileNotFoundError):
            obstore.delete(self._store, location)

    def old_objects(self, age: timedelta, *, batch: int) -> Iterator[list[Row]]:
        """Give the rows that objects of that age should have, some at a time."""
        for some in obstore.list(self._store, chunk_size=batch):
            rows: list[Row] = [
                {"sha256": found["sha256"], "size": each["size"], "location": each["path"]}
                for each in some
                if (found := _OBJECT.fullmatch(each["path"])) and _is_old(each, age)
            ]
            if rows:
                yield rows

    def remove_leftovers(self, age: timedelta) -> int:
        """Remove halves of that age, left by writers that died, and say how many there were."""
        if self._folder is None:
            return 0  # other stores show an object once it is whole
        found = [
            each["path"]
            for some in obstore.list(self._store)
            for each in some
            if _LEFTOVER.fullmatch(each["path"]) and _is_old(each, age)
        ]
        for path in found:
            self.remove_object(path)
        return len(found)

    def _insert(self, tx: Tx, row: Row, data: bytes) -> None:
        fresh = insert(Blob).values(row)
        renewed = {"created_at": func.clock_timestamp(), "data": fresh.excluded.data}
        tx.session.execute(
            fresh.on_conflict_do_update(
                index_elements=[Blob.sha256],
                set_={**renewed, "size": fresh.excluded.size, "location": fresh.excluded.location},
            )
        )
        # The row is ours now. A clean-up that had it until then has taken the object along.
        location = row.get("location")
        if isinstance(location, str) and self._size(location) != len(data):
            self._write(location, data)

    def _size(self, location: str) -> int | None:
        try:
            return obstore.head(self._store, location)["size"]
        except FileNotFoundError:
            return None

    def _holds(self, location: str, data: bytes) -> bool:
        """Say whether the object is there and undamaged."""
        return self._size(location) == len(data) and self._read(location, "") == data

    def _write(self, location: str, data: bytes) -> None:
        """Write the object, durably, before any row speaks of it."""
        if self._folder is None:
            obstore.put(self._store, location, data)
            return
        # A rename is atomic, but only fsync makes it last; the store itself does not call it.
        target = self._folder / location
        target.parent.mkdir(parents=True, exist_ok=True)
        tmp = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with tmp.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            tmp.replace(target)
        except OSError:  # half of it would keep a full disk full
            tmp.unlink(missing_ok=True)
            raise
        for folder in (target.parent, self._folder):
            _sync_folder(folder)

    def _read(self, location: str, sha256: str) -> bytes:
        try:
            return bytes(obstore.get(self._store, location).bytes())
        except FileNotFoundError:
            raise BlobMissing(sha256) from None


def _local_folder(place: str | Path) -> Path | None:
    if isinstance(place, Path):
        return place
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(place) if parts.scheme == "" else None


def _is_old(found: Mapping[str, Any], age: timedelta) -> bool:
    return found["last_modified"] < datetime.now(UTC) - age


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
