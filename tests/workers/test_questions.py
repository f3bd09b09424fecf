"""Questions of many steps: GradSim of an answer with an edit, and forecasts."""

import time
from pathlib import Path
from typing import Any

import pytest

from app.errors import UnknownQuestion
from app.queue.messages import ProbeMessage, ProbeReply
from app.services.probe import about
from tests.tiny import tiny_view
from tests.workers.hands import Hands, take_over
from tests.workers.shop import LEBRON, LEBRON_ASKS, MODEL, SERENA, Queue
from workers.probes import Inbox, Prober
from workers.questions import question

Json = dict[str, Any]


@pytest.fixture
def hands(queue: Queue, statistics_folder: Path, tmp_path: Path) -> Hands:
    return take_over(queue.database, tiny_view(stats_folder=statistics_folder), MODEL, tmp_path)


def message(told: Json, *, seconds: float = 60, **more: Any) -> ProbeMessage:
    more = {"prompts": [LEBRON_ASKS], **more}
    return ProbeMessage(id="prb_1", deadline=time.time() + seconds, about=told, **more)


def answered(hands: Hands, told: Json, **more: Any) -> Json:
    """The answer; at every step the model serves its head, bit for bit."""
    served = hands.host.view.audit()
    work = question(hands.host, message(told, **more))
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value
        assert hands.host.view.audit(everything=False) == served


def of_the_last(queue: Queue, answer: str, edit: str | None = None) -> Json:
    with queue.database.tx() as tx:
        return about(tx, MODEL, answer, edit, None)


def test_an_answer_is_compared_with_the_facts_of_the_edit_on_the_model_before_it(
    queue: Queue, hands: Hands
) -> None:
    base = hands.host.head
    edit = queue.order(LEBRON)
    hands.work()
    asked = of_the_last(queue, "football", edit)
    assert (asked["before"], asked["after"]) == (base, hands.host.head)
    said = answered(hands, asked)
    assert said["gradsim"] == pytest.approx(1.0, abs=1e-6)  # it is the edit's own fact
    assert [fact["edit"] for fact in said["facts"]] == [edit]
    assert said["ripple"]["gain"] > 0
    assert (said["ripple"]["answers_before"], said["ripple"]["answers"]) == (False, True)
    assert str(said["completion"]).strip().startswith("football")
    other = answered(hands, of_the_last(queue, "Rome", edit), prompts=["The capital of Italy is"])
    assert abs(other["gradsim"]) < 1
    assert other["ripple"]["before"] == base


def test_without_an_edit_it_is_compared_with_the_last_live_ones(queue: Queue, hands: Hands) -> None:
    nothing = answered(hands, of_the_last(queue, "football"))
    assert (nothing["gradsim"], nothing["facts"], nothing["ripple"]) == (None, [], None)
    base = hands.host.head
    edits = [queue.order(LEBRON), queue.order(SERENA)]
    hands.work()
    asked = of_the_last(queue, "football")
    assert [fact["edit"] for fact in asked["facts"]] == edits[::-1]
    assert asked["before"] == base
    said = answered(hands, asked)
    best = max(said["facts"], key=lambda fact: abs(fact["gradsim"]))
    assert (said["gradsim"], best["edit"]) == (best["gradsim"], edits[0])


def test_a_forecast_knows_the_edit_that_it_would_meet(queue: Queue, hands: Hands) -> None:
    edit = queue.order(LEBRON)
    hands.work()
    again = {**LEBRON, "target_new": "tennis"}
    ripples = [{"prompt": LEBRON_ASKS, "answers": ["tennis"]}]
    told = {"kind": "forecast", "request": again, "ripples": ripples}
    said = answered(hands, told, prompts=[])
    (ripple,) = said["ripples"]
    assert ripple["gradsim"] == pytest.approx(1.0, abs=1e-6)
    assert ripple["likely"]
    (met,) = said["collisions"]
    assert met["edit"] == edit
    assert met["cosine"] > 0.99


def test_long_questions_go_on_step_by_step_behind_the_short_ones(
    queue: Queue, hands: Hands
) -> None:
    replies: list[tuple[str, ProbeReply]] = []
    inbox = Inbox()
    prober = Prober(hands.host, inbox, lambda *said: replies.append(said), lambda: None)
    inbox.put(message(of_the_last(queue, "football")))
    inbox.put(ProbeMessage(id="prb_2", deadline=time.time() + 60, prompts=["France is"]))
    prober.answer()
    assert [name for name, _ in replies] == ["prb_2"]
    assert prober.busy
    assert [one.id for one in prober.unfinished()] == ["prb_1"]
    while prober.busy:
        prober.go_on(0)
    assert replies[-1][0] == "prb_1"
    assert replies[-1][1].ok


def test_what_cannot_be_answered_is_said_and_ends(hands: Hands) -> None:
    with pytest.raises(UnknownQuestion):
        next(question(hands.host, message({"kind": "tea"})))
    replies: list[ProbeReply] = []
    inbox = Inbox()
    prober = Prober(hands.host, inbox, lambda _, reply: replies.append(reply), lambda: None)
    bad = {"kind": "forecast", "request": {"subject": "x"}, "ripples": []}
    for told in ({"kind": "tea"}, bad):
        inbox.put(message(told))
    prober.answer()
    while prober.busy:
        prober.go_on()
    assert [reply.ok for reply in replies] == [False, False]
    assert {(reply.error or {})["code"] for reply in replies} == {"unknown-question", "bad-request"}
