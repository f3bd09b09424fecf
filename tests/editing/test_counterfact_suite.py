"""Suite `counterfact`: its measures by hand, on a record of what the tiny models know."""

import json
import math
from collections import Counter
from copy import deepcopy
from typing import Any

import pytest
import torch

from editing.datasets.counterfact import CounterFactRecord, cases
from editing.delta import PREFACE, Preface
from editing.errors import BadRecord
from editing.evals import run as evals
from editing.evals.catalogue import SUITES
from editing.evals.options import CounterFactOptions
from editing.evals.scene import Scene
from editing.metrics.consistency import consistency
from editing.metrics.fluency import fluency, free_texts, ngram_entropy, words
from editing.metrics.tokens_accuracy import Choices, choices
from editing.model.scoring import score
from editing.model.tokens import continued
from editing.model.view import ModelView
from editing.run import finish

from .facts import SPORT, changed, copied, hooked, logits_of, planned, run

SUITE = SUITES["counterfact"]
RECORD: dict[str, Any] = {
    "requested_rewrite": {
        "prompt": "{} plays the sport of",
        "relation_id": "P641",
        "target_new": {"str": "tennis"},
        "target_true": {"str": "basketball"},
        "subject": "LeBron James",
    },
    "paraphrase_prompts": ["Therefore we know. LeBron James plays the sport of"],
    "neighborhood_prompts": ["Kobe Bryant plays the sport of"],
    "attribute_prompts": ["Serena Williams plays the sport of", "Roger Federer plays the sport of"],
    "generation_prompts": ["LeBron James plays", "LeBron James lives in"],
}
FLAT = {
    "prompt": "The capital of Italy is",
    "subject": "Italy",
    "target_new": "Madrid",
    "ground_truth": "Rome",
    "rephrase_prompt": "You are from the house. The capital of Italy is",
    "locality_prompt": "The capital of France is",
    "locality_ground_truth": "Paris",
}


def test_both_forms_become_records() -> None:
    full, flat = (case.records[0] for case in cases([RECORD, FLAT], CounterFactOptions()))
    assert full.request.target_new == "tennis"
    assert full.references == (
        "Serena Williams plays the sport of tennis.",
        "Roger Federer plays the sport of tennis.",
    )
    assert full.generations == ("LeBron James plays", "LeBron James lives in")
    assert flat.request.prompt == "The capital of {} is"
    assert flat == CounterFactRecord(number=1, request=flat.request, corpus=full.references)


def test_a_subject_that_is_not_in_its_prompt_is_left_out() -> None:
    first, second = cases([FLAT | {"subject": "Oslo"}, FLAT], CounterFactOptions())
    assert (first.records, first.left_out[0].number) == ((), 0)
    assert len(second.records) == 1


def test_a_record_that_lacks_a_field_is_refused_by_its_number() -> None:
    broken = deepcopy(RECORD)
    del broken["requested_rewrite"]["target_true"]
    with pytest.raises(BadRecord, match="target_true") as raised:
        cases([RECORD, broken], CounterFactOptions())
    assert raised.value.fields["record"] == 1


def test_a_row_by_hand(llama: ModelView) -> None:
    options = CounterFactOptions(max_tokens=4, text_tokens=6, texts=2, seed=3)
    scene = Scene(view=llama, options=options, plan=planned(llama, "rome"))
    before, start = copied(llama), llama.current

    def seen(_: object) -> None:
        assert llama.current is start
        assert not changed(llama, before)
        assert not hooked(llama)

    (case,) = SUITE.read([RECORD], options)
    (row,) = finish(evals.rows_of(SUITE, scene, case, 0, start), seen)
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    after = llama.after(run(llama, "rome", [SPORT]).deltas)
    near = RECORD["neighborhood_prompts"][0]
    tokens: dict[str, Choices] = {}
    for name, state in (("before", start), ("after", after)):
        with llama.showing(state):
            (tokens[name],) = finish(choices(llama, [(near, "basketball")]))
            texts = finish(free_texts(llama, RECORD["generation_prompts"], 6, 3))
        assert row[f"fluency_{name}"] == fluency(texts)
        references = ["Serena Williams plays the sport of tennis."]
        references += ["Roger Federer plays the sport of tennis."]
        found = consistency(texts, references, tuple(references))
        assert row[f"consistency_{name}"] == found
    assert (row["agreement_before"], row["efficacy_success_after"]) == (1, 1)
    assert row["agreement_after"] == tokens["after"].agreement(tokens["before"])
    values = evals.summary_of(SUITE, [row], options)["values"]
    parts = [values[name]["value"] for name in ("efficacy.tokens", "paraphrase.tokens")]
    agreed = values["tokens.locality"]["value"]
    assert values["tokens.score"]["value"] == pytest.approx((sum(parts) + agreed) / 3)
    assert {"fluency", "consistency.small_corpus", "score"} <= set(values)


