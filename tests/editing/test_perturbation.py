"""Edits of one subject: how sets are built and matched, what is scored, and what SD is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from editing.datasets.relations import relation_of
from editing.datasets.s2rke import facts_in
from editing.datasets.same_subject import Fact, SameSubject, available, build
from editing.delta import Dense, LowRank, Slices
from editing.errors import BadRecord, BadRequest
from editing.evals import perturbation_summary
from editing.evals.arms import written
from editing.evals.catalogue import suite
from editing.evals.run import rows_of, summary_of
from editing.evals.scene import Scene
from editing.metrics.keys import cosines, keys_of, sites_of
from editing.metrics.perturbation import compared, jaccard
from editing.metrics.values import harmonic
from editing.model.tokens import place
from editing.model.view import ModelView
from editing.request import EditRequest
from editing.run import finish
from editing.walk import Plan

from .facts import CAPITAL, OTHER_SPORT, SPORT, changed, copied, hooked, planned

Json = dict[str, Any]
ONE = suite("perturbation")


def relation(name: str, templates: list[str], objects: Mapping[str, str]) -> Json:
    return {
        "name": name,
        "prompt_templates": templates[:1],
        "prompt_templates_zs": templates[1:],
        "samples": [{"subject": s, "object": o} for s, o in objects.items()],
    }


PLAYERS = {
    "LeBron James": "basketball",
    "Kobe Bryant": "basketball",
    "Lionel Messi": "football",
    "Diego Maradona": "football",
    "Serena Williams": "tennis",
    "Roger Federer": "tennis",
}
CITIES = dict(zip(PLAYERS, ["Rome", "Paris", "Rome", "Madrid", "Paris", "Madrid"], strict=True))
WORK = dict(zip(PLAYERS, ["sea", "river", "sea", "river", "sea", "river"], strict=True))


def records() -> list[Json]:
    return [
        relation("sport", ["{} plays the sport of", "What {} plays is"], PLAYERS),
        relation("city", ["The capital of {} is", "{} lives in"], CITIES),
        relation("near", ["{} works by the", "The old house of {} is by the"], WORK),
    ]


def facts(**more: Any) -> list[Fact]:
    return facts_in(records(), **{"neighbors": 3, "seed": 0, **more})


def arms_of(case: SameSubject) -> dict[str, list[Fact]]:
    found = case.arms(lambda _: True)
    assert found is not None
    return found


# ---- the data ------------------------------------------------------------------------------------


def test_subjects_are_joined_over_relations() -> None:
    assert available(facts()) == {2: 6, 3: 6}
    only = records()
    only[2]["samples"] = only[2]["samples"][:2]
    assert available(facts_in(only, neighbors=1, seed=0)) == {2: 6, 3: 2}


def test_a_request_writes_another_object_and_keeps_those_who_share_the_old_one() -> None:
    made = {(f.subject, f.relation): f.make() for f in facts()}
    one = made["LeBron James", "sport"]
    assert one.target_true == "basketball"
    assert one.target_new in {"football", "tennis"}
    assert one.paraphrases == ("What LeBron James plays is",)
    assert [(n.prompt, n.target) for n in one.neighborhood] == [
        ("Kobe Bryant plays the sport of", "basketball")
    ]
    assert made == {(f.subject, f.relation): f.make() for f in facts()}  # drawn by the seed alone
    others = [f.make().target_new for seed in range(8) for f in facts(seed=seed)[:1]]
    assert set(others) == {"football", "tennis"}


def test_an_object_that_the_subject_has_as_well_is_not_new() -> None:
    record = relation("sport", ["{} plays"], PLAYERS)
    record["samples"].append({"subject": "LeBron James", "object": "football"})
    found = relation_of(0, record)
    news = {found.request("LeBron James", neighbors=0, seed=n).target_new for n in range(20)}
    assert news == {"tennis"}


@pytest.mark.parametrize(("design", "k"), [("homogeneous", 4), ("all-same", 3)])
def test_the_arms_of_a_case_are_matched(design: Any, k: int) -> None:
    for case in build(facts(), design=design, k=k, subjects=0, seed=0):
        arms = arms_of(case)
        same, different = arms["same"], arms["different"]
        assert len(same) == len(different) == k
        assert same[0] == different[0]
        assert same[0].subject == same[-1].subject == case.subject
        assert len({fact.subject for fact in different}) == k
        if design == "homogeneous":
            assert same[:-1] == different[:-1]
            assert len({fact.subject for fact in same}) == k - 1
        else:
            assert {fact.subject for fact in same} == {case.subject}
        changed = [n for n in range(k) if same[n] != different[n]]
        assert all(same[n].relation == different[n].relation for n in changed)


def test_densities_make_as_many_edits_of_fewer_subjects() -> None:
    (case,) = build(facts(), design="density", k=6, subjects=0, seed=0)
    arms = arms_of(case)
    assert {arm: len(some) for arm, some in arms.items()} == dict.fromkeys(arms, 6)
    subjects = {arm: len({fact.subject for fact in some}) for arm, some in arms.items()}
    assert subjects == {"high": 2, "medium": 3, "low": 6}
    assert len({some[0] for some in arms.values()}) == 1
    with pytest.raises(BadRequest, match="multiple of 6"):
        build(facts(), design="density", k=4, subjects=0, seed=0)


def test_a_case_is_the_same_whichever_others_are_drawn() -> None:
    few = build(facts(), design="all-same", k=2, subjects=2, seed=3)
    many = build(facts(), design="all-same", k=2, subjects=0, seed=3)
    assert [arms_of(case) for case in few] == [arms_of(case) for case in many[:2]]


def test_facts_that_do_not_fit_are_passed_over() -> None:
    (case,) = build(facts(), design="homogeneous", k=2, subjects=1, seed=0)
    first, last = arms_of(case)["same"]
    other = case.arms(lambda fact: fact != first)
    assert other is not None
    assert first not in other["same"]
    assert case.arms(lambda fact: fact.subject == case.subject) is None  # nobody to match with
    assert case.arms(lambda fact: fact != first and fact.relation == first.relation) is None
    assert last in other["same"]


def test_too_few_facts_of_a_subject_are_refused_with_how_many_there_are() -> None:
    with pytest.raises(BadRequest, match=r"5 facts of one subject .* 6 have 2, 6 have 3 or more"):
        build(facts(), design="all-same", k=5, subjects=0, seed=0)


def test_what_has_neighbors_is_edited_first() -> None:
    only = records()
    only[1] = relation("city", ["The capital of {} is"], CITIES)  # without other words
    for case in build(
        facts_in(only, neighbors=1, seed=0), design="all-same", k=3, subjects=0, seed=0
    ):
        assert arms_of(case)["same"][-1].relation == "city"


STAR: Json = {
    "subjectID": 0,
    "subject": {"name": "Anna"},
    "Star_Topology": [
        {
            "requested_rewrite": {
                "prompt": "{}, who lives in",
                "relation": "<livesIn>",
                "target_true": "Rome",
                "target_new": "Paris",
            },
            "paraphrase_prompts": ["Anna has a house in"],
            "neighborhood_prompts": ["Otto lives in", "Emil lives in"],
        },
        {
            "requested_rewrite": {
                "prompt": "{} works as",
                "relation": "<job>",
                "target_true": "judge",
                "target_new": "judge",
            },
            "paraphrase_prompts": [],
            "neighborhood_prompts": [],
        },
    ],
}


def test_s2rkes_own_file_is_read() -> None:
    (fact,) = facts_in([STAR], neighbors=1, seed=0)  # the other's new object is the old one
    request = fact.make()
    assert (request.question, request.target_new) == ("Anna, who lives in", "Paris")
    assert request.relation == "<livesIn>"
    assert [near.target for near in request.neighborhood] == ["Rome"]


def test_counterfact_records_that_share_a_subject_are_joined() -> None:
    flat = {
        "subject": "Anna",
        "prompt": "Anna lives in",
        "target_new": "Paris",
        "ground_truth": "Rome",
        "rephrase_prompt": "Anna's home is",
        "locality_prompt": "Otto lives in",
        "locality_ground_truth": "Rome",
    }
    again = {**flat, "prompt": "Where Anna lives is"}  # one fact in other words
    other = {**flat, "prompt": "Anna works as", "ground_truth": "judge", "target_new": "poet"}
    found = facts_in([flat, again, other], neighbors=5, seed=0)
    assert [fact.make().question for fact in found] == ["Anna lives in", "Anna works as"]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"samples": None}, "lacks"),
        ({"samples": [{"subject": "x"}]}, "lacks 'object'"),
        ({"samples": []}, "needs samples"),
        ({"prompt_templates": ["no slot"]}, "exactly one {}"),
        ({"samples": [{"subject": "x", "object": ""}]}, "text is needed"),
        ({"name": 3}, "text is needed"),
    ],
)
def test_a_relation_that_cannot_be_read_is_named(wrong: Json, why: str) -> None:
    with pytest.raises(BadRecord, match=f"Record 1 .*{why}"):
        facts_in([records()[0], {**records()[1], **wrong}], neighbors=1, seed=0)


def test_a_star_that_cannot_be_read_is_named() -> None:
    with pytest.raises(BadRecord, match=r"Record 1 .*lacks 'subject'"):
        facts_in([STAR, {"Star_Topology": []}], neighbors=1, seed=0)


# ---- what two edits have in common ---------------------------------------------------------------


def test_jaccard_is_of_the_largest_entries() -> None:
    one, other = torch.zeros(10, 10), torch.zeros(10, 10)
    one[0, :5], other[0, 2:7] = torch.arange(5) + 1.0, -torch.arange(5) - 1.0
    assert jaccard(one, other, 0.05) == 3 / 7
    assert jaccard(one, other, 0.01) == 0.0  # entry 4 against entry 6
    assert jaccard(one, one, 0.01) == 1.0
    assert jaccard(one, other, 0.5) == 3 / 7  # what is zero is not touched
    assert jaccard(one * 0, other * 0, 0.05) is None


def test_changes_are_compared_as_matrices_and_by_where_they_write() -> None:
    chance = torch.Generator().manual_seed(0)
    left, right = torch.randn(6, 2, generator=chance), torch.randn(2, 8, generator=chance)
    one = LowRank(left, right)
    assert compared(one, LowRank(-2 * left, right))["cosine"] == pytest.approx(-1)
    mixed = left @ torch.randn(2, 2, generator=chance)
    assert compared(one, LowRank(mixed, right.flip(1)))["overlap"] == pytest.approx(1)
    aside = torch.linalg.qr(left, mode="complete").Q[:, 2:4]
    assert compared(one, LowRank(aside, right))["overlap"] == pytest.approx(0, abs=1e-6)
    dense = compared(one, Dense(one.matrix()))
    assert dense["overlap"] is None
    assert dense["jaccard_0.05"] == 1
    column = Slices(1, torch.tensor([3]), torch.ones(1, 6), (6, 8))
    assert compared(column, column)["cosine"] == pytest.approx(1)


def test_the_harmonic_mean_is_zero_with_a_zero_and_none_with_a_gap() -> None:
    assert harmonic([1.0, 0.5, 0.25]) == pytest.approx(3 / 7)
    assert harmonic([1.0, 0.0, 1.0]) == 0
    assert harmonic([1.0, None, 1.0]) is None


@torch.no_grad()
def slow_key(
    view: ModelView, request: EditRequest, prefix: str, layer: int, *, last: bool
) -> Tensor:
    placed = place(view.tokenizer, request, prefix)
    found: list[Tensor] = []
    module = view.module(view.down_proj(layer))
    hook = module.register_forward_pre_hook(lambda _, args: found.append(args[0]))
    view.model(input_ids=torch.tensor([placed.ids]))
    hook.remove()
    return found[0].view(len(placed.ids), -1)[-1 if last else placed.subject]


@pytest.mark.parametrize("site", ["subject_last", "prompt_last", "dual"])
def test_keys_are_means_over_contexts_at_the_methods_token(view: ModelView, site: str) -> None:
    plan = Plan.of(view, "memit", {"layers": [1, 3], "key_site": site, "late_layers": [2]})
    prefixes = ("", "Therefore we know")
    requests = [SPORT, CAPITAL]
    wanted = {"subject_last": [(1, 3)], "prompt_last": [(1, 3)], "dual": [(1, 3), (2,)]}[site]
    sites = sites_of(plan.hparams)
    assert [tuple(layer for _, layer in one.spots) for one in sites] == wanted
    for one in sites:
        keys = finish(keys_of(view, requests, one, prefixes[1:]))
        for (_, layer), found in keys.items():
            for number, request in enumerate(requests):
                last = one.key_at == "prompt_last"
                parts = [slow_key(view, request, text, layer, last=last) for text in prefixes]
                assert torch.allclose(found[number], sum(parts) / 2, atol=1e-4)


def test_a_prompt_that_begins_with_its_subject_has_the_key_of_any_other(llama: ModelView) -> None:
    (sites,) = sites_of(Plan.of(llama, "rome", {"layers": [2]}).hparams)
    other = replace(SPORT, prompt="{} is by the sea")
    keys = finish(keys_of(llama, [SPORT, other, CAPITAL], sites))["mlp", 2]
    found = cosines(keys, keys)
    assert found[0, 1] == pytest.approx(1, abs=1e-6)
    assert found[0, 2] < 1 - 1e-3


def test_methods_write_where_their_hparams_say(llama: ModelView) -> None:
    (sites,) = sites_of(Plan.of(llama, "attention", {"layers": [1, 2]}).hparams)
    assert sites.spots == (("attention", 1), ("mlp", 1), ("attention", 2), ("mlp", 2))
    assert sites.key_at == "prompt_last"
    assert sites_of(Plan.of(llama, "ike", {}).hparams) == []


# ---- the suite -----------------------------------------------------------------------------------


# ft-m writes anything; a search finds only what the tiny model can be made to say
def scene_of(view: ModelView, given: Json, editor: str = "ft-m") -> Scene:
    return Scene(view=view, options=ONE.options_of(given), plan=planned(view, editor))


def run(view: ModelView, given: Json, data: list[Json] | None = None) -> tuple[list[Json], Json]:
    scene = scene_of(view, given)
    cases = ONE.read(data or records(), scene.options)
    rows: list[Json] = []
    for number, case in enumerate(cases):
        rows += finish(rows_of(ONE, scene, case, number, view.current))
    return rows, summary_of(ONE, rows, scene.options)


def test_what_arms_begin_with_is_written_once_and_to_the_same_bits(llama: ModelView) -> None:
    scene = scene_of(llama, {}, "memit-history")
    arms = {"same": [SPORT, CAPITAL], "different": [SPORT, OTHER_SPORT]}
    found = finish(written(scene, arms, batch=False))
    assert found["same"][0] is found["different"][0]
    for arm, requests in arms.items():
        alone = finish(scene.chained([[one] for one in requests]))
        prints = [[llama.fingerprint(one.state) for one in some] for some in (alone, found[arm])]
        assert prints[0] == prints[1]
    batch = finish(written(scene, arms, batch=True))
    assert {len(some) for some in batch.values()} == {1}


def test_a_set_is_edited_and_scored_and_the_model_is_as_it_was(llama: ModelView) -> None:
    before = copied(llama)
    rows, told = run(llama, {"design": "all-same", "k": 2, "subjects": 1, "max_tokens": 3})
    assert changed(llama, before) == set()
    assert hooked(llama) == []
    assert told["failed"] == {}
    edits = [row for row in rows if row["row"] == "edit"]
    places = [(row["arm"], row["after"], row["position"]) for row in edits if row["case"] == 0]
    assert places == [
        (arm, *at) for arm in ("same", "different") for at in ((1, 0), (2, 0), (2, 1))
    ]
    first = [row for row in edits if row["case"] == 0 and row["after"] == 1]
    assert first[0] == {**first[1], "arm": "same"}  # both arms begin alike
    assert told["values"]["es_same_all"]["value"] > told["values"]["es_same_all"]["before"]
    assert told["values"]["s_same"]["n"] == 1
    assert told["values"]["sd"]["value"] == pytest.approx(
        100 * (told["values"]["s_same"]["value"] - told["values"]["s_different"]["value"])
    )
    assert {row["said"] != "" for row in edits if row["after"] == 2} == {True}
    pair = next(row for row in rows if row["row"] == "pair")
    assert len(pair["weights"]) == len(pair["cosine"]) == 1
    assert [line[:2] for line in told["tables"]["retention"]["rows"]] == [
        ["same", 0],
        ["same", 1],
        ["different", 0],
        ["different", 1],
    ]


def test_a_neighbor_that_is_edited_is_not_asked(llama: ModelView) -> None:
    few = [
        relation("sport", ["{} plays the sport of", "What {} plays is"], PLAYERS),
        relation(
            "city", ["The capital of {} is"], {"LeBron James": "Rome", "Kobe Bryant": "Paris"}
        ),
    ]
    rows, _ = run(llama, {"k": 2, "subjects": 1, "max_tokens": 0, "neighbors": 9}, few)
    edited = {row["edited"] for row in rows if row["row"] == "edit"}
    assert edited == {"LeBron James", "Kobe Bryant"}  # who share a sport, and only they
    assert {row["ns_n"] for row in rows if row["row"] == "edit" and row["position"] == 0} == {0}


def test_only_facts_that_the_model_knows_are_edited_where_that_is_asked(llama: ModelView) -> None:
    rows, told = run(llama, {"known": True, "subjects": 2})
    assert [row["skipped"] for row in rows] == ["too-few-known"] * 2  # it knows their sports alone
    assert told["skipped"] == {"too-few-known": 2}
    assert told["values"] == {"sd": None} or told["values"].get("sd") is None


def test_one_order_of_all_edits(llama: ModelView) -> None:
    scene = scene_of(llama, {"commits": "batch", "design": "all-same", "k": 2})
    (case, *_) = ONE.read(records(), scene.options)
    rows = finish(rows_of(ONE, scene, case, 0, llama.current))
    edits = [row for row in rows if row["row"] == "edit"]
    assert [row["after"] for row in edits] == [2] * 4
    assert all("weights" not in row for row in rows)  # one change: nothing to compare


def synthetic(case: int, arm: str, es: float, ns: float) -> Json:
    row: Json = {"case": case, "row": "edit", "arm": arm, "k": 2, "after": 2, "position": 0}
    scores = {"es": es, "ps": 1.0, "ns": ns, "accuracy": es, "p_new": es, "p_true": 1 - es}
    return {**row, **scores, **{f"{n}_before": v for n, v in scores.items()}}


def test_sd_is_the_difference_of_scores_of_means_in_points() -> None:
    rows = [synthetic(n, "same", float(n % 2), 1.0) for n in range(4)]
    rows += [synthetic(n, "different", 1.0, 1.0) for n in range(4)]
    told = summary_of(ONE, rows, ONE.options_of({}))["values"]
    assert told["s_same"]["value"] == pytest.approx(3 / (1 / 0.5 + 2))
    assert told["sd"]["value"] == pytest.approx(100 * (0.75 - 1))
    assert told["sd"]["low"] <= told["sd"]["value"] <= told["sd"]["high"] <= 0
    assert told["sd"]["clusters"] == 4


def test_a_score_without_neighbors_is_none_and_its_n_testable_zero() -> None:
    gap = {"ns": None, "ns_before": None}
    rows = [{**synthetic(0, arm, 1.0, 1.0), **gap} for arm in ("same", "different")]
    told = summary_of(ONE, rows, ONE.options_of({}))["values"]
    assert told["ns_same"]["value"] is told["s_same"]["value"] is told["sd"]["value"] is None
    assert (told["ns_same"]["n"], told["ns_same"]["n_testable"]) == (1, 0)


def test_edits_that_changed_no_weight_in_common_are_summed_up_too() -> None:
    pair = {"row": "pair", "arm": "same", "spots": ["mlp 0"], "key_cosine": [0.5]}
    rows = [{**pair, "weights": []}]
    assert perturbation_summary._weights(rows, ["same"])["rows"] == []
    assert perturbation_summary._spots(rows, ["same"])["rows"] == [["same", "mlp 0", 0.5, 1]]
