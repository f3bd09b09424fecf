"""The report made before an edit becomes the head: its shape, and its numbers by hand."""

import json
import math
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from editing.metrics.counterfact import Compared, accuracy_rate, rivals, success_rate
from editing.metrics.drift import neutral_texts
from editing.model.scoring import Score
from editing.model.state import State
from editing.model.tokens import continued
from editing.model.view import ModelView
from editing.request import EditRequest, Neighbor
from editing.run import Stopwatch, finish
from editing.step import Step
from editing.walk import already_answers, promotion_report

from .facts import CAPITAL, SPORT, logits_of, run

NO_RIVAL = EditRequest(subject="Italy", prompt="The capital of {} is", target_new="Madrid")
WIDE = EditRequest(
    subject="LeBron James",
    prompt="{} plays the sport of",
    target_new="tennis",
    target_true="basketball",
    paraphrases=(
        "Therefore we know. LeBron James plays the sport of",
        "I like the sea. LeBron James plays the sport of",
    ),
    neighborhood=(
        Neighbor(prompt="Kobe Bryant plays the sport of", target="basketball"),
        Neighbor(prompt="Serena Williams plays the sport of", target="football"),  # does not
    ),
)


def probability(view: ModelView, question: str, text: str) -> float:
    """Geometric mean over the text's tokens, by the whole model."""
    row = continued(view.tokenizer, question, text)
    with torch.no_grad():
        logits = view.model(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1)
    at = torch.arange(row.start - 1, len(row.ids) - 1)
    return float(logits[at, torch.tensor(row.targets)].mean().exp())


def report(
    view: ModelView,
    facts: Sequence[EditRequest],
    after: State,
    earlier: Sequence[EditRequest] = (),
) -> dict[str, Any]:
    return finish(promotion_report(view, facts, after, earlier))


def edited(view: ModelView, facts: Sequence[EditRequest]) -> State:
    return view.after(run(view, "rome", facts).deltas)


def test_its_shape(view: ModelView) -> None:
    found = report(view, [WIDE], edited(view, [WIDE]))
    assert list(found) == [
        "efficacy", "paraphrase", "neighborhood", "earlier", "live", "drift", "canary", "requests",
    ]  # fmt: skip
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    value = {"value", "n", "before"}
    assert found["efficacy"].keys() == {"success", "accuracy"}
    for one in found["efficacy"].values():
        assert one.keys() == value
    for name in ("paraphrase", "neighborhood"):
        assert found[name].keys() == value | {"accuracy"}
        assert found[name]["accuracy"].keys() == value
    assert found["earlier"] == {"value": None, "n": 0, "before": None}
    assert found["drift"].keys() == {"kl", "perplexity", "norm_ratio"}
    assert all(one.keys() == value for one in found["drift"].values())


def test_success_and_accuracy_by_hand(view: ModelView) -> None:
    after = edited(view, [WIDE])
    found = report(view, [WIDE], after)

    def won(text: str, wanted: str, rival: str) -> bool:
        return probability(view, text, wanted) > probability(view, text, rival)

    for key, state in (("before", State()), ("value", after)):
        with view.showing(state):
            new = [won(text, "tennis", "basketball") for text in (WIDE.question, *WIDE.paraphrases)]
            near = [won(near.prompt, near.target, "tennis") for near in WIDE.neighborhood]
        assert found["efficacy"]["success"][key] == float(new[0])
        assert found["paraphrase"][key] == sum(new[1:]) / 2
        assert found["neighborhood"][key] == sum(near) / 2
    assert found["efficacy"]["success"] == {"value": 1.0, "n": 1, "before": 0.0}
    assert found["efficacy"]["accuracy"] == {"value": 1.0, "n": 1, "before": 0.0}
    assert found["paraphrase"]["n"] == found["neighborhood"]["n"] == 2
    # One neighbor keeps what it should; the other never answered it.
    assert found["neighborhood"]["accuracy"]["before"] == 0.5


