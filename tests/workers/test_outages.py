"""Postgres or Redis go away under a worker and come back: it keeps the model, and goes on."""

import os
import time
from pathlib import Path

from app.store.db import Database
from app.store.migrate import upgrade
from errata.stack.postgres import Postgres
from errata.stack.valkey import Valkey
from tests.workers.outage import Outage
from tests.workers.shop import FRANCE, LEBRON, LEBRON_ASKS, MODEL, Queue, Shop


def word(shop: Shop) -> str:
    reply = shop.probe(LEBRON_ASKS)
    assert reply.ok, reply.error
    return str(reply.data[0]["completion"]).split(".")[0].strip()


def test_postgres_away_for_longer_than_the_lease(
    shop: Shop, postgres: Outage, tiny_folder: Path
) -> None:
    assert isinstance(postgres.server, Postgres)
    url = postgres.server.url()
    upgrade(url)
    database = Database(url)
    queue = Queue(database)
    queue.register(MODEL, tiny_folder)
    worker = shop.worker(database_url=url)
    before = shop.serving(worker)
    postgres.begin()
    gone = time.monotonic()
    assert word(shop) == "basketball"  # the head is in memory
    assert time.monotonic() - gone < 5
    time.sleep(1.5)
    postgres.end()
    edits = [queue.order(LEBRON), queue.order(FRANCE)]
    assert [queue.settled(edit).status for edit in edits] == ["applied"] * 2, shop.said()
    assert word(shop) == "football"
    assert shop.serving(worker)["epoch"] == before["epoch"]  # never loaded again
    assert shop.said().count("worker.serving") == 1
    worker.terminate()
    worker.join(20)
    database.close()


def test_redis_away_and_back(shop: Shop, valkey: Outage) -> None:
    assert isinstance(valkey.server, Valkey)
    valkey.begin()
    worker = shop.worker(redis_url=valkey.server.url())
    edit = shop.queue.order(LEBRON)
    assert shop.queue.settled(edit).status == "applied"
    valkey.end()
    with type(shop.redis).from_url(valkey.server.url()) as redis:
        shop.redis = redis
        shop.serving(worker)
        assert word(shop) == "football"
    os.kill(worker.pid or 0, 15)
    worker.join(20)
    assert worker.exitcode == 0
