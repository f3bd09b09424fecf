"""A compaction on a worker: one delta for all live facts of the ledger, and life goes on."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.services import models
from app.services.probe import about
from app.store.tables import Fact
from editing.delta import LowRank
from editing.outcome import Outcome
from tests.guards import LAX
from tests.tiny import tiny_view
from tests.workers.hands import Hands, take_over
from tests.workers.shop import FRANCE, LEBRON, LEBRON_ASKS, MODEL, SERENA, Queue
from tests.workers.test_questions import answered
from tests.workers.test_retract import apply
from workers import compacting

Json = dict[str, Any]

# The tiny model knows few subjects: these are all that a fact can be written of.
BAND = {"layers": [1, 3]}


@pytest.fixture
def hands(queue: Queue, statistics_folder: Path, tmp_path: Path) -> Hands:
    return take_over(queue.database, tiny_view(stats_folder=statistics_folder), MODEL, tmp_path)


def write(queue: Queue, hands: Hands, fact: Json, editor: str = "ledger") -> str:
    return apply(queue, hands, fact, editor, **(BAND if editor == "ledger" else {}))


def done(queue: Queue, hands: Hands, order: str) -> Json:
    """Work the order off, and give its report."""
    hands.work()
    row = queue.edit(order)
    assert row.status == "applied", row.error
    return row.report or {}


def test_one_delta_holds_what_many_held(queue: Queue, hands: Hands, tmp_path: Path) -> None:
    edits = [write(queue, hands, LEBRON), write(queue, hands, FRANCE, "rome")]
    edits.append(write(queue, hands, SERENA))
    order = queue.compact()
    report = done(queue, hands, order)
    gained = report["compact"]
    assert gained["edits"] == 2
    assert gained["entries"] == {"before": 3, "value": 2}
    assert gained["bytes"]["value"] > 0
    assert len(report["requests"]) == 3
    assert report["drift"]["kl"]["n"] > 0
    assert {one["edit"] for one in report["live"]["asked"]} == set(edits)
    assert report["live"]["others"]["n"] == 3
    assert report["efficacy"]["accuracy"]["before"] == 1.0
    assert [entry.edit for entry in hands.host.lineage.entries] == [edits[1], order]
    assert sorted(hands.host.lineage.live) == sorted(edits)
    assert all(queue.edit(edit).live for edit in edits)
    # A worker with nothing in memory comes to the same bits.
    view = tiny_view(stats_folder=hands.host.view.stats.folder)
    other = take_over(queue.database, view, MODEL, tmp_path)
    assert other.host.view.audit() == hands.host.view.audit() == queue.lineage()[-1].fingerprint


def test_what_it_holds_can_be_taken_out_and_written_again(queue: Queue, hands: Hands) -> None:
    first, second = write(queue, hands, LEBRON), write(queue, hands, SERENA)
    compacted = queue.compact()
    done(queue, hands, compacted)
    report = done(queue, hands, queue.retract(first))
    assert report["retract"] == {"edit": first, "how": "exact"}
    assert report["requests"][0]["gone"]
    assert report["earlier"] == {"value": 1.0, "n": 1, "before": 1.0}
    assert hands.host.lineage.live == [second]
    again = write(queue, hands, {**SERENA, "target_new": "football"})
    assert hands.host.lineage.live == [again]
    assert not queue.edit(second).live
    done(queue, hands, queue.compact())
    assert [entry.holds for entry in hands.host.lineage.entries] == [(again,)]


def test_snapshots_on_both_sides_of_it_are_restored(queue: Queue, hands: Hands) -> None:
    edit = write(queue, hands, LEBRON)
    before = queue.lineage()[-1]
    done(queue, hands, queue.compact())
    after = queue.lineage()[-1]
    for one in (before, after):
        done(queue, hands, queue.restore(one.id))
        assert hands.host.view.audit() == one.fingerprint
        assert queue.edit(edit).live
    assert write(queue, hands, SERENA) in hands.host.lineage.live


def test_questions_know_the_edits_that_it_holds(queue: Queue, hands: Hands) -> None:
    edits = [write(queue, hands, LEBRON), write(queue, hands, SERENA)]
    base = queue.lineage()[0].id
    done(queue, hands, queue.compact())
    with queue.database.tx() as tx:
        asked = about(tx, MODEL, "football", None, None)
    assert [fact["edit"] for fact in asked["facts"]] == edits[::-1]
    assert asked["before"] == base
    again = {**LEBRON, "target_new": "tennis"}
    ripples = [{"prompt": LEBRON_ASKS, "answers": ["tennis"]}]
    told = {"kind": "forecast", "request": again, "ripples": ripples}
    said = answered(hands, told, prompts=[])
    assert said["collisions"][0]["edit"] == edits[0]
    done(queue, hands, queue.retract(edits[0]))
    met = {one["edit"] for one in answered(hands, told, prompts=[])["collisions"]}
    assert met <= {edits[1]}


def test_a_dry_run_measures_and_keeps_nothing(queue: Queue, hands: Hands) -> None:
    write(queue, hands, LEBRON)
    before, head = hands.host.view.audit(), hands.host.head
    order = queue.compact(dry_run=True)
    assert done(queue, hands, order)["compact"]["entries"] == {"before": 1, "value": 1}
    assert queue.edit(order).snapshot_id is None
    assert (hands.host.view.audit(), hands.host.head) == (before, head)


def test_under_other_hparams_there_is_nothing_to_compact(queue: Queue, hands: Hands) -> None:
    write(queue, hands, LEBRON)
    order = queue.compact(hparams={**BAND, "second_moment_weight": 7.0})
    hands.work()
    failed = queue.edit(order)
    assert (failed.status, (failed.error or {})["code"]) == ("failed", "nothing-to-compact")


# ---- the guard -------------------------------------------------------------------------------


def clumsy(monkeypatch: pytest.MonkeyPatch, factor: float = -30.0) -> None:
    """A compaction that writes something else than it was to write."""
    real = compacting.compact

    def compact(*given: Any) -> Any:
        outcome = yield from real(*given)
        deltas = {n: LowRank(factor * d.left, d.right) for n, d in outcome.changes.items()}
        return Outcome(deltas, outcome.written, outcome.notes, holds=outcome.holds)

    monkeypatch.setattr(compacting, "compact", compact)


def guarded(queue: Queue, guard: Json) -> None:
    with queue.database.tx() as tx:
        models.set_guard(tx, MODEL, guard)


@pytest.mark.parametrize(
    ("guard", "what"),
    [({"norm_ratio": 1.5}, "norm_ratio"), ({**LAX, "on_breach": "reject"}, "disturbed_share")],
)
def test_one_that_damages_the_model_is_rejected_and_kept_as_evidence(
    queue: Queue, hands: Hands, monkeypatch: pytest.MonkeyPatch, guard: Json, what: str
) -> None:
    edit = write(queue, hands, LEBRON)
    before, head = hands.host.view.audit(), hands.host.head
    clumsy(monkeypatch)
    guarded(queue, guard)
    told, order = queue.compact(dry_run=True), queue.compact()
    after = queue.order(SERENA, guard={**LAX, "on_breach": "warn"})
    hands.work()
    found = queue.edit(order)
    assert (found.status, found.snapshot_id) == ("rejected", None)
    assert found.error is not None
    assert found.error["code"] == "guard-breached"
    assert "compaction" in found.error["detail"]
    assert what in {one["what"] for one in found.error["breaches"]}
    assert (found.report or {})["guard"]["verdict"] == "reject"
    assert (found.report or {})["compact"]["edits"] == 1
    assert (queue.edit(told).report or {})["guard"]["verdict"] == "reject"
    with queue.database.tx() as tx:
        kept = Outcome.from_bytes(hands.bench.blobs.get(tx, str(found.evidence)))
    assert kept.holds == (edit,)
    assert (queue.edit(after).parent_id, queue.edit(after).status) == (head, "applied")
    done(queue, hands, queue.restore(head))
    assert hands.host.view.audit() == before


def test_what_it_disturbs_is_told_where_it_is_only_warned_of(
    queue: Queue, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = write(queue, hands, LEBRON)
    clumsy(monkeypatch)
    guarded(queue, {**LAX, "success": 1.0, "accuracy": 1.0, "kl": None, "neighborhood_loss": None})
    report = done(queue, hands, queue.compact())
    assert report["guard"]["verdict"] == "warn"
    assert [one["what"] for one in report["guard"]["breaches"]] == ["disturbed_share"]
    assert report["live"]["disturbed"] == [{"edit": edit, "facts": [0], "same_subject": False}]
    with queue.database.tx() as tx:
        fact = tx.session.scalars(select(Fact).where(Fact.edit_id == edit)).one()
        assert (fact.held, fact.asked_seq) == (False, queue.lineage()[-1].seq)


def test_without_a_sample_drift_and_canary_are_measured_all_the_same(
    queue: Queue, hands: Hands
) -> None:
    write(queue, hands, LEBRON)
    guarded(queue, {**LAX, "sample": 0})
    report = done(queue, hands, queue.compact())
    assert (report["requests"], report["live"]["asked"]) == ([], [])
    assert report["drift"]["kl"]["n"] > 0
    assert report["canary"]["finite"]
    assert report["guard"]["verdict"] == "passed"
