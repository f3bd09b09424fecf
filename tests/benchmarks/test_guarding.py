"""Poisonous orders among good ones: what they are, what is served, and the same after a kill."""

import io
from pathlib import Path
from typing import Any

import pytest

from benchmarks.guarding import FATES, Run, guard_of, text_of
from benchmarks.guarding_figure import draw
from benchmarks.longrun import Study, lineage
from benchmarks.poison import KINDS, Item, mixed
from benchmarks.progress import Progress
from editing.errors import BadRequest
from editing.request import EditRequest
from editing.walk import Plan
from tests.editing.facts import CAPITAL, OTHER_SPORT, SPORT

from .conftest import MakeStudy
from .test_lifelong import HPARAMS, LATER, Killed

Json = dict[str, Any]
GOOD = (SPORT, CAPITAL, OTHER_SPORT)
POISON = [
    Item("empty answer", {**LATER.to_dict(), "target_new": " "}),
    Item("contradiction", LATER.to_dict()),
]
# What a tiny model does to its neutral texts is no measure of anything.
LOOSE = {"kl": None, "perplexity_ratio": None, "norm_ratio": None, "distinct": None}


def ordered(
    study: Study, arm: str, guard: Json, *, poison: list[Item] | None = None, kill: int = 0
) -> Json:
    """Good orders with poisonous ones behind them; with `kill`, until so many are on disk."""

    class Line(Progress):
        def tell(self, done: int | None = None, detail: str = "") -> None:
            if kill and done == kill:
                raise Killed
            super().tell(done, detail)

    items = [Item("", one.to_dict(), n) for n, one in enumerate(study.questions.requests)]
    items += POISON if poison is None else poison
    judged = None if arm == "clean" else guard_of(arm, {**LOOSE, **guard})
    apart = {"mode": f"guarding-{arm}", "guard": judged.to_dict() if judged else None}
    plan = Plan.of(study.view, "memit-history", HPARAMS)
    with lineage(study, plan, HPARAMS, apart) as chain:
        return Run(study, chain, arm, items, Line([9], io.StringIO())).go(judged)


def test_without_a_guard_all_that_can_be_written_is_served_and_told(make_study: MakeStudy) -> None:
    told = ordered(make_study(GOOD), "off", {"neighborhood_loss": None})
    assert told["kinds"]["empty answer"] == {"refused": 1}
    assert sum(told["kinds"]["contradiction"].values()) == 1
    assert told["good"]["n"] == 3
    assert told["good"]["overwritten"] == 1
    assert told["good"]["served"]["ES"]["n"] == 2
    assert set(told["fates"]) <= set(FATES)


def test_what_breaches_is_rejected_and_leaves_no_trace(make_study: MakeStudy) -> None:
    nothing = {"neighborhood_loss": 0.0, "sample": 0, "disturbed_share": None}
    bad = {**SPORT.to_dict(), "target_new": "tennis", "prompt": "{} plays the sport of"}
    near = [{"prompt": "LeBron James plays the sport of", "target": "tennis"}]
    poison = [Item("contradiction", {**bad, "target_new": "football", "neighborhood": near})]
    study = make_study([SPORT])
    told = ordered(study, "reject", {**nothing, "neighborhood_loss": None}, poison=[])
    state = told["being"]["norms"]
    told = ordered(study, "reject", {**nothing, "neighborhood_loss": 0.5}, poison=poison)
    assert told["fates"] == {"rejected": 1}
    assert told["breaches"] == {"neighborhood_loss": 1}
    assert told["being"]["norms"] == pytest.approx(state)
    assert told["good"]["served"]["ES"]["value"] == 100.0


def test_one_that_was_killed_goes_on(make_study: MakeStudy) -> None:
    guard = {"neighborhood_loss": None}
    whole = ordered(make_study(GOOD, out="at-once"), "reject", guard)
    with pytest.raises(Killed):
        ordered(make_study(GOOD), "reject", guard, kill=2)
    again = ordered(make_study(GOOD), "reject", guard)
    assert [row["fate"] for row in again["rows"]] == [row["fate"] for row in whole["rows"]]
    assert again["good"] == whole["good"]


def test_the_tables_and_the_picture_hold_every_arm(make_study: MakeStudy, tmp_path: Path) -> None:
    guard = {"neighborhood_loss": None}
    arms = ("clean", "off", "reject", "repair")
    poison: dict[str, list[Item] | None] = {"clean": []}
    told = [ordered(make_study(GOOD), arm, guard, poison=poison.get(arm)) for arm in arms]
    text = text_of(told)
    assert text.count("| memit-history | repair |") == len(KINDS) + 2
    assert text.count("| memit-history | clean |") == 1
    draw(told, FATES, tmp_path / "all.png")
    assert (tmp_path / "all.png").stat().st_size > 10_000


class TestThePoison:
    def test_all_kinds_take_turns_and_the_good_ones_keep_their_order(self) -> None:
        items = mixed(GOOD, [LATER], 2 * len(KINDS), seed=1)
        assert [item.request for item in items if not item.kind] == [one.to_dict() for one in GOOD]
        assert not items[0].kind
        kinds = [item.kind for item in items if item.kind]
        assert all(kinds.count(kind) == 2 for kind in KINDS)
        assert items == mixed(GOOD, [LATER], 2 * len(KINDS), seed=1)
        assert items != mixed(GOOD, [LATER], 2 * len(KINDS), seed=2)

    def test_an_attack_is_on_a_good_order_before_it(self) -> None:
        items = mixed(GOOD, [LATER], 4 * len(KINDS), seed=0)
        seen: dict[str, str] = {}
        for item in items:
            if not item.kind:
                seen[item.request["subject"]] = item.request["target_new"]
            elif item.kind == "contradiction":
                assert item.request["target_new"] != seen[item.request["subject"]]

    def test_two_kinds_are_no_requests_and_the_others_are(self) -> None:
        for item in mixed(GOOD, [LATER], len(KINDS), seed=0):
            if item.kind in {"no place for the subject", "empty answer"}:
                with pytest.raises(BadRequest):
                    EditRequest.from_dict(item.request)
            elif item.kind != "answer without end":
                EditRequest.from_dict(item.request)
