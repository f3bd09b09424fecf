"""What nobody needs goes after a while, and nothing that anybody needs."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from starlette.testclient import TestClient

from app.errors import BlobMissing
from app.main import create_app
from app.services import work
from app.settings import Settings
from app.store.blobs import Blobs
from app.store.cleanup import Swept, sweep, take_away
from app.store.db import Database
from app.store.tables import Blob, IdempotencyKey
from tests.app.hands import FACT, MODEL, Hands
from tests.conftest import wait_until

DAY = timedelta(days=1)
LARGE = b"x" * 2000


@pytest.fixture
def blobs(database: Database, tmp_path: Path) -> Blobs:
    return Blobs(database, tmp_path / "blobs", small=1000)


def age(database: Database, *names: str, days: float = 2) -> None:
    with database.tx() as tx:
        old = func.clock_timestamp() - timedelta(days=days)
        tx.session.execute(update(Blob).where(Blob.sha256.in_(names)).values(created_at=old))


def names(database: Database) -> set[str]:
    with database.tx() as tx:
        return set(tx.session.scalars(select(Blob.sha256)))


def swept(database: Database, blobs: Blobs, *, orphans: bool = False) -> Swept:
    return sweep(database, blobs, keys_older_than=DAY, blobs_older_than=DAY, orphans=orphans)


def files(blobs: Blobs) -> set[str]:
    assert blobs._folder is not None
    return {file.name for file in blobs._folder.rglob("*") if file.is_file()}


def test_only_old_blobs_that_no_snapshot_holds_are_taken(hands: Hands, blobs: Blobs) -> None:
    database = hands.database
    hands.edit()
    hands.edit(checkpoint=True)
    held = names(database)
    assert len(held) == 3  # two deltas and a checkpoint
    young = {blobs.put(None, b"young"), blobs.put(None, b"young" + LARGE)}
    old = [blobs.put(None, b"old"), blobs.put(None, b"old" + LARGE)]
    age(database, *held, *old)
    assert swept(database, blobs) == Swept(blobs=2, bytes=3 + 3 + len(LARGE))
    assert names(database) == held | young
    assert files(blobs) <= young
    with pytest.raises(BlobMissing):
        blobs.get(None, old[1])
    assert swept(database, blobs) == Swept()


def test_more_than_one_batch(hands: Hands, blobs: Blobs) -> None:
    age(hands.database, *[blobs.put(None, str(number).encode()) for number in range(250)])
    hands.edit()
    assert swept(hands.database, blobs).blobs == 250
    assert len(names(hands.database)) == 1


def test_a_blob_that_is_put_again_is_young_again(database: Database, blobs: Blobs) -> None:
    name = blobs.put(None, LARGE)
    age(database, name)
    blobs.put(None, LARGE)
    assert swept(database, blobs) == Swept()
    assert blobs.get(None, name) == LARGE


def test_a_blob_that_is_coming_into_use_is_left_alone(hands: Hands, blobs: Blobs) -> None:
    """It is old, and the snapshot that holds it is not committed yet."""
    hands.order()
    order = hands.take()
    name = blobs.put(None, LARGE)
    age(hands.database, name)
    with hands.database.tx() as tx:
        end = {"fingerprint": "sha256:x", "report": {}, "timings": {}}
        work.settle_edit(tx, order.id, epoch=hands.epoch, blob=name, **end)
        assert swept(hands.database, blobs) == Swept()
    assert swept(hands.database, blobs) == Swept()
    assert blobs.get(None, name) == LARGE


def test_what_came_into_use_while_it_was_being_found_stays(hands: Hands, blobs: Blobs) -> None:
    """The look for old blobs may have begun before a snapshot was committed."""
    hands.edit()
    (held,) = names(hands.database)
    free = blobs.put(None, b"free")
    with hands.database.tx() as tx:
        assert take_away(tx, blobs, [held, free]) == [4]
    assert names(hands.database) == {held}


def test_a_putter_that_waits_for_the_clean_up_brings_the_object_back(
    database: Database, blobs: Blobs
) -> None:
    """It found the object there, and it was taken away before it could say that it is wanted."""
    name = blobs.put(None, LARGE)
    with ThreadPoolExecutor() as pool:
        with database.tx() as tx:
            locked = tx.session.scalars(select(Blob.sha256).with_for_update())
            found = list(locked)
            putting = pool.submit(blobs.put, None, LARGE)
            wait_until(lambda: waiting(database) > 0)
            assert take_away(tx, blobs, found) == [len(LARGE)]
        assert putting.result(timeout=20) == name
    assert blobs.get(None, name) == LARGE


def waiting(database: Database) -> int:
    with database.engine.connect() as connection:
        locks = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        return connection.exec_driver_sql(locks).scalar_one()


def test_halves_and_orphans_of_writers_that_died(database: Database, blobs: Blobs) -> None:
    kept = blobs.put(None, LARGE)
    orphan = blobs.put(None, LARGE + b"!")
    assert blobs._folder is not None
    half = blobs._folder / kept[:2] / f".{kept}.4711.tmp"
    half.write_bytes(b"half")
    stranger = blobs._folder / "notes.txt"
    stranger.write_text("not ours")
    with database.tx() as tx:
        tx.session.delete(tx.session.get_one(Blob, orphan))
    assert swept(database, blobs, orphans=True) == Swept()  # all of it is young
    long_ago = time.time() - 2 * DAY.total_seconds()
    for path in blobs._folder.rglob("*"):
        os.utime(path, (long_ago, long_ago))
    assert swept(database, blobs) == Swept(leftovers=1)
    assert files(blobs) == {kept, orphan, "notes.txt"}
    assert swept(database, blobs, orphans=True) == Swept(orphans=1)
    assert blobs.get(None, orphan) == LARGE + b"!"  # somebody may still put and use it
    age(database, orphan)
    assert swept(database, blobs, orphans=True) == Swept(blobs=1, bytes=len(LARGE) + 1)
    assert files(blobs) == {kept, "notes.txt"}


def test_old_keys_are_forgotten(hands: Hands, client: TestClient, blobs: Blobs) -> None:
    def send(key: str) -> str:
        order = {"model": MODEL, **FACT}
        return client.post("/edits", json=order, headers={"Idempotency-Key": key}).json()["id"]

    first, second = send("old"), send("young")
    with hands.database.tx() as tx:
        old = func.clock_timestamp() - 2 * DAY
        where = IdempotencyKey.key == "old"
        tx.session.execute(update(IdempotencyKey).where(where).values(created_at=old))
    assert swept(hands.database, blobs) == Swept(keys=1)
    assert send("young") == second
    assert send("old") != first


def test_the_service_cleans_up_by_itself(
    hands: Hands, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.cleanup.FIRST_S", 0.05)
    place = Blobs(hands.database, settings.blobs, small=settings.small_blob_bytes)
    hands.edit()
    (held,) = names(hands.database)
    age(hands.database, held, place.put(None, b"old"))
    with TestClient(create_app(settings)):
        wait_until(lambda: names(hands.database) == {held})
    off = settings.model_copy(update={"cleanup_every_s": 0})
    age(hands.database, place.put(None, b"old"))
    with TestClient(create_app(off)):
        time.sleep(0.3)
    assert len(names(hands.database)) == 2


def test_an_operator_cleans_up_by_hand(hands: Hands, settings: Settings) -> None:
    place = Blobs(hands.database, settings.blobs)
    age(hands.database, place.put(None, b"old"))
    environ = {
        **os.environ,
        "ERRATA_DATABASE_URL": settings.database_url,
        "ERRATA_DATA_DIR": str(settings.data_dir),
        "ERRATA_LOG_JSON": "true",
    }
    ran = subprocess.run(
        [sys.executable, "-m", "app.store.cleanup", "--orphans"],
        env=environ,
        check=True,
        capture_output=True,
        text=True,
    )
    assert '"blobs": 1' in ran.stderr
    assert names(hands.database) == set()
