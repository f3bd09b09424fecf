"""The guard: what it takes, what it calls a breach, and what follows; and the canary's numbers."""

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from editing.delta import LowRank
from editing.errors import InvalidGuard
from editing.guard import Breach, Guard, judge, schema, verdict
from editing.metrics import canary as canaries
from editing.metrics.canary import distinct_share
from editing.metrics.promotion import promotion_report
from editing.metrics.standing import Asked, Live, live_report
from editing.model.state import State
from editing.model.view import ModelView
from editing.run import finish

from .facts import CAPITAL, OTHER_SPORT, SPORT, run

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]


def value(now: float | None, before: float | None = None, n: int = 10) -> Json:
    return {"value": now, "n": n, "before": before}


def report(**more: Any) -> Json:
    """One that passes."""
    live = {"same_subject": value(1.0, 1.0, 1), "others": value(1.0, 1.0, 20), "disturbed": []}
    canary = {name: value(1.0) for name in ("perplexity_ratio", "norm_ratio", "distinct")}
    return {
        "efficacy": {"success": value(1.0), "accuracy": value(1.0)},
        "neighborhood": value(1.0, 1.0),
        "live": live,
        "drift": {"kl": value(0.01)},
        "canary": {**canary, "finite": True},
    } | more


def disturbed(same: int, others: int) -> list[Json]:
    rows = [*([True] * same), *([False] * others)]
    return [{"edit": f"e{n}", "facts": [0], "same_subject": one} for n, one in enumerate(rows)]


def live(same: int = 0, others: int = 0) -> Json:
    return {**report()["live"], "disturbed": disturbed(same, others)}


def canary(**more: Any) -> Json:
    return {**report()["canary"], **more}


# ---- thresholds ------------------------------------------------------------------------------


def test_later_words_stand_over_earlier_ones_and_over_the_defaults() -> None:
    guard = Guard.of({"kl": 1.0, "success": 0.5}, None, {"kl": None})
    assert (guard.kl, guard.success) == (None, 0.5)
    assert guard.norm_ratio == Guard().norm_ratio == 1.5
    assert Guard.of(guard.to_dict()) == guard


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"klee": 1}, "klee"),
        ({"kl": -1}, "kl"),
        ({"kl": "much"}, "kl"),
        ({"kl": {}}, "kl"),
        ({"sample": None}, "sample"),
        ({"sample": 1.5}, "sample"),
        ({"on_breach": "shout"}, "on_breach"),
        ({"on_collapse": "repair"}, "on_collapse"),
        ({"success": True}, "success"),
    ],
)
def test_what_it_cannot_be_is_refused_with_what_it_has(given: Json, field: str) -> None:
    with pytest.raises(InvalidGuard) as refused:
        Guard.of(given)
    assert refused.value.fields["field"] == field
    assert "on_breach" in str(refused.value)


def test_every_threshold_has_a_sentence_and_bounds() -> None:
    properties: Any = schema()["properties"]
    assert list(properties) == [each.name for each in fields(Guard)]
    for name, each in properties.items():
        assert each["description"].endswith("."), name
        assert "enum" in each or {"minimum", "maximum"} <= set(each), name


def test_the_page_has_the_bounds() -> None:
    page = " ".join((ROOT / "docs/guard.md").read_text("utf-8").split())
    told = page.partition("Bounds: ")[2].partition(". All but")[0]
    found: dict[str, tuple[float, ...]] = {}
    for part in told.split("; "):
        (one,) = re.findall(r"(.+) from (\d+) to (\d+)", part)
        names, low, high = one
        found |= {name.strip("`"): (float(low), float(high)) for name in names.split(", ")}
    properties: Any = schema()["properties"]
    wanted = {
        n: (one["minimum"], one["maximum"]) for n, one in properties.items() if "minimum" in one
    }
    assert found == wanted
    for name in ("neighborhood_count", "disturbed_count", "sample"):
        with pytest.raises(InvalidGuard):
            Guard.of({name: None})


# ---- breaches --------------------------------------------------------------------------------


def test_a_good_report_passes_and_what_was_not_measured_is_no_breach() -> None:
    assert judge(report(), Guard()) == ()
    nothing = value(None, None, 0)
    unmeasured = report(
        neighborhood=nothing,
        live={"same_subject": nothing, "others": nothing, "disturbed": []},
        canary=canary(distinct=nothing),
    )
    assert judge(unmeasured, Guard(accuracy=1.0)) == ()


