"""What every editor owes the rest of the house, on models of every layout."""

from collections.abc import Callable, Generator
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import torch

from editing.catalogue import METHODS, Method
from editing.errors import EditFailed, SearchDiverged, SingularSystem, StatsMissing
from editing.history import History
from editing.model.scoring import score
from editing.model.state import State
from editing.model.view import ModelView
from editing.outcome import Outcome
from editing.run import finish
from editing.step import Step
from editing.walk import Plan, already_answers, edit, prepare, promotion_report
from tests.tiny import LAYOUTS, OTHERS, tiny_view

from .conftest import MakeView
from .facts import (
    CAPITAL,
    SPORT,
    UNREACHABLE,
    changed,
    copied,
    hooked,
    logits_of,
    overrides_for,
    planned,
    run,
)

FACTS = [SPORT, CAPITAL]
# Every layout goes through every law, with a method of one layer and with one of a band; the two
# methods that differ from these in their solve alone, on some.
PAIRS = [(name, layout) for layout in (*LAYOUTS, *OTHERS) for name in ("rome", "memit-history")]
PAIRS += [(name, layout) for layout in ("gpt2", "gemma3_text") for name in ("r-rome", "memit")]
ONE_BY_ONE = [pair for pair in PAIRS if not METHODS[pair[0]].batch]


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


@pytest.fixture
def method(pair: tuple[str, str]) -> Method:
    return METHODS[pair[0]]


@pytest.fixture
def layout(pair: tuple[str, str]) -> str:
    return pair[1]


def test_every_method_obeys_the_laws() -> None:
    assert {name for name, _ in PAIRS} == set(METHODS)
    assert {layout for _, layout in PAIRS} == {*LAYOUTS, *OTHERS}


@pytest.fixture(scope="module")
def outcome_of(statistics_folder: Path) -> Callable[[str, str], Outcome]:
    """What a method makes of two facts; made once, since outcomes are immutable."""

    @cache
    def made(editor: str, layout: str) -> Outcome:
        return run(tiny_view(layout, stats_folder=statistics_folder), editor, FACTS)

    return made


@pytest.fixture
def outcome(method: Method, layout: str, outcome_of: Callable[[str, str], Outcome]) -> Outcome:
    return outcome_of(method.name, layout)


def whole_walk(view: ModelView, plan: Plan) -> Generator[Step, None, dict[str, object]]:
    """All that a worker does for an edit, up to the promotion."""
    yield from prepare(view, plan)
    yield from already_answers(view, FACTS)
    outcome = yield from edit(view, plan, FACTS)
    return (yield from promotion_report(view, FACTS, view.after(outcome.deltas), [CAPITAL]))


class TestWhileItRuns:
    def test_the_head_is_served_bit_for_bit_at_every_step(
        self, method: Method, layout: str, outcome_of: Callable[[str, str], Outcome]
    ) -> None:
        view = tiny_view(layout)  # with statistics still to collect
        view.adopt(view.after(outcome_of("rome", layout).deltas))  # a head that is not base
        head, bits = view.current, view.audit()
        answer = logits_of(view, SPORT.question)
        stages = set[str]()

        def look(step: Step) -> None:
            stages.add(step.stage)
            assert view.current is head
            assert torch.equal(logits_of(view, SPORT.question), answer)
            assert view.audit() == bits
            assert hooked(view) == []
            assert torch.is_grad_enabled()
            assert all(p.grad is None for p in view.model.parameters())

        finish(whole_walk(view, Plan.of(view, method.name, overrides_for(method.name))), look)
        assert stages == {"statistics", "z", "keys", "solve", "measure"}
        assert view.audit() == bits

    def test_it_may_be_dropped_after_any_step(self, method: Method, view: ModelView) -> None:
        plan, bits = planned(view, method.name), view.audit()
        steps = 0
        for drop_after in (1, 2, 5, 9):
            work = edit(view, plan, FACTS)
            for _, _step in zip(range(drop_after), work, strict=False):
                steps += 1
            work.close()
            assert view.audit() == bits
            assert hooked(view) == []
        assert steps >= 9

    def test_progress_never_goes_past_its_total(self, method: Method, view: ModelView) -> None:
        steps = list[Step]()
        finish(edit(view, planned(view, method.name), FACTS), steps.append)
        assert all(0 <= step.done <= step.total for step in steps)


class TestWhenItFails:
    def test_a_fact_that_cannot_be_reached_leaves_no_trace_of_the_one_before_it(
        self, method: Method, layout: str, view: ModelView, outcome_of: Callable[..., Outcome]
    ) -> None:
        view.adopt(view.after(outcome_of("rome", layout).deltas))
        plan = planned(view, method.name, {"search.min_probability": 0.5})
        bits, head = view.audit(), view.current
        with pytest.raises(SearchDiverged):
            finish(edit(view, plan, [SPORT, UNREACHABLE]))
        assert view.audit() == bits
        assert view.current is head
        assert hooked(view) == []

    def test_a_broken_second_moment_leaves_the_weights_alone(
        self, method: Method, view: ModelView
    ) -> None:
        plan, bits = planned(view, method.name), view.audit()
        last = plan.hparams.layers[-1]  # the layers below it are solved by then
        width = view.facts.d_key
        broken = torch.full((width, width), torch.nan, dtype=torch.float64)
        view.stats._moments["second-moment-1", last, plan.hparams.statistics] = broken
        view.stats._metrics.clear()
        with pytest.raises(SingularSystem):
            finish(edit(view, plan, FACTS))
        assert view.audit() == bits
        assert hooked(view) == []

    def test_a_layer_without_a_second_moment_says_so(self, method: Method, view: ModelView) -> None:
        plan = planned(view, method.name)
        view.stats._moments.clear()
        view.stats._metrics.clear()
        bits = view.audit()
        with pytest.raises(StatsMissing, match=r"has not been collected.*prepare"):
            finish(edit(view, plan, FACTS))
        assert view.audit() == bits

    def test_a_knob_at_its_edge_fails_in_words_or_works(
        self, method: Method, view: ModelView
    ) -> None:
        edges = {"contexts.prefixes": 0, "search.steps": 1, "search.min_probability": 0}
        if method.batch:
            edges["second_moment_weight"] = 1e-6
        bits = view.audit()
        with suppress(EditFailed):
            run(view, method.name, [SPORT], edges).require_finite()
        assert view.audit() == bits


