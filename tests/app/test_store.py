"""Ids, transactions and blobs."""

import hashlib
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import select

from app.errors import BlobDamaged, BlobMissing
from app.services import work
from app.store import journal
from app.store.blobs import Blobs
from app.store.db import Database, driver_url
from app.store.ids import new_id
from app.store.tables import Blob
from tests.app.hands import Hands

LARGE = b"x" * 2000


@pytest.fixture
def blobs(database: Database, tmp_path: Path) -> Blobs:
    return Blobs(database, tmp_path.as_uri(), small=1000)


def test_ids_sort_by_their_making() -> None:
    ids = [new_id("edt") for _ in range(2000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 2000
    assert {len(one) for one in ids} == {30}


def test_the_driver_is_ours_whatever_the_operator_writes() -> None:
    for scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        assert driver_url(f"{scheme}://u:p%40@h/d").drivername == "postgresql+psycopg"


def test_nothing_is_said_of_a_transaction_that_was_rolled_back(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("app.store.db.log.info", lambda event, **_: said.append(event))
    with suppress(ZeroDivisionError), hands.database.tx() as tx:
        journal.append(tx, "model.ready", model=hands.model)
        raise ZeroDivisionError
    assert said == []
    with hands.database.tx() as tx:
        journal.append(tx, "model.ready", model=hands.model)
        assert said == []
    assert said == ["model.ready"]


def test_the_journal_takes_only_the_names_it_knows(hands: Hands) -> None:
    with pytest.raises(ValueError, match=r"edit\.vanished"), hands.database.tx() as tx:
        journal.append(tx, "edit.vanished", model=hands.model)


@pytest.mark.parametrize("data", [b"", b"small", LARGE], ids=["empty", "small", "large"])
def test_a_blob_comes_back_as_it_was_put(blobs: Blobs, data: bytes) -> None:
    sha256 = blobs.put(None, data)
    assert sha256 == hashlib.sha256(data).hexdigest()
    assert blobs.put(None, data) == sha256
    assert blobs.get(None, sha256) == data


def test_small_ones_lie_in_postgres_and_large_ones_do_not(
    blobs: Blobs, database: Database, tmp_path: Path
) -> None:
    small, large = blobs.put(None, b"small"), blobs.put(None, LARGE)
    with database.tx() as tx:
        assert tx.session.get_one(Blob, small).data == b"small"
        row = tx.session.get_one(Blob, large)
    assert (row.data, row.size) == (None, len(LARGE))
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [
        tmp_path / large[:2] / large
    ]


def test_a_blob_in_a_transaction_that_fails_is_not_there(blobs: Blobs, database: Database) -> None:
    with suppress(ZeroDivisionError), database.tx() as tx:
        sha256 = blobs.put(tx, b"small")
        assert blobs.get(tx, sha256) == b"small"
        raise ZeroDivisionError
    with pytest.raises(BlobMissing):
        blobs.get(None, hashlib.sha256(b"small").hexdigest())


def test_damage_and_loss_are_told_apart(blobs: Blobs, tmp_path: Path) -> None:
    sha256 = blobs.put(None, LARGE)
    file = tmp_path / sha256[:2] / sha256
    file.write_bytes(b"y" + LARGE[1:])
    with pytest.raises(BlobDamaged):
        blobs.get(None, sha256)
    file.unlink()
    with pytest.raises(BlobMissing):
        blobs.get(None, sha256)
    blobs.put(None, LARGE)  # whoever computes it again brings it back
    assert blobs.get(None, sha256) == LARGE


def test_damage_in_postgres_is_found_too(blobs: Blobs, database: Database) -> None:
    sha256 = blobs.put(None, b"small")
    with database.tx() as tx:
        tx.session.scalars(select(Blob).where(Blob.sha256 == sha256)).one().data = b"other"
    with pytest.raises(BlobDamaged):
        blobs.get(None, sha256)


def test_a_torn_file_is_written_again(blobs: Blobs, tmp_path: Path) -> None:
    sha256 = blobs.put(None, LARGE)
    for damaged in (LARGE[:100], b"y" + LARGE[1:]):
        (tmp_path / sha256[:2] / sha256).write_bytes(damaged)
        blobs.put(None, LARGE)
        assert blobs.get(None, sha256) == LARGE


def test_no_snapshot_is_made_of_a_blob_that_is_not_there(hands: Hands) -> None:
    hands.order()
    order = hands.take()
    with pytest.raises(BlobMissing), hands.database.tx() as tx:
        work.settle_edit(
            tx, order.id, epoch=hands.epoch, blob="0" * 64, fingerprint="f", report={}, timings={}
        )
    assert hands.look(order.id).status == "running"