@pytest.mark.parametrize(
    ("worse", "what", "measured"),
    [
        ({"efficacy": {"success": value(0.5), "accuracy": value(0.5)}}, "success", 0.5),
        ({"neighborhood": value(0.4, 0.8)}, "neighborhood_loss", 0.4),
        ({"live": live(same=1)}, "disturbed_share", 1.0),
        ({"live": live(others=5)}, "disturbed_share", 0.25),
        ({"drift": {"kl": value(0.5)}}, "kl", 0.5),
        ({"canary": canary(perplexity_ratio=value(3.5))}, "perplexity_ratio", 3.5),
        ({"canary": canary(norm_ratio=value(1.6))}, "norm_ratio", 1.6),
        ({"canary": canary(distinct=value(0.1))}, "distinct", 0.1),
    ],
)
def test_a_number_beyond_its_threshold_is_a_breach_until_that_is_off(
    worse: Json, what: str, measured: float
) -> None:
    (found,) = judge(report(**worse), Guard())
    assert (found.what, found.measured) == (what, pytest.approx(measured))
    assert found.threshold == getattr(Guard(), what)
    assert found.collapse == ("canary" in worse)
    assert judge(report(**worse), Guard.of({what: None})) == ()
    at: Any = report(**worse)
    for part in found.at.split("."):
        at = at[part]
    assert at["n"] == found.n


def test_an_order_answers_for_what_it_adds_and_not_for_what_stood_there() -> None:
    worn = report(
        drift={"kl": value(0.95, 0.9)},
        canary=canary(
            perplexity_ratio=value(4.0, 4.0), norm_ratio=value(1.8, 1.9), distinct=value(0.2, 0.2)
        ),
    )
    assert judge(worn, Guard()) == ()
    worse = report(
        drift={"kl": value(1.05, 0.9)},
        canary=canary(
            perplexity_ratio=value(4.1, 4.0), norm_ratio=value(1.8, 1.7), distinct=value(0.1, 0.2)
        ),
    )
    found = {one.what: one for one in judge(worse, Guard())}
    assert list(found) == ["kl", "perplexity_ratio", "norm_ratio", "distinct"]
    assert [one.before for one in found.values()] == [0.9, 4.0, 1.7, 0.2]
    assert str(found["kl"]) == "drift.kl worse by 0.15 (before 0.9, threshold 0.1)"
    assert str(found["distinct"]) == "canary.distinct 0.1 (before 0.2, threshold 0.5)"
    assert found["kl"].to_dict()["before"] == 0.9


def test_at_the_threshold_there_is_none() -> None:
    at = report(neighborhood=value(0.6, 0.8), live=live(others=2), drift={"kl": value(0.1)})
    assert judge(at, Guard()) == ()


def test_a_few_disturbed_ones_may_be_let_pass_by_their_count() -> None:
    assert judge(report(live=live(others=5)), Guard(disturbed_count=6)) == ()


@pytest.mark.parametrize(
    ("n", "lost", "least", "breaches"),
    [(3, 1, 2, 0), (3, 2, 2, 1), (1, 1, 2, 1), (3, 1, 1, 1), (3, 2, 4, 0)],
)
def test_it_takes_some_neighbors_or_all_of_them(
    n: int, lost: int, least: int, breaches: int
) -> None:
    told = report(neighborhood=value((n - lost) / n, 1.0, n))
    assert len(judge(told, Guard(neighborhood_count=least))) == breaches


def test_no_number_is_a_collapse_whatever_the_thresholds_are() -> None:
    off = Guard(perplexity_ratio=None, norm_ratio=None, distinct=None)
    broken = report(canary=canary(finite=False, perplexity_ratio=value(None)))
    (found,) = judge(broken, off)
    assert found.collapse
    assert verdict([found], off, repairable=True) == "reject"


SOFT = Breach("kl", "drift.kl", 1.0, 0.1, 5)
HARD = Breach("norm_ratio", "canary.norm_ratio", 9.0, 1.5, 1, collapse=True)


@pytest.mark.parametrize(
    ("guard", "breaches", "repairable", "said"),
    [
        ({}, [], True, "passed"),
        ({}, [SOFT], True, "warn"),
        ({}, [HARD], True, "reject"),
        ({"on_collapse": "warn"}, [HARD], True, "warn"),
        ({"on_collapse": "warn", "on_breach": "reject"}, [HARD], True, "warn"),
        ({"on_collapse": "warn", "on_breach": "reject"}, [HARD, SOFT], True, "reject"),
        ({"on_breach": "reject"}, [SOFT], True, "reject"),
        ({"on_breach": "repair"}, [SOFT], True, "repair"),
        ({"on_breach": "repair"}, [SOFT], False, "reject"),
        ({"on_breach": "repair"}, [SOFT, HARD], True, "reject"),
        ({"on_breach": "repair"}, [], False, "passed"),
    ],
)
def test_what_follows(guard: Json, breaches: list[Breach], repairable: bool, said: str) -> None:  # noqa: FBT001
    assert verdict(breaches, Guard.of(guard), repairable=repairable) == said


# ---- the report: live edits ------------------------------------------------------------------


