"""An edit that changes no weight is a snapshot like any other: served, replayed, taken back."""

from pathlib import Path

import pytest

from editing.model.scoring import score
from editing.model.state import State
from editing.model.view import ModelView
from editing.probe import probe
from editing.run import finish, under
from tests.tiny import tiny_view
from tests.workers.hands import Hands, take_over
from tests.workers.shop import FRANCE, LEBRON, LEBRON_ASKS, MODEL, SERENA, Queue

TOLD = "Imagine that LeBron James plays the sport of football.\n"
ALSO = "Imagine that The capital of France is Rome.\n"


@pytest.fixture
def hands(queue: Queue, statistics_folder: Path, tmp_path: Path) -> Hands:
    return take_over(queue.database, tiny_view(stats_folder=statistics_folder), MODEL, tmp_path)


def again(queue: Queue, hands: Hands, tmp_path: Path, **settings: int) -> Hands:
    """The next worker, with nothing in memory."""
    view = tiny_view(stats_folder=hands.host.view.stats.folder)
    return take_over(queue.database, view, MODEL, tmp_path, **settings)


def order(queue: Queue, hands: Hands, editor: str, fact: dict[str, str]) -> str:
    """Have a fact written, or told in a line: the tiny model has room for 128 tokens."""
    hparams = {"form": "imagine"} if editor == "ike" else {}
    edit = queue.order(fact, editor=editor, **hparams)
    hands.work()
    assert queue.edit(edit).status == "applied", queue.edit(edit).error
    return edit


def likely(view: ModelView, state: State, question: str) -> float:
    (found,) = finish(under(view, state, score(view, [(question, "football")])))
    return found.logprob


def test_it_is_measured_settled_and_asked_behind(queue: Queue, hands: Hands) -> None:
    base = hands.host.head
    edit = queue.edit(order(queue, hands, "ike", LEBRON))
    view = hands.host.view
    assert view.current.preface == TOLD
    assert view.current.masters == {}
    assert edit.report is not None
    assert edit.report["editor"] == {"preface": TOLD}
    row = edit.report["requests"][0]
    assert row["p_new"] != row["p_new_before"]
    assert edit.report["drift"]["kl"]["value"] > 0 == edit.report["drift"]["kl"]["before"]
    assert edit.report["drift"]["norm_ratio"]["value"] == 1.0

    snapshot = queue.snapshot(edit.snapshot_id)
    assert snapshot.fingerprint == view.audit() != queue.snapshot(base).fingerprint
    asked = likely(view, view.current, LEBRON_ASKS)
    assert asked == pytest.approx(likely(view, State(), TOLD + LEBRON_ASKS))
    assert asked != pytest.approx(likely(view, hands.host.state_of(base), LEBRON_ASKS))
    (answer,) = probe(view, [LEBRON_ASKS], targets=["football"])
    assert answer["targets"][0]["logprob"] == pytest.approx(asked)  # type: ignore[index]


def test_told_and_written_edits_come_back_bit_for_bit(
    queue: Queue, hands: Hands, tmp_path: Path
) -> None:
    hands = again(queue, hands, tmp_path, checkpoint_every=2)
    bits, prefaces = [hands.host.view.audit()], [""]
    for editor, fact in (
        ("ike", LEBRON),
        ("memit-history", SERENA),
        ("ike", FRANCE),
        ("rome", {**LEBRON, "target_new": "tennis"}),
    ):
        order(queue, hands, editor, fact)
        bits.append(hands.host.view.audit())
        prefaces.append(hands.host.view.current.preface)
    assert prefaces == ["", TOLD, TOLD, TOLD + ALSO, TOLD + ALSO]  # a weight edit keeps it
    assert len(set(bits)) == 5
    assert [bool(s.checkpoint) for s in queue.lineage()] == [False, False, True, False, True]

    fresh = again(queue, hands, tmp_path)
    assert fresh.host.view.audit() == bits[4]
    assert fresh.host.view.current.preface == TOLD + ALSO
    for number, snapshot in enumerate(queue.lineage()[:4]):
        queue.restore(snapshot.id)
        fresh.work()
        assert fresh.host.view.audit() == bits[number]
        assert fresh.host.view.current.preface == prefaces[number]
    later = again(queue, fresh, tmp_path)
    assert later.host.view.audit() == bits[3]


def test_one_that_leaves_no_room_fails_and_leaves_the_head(queue: Queue, hands: Hands) -> None:
    order(queue, hands, "ike", LEBRON)
    head, bits = hands.host.head, hands.host.view.audit()
    edit = queue.order(*[FRANCE, SERENA] * 8, editor="ike", form="new-fact")
    hands.work()
    failed = queue.edit(edit)
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error["code"] == "text-too-long"
    assert "are the preface" in failed.error["detail"]
    assert (hands.host.head, hands.host.view.audit()) == (head, bits)


def test_what_is_told_needs_no_statistics(queue: Queue, hands: Hands) -> None:
    edit = queue.statistics(editor="ike")
    hands.work()
    settled = queue.edit(edit)
    assert settled.status == "applied"
    assert settled.report is not None
    assert settled.report["statistics"] == []


def test_a_relation_edit_goes_the_same_way(queue: Queue, hands: Hands) -> None:
    relation = {
        "perspective": "relation",
        "subject": "France",
        "object": "Rome",
        "relation_text": "capital",
        "add_prompt": "Rome is to {} the",
    }
    for _ in range(2):  # the second has the first among its earlier facts
        edit = queue.edit(order(queue, hands, "ike", relation))
        assert edit.report is not None
        assert edit.report["requests"][0]["rival"] == "None"
        relation = {**relation, "relation_text": "sea", "add_prompt": "Rome is not to {} the"}
    assert edit.report["earlier"]["n"] == 1
    assert hands.host.view.current.preface == (
        "Imagine that Rome is to France the capital.\nImagine that Rome is not to France the sea.\n"
    )
