"""Training of MEND's network: what it learns from, that it learns, and how it is interrupted."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from editing.errors import BadRequest, TrainingDiverged
from editing.hparams import RECIPES, MendRecipe
from editing.knobs import filled
from editing.model.view import ModelView
from editing.request import EditRequest
from editing.run import finish
from editing.step import Step
from editing.training import loss
from editing.training.artefact import load_net
from editing.training.loop import Trained, Training
from editing.training.records import draw_of, split_of, texts_in
from editing.training.state import deliver, path_of, read_state, write_state
from editing.tuned import placement
from editing.walk import Plan, edit
from tests.tiny import tiny_view

from .facts import CAPITAL, SPORT, changed, copied, hooked, logits_of
from .nets import records

# Steep, so that a second teaches something.
RECIPE = MendRecipe(
    rank=8,
    alpha=1e-3,
    lr=1e-3,
    alpha_lr=1e-3,
    accumulate=2,
    neighbors=2,
    check_records=4,
    check_every=10,
    iterations=24,
)
LEFT_OUT = [replace(SPORT, neighborhood=()), CAPITAL]


def training(view: ModelView, recipe: MendRecipe = RECIPE, seed: int = 0) -> Training:
    split = split_of(records(), LEFT_OUT, check=recipe.check_records, seed=seed)
    return Training(view, split, recipe, layers=placement("mend", view.facts), seed=seed)


def bits_of(one: Training) -> dict[str, torch.Tensor]:
    return {**one.net.state_dict(), **{f"best {n}": t for n, t in one.best.items()}}


def same(one: Training, other: Training) -> bool:
    mine, theirs = bits_of(one), bits_of(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[n], theirs[n]) for n in mine)


class TestTheRecords:
    def test_what_shares_a_subject_or_a_text_with_a_left_out_one_is_left_out(self) -> None:
        split = split_of(records(), LEFT_OUT, check=2, seed=0)
        seen = (*split.train, *split.check)
        assert seen
        spared = {text for one in LEFT_OUT for text in texts_in(one)}
        for one in seen:
            assert one.subject not in {SPORT.subject, CAPITAL.subject}
            assert spared.isdisjoint(texts_in(one))

    def test_none_is_left_out_where_none_is_named(self) -> None:
        split = split_of(records(), check=2, seed=0)
        assert len(split.check) == 2
        asked = {one.question for one in (*split.train, *split.check)}
        assert asked == {one.question for one in records()}

    def test_one_question_stays_once_and_nothing_is_both_learned_and_judged_by(self) -> None:
        split = split_of(records() * 2, LEFT_OUT, check=3, seed=0)
        asked = [one.question for one in (*split.train, *split.check)]
        assert len(asked) == len(set(asked))

    def test_a_record_of_which_nothing_can_be_learned_is_passed_by(self) -> None:
        poor = [replace(one, neighborhood=()) for one in records()]
        bare = [replace(one, target_true=None) for one in records()]
        with pytest.raises(BadRequest, match="0 records are left"):
            split_of([*poor, *bare], check=0, seed=0)

    def test_too_few_are_refused_in_words(self) -> None:
        with pytest.raises(BadRequest, match="leave out fewer"):
            split_of(records(), LEFT_OUT, check=1000, seed=0)

    def test_every_record_comes_once_in_each_turn(self) -> None:
        split = split_of(records(), check=2, seed=0)
        size = len(split.train)
        turns = [[split.at(turn * size + n, 0) for n in range(size)] for turn in range(2)]
        for turn in turns:
            assert {one.question for one in turn} == {one.question for one in split.train}
        assert turns[0] != turns[1]
        assert [split.at(n, 0) for n in range(size)] == turns[0]

    def test_a_pool_is_learned_in_turns_and_then_the_next(self) -> None:
        draws = [draw_of(n, 0, pool=5, passes=3) for n in range(30)]
        turns = [draws[start : start + 5] for start in range(0, 30, 5)]
        assert [set(turn) for turn in turns] == [set(range(5))] * 3 + [set(range(5, 10))] * 3
        assert turns[0] != turns[1]
        assert [draw_of(n, 0, pool=1, passes=1) for n in range(9)] == list(range(9))

    def test_the_digest_is_that_of_the_records(self) -> None:
        one, other = (split_of(records()[:9], check=2, seed=seed) for seed in (0, 1))
        assert one.digest == split_of(records()[:9], check=2, seed=0).digest != other.digest


class TestItLearns:
    def test_it_never_looks_at_what_is_left_out(
        self, llama: ModelView, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[EditRequest] = []
        plain = loss.Exercise.of

        def spied(*args: Any, **options: Any) -> loss.Exercise:
            seen.append(args[3])
            return plain(*args, **options)

        monkeypatch.setattr(loss.Exercise, "of", spied)
        finish(training(llama).run())
        assert len(seen) == RECIPE.iterations + RECIPE.check_records
        assert {SPORT.subject, CAPITAL.subject}.isdisjoint(one.subject for one in seen)
        assert not any("LeBron" in text or "Italy" in text for o in seen for text in texts_in(o))

    def test_facts_it_never_saw_are_written_better_than_before(self, llama: ModelView) -> None:
        run = training(llama, replace(RECIPE, iterations=120, check_every=30))
        finish(run.run())
        before = run.checks[0]
        assert run.best_check is not None
        assert run.best_check.loss < before.loss
        assert run.best_check.efficacy >= before.efficacy

    def test_an_editor_takes_what_was_trained(self, tmp_path: Path) -> None:
        view = tiny_view("llama", stats_folder=tmp_path)
        run = training(view)
        finish(run.run())
        name = deliver(tmp_path, run)
        outcome = finish(edit(view, Plan.of(view, "mend"), [SPORT]))
        assert outcome.notes == {"net": name}
        net = load_net(view, run.layers).net
        assert all(torch.equal(t, run.best[n]) for n, t in net.state_dict().items())
        with view.overlaid(outcome.deltas):
            assert finish(edit(view, Plan.of(view, "mend"), [SPORT])).notes == {"net": name}

    def test_the_head_is_served_at_every_step(self, llama: ModelView) -> None:
        before, answer = copied(llama), logits_of(llama, SPORT.question)
        stages = set[str]()

        def look(step: Step) -> None:
            stages.add(step.stage)
            assert 0 <= step.done <= step.total
            assert changed(llama, before) == set()
            assert torch.equal(logits_of(llama, SPORT.question), answer)
            assert hooked(llama) == []
            assert torch.is_grad_enabled()

        finish(training(llama, replace(RECIPE, iterations=10)).run(), look)
        assert stages == {"train", "measure"}

    def test_the_best_network_is_kept_not_the_last(self, llama: ModelView) -> None:
        run = training(llama, replace(RECIPE, lr=0.3, alpha_lr=0.3))
        kept: dict[int, dict[str, torch.Tensor]] = {}

        def look(step: Step) -> None:
            if isinstance(step, Trained) and step.check is not None:
                state = run.net.state_dict()
                kept[step.check.iteration] = {n: t.clone() for n, t in state.items()}

        finish(run.run(), look)
        best = min(run.checks, key=lambda one: one.loss)
        assert run.best_check == best
        assert best.iteration < run.done  # such rates only do harm
        assert all(torch.equal(t, kept[best.iteration][n]) for n, t in run.best.items())

    def test_it_ends_when_patience_does(self, llama: ModelView) -> None:
        run = training(llama, replace(RECIPE, lr=0.3, alpha_lr=0.3, patience=10, iterations=1000))
        finish(run.run())
        assert run.best_check is not None
        assert run.done - run.best_check.iteration == 10

    def test_numbers_that_are_none_end_it_in_words(self, llama: ModelView) -> None:
        run = training(llama)
        with torch.no_grad():
            run.net.alpha.fill_(math.inf)
        with pytest.raises(TrainingDiverged, match="Lower lr"):
            finish(run.run())

    @pytest.mark.parametrize("layout", ["gpt2", "gemma3_text"])
    def test_it_runs_on_other_layouts(self, view: ModelView) -> None:
        run = training(view, replace(RECIPE, iterations=4, check_every=4))
        finish(run.run())
        assert run.checks


class TestInterrupted:
    def steps(self, run: Training, count: int) -> None:
        work = run.run()
        for _, _ in zip(range(count), work, strict=False):
            pass
        work.close()

    # in a group, at a step, in the middle of a check, right behind one
    @pytest.mark.parametrize("after", [1, 6, 13, 19])
    @pytest.mark.parametrize("pool", [1, 5])
    def test_it_goes_on_to_the_same_bits(
        self, llama: ModelView, tmp_path: Path, after: int, pool: int
    ) -> None:
        recipe = replace(RECIPE, pool=pool, passes=pool)
        whole = training(llama, recipe)
        finish(whole.run())
        first = training(llama, recipe)
        self.steps(first, after)
        write_state(tmp_path, first, 12.5)
        second = training(tiny_view("llama"), recipe)
        assert read_state(tmp_path, second) == 12.5
        assert same(first, second)
        finish(second.run())
        assert same(whole, second)
        assert second.checks == whole.checks
        assert deliver(tmp_path, second) == deliver(tmp_path, whole)

    def test_without_a_state_or_with_half_of_one_it_begins_anew(
        self, llama: ModelView, tmp_path: Path
    ) -> None:
        run = training(llama)
        assert read_state(tmp_path, run) == 0
        self.steps(run, 3)
        write_state(tmp_path, run, 1)
        path = path_of(tmp_path, run)
        path.write_bytes(path.read_bytes()[:-50])
        fresh = training(llama)
        assert read_state(tmp_path, fresh) == 0
        assert same(fresh, training(llama))

    def test_another_recipe_other_records_or_another_seed_are_another_run(
        self, llama: ModelView
    ) -> None:
        one = training(llama)
        others = [training(llama, replace(RECIPE, lr=2e-3)), training(llama, seed=1)]
        less = split_of(records()[:-1], LEFT_OUT, check=RECIPE.check_records, seed=0)
        others.append(Training(llama, less, RECIPE, layers=one.layers))
        names = [run.key.name for run in (one, *others)]
        assert len(set(names)) == len(names)
        assert {run.key.place for run in (one, *others)} == {one.key.place}
        assert one.key.net(10) != one.key.net(20)


def test_recipes_hold_knobs_that_there_are() -> None:
    for row in RECIPES.values():
        filled(MendRecipe, row, of="mend")
