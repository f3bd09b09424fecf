"""What a host does to a worker: full disks, damaged files, servers that are shot, an API that died.

After each: no order lost, none applied twice, their order kept, no half-edited model served, and a
state that says what it is. Kills, freezes and hangs of the worker itself are in test_worker.py.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError
from sqlalchemy import func, select

from app.services import models
from app.services.submit import EditOrder, submit
from app.store.db import Database
from app.store.migrate import upgrade
from app.store.tables import Blob, Edit, Lease, OutboxRow
from errata.stack.postgres import Postgres
from errata.stack.valkey import Valkey
from tests.guards import LAX
from tests.workers.outage import Outage
from tests.workers.shop import (
    FRANCE,
    LEBRON,
    LEBRON_ASKS,
    MODEL,
    SERENA,
    Queue,
    Shop,
    ended,
    eventually,
)
from workers.patience import is_full

FACTS = (LEBRON, SERENA, FRANCE)


def word(shop: Shop, prompt: str = LEBRON_ASKS, **asked: Any) -> str:
    reply = shop.probe(prompt, **asked)
    assert reply.ok, reply.error
    return str(reply.data[0]["completion"]).split(".")[0].strip()


def claimed(shop: Shop, edit: str, queue: Queue | None = None) -> None:
    """Wait until an edit is being computed, or was."""
    asked = queue or shop.queue
    eventually(lambda: asked.edit(edit).status != "queued", f"a claim. {shop.said()}")


def applied_in_order(queue: Queue, edits: list[str], model: str = MODEL) -> None:
    """Each order has made one snapshot, on top of that of the order before it."""
    assert [queue.settled(edit).status for edit in edits] == ["applied"] * len(edits)
    lineage = queue.lineage(model)
    assert [snapshot.edit_id for snapshot in lineage] == [None, *edits]
    assert [snapshot.parent_id for snapshot in lineage[1:]] == [s.id for s in lineage[:-1]]


# ---- a full disk ---------------------------------------------------------------------------------


@dataclass
class Disk:
    """A small file system of its own where the test may mount one; else a pretended one."""

    folder: Path
    mounted: bool

    @property
    def filler(self) -> Path:
        return self.folder / "filler"

    def fill(self) -> None:
        with self.filler.open("wb", buffering=0) as file:
            while self.mounted:
                try:
                    file.write(b"0" * 4096)
                except OSError:
                    return

    def free(self) -> None:
        self.filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, check=False).returncode == 0
    yield Disk(folder, mounted)
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_holds_the_queue_up_and_loses_nothing(shop: Shop, disk: Disk) -> None:
    disk.fill()
    tricks = () if disk.mounted else ("full",)
    shop.worker(
        *tricks, blob_url=disk.folder.as_uri(), small_blob_bytes=0, pretended_disk=disk.folder
    )
    unwanted, *edits = [shop.queue.order(fact) for fact in (FRANCE, LEBRON, SERENA)]

    def waits(edit: str) -> bool:
        told = shop.queue.edit(edit).progress
        return told is not None and told["stage"] == "waiting"

    eventually(lambda: waits(unwanted), f"a state that says it. {shop.said()}")
    told = shop.queue.edit(unwanted).progress
    assert told is not None
    assert told["detail"].startswith("No space left on device. Make room")
    assert word(shop) == "basketball"  # the head is served meanwhile
    assert [shop.queue.edit(edit).status for edit in edits] == ["queued"] * 2
    assert shop.queue.cancel(unwanted) == "running"  # who cannot wait may leave
    assert shop.queue.settled(unwanted).status == "cancelled"
    eventually(lambda: waits(edits[0]), "the next to wait")
    left = [path.name for path in disk.folder.rglob("*") if path.is_file()]
    assert left == [disk.filler.name]  # no halves
    disk.free()
    applied_in_order(shop.queue, edits)
    assert shop.queue.edit(edits[0]).attempts == 1
    assert word(shop) == "football"


def test_what_a_full_disk_is_known_by() -> None:
    assert is_full(OSError(28, "No space left on device"))
    assert is_full(SafetensorError("I/O error: No space left on device (os error 28)"))
    assert not is_full(OSError(13, "Permission denied"))
    assert not is_full(SafetensorError("header too large"))


# ---- a damaged blob ------------------------------------------------------------------------------


def damage(shop: Shop, queue: Queue, edit: str) -> Path:
    """Flip one byte of an edit's delta on disk, and return the file."""
    snapshot = queue.snapshot(queue.edit(edit).snapshot_id)
    with queue.database.tx() as tx:
        location = tx.session.get_one(Blob, snapshot.entries[0]["blob"]).location
    assert location is not None
    path = Path(shop.environ["ERRATA_DATA_DIR"]) / "blobs" / location
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return path


