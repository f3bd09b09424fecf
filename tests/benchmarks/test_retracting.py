"""Facts taken out of a long run: what comes back, what stays, and the same after a kill."""

import io
from typing import Any

import pytest

from benchmarks import retracting
from benchmarks.longrun import Study, lineage
from benchmarks.progress import Progress
from benchmarks.retracting import Run, text_of
from benchmarks.retracting_figure import draw
from editing.walk import Plan
from tests.editing.facts import CAPITAL, OTHER_SPORT, SPORT

from .conftest import MakeStudy
from .test_lifelong import HPARAMS, LATER, Killed

Json = dict[str, Any]


def taken(study: Study, editor: str, count: int = 1, kill: int = 0) -> Json:
    """With `kill`, until that many edits and retractions are on disk."""

    class Line(Progress):
        def tell(self, done: int | None = None, detail: str = "") -> None:
            if kill and done == kill:
                raise Killed
            super().tell(done, detail)

    with lineage(study, Plan.of(study.view, editor, HPARAMS), HPARAMS) as chain:
        return Run(study, chain, Line([9], io.StringIO())).go(count)


@pytest.mark.parametrize(("editor", "how"), [("memit-history", "exact"), ("memit", "dropped")])
def test_a_fact_taken_out_is_as_it_was_and_the_others_stay(
    make_study: MakeStudy, editor: str, how: str
) -> None:
    told = taken(make_study(), editor)
    assert told["retract"] == how
    assert told["back"]["edited"]["preference"]["value"] == 0.0
    for when in ("now", "end"):
        assert told["back"][when]["preference"]["value"] == 100.0
        assert told["back"][when]["new_said"]["value"] == 0.0
    assert told["back"]["end"]["nats"]["value"] < told["back"]["edited"]["nats"]["value"]
    assert told["stayed"]["end"]["ES"]["n"] == 2
    assert told["stayed"]["end"]["ES"]["value"] == 100.0


@pytest.mark.parametrize("editor", ["memit-history", "memit"])
def test_one_that_was_killed_goes_on(make_study: MakeStudy, editor: str) -> None:
    whole = taken(make_study(out="at-once"), editor, 2)
    with pytest.raises(Killed):
        taken(make_study(), editor, 2, kill=4)
    again = taken(make_study(), editor, 2)
    assert [row["number"] for row in again["rows"]] == [row["number"] for row in whole["rows"]]
    for one, two in zip(again["rows"], whole["rows"], strict=True):
        assert one["margin_end"] == pytest.approx(two["margin_end"], abs=1e-2)
    assert again["stayed"]["end"]["ES"] == whole["stayed"]["end"]["ES"]


def test_what_another_edit_contradicts_is_not_drawn(make_study: MakeStudy) -> None:
    told = taken(make_study([SPORT, CAPITAL, LATER]), "memit-history", 3)
    assert [row["subject"] for row in told["rows"]] == [CAPITAL.subject]


def test_a_lineage_of_the_long_run_is_gone_on_with(make_study: MakeStudy) -> None:
    study = make_study()
    with lineage(study, Plan.of(study.view, "memit-history", HPARAMS), HPARAMS) as chain:
        for one in study.questions.requests:
            chain.edited(one)
        before = dict(chain.ledger.entries)
    taken(make_study(), "memit-history")
    with lineage(study, Plan.of(study.view, "memit-history", HPARAMS), HPARAMS) as chain:
        fresh = [entry for key, entry in chain.ledger.entries.items() if key not in before]
    assert sum("blob" in entry for entry in fresh) == 1  # the retraction


def test_the_tables_and_the_picture_hold_every_editor(make_study: MakeStudy, tmp_path: Any) -> None:
    told = [taken(make_study(), editor) for editor in ("memit-history", "memit")]
    text = text_of(told)
    assert text.count("memit-history (exact)") == 5
    assert text.count("memit (dropped)") == 5
    draw(told, tmp_path / "all.png")
    assert (tmp_path / "all.png").stat().st_size > 10_000


def test_a_share_says_what_it_is_of(make_study: MakeStudy) -> None:
    study = make_study([SPORT, OTHER_SPORT])
    told = taken(study, "memit-history")
    whole = retracting.back([], 0)
    assert whole["true"].value is None
    assert told["back"]["end"]["true"]["n"] == 1
