"""Whole workers: killed, frozen, hung, stopped, and left without Redis or a parent."""

import os
import random
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from app.queue import streams
from tests.tiny import tiny_view
from tests.workers import mischief
from tests.workers.hands import take_over
from tests.workers.shop import (
    FORKS,
    FRANCE,
    LEBRON,
    LEBRON_ASKS,
    MODEL,
    SERENA,
    Shop,
    ended,
    eventually,
    frozen,
)

FOOTBALL, TENNIS = LEBRON, {**LEBRON, "target_new": "tennis"}


def in_progress(shop: Shop, edit: str) -> None:
    """Wait until an edit is being computed."""
    eventually(lambda: shop.queue.edit(edit).progress is not None, f"steps. {shop.said()}")


def kill(worker: BaseProcess) -> None:
    os.kill(worker.pid or 0, signal.SIGKILL)
    ended(worker)


def word(shop: Shop, **asked: Any) -> str:
    reply = shop.probe(LEBRON_ASKS, **asked)
    assert reply.ok, reply.error
    return str(reply.data[0]["completion"]).split(".")[0].strip()


def test_killed_at_any_moment_every_edit_is_applied_once_and_in_order(
    shop: Shop, statistics_folder: Path, tmp_path: Path, tiny_folder: Path
) -> None:
    chance = random.Random(os.environ.get("PYTEST_SEED", "7"))  # noqa: S311 - no secret
    facts = [FOOTBALL, SERENA, TENNIS, FRANCE, FOOTBALL, {**SERENA, "target_new": "football"}]
    edits = [shop.queue.order(fact) for fact in facts]
    settled = 0
    while shop.queue.open_orders():
        worker = shop.worker("slow")
        # Not the same order again and again, or it would be taken for poison.
        goal = min(settled + 1, len(edits))
        eventually(
            lambda goal=goal: len(edits) - shop.queue.open_orders() >= goal, shop.said() or "one"
        )
        time.sleep(chance.uniform(0, 0.8))
        kill(worker)
        settled = len(edits) - shop.queue.open_orders()

    lineage = shop.queue.lineage()
    assert [s.edit_id for s in lineage] == [None, *edits]
    assert [s.seq for s in lineage] == list(range(len(edits) + 1))
    assert [s.parent_id for s in lineage[1:]] == [s.id for s in lineage[:-1]]
    assert {shop.queue.edit(edit).status for edit in edits} == {"applied"}
    assert len(shop.running) > 1

    # The same orders without a kill make the same model, bit for bit.
    shop.queue.register("calm", tiny_folder)
    for fact in facts:
        shop.queue.order(fact, model="calm")
    view = tiny_view(stats_folder=statistics_folder)
    calm = take_over(shop.queue.database, view, "calm", tmp_path)
    calm.work()
    assert calm.host.view.audit() == lineage[-1].fingerprint


def test_a_frozen_worker_is_replaced_and_cannot_settle_afterwards(shop: Shop) -> None:
    edit = shop.queue.order(FOOTBALL)
    first = shop.worker("slow")
    in_progress(shop, edit)
    with frozen(first):
        second = shop.worker()
        settled = shop.queue.settled(edit)
        owner = shop.serving(second)
    assert ended(first) == 3, shop.said()
    assert "worker.fenced" in shop.said()
    assert settled.status == "applied"
    assert len(shop.queue.lineage()) == 2
    assert shop.serving(second)["epoch"] == owner["epoch"] == 2
    assert word(shop) == "football"


def test_a_step_that_hangs_loses_the_lease_and_ends_the_process(shop: Shop) -> None:
    edit = shop.queue.order(FOOTBALL)
    first = shop.worker("endless", step_budget_s=0.2)
    in_progress(shop, edit)
    shop.worker()
    assert shop.queue.settled(edit).status == "applied"
    assert ended(first) == 5, shop.said()
    assert "worker.hung" in shop.said()


def test_sigterm_puts_the_order_back_and_the_next_worker_goes_on(shop: Shop) -> None:
    first = shop.worker("slow")
    shop.serving(first)
    edit = shop.queue.order(FOOTBALL)
    in_progress(shop, edit)
    os.kill(first.pid or 0, signal.SIGTERM)
    assert ended(first) == 0, shop.said()
    waiting = shop.queue.edit(edit)
    assert (waiting.status, waiting.attempts, waiting.progress) == ("queued", 0, None)
    assert shop.redis.get(streams.worker(MODEL)) is None
    shop.worker()
    applied = shop.queue.settled(edit)
    assert (applied.status, applied.attempts) == ("applied", 1)


def test_sigterm_while_it_waits_for_the_lease_ends_it_at_once(shop: Shop) -> None:
    shop.serving(shop.worker())
    standby = shop.worker()
    eventually(lambda: "lease.waiting" in shop.said(), "the second to wait")
    os.kill(standby.pid or 0, signal.SIGTERM)
    assert ended(standby, 5) == 0