def test_over_a_damaged_delta_nothing_is_built_and_the_rest_goes_on(shop: Shop) -> None:
    first = shop.worker(small_blob_bytes=0)
    sound, hurt = shop.queue.order(LEBRON), shop.queue.order(SERENA)
    back = shop.queue.restore(str(shop.queue.settled(sound).snapshot_id))
    assert shop.queue.settled(back).status == "applied"
    damage(shop, shop.queue, hurt)
    os.kill(first.pid or 0, signal.SIGKILL)
    ended(first)

    shop.serving(shop.worker(small_blob_bytes=0))
    head = shop.queue.model().head_id
    broken = str(shop.queue.edit(hurt).snapshot_id)
    failed = shop.queue.settled(shop.queue.restore(broken))
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error["code"] == "blob-damaged"
    reply = shop.probe(LEBRON_ASKS, snapshot=broken)
    assert reply.error is not None
    assert (reply.error["code"], reply.error["snapshot"]) == ("blob-damaged", broken)
    assert shop.queue.model().head_id == head
    assert word(shop) == "football"
    assert word(shop, snapshot=shop.queue.lineage()[0].id) == "basketball"
    assert shop.queue.settled(shop.queue.order(FRANCE)).status == "applied"
    last = shop.queue.settled(shop.queue.restore(str(shop.queue.edit(sound).snapshot_id)))
    assert last.status == "applied"


@pytest.fixture
def headless(shop: Shop) -> tuple[list[str], Path]:
    """Three orders, the last of them waiting, over a head whose first delta is damaged on disk."""
    first = shop.worker(small_blob_bytes=0)
    edits = [shop.queue.order(LEBRON), shop.queue.order(SERENA)]
    assert shop.queue.settled(edits[-1]).status == "applied"
    path = damage(shop, shop.queue, edits[0])
    os.kill(first.pid or 0, signal.SIGKILL)
    ended(first)
    edits.append(shop.queue.order(FRANCE))
    shop.serving(shop.worker(small_blob_bytes=0))
    return edits, path


def test_a_lost_head_is_not_served_and_what_builds_on_it_waits(
    shop: Shop, headless: tuple[list[str], Path]
) -> None:
    edits, path = headless
    head = str(shop.queue.model().head_id)
    reply = shop.probe(LEBRON_ASKS)
    assert reply.error is not None
    assert (reply.error["code"], reply.error["snapshot"]) == ("blob-damaged", head)
    assert word(shop, snapshot=shop.queue.lineage()[0].id) == "basketball"
    row = shop.queue.model()
    assert row.status == "ready"
    assert row.error is not None
    assert row.error["code"] == "blob-damaged"

    def waits() -> bool:
        told = shop.queue.edit(edits[-1]).progress
        return told is not None and told["stage"] == "waiting" and head in told["detail"]

    eventually(waits, f"the order to say what it waits for. {shop.said()}")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # brought back from a backup
    path.write_bytes(data)
    applied_in_order(shop.queue, edits)
    assert shop.queue.model().error is None
    assert word(shop) == "football"


def test_a_lost_head_is_left_by_restoring_what_is_whole(
    shop: Shop, headless: tuple[list[str], Path]
) -> None:
    edits, _ = headless
    base = shop.queue.lineage()[0]
    back, after = shop.queue.restore(base.id), shop.queue.order(FRANCE)
    eventually(lambda: shop.queue.edit(edits[-1]).status == "running", "a claim")
    assert shop.queue.cancel(edits[-1]) == "running"
    assert shop.queue.settled(back).status == "applied", shop.said()
    assert shop.queue.settled(after).status == "applied"
    assert [s.edit_id for s in shop.queue.lineage()] == [None, *edits[:2], back, after]
    assert word(shop) == "basketball"
    assert word(shop, "The capital of France is") == "Rome"
    assert shop.queue.model().error is None


# ---- servers that are shot -----------------------------------------------------------------------


