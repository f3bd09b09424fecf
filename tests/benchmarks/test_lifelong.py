"""Many edits in a row: resumed as if never killed, and scored by what holds at the time."""

import io
import json
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ledger import entries_of
from benchmarks.lifelong import Run
from benchmarks.lifelong_report import names_of, rows_of, written
from benchmarks.longrun import Study, lineage
from benchmarks.measuring import fact_from, measured
from benchmarks.progress import Progress
from benchmarks.questions import (
    Options,
    alone,
    counterfact,
    holding,
    questions,
    unanswered,
)
from benchmarks.sequence import Outcomes
from benchmarks.together import facts_of
from editing.datasets.counterfact import counterfact_request
from editing.model.state import State
from editing.model.view import ModelView
from editing.outcome import Outcome
from editing.request import EditRequest
from editing.run import finish
from editing.step import Step
from editing.walk import Plan, edit
from tests.editing.facts import CAPITAL, SPORT, UNREACHABLE

from .conftest import MakeStudy, record

Json = dict[str, Any]
HPARAMS = {"layers": [1, 3], "contexts": {"prefixes": 2}}
LATER = EditRequest(
    subject=SPORT.subject, prompt=SPORT.prompt, target_new="football", target_true="basketball"
)
# Longer than any answer that can be scored, let alone written.
LOST = EditRequest(subject="Spain", prompt="The capital of {} is", target_new="x " * 200)


class Killed(BaseException):
    """Ends a run as a signal would."""


def go(
    study: Study, editor: str = "memit-history", checkpoints: Sequence[int] = (), kill: int = 0
) -> tuple[Json, Path]:
    """A run in this process; with `kill`, until that many edits are on disk."""

    class Line(Progress):
        def tell(self, done: int | None = None, detail: str = "") -> None:
            if kill and done == kill:
                raise Killed
            super().tell(done, detail)

    plan = Plan.of(study.view, editor, HPARAMS)
    with lineage(study, plan, HPARAMS) as chain:
        line = Line([len(study.questions.requests)], io.StringIO())
        return Run(study, chain, line).go(checkpoints), chain.ledger.folder


def found_by(summary: Json) -> list[Json]:
    """What a second run has to find again, to rounding: folds are made anew after a restart."""
    return [
        {
            **{name: at[name] for name in ("n", "failures", "superseded", "values", "by_age")},
            "perplexity": pytest.approx(at["being"]["perplexity"], rel=1e-4),
        }
        for at in summary["checkpoints"]
    ]


class TestTheRun:
    def test_one_that_was_killed_and_torn_goes_on_where_it_was(self, make_study: MakeStudy) -> None:
        whole, _ = go(make_study(out="at-once"), checkpoints=[1])
        with pytest.raises(Killed):
            go(make_study(), checkpoints=[1], kill=2)
        (file,) = make_study().order.out.glob("memit-history.*/records.jsonl")
        kept = file.read_bytes()
        file.write_bytes(kept + b'{"key": "half a li')
        again, folder = go(make_study(), checkpoints=[1])
        assert file.read_bytes().startswith(kept)
        assert [at["n"] for at in again["checkpoints"]] == [1, 3]
        assert found_by(again) == found_by(whole)
        assert json.loads((folder / "summary.json").read_text()) == json.loads(json.dumps(again))

    def test_more_edits_go_on_from_the_last_and_ask_nothing_twice(
        self, make_study: MakeStudy
    ) -> None:
        first, folder = go(make_study([SPORT, CAPITAL]))
        before = entries_of(folder)
        more, same = go(make_study(), checkpoints=[2])
        assert same == folder
        assert found_by(more)[0] == found_by(first)[0]
        fresh = [entry for key, entry in entries_of(folder).items() if key not in before]
        assert sum("blob" in entry for entry in fresh) == 1

    def test_a_failed_edit_is_skipped_told_and_counts_as_unanswered(
        self, make_study: MakeStudy
    ) -> None:
        told, _ = go(make_study([SPORT, LOST, CAPITAL]))
        at = told["checkpoints"][-1]
        assert at["failures"] == {"target-too-long": 1}
        assert at["values"]["ES"]["value"] == pytest.approx(200 / 3)
        assert at["by_age"] == [100.0, 0.0, 100.0]
        assert told["edits"][1]["why"]

    def test_a_superseded_fact_is_asked_for_its_latest_answer(self, make_study: MakeStudy) -> None:
        told, _ = go(make_study([SPORT, LATER]), checkpoints=[1])
        first, last = told["checkpoints"]
        assert (first["superseded"], last["superseded"]) == (0, 1)
        assert last["values"]["ES"]["value"] == 100.0

    def test_the_unedited_model_is_asked_once_for_all_editors(self, make_study: MakeStudy) -> None:
        one, _ = go(make_study(), "memit")
        (file,) = make_study().order.out.glob("unedited.*/records.jsonl")
        before = file.read_bytes()
        other, _ = go(make_study())
        assert file.read_bytes() == before
        was = [told["checkpoints"][-1]["values"]["NS"]["before"] for told in (one, other)]
        assert was[0] == was[1]

    def test_the_model_is_served_as_it_was_afterwards(self, make_study: MakeStudy) -> None:
        study = make_study()
        told, _ = go(study)
        assert study.view.current.masters == {}
        assert told["checkpoints"][-1]["being"]["norms"]
        assert told["checkpoints"][-1]["state"] != study.view.fingerprint(State())