def test_a_row_of_each_request_has_its_probabilities(view: ModelView) -> None:
    after = edited(view, [SPORT, CAPITAL])
    rows = report(view, [SPORT, CAPITAL], after)["requests"]
    for fact, row in zip([SPORT, CAPITAL], rows, strict=True):
        new, true = fact.target_new, str(fact.target_true)
        assert (row["subject"], row["rival"], row["answers"]) == (fact.subject, true, True)
        before = [probability(view, fact.question, text) for text in (new, true)]
        with view.showing(after):
            now = [probability(view, fact.question, text) for text in (new, true)]
        assert [row["p_new_before"], row["p_rival_before"]] == pytest.approx(before, rel=1e-3)
        assert [row["p_new"], row["p_rival"]] == pytest.approx(now, rel=1e-3)


def test_drift_by_hand(view: ModelView) -> None:
    after = edited(view, [SPORT])
    found = report(view, [SPORT], after)["drift"]

    def logprobs() -> torch.Tensor:
        return torch.cat([logits_of(view, t)[:-1].log_softmax(-1) for t in neutral_texts()])

    gold = torch.cat([torch.tensor(view.tokenizer(t)["input_ids"][1:]) for t in neutral_texts()])
    base = logprobs()
    with view.showing(after):
        moved = logprobs()
    kl = float((base.exp() * (base - moved)).sum(-1).mean())
    assert found["kl"]["value"] == pytest.approx(kl, rel=1e-3, abs=1e-6)
    assert found["kl"]["before"] == 0
    for key, rows in (("before", base), ("value", moved)):
        nll = -float(rows[torch.arange(len(gold)), gold].mean())
        assert found["perplexity"][key] == pytest.approx(math.exp(nll), rel=1e-3)
    (name,) = after.masters
    ratio = float(after.masters[name].norm() / view.master(name).norm())
    assert found["norm_ratio"] == {
        "value": pytest.approx(ratio), "n": len(gold), "before": 1.0,
    }  # fmt: skip


def test_before_means_the_head_and_drift_means_base(llama: ModelView) -> None:
    first = edited(llama, [CAPITAL])
    llama.adopt(first)
    found = report(llama, [CAPITAL], llama.after(run(llama, "rome", [SPORT]).deltas))
    assert found["efficacy"]["success"]["before"] == 1.0
    assert found["drift"]["kl"]["before"] > 0
    assert found["drift"]["norm_ratio"]["before"] > 1


def test_earlier_facts_are_counted_by_what_is_answered(llama: ModelView) -> None:
    first = edited(llama, [CAPITAL])
    llama.adopt(first)
    unlearned = llama.after(run(llama, "rome", [SPORT]).deltas, State())  # without the first edit
    found = report(llama, [SPORT], unlearned, [CAPITAL, SPORT])["earlier"]
    assert found == {"value": 0.5, "n": 2, "before": 0.5}
    kept = report(llama, [SPORT], first, [CAPITAL])["earlier"]
    assert kept == {"value": 1.0, "n": 1, "before": 1.0}


class TestRivals:
    def test_without_target_true_it_is_what_the_head_answers(self, view: ModelView) -> None:
        (rival,) = finish(rivals(view, [NO_RIVAL]))
        assert rival.strip().startswith("Rome")
        found = report(view, [NO_RIVAL], edited(view, [NO_RIVAL]))
        assert found["requests"][0]["rival"] == rival
        assert found["efficacy"]["success"] == {"value": 1.0, "n": 1, "before": 0.0}

    def test_given_and_missing_ones_keep_their_places(self, llama: ModelView) -> None:
        found = finish(rivals(llama, [SPORT, NO_RIVAL, CAPITAL]))
        assert found[0] == "basketball"
        assert found[2] == "Rome"

    def test_a_model_that_answers_nothing_has_a_rival_all_the_same(
        self, llama: ModelView, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "editing.metrics.counterfact.greedy", lambda *_: ([" "], torch.zeros(1, 1))
        )
        assert finish(rivals(llama, [NO_RIVAL])) == ["."]


