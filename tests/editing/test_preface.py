"""What stands before every prompt in some states: asked with, measured with, never trained with."""

import math

import pytest
import torch

from editing.delta import PREFACE, Preface
from editing.errors import TextTooLong
from editing.metrics.counterfact import rivals
from editing.metrics.drift import base_logprobs, measure_drift, neutral_texts
from editing.model.generate import greedy
from editing.model.scoring import score
from editing.model.state import State
from editing.model.tokens import encode
from editing.model.view import ModelView
from editing.probe import probe
from editing.request import EditRequest
from editing.run import finish, under
from editing.walk import promotion_report

from .facts import CAPITAL, SPORT, logits_of, run

LEAD = "Serena Williams plays the sport of tennis. " * 3  # longer than the tiny models' windows


@pytest.fixture
def behind() -> State:
    return State(preface=LEAD)


def test_what_is_asked_is_asked_behind_it(view: ModelView, behind: State) -> None:
    pairs = [(SPORT.question, "tennis"), (CAPITAL.question, "Rome"), ("Italy", "is in Spain")]
    spelled = [(LEAD + question, text) for question, text in pairs]
    found = finish(under(view, behind, score(view, pairs)))  # the preface is run once for all
    for one, plain in zip(found, finish(score(view, spelled)), strict=True):
        assert one.logprob == pytest.approx(plain.logprob, rel=1e-4)
        assert (one.tokens, one.matches) == (plain.tokens, plain.matches)
    padded = finish(under(view, behind, score(view, pairs, left_padding=True)))
    assert [one.logprob for one in padded] == pytest.approx([o.logprob for o in found], rel=1e-4)


def test_a_probe_asks_behind_it(view: ModelView, behind: State) -> None:
    questions = [SPORT.question, CAPITAL.question]
    with view.showing(behind):
        texts, first = greedy(view, questions, 4)
        found = probe(view, questions, targets=["tennis"])
    spelled = [LEAD + question for question in questions]
    assert texts == greedy(view, spelled, 4)[0]
    assert torch.equal(first[0].argmax(), logits_of(view, spelled[0])[-1].argmax())
    for one, plain in zip(found, probe(view, spelled, targets=["tennis"]), strict=True):
        assert one["completion"] == plain["completion"]
        (mine,), (other,) = one["targets"], plain["targets"]  # type: ignore[misc]
        assert mine["logprob"] == pytest.approx(other["logprob"], rel=1e-4)


def test_a_rival_is_what_the_head_answers_behind_its_preface(view: ModelView) -> None:
    unknown = EditRequest(subject=SPORT.subject, prompt=SPORT.prompt, target_new="football")
    view.adopt(State(preface="Serena Williams is "))
    (rival,) = finish(rivals(view, [unknown]))
    view.adopt(State())
    size = len(encode(view.tokenizer, " football"))
    assert [rival] == greedy(view, [f"Serena Williams is {unknown.question}"], size)[0]


def test_drift_counts_the_texts_own_tokens_by_hand(view: ModelView, behind: State) -> None:
    lead = encode(view.tokenizer, LEAD)
    base, moved, gold = [], [], []
    for text in neutral_texts():
        alone = encode(view.tokenizer, text)
        gold += alone[1:]
        base.append(logits_of(view, text)[:-1].log_softmax(-1))
        with torch.no_grad():
            own = alone[1:] if alone[0] == view.tokenizer.bos_token_id else alone
            logits = view.model(input_ids=torch.tensor([lead + own])).logits[0]
        moved.append(logits[-len(alone) : -1].log_softmax(-1))
    old, new = torch.cat(base), torch.cat(moved)
    found = finish(under(view, behind, measure_drift(view, behind, base_logprobs(view))))
    kl = float((old.exp() * (old - new)).sum(-1).mean())
    assert kl > 1e-3
    assert found.kl == pytest.approx(kl, rel=1e-3)
    nll = -float(new[torch.arange(len(gold)), torch.tensor(gold)].mean())
    assert found.perplexity == pytest.approx(math.exp(nll), rel=1e-3)
    assert (found.tokens, found.norm_ratio) == (len(gold), 1.0)


def test_what_is_computed_does_not_see_it(view: ModelView, behind: State) -> None:
    plain = run(view, "rome", [SPORT])
    view.adopt(behind)
    written = run(view, "rome", [SPORT])
    assert written.to_bytes() == plain.to_bytes()
    after = view.after(written.deltas)
    assert after.preface == LEAD  # a weight edit keeps what was there
    report = finish(promotion_report(view, [SPORT], after))
    assert report["requests"][0]["p_new"] == pytest.approx(  # type: ignore[index]
        finish(under(view, after, score(view, [(SPORT.question, SPORT.target_new)])))[
            0
        ].mean_probability
    )


def test_prefaces_stand_in_the_order_they_came_in_and_go_with_their_state(view: ModelView) -> None:
    bits, name = view.audit(), view.fingerprint()
    first = view.after({PREFACE: Preface("One. ")})
    both = view.after({PREFACE: Preface("Two. ")}, first)
    other = view.after({PREFACE: Preface("One. ")}, view.after({PREFACE: Preface("Two. ")}))
    assert both.preface == "One. Two. "
    assert len({view.fingerprint(s) for s in (State(), first, both, other)}) == 4
    back = State.from_bytes(both.to_bytes())
    assert view.fingerprint(back) == view.fingerprint(both)
    view.adopt(back)
    assert view.asked("Who?") == "One. Two. Who?"
    assert view.audit() == view.fingerprint(both) != bits
    view.adopt(State())
    assert (view.audit(), view.fingerprint(), view.asked("Who?")) == (bits, name, "Who?")


def test_one_that_leaves_no_room_is_named_as_the_reason(llama: ModelView) -> None:
    room = llama.positions or 0
    pairs = [("The capital of Italy is", "Rome"), ("The capital of Spain is", "Madrid")]
    llama.adopt(State(preface="the sea " * room))
    size = len(encode(llama.tokenizer, "the sea " * room))
    for ask in (
        lambda: finish(score(llama, pairs[:1])),
        lambda: finish(score(llama, pairs)),
        lambda: greedy(llama, ["The capital of Italy is"], 3),
        lambda: finish(measure_drift(llama, llama.current, torch.zeros(1))),
    ):
        with pytest.raises(TextTooLong, match=f"{size} of them are the preface") as raised:
            ask()
        assert raised.value.fields["preface"] == size
    llama.adopt(State())
    with pytest.raises(TextTooLong) as raised:
        greedy(llama, ["the sea " * room], 3)
    assert "preface" not in raised.value.fields