def test_an_editor_is_not_shown_the_prompts_that_test_it(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[EditRequest] = []

    def spied(*given: Any) -> Generator[Step, None, Outcome]:
        seen.extend(given[2])
        return edit(*given)

    monkeypatch.setattr("benchmarks.sequence.edit", spied)
    go(make_study([SPORT]))
    assert [(one.question, one.paraphrases, one.neighborhood) for one in seen] == [
        (SPORT.question, (), ())
    ]


class TestOutcomesAtHand:
    def test_a_bounded_part_is_kept_and_the_rest_read_again(self, make_study: MakeStudy) -> None:
        study = make_study()
        with lineage(study, Plan.of(study.view, "memit-history", HPARAMS), HPARAMS) as chain:
            blobs = [chain.edited(one)[1]["blob"] for one in study.questions.requests]
            none = Outcomes(chain.ledger, most=0)
            first = none.load(blobs[0])
            assert none.load(blobs[0]) is first  # the last one stays, however large
            none.load(blobs[1])
            again = none.load(blobs[0])
            assert again is not first
            assert again.to_bytes() == first.to_bytes()
            everything = Outcomes(chain.ledger)
            assert all(everything.load(blob) is everything.load(blob) for blob in blobs)


class TestTheOrder:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        folder = tmp_path / "counterfact"
        folder.mkdir()
        whole = [{"case_id": n, **record(one)} for n, one in enumerate((SPORT, CAPITAL))]
        whole[0]["requested_rewrite"]["relation_id"] = "P641"  # type: ignore[index]
        (folder / "counterfact_full.json").write_text(json.dumps(whole))
        flat = [
            {
                "case_id": number,
                "prompt": f"{name} plays the sport of",
                "subject": name,
                "target_new": "tennis",
                "ground_truth": "basketball",
                "rephrase_prompt": f"So: {name} plays the sport of",
                "locality_prompt": "The capital of France is",
                "locality_ground_truth": "Paris",
            }
            for number, name in enumerate(["LeBron James", "X", "Kobe Bryant", "Y", "Z"])
        ]
        (folder / "counterfact-edit.json").write_text(json.dumps(flat))
        return tmp_path

    def test_the_full_form_comes_first_and_none_comes_twice(self, data: Path) -> None:
        found = counterfact(data, Options(), seed=3)
        assert {one.subject for one in found[:2]} == {"LeBron James", "Italy"}
        assert {one.subject for one in found[2:]} == {"Kobe Bryant", "Y", "Z"}
        assert found == counterfact(data, Options(), seed=3)
        assert {one.relation for one in found[2:]} == {"P641"}  # by the template

    def test_a_start_skips_and_neighbors_are_bounded(self, data: Path) -> None:
        whole = counterfact(data, Options(neighbors=1), seed=0)
        assert max(len(one.neighborhood) for one in whole) == 1
        options = Options(neighbors=1)
        part = questions("counterfact", data, options, start=1, count=2, seed=0)
        assert list(part.requests) == whole[1:3]

    def test_the_last_of_one_relation_holds_unless_it_failed(self) -> None:
        one, two = replace(SPORT, relation="P641"), replace(LATER, relation="P641")
        three = replace(two, prompt="{} is a star of", target_new="golf")
        facts = [one, CAPITAL, two, three]
        assert holding(facts, [False] * 4) == [three, CAPITAL, three, three]
        assert holding(facts, [False, False, False, True]) == [two, CAPITAL, two, three]
        assert alone(facts) == [1]


class TestScores:
    def test_what_is_read_together_scores_as_alone(self, view: ModelView) -> None:
        facts = [counterfact_request(0, record(one)) for one in (SPORT, CAPITAL, UNREACHABLE)]
        rival = [one.target_true or "" for one in facts]
        for mine, other in zip(
            facts_of(view, facts, rival, State()),
            finish(measured(view, facts, State())),
            strict=True,
        ):
            pairs = zip(
                [mine.prompt, *mine.paraphrases, *mine.neighborhood],
                [other.prompt, *other.paraphrases, *other.neighborhood],
                strict=True,
            )
            for one, two in pairs:
                for a, b in ((one.wanted, two.wanted), (one.rival, two.rival)):
                    assert (a.tokens, a.matches) == (b.tokens, b.matches)
                    assert a.logprob == pytest.approx(b.logprob, abs=1e-4)

    def test_what_was_never_written_is_no_success_though_the_model_prefers_it(self) -> None:
        told = {
            "prompt": {"wanted": _score(-1.0), "rival": _score(-9.0), "same": False},
            "paraphrases": [{"wanted": _score(-1.0), "rival": _score(-9.0), "same": False}],
            "neighborhood": [{"wanted": _score(-1.0), "rival": _score(-9.0), "same": False}],
        }
        fact = unanswered(fact_from(told))
        assert not fact.prompt.success
        assert not fact.paraphrases[0].success
        assert fact.neighborhood[0].success


def _score(logprob: float) -> Json:
    return {"logprob": logprob, "tokens": 1, "matches": 1}


def test_zsre_is_asked_as_its_suite_asks(view: ModelView, tmp_path: Path) -> None:
    (tmp_path / "zsre").mkdir()
    entry = {
        "subject": "LeBron James",
        "src": "LeBron James plays the sport of",
        "alt": "tennis",
        "answers": ["basketball"],
        "rephrase": "Therefore we know. LeBron James plays the sport of",
        "loc": "The capital of France is",
        "loc_ans": "Paris",
    }
    (tmp_path / "zsre" / "zsre_mend_eval.json").write_text(json.dumps([entry]))
    asked = questions("zsre", tmp_path, Options(), start=0, count=9, seed=0)
    held = list(enumerate(asked.requests))
    before = asked.scored(view, held, State())
    values = asked.values(before, before, [False], 0)
    assert values["loc_agree"]["value"] == 100.0
    assert values["score"]["value"] == pytest.approx(
        sum(values[name]["value"] for name in ("efficacy", "generality", "loc_agree")) / 3
    )
    lost = asked.values(before, before, [True], 0)
    assert (lost["efficacy"]["value"], lost["loc_agree"]["value"]) == (0.0, 100.0)


def test_a_report_tells_runs_of_one_editor_apart_and_draws_them(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    told, folder = go(make_study(), checkpoints=[1, 2])
    other = tmp_path / "other"
    other.mkdir()
    changed = json.loads(json.dumps(told))
    changed["made_by"]["given"] = {"layers": [2]}
    (other / "summary.json").write_text(json.dumps(changed))
    text, paths = written([folder, other], tmp_path / "report")
    assert names_of([told, changed])[1] == 'memit-history given {"layers": [2]}'
    assert len(rows_of([told, changed])) == 6
    assert text.count("memit-history given") == 6
    assert {path.suffix for path in paths} == {".md", ".csv", ".png"}
    assert all(path.stat().st_size for path in paths)