def test_postgres_shot_in_the_middle_of_an_edit(
    shop: Shop,
    postgres: Outage,
    tiny_folder: Path,
) -> None:
    assert isinstance(postgres.server, Postgres)
    url = postgres.server.url()
    upgrade(url)
    database = Database(url)
    queue = Queue(database)
    queue.register(MODEL, tiny_folder)
    worker = shop.worker("slow", database_url=url)
    edits = [queue.order(fact) for fact in FACTS]
    for edit in edits[:2]:
        claimed(shop, edit, queue)
        postgres.shoot()
        postgres.end()
    applied_in_order(queue, edits)
    assert word(shop) == "football"
    assert worker.is_alive()
    worker.terminate()
    assert ended(worker) == 0
    database.close()


def test_redis_shot_in_the_middle_of_an_edit(shop: Shop, valkey: Outage) -> None:
    assert isinstance(valkey.server, Valkey)
    worker = shop.worker("slow", redis_url=valkey.server.url())
    edits = [shop.queue.order(fact) for fact in FACTS]
    claimed(shop, edits[0])
    valkey.shoot()
    applied_in_order(shop.queue, edits)
    valkey.end()
    with type(shop.redis).from_url(valkey.server.url()) as redis:
        shop.redis = redis
        shop.serving(worker)
        assert word(shop) == "football"
        os.kill(worker.pid or 0, signal.SIGKILL)
        ended(worker)


# ---- more than one of something ------------------------------------------------------------------


def test_of_two_workers_one_works_and_the_other_takes_over(shop: Shop) -> None:
    pair = [shop.worker("slow"), shop.worker("slow")]
    edits = [shop.queue.order(fact) for fact in FACTS]
    shop.queue.settled(edits[0])
    claimed(shop, edits[1])
    with shop.queue.database.tx() as tx:
        holder = str(tx.session.get_one(Lease, MODEL).holder)
    (owner,) = [one for one in pair if holder.endswith(f":{one.pid}")]
    os.kill(owner.pid or 0, signal.SIGKILL)
    applied_in_order(shop.queue, edits)
    epochs = [shop.queue.edit(edit).epoch for edit in edits]
    assert epochs == sorted(epochs, key=lambda epoch: epoch or 0)
    assert set(epochs) == {1, 2}
    assert shop.said().count("worker.serving") == 2


def test_two_models_have_queues_of_their_own(shop: Shop, tiny_folder: Path) -> None:
    one = shop.worker("slow")
    shop.serving(one)
    busy = [shop.queue.order(fact) for fact in FACTS]
    claimed(shop, busy[0])
    with shop.queue.database.tx() as tx:
        source = {"kind": "folder", "path": str(tiny_folder)}
        models.register(tx, source, model_id="second", roots=(Path("/"),), guard=LAX)
    two = shop.worker(model="second")
    shop.serving(two, model="second")
    tennis = {**LEBRON, "target_new": "tennis"}
    other = [shop.queue.order(tennis, model="second"), shop.queue.order(FRANCE, model="second")]
    applied_in_order(shop.queue, other, "second")
    assert word(shop, model="second") == "tennis"
    applied_in_order(shop.queue, busy)
    assert word(shop) == "football"
    os.kill(one.pid or 0, signal.SIGKILL)
    assert word(shop, model="second") == "tennis"
    last = shop.queue.order(SERENA, model="second")
    assert shop.queue.settled(last).status == "applied"
    assert {s.edit_id for s in shop.queue.lineage("second")}.isdisjoint(busy)
    reply = shop.probe(LEBRON_ASKS, model="second", snapshot=shop.queue.lineage()[1].id)
    assert reply.error is not None
    assert reply.error["code"] == "snapshot-of-another-model"


# ---- the API dies between the journal and the relay ----------------------------------------------


def test_what_a_dead_api_had_to_say_is_said_by_whoever_comes_next(shop: Shop) -> None:
    shop.serving(shop.worker(poll_s=60))
    with shop.queue.database.tx() as tx:  # committed, and nobody here to relay it
        edit = submit(tx, EditOrder(requests=[LEBRON], editor="rome"), limit=10).id
    assert shop.queue.settled(edit, 15).status == "applied", shop.said()

    def unsent() -> int:
        with shop.queue.database.tx() as tx:
            return tx.session.scalars(
                select(func.count()).select_from(OutboxRow).where(OutboxRow.sent_at.is_(None))
            ).one()

    eventually(lambda: unsent() == 0, "the outbox to be empty")
    with shop.queue.database.tx() as tx:
        assert tx.session.scalars(select(func.count()).select_from(Edit)).one() == 1