class TestWhatItReturns:
    def test_only_the_declared_weights_change(
        self, method: Method, view: ModelView, outcome: Outcome
    ) -> None:
        declared = {view.down_proj(n) for n in planned(view, method.name).hparams.layers}
        before = copied(view)
        assert set(outcome.deltas) == declared
        assert set(outcome.written) == declared
        with view.overlaid(outcome.deltas):
            assert changed(view, before) == declared
        assert changed(view, before) == set()

    def test_it_says_the_same_thing_twice(
        self, method: Method, layout: str, outcome: Outcome
    ) -> None:
        torch.manual_seed(torch.seed() % 1000)  # nobody else's draws matter
        again = run(tiny_view(layout), method.name, FACTS)
        assert again.to_bytes() == outcome.to_bytes()

    def test_a_dry_run_is_what_is_applied(self, view: ModelView, outcome: Outcome) -> None:
        after = view.after(outcome.deltas)
        with view.showing(after):
            shown, answer = view.audit(), logits_of(view, SPORT.question)
        view.adopt(view.after(Outcome.from_bytes(outcome.to_bytes()).deltas))
        assert view.audit() == shown == view.fingerprint() == view.fingerprint(after)
        assert torch.equal(logits_of(view, SPORT.question), answer)

    def test_a_batch_of_one_is_one(
        self, method: Method, layout: str, view: ModelView, make_view: MakeView
    ) -> None:
        plan = planned(view, method.name)
        module, _, name = method.entry.partition(":")
        editor = getattr(import_module(module), name)
        alone = finish(editor(view, [SPORT], plan.hparams, History.empty()))
        other = make_view(layout)
        assert run(other, method.name, [SPORT]).to_bytes() == alone.to_bytes()

    @pytest.mark.parametrize("pair", ONE_BY_ONE, ids="-".join, indirect=True)
    def test_facts_in_turn_are_edits_one_after_another(
        self, method: Method, view: ModelView, outcome: Outcome
    ) -> None:
        together = view.after(outcome.deltas)
        for fact in FACTS:
            view.adopt(view.after(run(view, method.name, [fact]).deltas))
        assert set(view.current.masters) == set(together.masters)
        for name, master in view.current.masters.items():
            assert torch.equal(master, together.masters[name])

    def test_what_it_says_it_wrote_is_what_the_weights_answer(
        self, view: ModelView, outcome: Outcome
    ) -> None:
        after = view.after(outcome.deltas)
        for name, both in outcome.written.items():
            module = view.module(name)
            bias = 0 if module.bias is None else module.bias[:, None]
            answered = after.masters[name] @ both.keys + bias
            scale = float(both.values.abs().max())
            assert torch.allclose(answered, both.values, atol=1e-4 * scale)

    def test_it_survives_the_journey_through_bytes(self, view: ModelView, outcome: Outcome) -> None:
        data = outcome.to_bytes()
        back = Outcome.from_bytes(data)
        assert back.to_bytes() == data
        here, there = view.after(outcome.deltas), view.after(back.deltas)
        assert here.to_bytes() == there.to_bytes()
        assert view.fingerprint(here) == view.fingerprint(there)

    def test_its_rank_is_at_most_what_it_was_asked_to_write(
        self, method: Method, view: ModelView, outcome: Outcome
    ) -> None:
        contexts = planned(view, method.name).hparams.contexts.prefixes + 1
        most = len(FACTS) * (contexts if method.batch else 1)
        assert all(delta.rank <= most for delta in outcome.deltas.values())

    def test_base_comes_back_exactly(self, view: ModelView, outcome: Outcome) -> None:
        bits, name, before = view.audit(), view.fingerprint(), copied(view)
        view.adopt(view.after(outcome.deltas))
        assert view.audit() != bits
        view.adopt(State())
        assert view.audit() == bits
        assert view.fingerprint() == name
        assert changed(view, before) == set()

    def test_it_writes_the_facts(self, view: ModelView, outcome: Outcome) -> None:
        assert not finish(already_answers(view, FACTS))
        with view.overlaid(outcome.deltas):
            assert finish(already_answers(view, FACTS))
            pairs = [(f.question, t) for f in FACTS for t in (f.target_new, str(f.target_true))]
            new, true, new_2, true_2 = finish(score(view, pairs))
        assert new.mean_probability > true.mean_probability
        assert new_2.mean_probability > true_2.mean_probability

    def test_it_writes_its_facts_upon_a_head_that_was_edited_before(
        self, method: Method, view: ModelView
    ) -> None:
        first = run(view, method.name, [CAPITAL])
        view.adopt(view.after(first.deltas))
        history = History([("a", lambda: first)])
        second = run(view, method.name, [SPORT], history=history)
        with view.overlaid(second.deltas):
            assert finish(already_answers(view, FACTS))
