"""Bytes named by their sha256: small ones in Postgres, large ones in an object store.

Putting the same bytes twice writes nothing the second time. Reading checks the name, so that
what comes out is what went in, or an error that says which of the two ways it was lost.
"""

import hashlib
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import LocalStore, ObjectStore, from_url
from sqlalchemy.dialects.postgresql import insert

from app.errors import BlobDamaged, BlobMissing
from app.store.db import Database, Tx
from app.store.tables import Blob

Row = dict[str, str | int | bytes]


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
            self._write(location, data)
            row = {"sha256": sha256, "size": len(data), "location": location}
        if tx is None:
            with self._database.tx() as own:
                self._insert(own, row)
        else:
            self._insert(tx, row)
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

    def _insert(self, tx: Tx, row: Row) -> None:
        tx.session.execute(insert(Blob).values(row).on_conflict_do_nothing())

    def _write(self, location: str, data: bytes) -> None:
        """Write the object, durably, before any row speaks of it.

        An object of the right size is taken as written: its name is its content, and objects
        appear whole, under their name, by a rename.
        """
        try:
            if obstore.head(self._store, location)["size"] == len(data):
                return
        except FileNotFoundError:
            pass
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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