def test_live_edits_are_told_apart_and_counted_by_edit() -> None:
    near, far = Live(SPORT, "near", 0, same_subject=True), Live(CAPITAL, "far", 2)
    asked = [
        Asked(near, before=True, now=False),
        Asked(far, before=True, now=True),
        Asked(Live(OTHER_SPORT, "far", 3), before=False, now=False),
        Asked(Live(OTHER_SPORT, "deaf", 0), before=False, now=True),
    ]
    found: Any = live_report(asked)
    assert found["same_subject"] == {"value": 0.0, "n": 1, "before": 1.0}
    assert found["others"] == {"value": 0.5, "n": 2, "before": 0.0}
    assert found["disturbed"] == [{"edit": "near", "facts": [0], "same_subject": True}]
    assert found["asked"][1] == {"edit": "far", "fact": 2, "before": True, "now": True}


# ---- the canary ------------------------------------------------------------------------------


def measured(view: ModelView, after: State) -> Json:
    return finish(promotion_report(view, [SPORT], after, [Live(CAPITAL, "e1", 0)]))


def scaled(view: ModelView, factor: float) -> State:
    """One weight blown up."""
    name = view.down_proj(2)
    weight = view.master(name, State())
    return view.after({name: LowRank((factor - 1) * weight, torch.eye(weight.shape[1]))})


def whats(found: Mapping[str, Any]) -> set[str]:
    return {one.what for one in judge(found, Guard()) if one.collapse}


def test_of_an_edit_that_behaves_the_canary_lives(llama: ModelView) -> None:
    found = measured(llama, llama.after(run(llama, "rome", [SPORT]).deltas))
    assert whats(found) <= {"norm_ratio"}  # in a model of width 32 one fact is a lot
    assert found["canary"]["norm_ratio"]["value"] == found["drift"]["norm_ratio"]["value"]
    unchanged = measured(llama, llama.current)["canary"]
    assert unchanged["finite"] is True
    for name in ("perplexity_ratio", "norm_ratio", "distinct"):
        assert unchanged[name]["value"] == pytest.approx(1.0, abs=1e-5), name


def test_a_norm_blown_up_is_seen(view: ModelView) -> None:
    assert "norm_ratio" in whats(measured(view, scaled(view, 3.0)))


def test_a_model_that_answers_with_no_number_is_seen_and_its_report_is_json(
    llama: ModelView,
) -> None:
    found = measured(llama, scaled(llama, 1e38))
    assert found["canary"]["finite"] is False
    assert "finite" in whats(found)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_degenerate_model_is_seen(llama: ModelView) -> None:
    """One whose last layer says the same thing to everything."""
    name = llama.down_proj(llama.facts.layers - 1)
    d_out, d_in = llama.master(name, State()).shape
    chance = torch.Generator().manual_seed(0)
    left, right = torch.randn(d_out, 1, generator=chance), torch.ones(1, d_in)
    found = measured(llama, llama.after({name: LowRank(30 * left, right)}))
    assert {"distinct", "norm_ratio"} <= whats(found)


def test_repetition_is_the_share_of_different_trigrams() -> None:
    assert distinct_share(["a b c d", "a b c d"]) == 1.0
    assert distinct_share(["a a a a a a"]) == 0.25
    assert distinct_share(["a a a a", "a b c"]) == 0.75


def silenced(monkeypatch: pytest.MonkeyPatch, *, base: bool) -> None:
    """What is asked of the canary is answered with nothing; by the untouched model, too."""
    real = canaries.greedily

    def greedily(view: ModelView, prompts: Any, tokens: int) -> Any:
        texts, logits = yield from real(view, prompts, tokens)
        silent = base or view.current.masters
        return ["" if silent else "a b c d" for _ in texts], logits

    monkeypatch.setattr(canaries, "greedily", greedily)


def test_silence_is_no_variety(llama: ModelView, monkeypatch: pytest.MonkeyPatch) -> None:
    assert distinct_share(["a b", ""]) == 0.0
    assert distinct_share(["a b c", ""]) == 0.5
    silenced(monkeypatch, base=False)
    found = measured(llama, scaled(llama, 1.01))
    assert found["canary"]["distinct"] == {"value": 0.0, "n": 4, "before": 1.0}
    assert whats(found) == {"distinct"}


def test_a_base_that_says_nothing_itself_has_nothing_to_lose(
    llama: ModelView, monkeypatch: pytest.MonkeyPatch
) -> None:
    silenced(monkeypatch, base=True)
    found = measured(llama, scaled(llama, 1.01))
    assert found["canary"]["distinct"] == {"value": 1.0, "n": 4, "before": 1.0}
    assert whats(found) == set()


def test_what_is_served_is_measured_too(llama: ModelView) -> None:
    worn = scaled(llama, 3.0)
    llama.adopt(worn)
    found = measured(llama, worn)
    for name in ("perplexity_ratio", "norm_ratio", "distinct"):
        each = found["canary"][name]
        assert each["before"] == pytest.approx(each["value"], rel=1e-6), name
    assert not {"norm_ratio", "distinct"} & whats(found)
