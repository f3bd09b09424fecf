"""Serving in half precision: float32 masters lose nothing, what is out of range is refused."""

import pytest
import torch

from editing.delta import LowRank
from editing.editors.asking import Asking
from editing.editors.zsearch import find_delta
from editing.errors import NumericOverflow
from editing.hparams import Search, Statistics
from editing.model.state import State
from editing.model.view import ModelView
from editing.outcome import Outcome
from editing.run import finish
from editing.stats.moments import ensure_moments
from editing.walk import Plan, already_answers, edit, prepare
from tests.tiny import tiny_view

from . import plain
from .facts import CAPITAL, SPORT, copied, hooked, nudge, planned, run

HALVES = [torch.bfloat16, torch.float16]
FACTS = [SPORT, CAPITAL]


@pytest.fixture(params=HALVES, ids=["bfloat16", "float16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


class TestMasters:
    def test_a_change_below_the_format_s_step_survives_until_it_counts(
        self, layout: str, dtype: torch.dtype
    ) -> None:
        view = tiny_view(layout, dtype=dtype)
        name = view.down_proj(1)
        with torch.no_grad():
            view._parameters[name].fill_(1.0)
        # A quarter of the distance to the next number above 1.
        step = 2.0**-7 if dtype == torch.bfloat16 else 2.0**-10
        ones = LowRank(
            torch.full((view.facts.d_model, 1), step / 4), torch.ones(1, view.facts.d_key)
        )
        bits = view.audit()
        seen = list[str]()
        for _ in range(4):
            view.adopt(view.after({name: ones}))
            seen.append(view.audit())
        assert seen[0] == bits  # rounded away in what is served
        assert float(view.current.masters[name][0, 0]) == 1 + step  # kept in the master
        assert float(view.weight(name)[0, 0]) == 1 + step
        view.adopt(State())
        assert view.audit() == bits

    def test_they_are_float32_and_what_is_served_is_their_cast(self, dtype: torch.dtype) -> None:
        view = tiny_view("gpt2", dtype=dtype)
        state = view.after(nudge(view))
        (master,) = state.masters.values()
        assert master.dtype == torch.float32
        with view.showing(state):
            assert torch.equal(view.weight(view.down_proj(1)), master.to(dtype))

    def test_many_changes_too_small_to_see_add_up_and_come_back_to_the_bit(
        self, dtype: torch.dtype
    ) -> None:
        view = tiny_view("llama", dtype=dtype)
        bits, base = view.audit(), copied(view)
        name = view.down_proj(1)
        deltas = [nudge(view, size=2e-5, seed=1000 + n) for n in range(200)]
        exact = view.weight(name).double()
        checkpoint = b""
        names = list[str]()
        for number, delta in enumerate(deltas):
            view.adopt(view.after(delta))
            names.append(view.fingerprint())
            exact = exact + delta[name].left.double() @ delta[name].right.double()
            if number == 119:
                checkpoint = view.current.to_bytes()
        moved = exact - base[name].double()
        left_out = view.current.masters[name].double() - exact
        assert left_out.norm() < 1e-4 * moved.norm()  # in half precision most of it would be
        lost = base[name].clone()
        for delta in deltas:
            lost += delta[name].matrix().to(dtype)
        assert (lost.double() - exact).norm() > 0.1 * moved.norm()

        other = tiny_view("llama", dtype=dtype)
        state = State.from_bytes(checkpoint)
        assert other.fingerprint(state) == names[119]
        for number, delta in enumerate(deltas[120:], 120):
            state = other.after(delta, state)
            assert other.fingerprint(state) == names[number]
        assert state.to_bytes() == view.current.to_bytes()
        other.adopt(state)
        assert other.audit() == view.audit() == names[-1]
        view.adopt(State())
        assert view.audit() == bits


class TestEditors:
    @pytest.mark.parametrize("family", ["llama", "gemma3_text"])
    @pytest.mark.parametrize("editor", ["rome", "memit-history"])
    def test_they_write_the_facts_and_leave_no_trace(
        self, dtype: torch.dtype, family: str, editor: str
    ) -> None:
        view = tiny_view(family, dtype=dtype)
        bits = view.audit()
        outcome = run(view, editor, FACTS, {"contexts.prefixes": 3})
        assert view.audit() == bits
        parts = [part for d in outcome.deltas.values() for part in (d.left, d.right)]
        assert {part.dtype for part in parts} == {torch.float32}
        with view.overlaid(Outcome.from_bytes(outcome.to_bytes()).deltas):
            assert {p.dtype for p in view.model.parameters()} == {dtype}
            assert finish(already_answers(view, FACTS))
        assert view.audit() == bits
        assert view.info["dtype"] == str(dtype).removeprefix("torch.")

    def test_the_search_keeps_its_vector_in_float32(self, dtype: torch.dtype) -> None:
        # Steps far below the vector's own step in half precision still add up.
        view = tiny_view("llama", dtype=dtype)
        slow = Search(steps=12, lr=1e-3, rank_one_steps=0, stop_loss=0, min_probability=0)
        found = finish(find_delta(view, [SPORT], layer=1, search=slow, asking=Asking()))
        assert found.delta.dtype == torch.float32
        assert not torch.equal(found.delta, found.delta.to(dtype).float())
        assert float(found.delta.abs().max()) == pytest.approx(11e-3, rel=0.1)

    def test_the_second_moment_is_summed_in_float64(self, dtype: torch.dtype) -> None:
        view = tiny_view("llama", dtype=dtype)
        texts = ["The capital of France is Paris.", "I like the sea and the old house."] * 20
        recipe = Statistics(tokens_per_dimension=100_000)
        finish(ensure_moments(view, [1], recipe, "w", texts))
        keys = torch.cat([plain.keys_of(view, text, 1)[1:] for text in texts])
        assert torch.equal(keys, keys.to(dtype).double())  # the keys themselves are what they are
        found = view.stats.second_moment(1, recipe)
        assert found.dtype == torch.float64
        wanted = keys.T @ keys / len(keys)
        # Rows of a padded batch round differently; a sum in half precision would be off by more.
        assert (found - wanted).norm() < 2e-3 * wanted.norm()


class TestOverflow:
    """float16 ends at 65504: what goes beyond is refused in words, never written as infinity."""

    def test_a_weight_beyond_the_format_is_refused_before_any_swap(self) -> None:
        view = tiny_view("llama", dtype=torch.float16)
        bits, head = view.audit(), view.current
        huge = LowRank(torch.full((32, 1), 300.0), torch.full((1, view.facts.d_key), 300.0))
        state = view.after({**nudge(view, 2), view.down_proj(1): huge})
        with pytest.raises(NumericOverflow, match=r"layers\.1.*float16.*bfloat16"):
            view.adopt(state)
        assert view.audit() == bits
        assert view.current is head

    @pytest.mark.parametrize("editor", ["rome", "memit-history"])
    def test_activations_beyond_the_format_are_refused(self, editor: str) -> None:
        view = tiny_view("llama", dtype=torch.float16)
        plan = planned(view, editor)
        view.module("model.layers.1.mlp.up_proj").weight.data.fill_(6e4)
        overflowing = ModelView(view.model, view.tokenizer)
        bits = overflowing.audit()
        with pytest.raises(NumericOverflow, match="What the model writes by itself"):
            finish(prepare(overflowing, Plan.of(overflowing, editor)))
        recipe = Statistics(tokens_per_dimension=1)
        with pytest.raises(NumericOverflow, match="The keys of layer 1"):
            finish(ensure_moments(overflowing, [1], recipe, "w", ["I like the sea."] * 9))
        overflowing.stats = view.stats
        with pytest.raises(NumericOverflow, match="float16"):
            finish(edit(overflowing, plan, FACTS))
        assert overflowing.audit() == bits
        assert hooked(overflowing) == []