def test_an_order_that_kills_three_workers_is_given_up_and_the_queue_goes_on(shop: Shop) -> None:
    poison, healthy = shop.queue.order(FOOTBALL), shop.queue.order(FRANCE)
    for _ in range(3):
        assert ended(shop.worker("deadly")) == 137
    shop.worker()
    failed = shop.queue.settled(poison)
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error["code"] == "poisoned"
    assert shop.queue.settled(healthy).status == "applied"


def test_between_steps_probes_see_the_head(shop: Shop) -> None:
    shop.serving(shop.worker("slow"))
    head = shop.queue.model().head_id
    edit = shop.queue.order(FOOTBALL)
    in_progress(shop, edit)
    seen: list[str] = []
    while shop.queue.edit(edit).status == "running":
        reply = shop.probe(LEBRON_ASKS)
        if shop.queue.edit(edit).status == "running":
            assert reply.data[0]["snapshot"] == head
            seen.append(str(reply.data[0]["completion"]).split(".")[0].strip())
    assert len(seen) >= 2
    assert set(seen) == {"basketball"}
    assert word(shop) == "football"
    assert word(shop, snapshot=head) == "basketball"


def test_without_redis_edits_are_applied_by_polling(shop: Shop) -> None:
    worker = shop.worker(redis_url="redis://127.0.0.1:1/0")
    edits = [shop.queue.order(FOOTBALL), shop.queue.order(FRANCE)]
    for edit in edits:
        assert shop.queue.settled(edit).status == "applied", shop.said()
    os.kill(worker.pid or 0, signal.SIGTERM)
    assert ended(worker) == 0


def test_after_redis_forgot_everything_wake_ups_and_probes_go_on(shop: Shop) -> None:
    shop.serving(shop.worker(poll_s=20))
    shop.redis.flushall()
    assert word(shop) == "basketball"
    edit = shop.queue.order(FOOTBALL)
    shop.redis.xadd(streams.edits(MODEL), {"edit_id": edit})
    assert shop.queue.settled(edit, 10).status == "applied"


def test_an_order_announced_is_not_waited_for(shop: Shop) -> None:
    shop.serving(shop.worker(poll_s=20))
    listener = shop.redis.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(streams.settled(MODEL))
    listener.get_message(timeout=1)
    edit = shop.queue.order(FOOTBALL)
    shop.redis.xadd(streams.edits(MODEL), {"edit_id": edit})
    assert shop.queue.settled(edit, 10).status == "applied"
    heard = None
    while heard is None:
        heard = listener.get_message(timeout=5)
    assert edit in str(heard["data"])
    listener.close()


def test_the_worker_of_a_removed_model_ends_well(shop: Shop) -> None:
    worker = shop.worker()
    shop.serving(worker)
    shop.queue.remove(MODEL)
    assert ended(worker) == 0, shop.said()
    assert ended(shop.worker()) == 0
    assert ended(shop.worker(model="never-registered")) == 0


def test_a_model_that_cannot_be_loaded_says_why(shop: Shop, tmp_path: Path) -> None:
    shop.queue.register("nothing", tmp_path / "nowhere")
    assert ended(shop.worker(model="nothing")) == 4, shop.said()
    row = shop.queue.model("nothing")
    assert row.status == "failed"
    assert row.error is not None
    assert row.error["code"] == "bad-source"


def test_other_weights_under_a_lineage_are_not_served(shop: Shop) -> None:
    first = shop.worker()
    shop.serving(first)
    kill(first)
    shop.queue.sql("UPDATE models SET base_fingerprint = 'sha256:other'")
    assert ended(shop.worker()) == 4, shop.said()
    error = shop.queue.model().error
    assert error is not None
    assert error["code"] == "fingerprint-mismatch"


def test_a_worker_does_not_outlive_its_parent(shop: Shop, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    parent = FORKS.Process(
        target=mischief.leave_behind,
        args=(MODEL, shop.environ, tmp_path / "worker-child.log", note),
    )
    parent.start()
    eventually(note.exists, "the worker's pid")
    eventually(lambda: "worker.serving" in shop.said(), shop.said() or "a worker to serve")
    kill(parent)
    worker = int(note.read_text())
    eventually(lambda: not Path(f"/proc/{worker}").exists(), "the worker to end", 15)


def test_it_is_started_as_a_module(shop: Shop) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.main", "--model", MODEL],
        env={**os.environ, **shop.environ, "ERRATA_LOG_JSON": "true"},
        stderr=subprocess.PIPE,
        text=True,
    )
    shop.serving()
    assert word(shop) == "basketball"
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert '"event": "worker.serving"' in said
    assert '"event": "worker.stopped"' in said