class TestRelations:
    """A fact asked from its relation, whose rival is that there is none (METRICS 6.2)."""

    FACT = EditRequest.from_dict(
        {
            "perspective": "relation",
            "subject": "LeBron James",
            "object": "tennis",
            "relation_text": "sport",
            "add_prompt": "Tennis is to {} his",
            "delete_prompt": "Basketball is to {} his",
            "paraphrases": ["Therefore we know. Tennis is to LeBron James his"],
        }
    )

    def test_it_is_measured_against_none(self, llama: ModelView) -> None:
        after = State(preface="Tennis is to LeBron James his sport. ")
        found = report(llama, [self.FACT], after)
        assert found["requests"][0]["rival"] == "None"
        (row,) = found["requests"]
        spelled = after.preface + self.FACT.question
        assert row["p_new"] == pytest.approx(probability(llama, spelled, "sport"), rel=1e-3)
        assert row["p_rival"] == pytest.approx(probability(llama, spelled, "None"), rel=1e-3)
        assert row["p_rival_before"] == pytest.approx(
            probability(llama, self.FACT.question, "None"), rel=1e-3
        )
        assert found["paraphrase"]["n"] == 1

    def test_it_is_answered_when_what_is_deleted_is_answered_too(
        self, llama: ModelView, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[tuple[str, str]] = []

        def scored(
            _: ModelView, pairs: list[tuple[str, str]]
        ) -> Generator[Step, None, list[Score]]:
            asked.extend(pairs)
            yield Step("measure", 1, 1)
            return [Score(-0.1, 1, int(text == "sport")) for _, text in pairs]

        monkeypatch.setattr("editing.walk.score", scored)
        assert not finish(already_answers(llama, [self.FACT]))
        assert asked == [
            ("Tennis is to LeBron James his", "sport"),
            ("Basketball is to LeBron James his", "None"),
        ]
        added = replace(self.FACT, delete_prompt=None)
        assert finish(already_answers(llama, [added]))


class TestRates:
    def test_a_tie_is_a_failure(self) -> None:
        same = Score(-1.0, 1, 1)
        assert not Compared(same, same).success

    def test_a_target_that_was_the_models_own_answer_succeeds_while_it_is_given(self) -> None:
        given, lost = Score(-1.0, 2, 2), Score(-9.0, 2, 0)
        assert Compared(given, given, same=True).success
        assert not Compared(lost, lost, same=True).success

    def test_long_and_short_answers_are_compared_by_the_token(self) -> None:
        assert Compared(wanted=Score(-2.0, 4, 0), rival=Score(-1.0, 1, 1)).success

    def test_nothing_measured_is_not_a_zero(self) -> None:
        assert success_rate([]) is None
        assert accuracy_rate([]) is None

    def test_success_and_accuracy_are_two_numbers(self) -> None:
        found = [
            Compared(Score(-0.1, 2, 1), Score(-1.0, 1, 0)),
            Compared(Score(-0.1, 2, 2), Score(-1.0, 1, 0)),
        ]
        assert success_rate(found) == 1.0
        assert accuracy_rate(found) == 0.5


class TestAlreadyAnswered:
    def test_what_the_model_knows_is_told_from_what_it_does_not(self, view: ModelView) -> None:
        known = EditRequest(
            subject="LeBron James", prompt="{} plays the sport of", target_new=" basketball"
        )
        assert finish(already_answers(view, [known]))
        assert not finish(already_answers(view, [SPORT]))
        assert not finish(already_answers(view, [known, SPORT]))  # all of them, or it is no no-op

    def test_it_is_asked_of_the_head(self, view: ModelView) -> None:
        view.adopt(edited(view, [SPORT]))
        assert finish(already_answers(view, [SPORT]))


class TestStopwatch:
    def test_each_stage_has_its_seconds(self) -> None:
        def work():  # noqa: ANN202 - a generator
            yield Step("z", 1, 2)
            yield Step("z", 2, 2)
            yield Step("solve", 1, 1)
            return "done"

        watch = Stopwatch()
        assert finish(watch.timed(work())) == "done"
        found = watch.report()
        assert found["wall_s"].keys() == found["cpu_s"].keys() == {"z", "solve"}
        assert all(seconds >= 0 for seconds in found["wall_s"].values())
