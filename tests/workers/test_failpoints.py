"""A worker dies at each named place; the next one goes on as if nothing had happened."""

import os
import signal
from pathlib import Path

import pytest

from tests.tiny import tiny_view
from tests.workers.hands import take_over
from tests.workers.shop import FRANCE, LEBRON, LEBRON_ASKS, SERENA, Queue, Shop, ended
from workers.failpoints import EXIT_CODE, NAMES, OF_ORDERS, FailPoint, UnknownFailPoint

FACTS = (LEBRON, SERENA, FRANCE)
PASSINGS = {"in_editor": 5}  # in the middle of the first edit; elsewhere in the second edit


@pytest.fixture
def calm(queue: Queue, tiny_folder: Path, statistics_folder: Path, tmp_path: Path) -> list[str]:
    """The fingerprints that the same orders lead to where nothing happens."""
    queue.register("calm", tiny_folder)
    for fact in FACTS:
        queue.order(fact, model="calm")
    view = tiny_view(stats_folder=statistics_folder)
    take_over(queue.database, view, "calm", tmp_path / "calm").work()
    return [snapshot.fingerprint for snapshot in queue.lineage("calm")]


@pytest.mark.parametrize("name", OF_ORDERS)
def test_an_order_whose_worker_died_is_applied_once(shop: Shop, calm: list[str], name: str) -> None:
    edits = [shop.queue.order(fact) for fact in FACTS]
    victim = shop.worker(failpoint=f"{name}:{PASSINGS.get(name, 2)}")
    assert ended(victim) == EXIT_CODE, shop.said()

    left = [shop.queue.edit(edit) for edit in edits]
    committed = name in {"after_commit", "before_swap"}
    done = 2 if committed else 0 if name == "in_editor" else 1
    assert [edit.status for edit in left[: done + 1]] == ["applied"] * done + (
        ["queued"] if committed else ["running"]
    )
    heir = shop.worker()
    settled = [shop.queue.settled(edit) for edit in edits]
    assert [edit.status for edit in settled] == ["applied"] * len(edits), shop.said()
    expected = [2 if number == done and not committed else 1 for number in range(len(edits))]
    assert [edit.attempts for edit in settled] == expected

    lineage = shop.queue.lineage()
    assert [snapshot.edit_id for snapshot in lineage] == [None, *edits]
    assert [snapshot.fingerprint for snapshot in lineage] == calm
    assert shop.queue.model().head_id == lineage[-1].id
    shop.serving(heir)
    reply = shop.probe(LEBRON_ASKS)
    assert reply.data[0]["snapshot"] == lineage[-1].id
    assert str(reply.data[0]["completion"]).strip().startswith("football")


@pytest.mark.parametrize("name", ["before_commit", "after_commit", "before_swap"])
def test_a_restore_whose_worker_died_is_applied_once(shop: Shop, name: str) -> None:
    edit = shop.queue.order(LEBRON)
    first = shop.worker(failpoint=f"{name}:2")
    shop.queue.settled(edit)
    base = shop.queue.lineage()[0]
    back = shop.queue.restore(base.id)
    assert ended(first) == EXIT_CODE, shop.said()
    heir = shop.worker()
    assert shop.queue.settled(back).status == "applied"
    lineage = shop.queue.lineage()
    assert [snapshot.kind for snapshot in lineage] == ["base", "edit", "restore"]
    assert lineage[-1].fingerprint == base.fingerprint
    shop.serving(heir)
    reply = shop.probe(LEBRON_ASKS)
    assert str(reply.data[0]["completion"]).strip().startswith("basketball")


@pytest.mark.parametrize("name", OF_ORDERS)
@pytest.mark.parametrize("kind", ["solved", "dropped", "compact"])
def test_what_leaves_deltas_out_is_done_once(shop: Shop, name: str, kind: str) -> None:
    if kind == "dropped" and name in {"in_editor", "after_blob"}:
        pytest.skip("it computes and keeps nothing of its own")
    editor = {"solved": "memit-history", "dropped": "rome", "compact": "ledger"}[kind]
    first = shop.worker()
    edits = [shop.queue.order(fact, editor=editor) for fact in (LEBRON, FRANCE)]
    for edit in edits:
        assert shop.queue.settled(edit).status == "applied", shop.said()
    os.kill(first.pid or 0, signal.SIGKILL)
    first.join()
    order = shop.queue.compact() if kind == "compact" else shop.queue.retract(edits[0])
    assert ended(shop.worker(failpoint=name)) == EXIT_CODE, shop.said()
    heir = shop.worker()
    done = shop.queue.settled(order)
    assert done.status == "applied", shop.said()
    assert done.attempts == (1 if name in {"after_commit", "before_swap"} else 2)
    lineage = shop.queue.lineage()
    assert [snapshot.kind for snapshot in lineage][3:] == [done.kind]
    assert shop.queue.model().head_id == lineage[-1].id
    live = [shop.queue.edit(edit).live for edit in edits]
    assert live == [kind == "compact", True]
    shop.serving(heir)
    (said,) = shop.probe(LEBRON_ASKS).data
    assert said["snapshot"] == lineage[-1].id
    is_said = str(said["completion"]).strip().startswith("football")
    assert is_said is (kind == "compact")


def test_a_name_that_is_none_is_refused_at_the_start(shop: Shop) -> None:
    assert ended(shop.worker(failpoint="after_lunch")) == 2
    assert "in_editor, after_blob, before_commit, after_commit, before_swap" in shop.said()


@pytest.mark.parametrize("text", ["nowhere", "after_blob:", "after_blob:0", "after_blob:x", ":3"])
def test_what_cannot_be_read(text: str) -> None:
    with pytest.raises(UnknownFailPoint, match="ERRATA_FAILPOINT"):
        FailPoint.parse(text)


def test_without_a_name_everybody_passes() -> None:
    point = FailPoint.parse("")
    for name in NAMES:
        point.passing(name)


def test_the_count_says_which_passing_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[int] = []
    monkeypatch.setattr("os._exit", ends.append)
    point = FailPoint.parse("after_blob:3")
    for _ in range(2):
        point.passing("after_blob")
        point.passing("before_swap")
    assert ends == []
    point.passing("after_blob")
    assert ends == [EXIT_CODE]