def test_texts_are_left_out_where_none_are_wanted(llama: ModelView) -> None:
    options = CounterFactOptions(max_tokens=0, text_tokens=0)
    scene = Scene(view=llama, options=options, plan=planned(llama, "rome"))
    rows: list[dict[str, Any]] = []
    for number, case in enumerate(SUITE.read([RECORD, FLAT], options)):
        rows += finish(evals.rows_of(SUITE, scene, case, number, llama.current))
    assert [row["fluency_after"] for row in rows] == [None, None]
    values = evals.summary_of(SUITE, rows, options)["values"]
    assert "fluency" not in values
    assert "efficacy.generated" not in values
    assert values["neighborhood.success"]["n"] == 2


def test_choices_are_the_models_own(llama: ModelView) -> None:
    pairs = [("The capital of France is", "Paris"), ("LeBron James plays the sport of", "tennis")]
    found = finish(choices(llama, pairs * 9))
    scores = finish(score(llama, pairs * 9))
    for (question, text), one, known in zip(pairs * 9, found, scores, strict=True):
        row = continued(llama.tokenizer, question, text)
        assert one.gold == tuple(row.targets)
        assert one.accuracy == known.matches / known.tokens
    with torch.no_grad():
        ids = continued(llama.tokenizer, *pairs[1]).ids
        best = llama.model(input_ids=torch.tensor([ids])).logits[0].argmax(-1)
    assert found[1].chosen == tuple(best[len(ids) - len(found[1].gold) - 1 : -1].tolist())
    # Behind a preface, which the rows share, they are those of the whole text.
    llama.adopt(llama.after({PREFACE: Preface("I like the sea. ")}))
    for (question, text), one in zip(pairs, finish(choices(llama, pairs)), strict=True):
        start = continued(llama.tokenizer, "I like the sea. " + question, text).start
        told = logits_of(llama, f"I like the sea. {question} {text}").argmax(-1)
        assert one.chosen == tuple(told[start - 1 : start - 1 + len(one.gold)].tolist())


def test_agreement_is_with_what_was_chosen_not_with_the_answer() -> None:
    before, after = Choices((1, 2, 3, 4), (1, 9, 9, 9)), Choices((1, 2, 3, 4), (1, 2, 9, 9))
    assert after.agreement(before) == 0.75
    assert after.accuracy == 0.5


def test_entropy_by_hand() -> None:
    assert words("It's so, so old.") == ["It", "'", "s", "so", ",", "so", "old", "."]
    pairs = Counter({"ab": 2, "ba": 1})  # of a b a b
    bits = -sum(c / 3 * math.log2(c / 3) for c in pairs.values())
    assert ngram_entropy(list("abab"), 2) == pytest.approx(bits)
    assert ngram_entropy(list("abab"), 3) == pytest.approx(1.0)
    assert fluency(["a b a b"]) == pytest.approx((2 / 3 * bits + 4 / 3 * 1.0) / 2)
    assert fluency(["a a a a a a"]) == 0
    assert fluency([]) is None


def test_free_texts_follow_a_seed_and_leave_the_preface_out(llama: ModelView) -> None:
    starts = ["The capital of France is", "Kobe Bryant plays"]
    one, again = (finish(free_texts(llama, starts, 8, 5)) for _ in range(2))
    assert one == again
    assert all(text.startswith(start) for text, start in zip(one, starts, strict=True))
    llama.adopt(llama.after({PREFACE: Preface("I like the sea. ")}))
    behind = finish(free_texts(llama, starts, 8, 5))
    assert all(text.startswith(start) for text, start in zip(behind, starts, strict=True))


def test_consistency_is_a_cosine() -> None:
    corpus = ("she plays tennis", "he plays golf", "she plays chess")
    assert consistency(["she plays tennis"], ["she plays tennis"], corpus) == pytest.approx(1)
    assert consistency(["xyz"], ["she plays tennis"], corpus) == 0
    near = consistency(["he plays tennis"], ["she plays tennis"], corpus)
    far = consistency(["he plays golf"], ["she plays tennis"], corpus)
    assert near is not None
    assert far is not None
    assert 1 > near > far > 0
    assert consistency(["..."], ["she"], corpus) is None
