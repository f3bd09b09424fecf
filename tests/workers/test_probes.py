"""Probes: one batch, each snapshot in its turn, and an answer or a reason for everyone."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.queue.messages import ProbeMessage, ProbeReply
from editing.probe import probe as real_probe
from tests.tiny import tiny_view
from tests.workers.hands import Hands, take_over
from tests.workers.shop import LEBRON, LEBRON_ASKS, MODEL, Queue
from workers import probes
from workers.probes import Inbox, Prober

FRANCE_ASKS = "The capital of France is"


@dataclass
class Desk:
    """A prober, and who asks it."""

    hands: Hands
    inbox: Inbox = field(default_factory=Inbox)
    replies: dict[str, ProbeReply] = field(default_factory=dict)
    batches: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.prober = Prober(self.hands.host, self.inbox, self.replies.__setitem__, lambda: None)

    def put(self, name: str, *prompts: str, wait: float = 10, **asked: Any) -> None:
        asked = {"max_tokens": 1, **asked}
        self.inbox.put(
            ProbeMessage(id=name, deadline=time.time() + wait, prompts=list(prompts), **asked)
        )

    def answered(self, name: str) -> list[dict[str, Any]]:
        self.prober.answer()
        reply = self.replies[name]
        assert reply.ok, reply.error
        return reply.data


@pytest.fixture
def desk(
    queue: Queue, statistics_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Desk:
    view = tiny_view(stats_folder=statistics_folder)
    desk = Desk(take_over(queue.database, view, MODEL, tmp_path))

    def probe(view: Any, prompts: list[str], **asked: Any) -> list[dict[str, object]]:
        desk.batches.append(list(prompts))
        return real_probe(view, prompts, **asked)

    monkeypatch.setattr(probes, "probe", probe)
    return desk


def word(datum: dict[str, Any]) -> str:
    return str(datum["completion"]).strip()


def test_all_that_waits_is_one_batch(desk: Desk) -> None:
    desk.put("a", LEBRON_ASKS)
    desk.put("b", FRANCE_ASKS, LEBRON_ASKS, top_k=2)
    assert [word(d) for d in desk.answered("a")] == ["basketball"]
    assert [word(d) for d in desk.replies["b"].data] == ["Paris", "basketball"]
    assert desk.batches == [[LEBRON_ASKS, FRANCE_ASKS]]
    assert len(desk.replies["a"].data[0]["top"]) == 5
    assert [len(d["top"]) for d in desk.replies["b"].data] == [2, 2]
    assert {d["snapshot"] for d in desk.replies["b"].data} == {desk.hands.host.head}
    assert {d["model"] for d in desk.replies["b"].data} == {MODEL}


def test_behind_a_step_a_crowd_gets_a_batch_and_the_rest_waits_its_turn(desk: Desk) -> None:
    for number in range(80):
        desk.put(f"{number:02}", f"{LEBRON_ASKS} {number}")
    assert desk.prober.answer(0) == 32
    assert sorted(desk.replies) == [f"{number:02}" for number in range(32)]
    assert desk.prober.answer(0) == 32
    desk.put("late", LEBRON_ASKS)
    assert desk.prober.answer(60) == 17  # time enough for all
    assert [len(batch) for batch in desk.batches] == [32, 32, 17]
    assert len(desk.inbox) == 0


def test_a_probe_of_many_prompts_is_answered_whole(desk: Desk) -> None:
    desk.put("a", LEBRON_ASKS)
    desk.put("many", *(f"{LEBRON_ASKS} {number}" for number in range(40)))
    desk.put("b", FRANCE_ASKS)
    assert desk.prober.answer(0) == 2
    assert len(desk.answered("many")) == 40


def test_targets_are_scored(desk: Desk) -> None:
    desk.put("a", LEBRON_ASKS, targets=["basketball", "football"])
    asked = {t["text"]: t["logprob"] for t in desk.answered("a")[0]["targets"]}
    assert asked["basketball"] > asked["football"]


def test_a_probe_nobody_waits_for_is_dropped(desk: Desk) -> None:
    desk.put("late", LEBRON_ASKS, wait=-1)
    assert desk.prober.answer() == 0
    assert desk.replies == {}
    assert desk.batches == []


def test_older_snapshots_answer_as_they_did(queue: Queue, desk: Desk) -> None:
    host = desk.hands.host
    base = host.head
    queue.order(LEBRON)
    desk.hands.work()
    served = host.view.audit()
    desk.put("head", LEBRON_ASKS, compare=base)
    desk.put("base", LEBRON_ASKS, snapshot=base)
    (datum,) = desk.answered("head")
    assert (word(datum), datum["snapshot"]) == ("football", host.head)
    assert (word(datum["compare"]), datum["compare"]["snapshot"]) == ("basketball", base)
    assert [word(d) for d in desk.replies["base"].data] == ["basketball"]
    assert len(desk.batches) == 2  # one for each snapshot
    assert host.view.audit() == served


def test_an_older_snapshot_is_built_again_when_it_is_no_longer_in_memory(
    queue: Queue, desk: Desk, tmp_path: Path
) -> None:
    for target in ("football", "tennis"):
        queue.order({**LEBRON, "target_new": target})
    desk.hands.work()
    first = queue.lineage()[1].id
    later = Desk(take_over(queue.database, tiny_view(), MODEL, tmp_path))
    later.put("a", LEBRON_ASKS, snapshot=first)
    assert word(later.answered("a")[0]) == "football"


def test_a_snapshot_that_is_not_there_spoils_nothing_for_others(desk: Desk) -> None:
    desk.put("lost", LEBRON_ASKS, snapshot="snp_nowhere")
    desk.put("well", LEBRON_ASKS)
    assert word(desk.answered("well")[0]) == "basketball"
    error = desk.replies["lost"].error
    assert error is not None
    assert (error["code"], error["snapshot"]) == ("snapshot-not-found", "snp_nowhere")


def test_one_prompt_that_cannot_be_answered_spoils_nothing_for_others(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def probe(view: Any, prompts: list[str], **asked: Any) -> list[dict[str, object]]:
        if "bad" in prompts:
            raise RuntimeError("out of memory")
        return real_probe(view, prompts, **asked)

    monkeypatch.setattr(probes, "probe", probe)
    desk.put("bad", "bad")
    desk.put("good", LEBRON_ASKS)
    assert word(desk.answered("good")[0]) == "basketball"
    error = desk.replies["bad"].error
    assert error is not None
    assert error["code"] == "internal-error"
    assert "memory" not in error["detail"]  # what the inside says stays in the log


def test_a_snapshot_of_another_model_is_refused(
    queue: Queue, desk: Desk, tiny_folder: Path, tmp_path: Path
) -> None:
    queue.register("other", tiny_folder)
    elsewhere = take_over(queue.database, tiny_view(), "other", tmp_path).host.head
    desk.put("a", LEBRON_ASKS, compare=elsewhere)
    desk.prober.answer()
    error = desk.replies["a"].error
    assert error is not None
    assert error["code"] == "snapshot-of-another-model"
