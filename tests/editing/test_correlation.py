"""Correlations over edits, the cheap measures, free samples, and the suite made of them."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from editing.datasets.ripple_types import RippleCase, RippleQuery, RippleTest
from editing.evals import run as evals
from editing.evals.catalogue import SUITES
from editing.evals.correlation_summary import summarise
from editing.evals.options import CorrelationOptions
from editing.evals.scene import Scene
from editing.metrics import correlation
from editing.metrics.answers import answers
from editing.metrics.correlation import correlated, separation, winsorised
from editing.metrics.gradsim import gram
from editing.metrics.likeness import likeness
from editing.metrics.sampling import Sampling, sampled_rates, sampled_texts
from editing.model.generate import greedy
from editing.model.scoring import score
from editing.model.state import State
from editing.model.view import ModelView
from editing.run import finish, under
from editing.step import Step
from tests.tiny import LAYOUTS, tiny_tokenizer, untaught

from .facts import SPORT, changed, copied, hooked, logits_of, planned, run

X = [0.1, 0.5, 0.5, 0.9, 0.2, 0.7, 0.3, 0.8]
Y = [1.0, 2.0, 2.5, 3.0, 0.0, 2.0, 2.0, 9.0]
EDITS = [0, 0, 1, 1, 2, 2, 3, 3]
NEAR = ("Kobe Bryant plays the sport of", "tennis")
CAPITALS = ["The capital of Italy is", "The capital of France is"]


def plain_ranks(values: Sequence[float]) -> np.ndarray:
    """Mean ranks by counting."""
    return np.array([sum(v < x for v in values) + (values.count(x) + 1) / 2 for x in values])


class TestCorrelated:
    def test_is_what_numpy_says(self) -> None:
        found = correlated(X, Y, EDITS)
        assert found.pearson.value == pytest.approx(np.corrcoef(X, Y)[0, 1])
        ranks = np.corrcoef(plain_ranks(X), plain_ranks(Y))[0, 1]
        assert found.spearman.value == pytest.approx(ranks)
        slope, start = np.polyfit(X, Y, 1)
        assert (found.slope.value, found.intercept) == pytest.approx((slope, start))
        assert (found.pearson.n, found.pearson.n_testable, found.pearson.clusters) == (8, 8, 4)
        assert found.pearson.low <= found.pearson.value <= found.pearson.high  # type: ignore[operator]

    def test_draws_whole_edits(self) -> None:
        drawn = correlation._drawn(np.array(EDITS), 4, 50, seed=1)
        assert (drawn[:, ::2] == drawn[:, 1::2]).all()
        assert (drawn[:, ::2].sum(1) == 4).all()
        weights = drawn[:3]
        ranks = correlation._ranks(np.array(Y), weights)
        for row, times in zip(ranks, weights.astype(int), strict=True):
            whole = np.repeat(Y, times)
            assert np.allclose(np.repeat(row, times), plain_ranks(whole.tolist()))

    def test_a_draw_is_what_numpy_says_of_the_pairs_in_it(self) -> None:
        sample = correlation._Sample(EDITS, 20, seed=3)
        x, y = np.array(X), np.array(Y)
        r, slope = sample.correlation(sample.column(x), sample.column(y))
        rho, _ = sample.correlation(sample.ranks(x), sample.ranks(y))
        for number, times in enumerate(sample.weights.astype(int)):
            one, other = np.repeat(X, times), np.repeat(Y, times)
            ranks = plain_ranks(one.tolist()), plain_ranks(other.tolist())
            assert r[number] == pytest.approx(np.corrcoef(one, other)[0, 1])
            assert slope[number] == pytest.approx(np.polyfit(one, other, 1)[0])
            assert rho[number] == pytest.approx(np.corrcoef(*ranks)[0, 1])

    def test_what_is_missing_is_left_out_and_counted(self) -> None:
        found = correlated([*X, None, 3.0], [*Y, 1.0, None], [*EDITS, 4, 5])
        assert found.pearson.value == pytest.approx(np.corrcoef(X, Y)[0, 1])
        assert (found.pearson.n, found.pearson.n_testable, found.pearson.clusters) == (10, 8, 4)

    @pytest.mark.parametrize(
        ("x", "y"), [([], []), ([1.0, 2.0], [1.0, 2.0]), ([1.0] * 5, Y[:5]), (X[:5], [2.0] * 5)]
    )
    def test_nothing_is_said_where_nothing_can_be(self, x: list[float], y: list[float]) -> None:
        found = correlated(x, y, EDITS[: len(x)])
        assert (found.pearson.value, found.spearman.low, found.intercept) == (None, None, None)

    def test_a_draw_in_which_nothing_changes_says_nothing(self) -> None:
        sample = correlation._Sample([0, 1, 2, 3], 200, seed=0)
        x, y = np.array([0.3, 0.1, 0.7, 0.2]), np.array([0.0, 0.0, 1.0, 0.0])
        same = [len(set(y[times > 0])) == 1 for times in sample.weights]
        for kind in (sample.column, sample.ranks):
            r, _ = sample.correlation(kind(x), kind(y))
            assert np.isnan(r).tolist() == same
            assert np.nanmax(np.abs(r)) <= 1 + 1e-9

    def test_one_edit_has_no_interval(self) -> None:
        found = correlated(X, Y, [0] * 8).pearson
        assert found.value is not None
        assert (found.low, found.high) == (None, None)


def test_winsorised_and_separation_by_hand() -> None:
    values = [float(n) for n in range(101)]
    assert winsorised([*values, None])[:2] == [1.0, 1.0]
    assert winsorised([*values, None])[-2:] == [99.0, None]
    assert winsorised([None]) == [None]
    # followed: .9 .4; not: .5 .1 -> of four pairs three are in order
    assert separation([0.9, 0.4, 0.5, 0.1], [True, True, False, False]) == (0.75, 0.4)
    assert separation([0.9], [True]) == (None, None)


class TestSampling:
    def test_it_draws_from_the_whole_vocabulary_at_its_temperature(self) -> None:
        view = ModelView(untaught("llama"), tiny_tokenizer())
        how = Sampling(samples=4000, temperature=0.5, max_tokens=1)
        texts = finish(sampled_texts(view, [SPORT.question], how))[SPORT.question]
        wanted: dict[str, float] = {}  # several tokens may be one text: bytes of no character
        for token, p in enumerate((logits_of(view, SPORT.question)[-1] / 0.5).softmax(-1).tolist()):
            text = view.tokenizer.decode([token])
            wanted[text] = wanted.get(text, 0.0) + p
        for text in sorted(wanted, key=lambda text: -wanted[text])[:5]:
            assert texts.count(text) / len(texts) == pytest.approx(wanted[text], abs=0.02)
        assert len(set(texts)) > 200

    def test_what_is_asked_beside_a_prompt_makes_no_difference(self, llama: ModelView) -> None:
        how = Sampling(samples=6, max_tokens=6)
        alone = finish(sampled_texts(llama, CAPITALS[:1], how))
        both = finish(sampled_texts(llama, [*CAPITALS, SPORT.question], how))
        assert both[CAPITALS[0]] == alone[CAPITALS[0]]
        cold = Sampling(samples=2, temperature=0.01, max_tokens=6)
        for prompt, texts in finish(sampled_texts(llama, CAPITALS, cold)).items():
            assert texts == greedy(llama, [prompt], 6)[0] * 2

    def test_the_rate_is_the_share_that_names_any_value(self, llama: ModelView) -> None:
        how = Sampling(samples=7, temperature=3.0, max_tokens=4)
        asked = [(CAPITALS[0], [["Rome"]]), (CAPITALS[1], [["Lyon"], ["Rome", "Paris"]])]
        texts = finish(sampled_texts(llama, CAPITALS, how))
        shares = [
            sum(answers(text, groups) for text in texts[prompt]) / 7 for prompt, groups in asked
        ]
        assert finish(sampled_rates(llama, asked, how)) == shares
        assert 0 < shares[0] < 1

    def test_it_speaks_behind_the_preface(self, llama: ModelView) -> None:
        cold = Sampling(samples=2, temperature=0.01, max_tokens=6)
        lead = "Serena Williams plays the sport of tennis. "
        work = sampled_texts(llama, [SPORT.question], cold)
        texts = finish(under(llama, State(preface=lead), work))[SPORT.question]
        assert texts == greedy(llama, [lead + SPORT.question], 6)[0] * 2


class TestLikeness:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_attention_is_what_the_model_itself_says(self, layout: str) -> None:
        view = ModelView(untaught(layout), tiny_tokenizer())
        facts = [NEAR, (CAPITALS[0], "Rome and more"), (SPORT.question, "tennis")]
        fused = finish(likeness(view, SPORT, facts, [1, 3]))
        view.model.set_attn_implementation("eager")
        plain = finish(likeness(view, SPORT, facts, [1, 3]))
        for name, values in fused.items():
            assert values == pytest.approx(plain[name], abs=1e-5), name
            assert values[-1] == pytest.approx(1), name
            assert values[0] != pytest.approx(values[1]), name

    def test_each_by_hand(self) -> None:
        view = ModelView(untaught("llama"), tiny_tokenizer())
        found = finish(likeness(view, SPORT, [NEAR], ()))
        assert found["key"] == [None]
        texts = [f"{SPORT.question} {SPORT.target_new}", " ".join(NEAR)]
        table = view.model.get_input_embeddings().weight
        means = [table[torch.tensor(view.tokenizer(text)["input_ids"])].mean(0) for text in texts]
        wanted = float(torch.cosine_similarity(*means, dim=0))
        assert found["embedding"] == [pytest.approx(wanted, abs=1e-5)]
        last = [
            view.body(input_ids=torch.tensor([view.tokenizer(q)["input_ids"]]))[0][0, -1]
            for q in (SPORT.question, NEAR[0])
        ]
        wanted = float(torch.cosine_similarity(*last, dim=0))
        assert found["hidden"] == [pytest.approx(wanted, abs=1e-5)]

    def test_the_edits_key_is_the_one_that_editors_write_at(self, llama: ModelView) -> None:
        written = run(llama, "rome", [SPORT], {"layers": [1], "contexts.prefixes": 0}).written
        (pair,) = written.values()
        found = finish(likeness(llama, SPORT, [(CAPITALS[0], "Rome")], [1]))["key"]
        entering: list[torch.Tensor] = []
        module = llama.module(llama.down_proj(1))
        hook = module.register_forward_pre_hook(lambda _, args: entering.append(args[0][0]))
        logits_of(llama, CAPITALS[0])
        hook.remove()
        wanted = torch.cosine_similarity(pair.keys[:, :1].mT, entering[0]).max()
        assert found == [pytest.approx(float(wanted), abs=1e-4)]


def case() -> RippleCase:
    def test(criterion: str, prompt: str, *names: str) -> RippleTest:
        query = RippleQuery(prompt=prompt, answers=(names,))
        return RippleTest(criterion=criterion, queries=(query,))

    return RippleCase(
        number=3,
        form="request",
        edit=SPORT,
        tests=(
            test(
                "subject_aliasing", "Therefore we know. LeBron James plays the sport of", "tennis"
            ),
            test("logical_generalization", "LeBron James", "plays", "is"),
            test("relation_specificity", CAPITALS[0], "Rome"),
            test("relation_specificity", CAPITALS[1], "Paris"),
            test("preservation", "The capital of Spain is", "東" * 200),
        ),
    )


OPTIONS = CorrelationOptions(samples=3, max_tokens=4, queries=1)


def scene_of(view: ModelView, options: CorrelationOptions = OPTIONS) -> Scene:
    plan = planned(view, "memit", {"layers": [1, 3], "search.steps": 8})
    return Scene(view=view, options=options, plan=plan)


class TestSuite:
    def test_a_row_holds_predictors_and_outcomes(self, llama: ModelView) -> None:
        scene = scene_of(llama)
        before = copied(llama)

        def clean(_: Step) -> None:
            assert not changed(llama, before)
            assert not hooked(llama)

        work = evals.rows_of(SUITES["correlation"], scene, case(), 0, llama.current)
        rows = finish(work, clean)
        json.dumps(rows, allow_nan=False)
        kinds = [row["kind"] for row in rows]
        assert kinds == ["edit", "pair", "pair", "pair", "skipped"]  # one query a criterion
        edit, alias, _, other, skipped = rows
        assert skipped["criterion"] == "preservation"
        assert (alias["group"], other["group"]) == ("ripple", "preserve")
        assert (alias["answer"], other["answer"]) == ("tennis", "Rome")
        facts = [(SPORT.question, "tennis"), (alias["prompt"], "tennis"), (other["prompt"], "Rome")]
        wanted = finish(gram(llama, facts)).cosine[0, 1:].tolist()
        assert [alias["gradsim"], other["gradsim"]] == pytest.approx(wanted, abs=1e-5)
        state = finish(scene.edited([SPORT])).state
        for fact, row in zip(facts, (edit, alias, other), strict=True):
            (old,) = finish(score(llama, [fact]))
            (new,) = finish(under(llama, state, score(llama, [fact])))
            assert row["gain"] == pytest.approx(new.logprob - old.logprob, abs=1e-3)
        assert alias["relative_gain"] == pytest.approx(alias["gain"] / edit["gain"])
        assert alias["gain_per_token"] == pytest.approx(alias["gain"] / alias["tokens"])
        assert 0 <= alias["sampled"] <= 1

    def test_gradients_after_the_edit_can_be_asked_for(self, llama: ModelView) -> None:
        options = CorrelationOptions(
            samples=0, max_tokens=4, weights="post", scope="edited_layers", queries=1
        )
        scene = scene_of(llama, options)
        rows = finish(evals.rows_of(SUITES["correlation"], scene, case(), 0, llama.current))
        assert rows[1]["sampled"] is None
        assert "gradsim_mlp" not in rows[1]
        pre = scene_of(llama, CorrelationOptions(samples=0, max_tokens=4, scope="edited_layers"))
        others = finish(evals.rows_of(SUITES["correlation"], pre, case(), 0, llama.current))
        assert rows[1]["gradsim"] != pytest.approx(others[1]["gradsim"], abs=1e-4)


def pair(number: int, gradsim: float, gain: float, **more: object) -> dict[str, object]:
    row: dict[str, object] = {"kind": "pair", "case": number, "group": "ripple", "success": True}
    row |= {"gradsim": gradsim, "gain": gain, "gain_per_token": gain, "relative_gain": None}
    row |= {"sampled": 0.5, "says_before": False, "says_after": gain > 1, "hidden": -gradsim}
    return row | {"forced_before": False, "forced_after": False} | more


def test_the_summary_tells_every_pair_of_predictor_and_outcome() -> None:
    edits = [
        {"kind": "edit", "case": n, "success": n < 3, "forced": True, "gain": 5.0} for n in range(4)
    ]
    rows = [pair(n, 0.1 * n + 0.05 * m, n + m, success=n < 3) for n in range(4) for m in range(3)]
    rows += [pair(n, 0.0, -0.1, group="preserve", success=n < 3) for n in range(4)]
    told = summarise([*edits, *rows, {"kind": "skipped", "case": 0, "why": "so"}], None)
    json.dumps(told, allow_nan=False)
    values = told["values"]
    wanted = np.corrcoef([row["gradsim"] for row in rows], [row["gain"] for row in rows])[0, 1]
    assert values["gradsim.gain.pearson"]["value"] == pytest.approx(wanted)
    assert values["hidden.gain.pearson"]["value"] == pytest.approx(-wanted)
    assert values["success"]["value"] == 0.75
    assert values["likely.followed"]["value"] == pytest.approx(11 / 16)
    table = told["tables"]["correlations"]
    cells = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    assert {cell["predictor"] for cell in cells} == {"gradsim", "hidden"}
    (mine,) = [
        cell
        for cell in cells
        if (cell["predictor"], cell["outcome"]) == ("gradsim", "gain")
        and (cell["group"], cell["edits"]) == ("ripple", "successful")
    ]
    assert (mine["n"], mine["clusters"]) == (9, 3)
    assert told["tables"]["skipped"]["rows"] == [["so", 1]]
    assert told["fit"]["slope"] is not None
