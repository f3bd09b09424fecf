"""The one door to the weights: it shows, adopts and names states, and never loses a bit."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from editing.delta import LowRank
from editing.errors import UnsupportedArchitecture
from editing.model.layout import LAYOUTS, layout_of
from editing.model.state import State
from editing.model.view import ModelView, layer_of
from tests.tiny import tiny_model, tiny_tokenizer, tiny_view

from .conftest import MakeView
from .facts import CAPITAL, SPORT, changed, copied, logits_of, run


def nudge(view: ModelView, layer: int = 1, size: float = 0.1, seed: int = 0) -> dict[str, LowRank]:
    """A small random change of one layer."""
    chance = torch.Generator().manual_seed(seed)
    left = size * torch.randn(view.facts.d_model, 2, generator=chance)
    return {
        view.down_proj(layer): LowRank(left, torch.randn(2, view.facts.d_key, generator=chance))
    }


class TestShowing:
    def test_it_puts_back_every_bit(self, view: ModelView) -> None:
        before, bits, answer = copied(view), view.audit(), logits_of(view, SPORT.question)
        with view.overlaid(nudge(view)):
            assert view.audit() != bits
            assert not torch.equal(logits_of(view, SPORT.question), answer)
        assert changed(view, before) == set()
        assert torch.equal(logits_of(view, SPORT.question), answer)

    def test_it_nests(self, view: ModelView) -> None:
        base = view.audit()
        one = view.after(nudge(view))
        with view.showing(one):
            first = view.audit()
            with view.overlaid(nudge(view, layer=2)):  # upon what is shown
                second = view.audit()
                with view.showing(State()):
                    assert view.audit() == base
                assert view.audit() == second
            assert view.audit() == first
            assert view.current is one
        assert view.audit() == base
        assert len({base, first, second}) == 3

    def test_it_puts_back_after_an_exception(self, view: ModelView) -> None:
        view.adopt(view.after(nudge(view, seed=5)))
        head, bits = view.current, view.audit()
        with pytest.raises(ZeroDivisionError), view.overlaid(nudge(view)):
            _ = 1 / 0
        assert view.audit() == bits
        assert view.current is head

    def test_states_of_different_weights_take_turns(self, view: ModelView) -> None:
        states = [view.after(nudge(view, layer=n), State()) for n in (1, 2, 3)]
        names = [view.fingerprint(state) for state in states]
        for number in (0, 1, 2, 0, 2, 1):
            view.adopt(states[number])
            assert view.audit() == names[number]
        view.adopt(State())
        assert view.audit() == view.fingerprint(State())


class TestAfter:
    def test_it_changes_nothing(self, view: ModelView) -> None:
        bits, start = view.audit(), view.after(nudge(view))
        kept = {name: master.clone() for name, master in start.masters.items()}
        view.after(nudge(view, seed=1), start)
        assert view.audit() == bits
        assert all(torch.equal(start.masters[name], master) for name, master in kept.items())

    def test_it_is_base_plus_the_deltas_in_order(self, view: ModelView) -> None:
        one, two = nudge(view), nudge(view, seed=1)
        (name,) = one
        wanted = view.weight(name).float().clone()
        one[name].add_to(wanted)
        two[name].add_to(wanted)
        state = view.after(two, view.after(one))
        assert torch.equal(state.masters[name], wanted)
        with view.showing(state):
            assert torch.equal(view.weight(name), wanted)

    def test_it_builds_on_what_it_is_told_to(self, view: ModelView) -> None:
        view.adopt(view.after(nudge(view)))
        from_base = view.after(nudge(view, seed=1), State())
        view.adopt(State())
        assert view.fingerprint(from_base) == view.fingerprint(view.after(nudge(view, seed=1)))

    def test_untouched_weights_of_the_start_are_kept(self, view: ModelView) -> None:
        start = view.after(nudge(view, layer=1))
        state = view.after(nudge(view, layer=2), start)
        assert set(state.masters) == {view.down_proj(1), view.down_proj(2)}
        assert state.masters[view.down_proj(1)] is start.masters[view.down_proj(1)]

    def test_a_checkpoint_is_as_good_as_the_deltas(self, view: ModelView) -> None:
        state = view.after(nudge(view, layer=2), view.after(nudge(view)))
        back = State.from_bytes(state.to_bytes())
        assert view.fingerprint(back) == view.fingerprint(state)
        later = nudge(view, seed=3)
        assert view.after(later, back).to_bytes() == view.after(later, state).to_bytes()

    def test_retracting_one_of_two_is_never_having_made_it(self, view: ModelView) -> None:
        one, two = nudge(view), nudge(view, seed=1)
        only_two = view.after(two, State())
        view.adopt(view.after(two, view.after(one)))
        view.adopt(view.after(two, State()))
        assert view.audit() == view.fingerprint(only_two)


class TestHalfPrecision:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
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

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_editors_work_and_leave_no_trace(self, dtype: torch.dtype) -> None:
        view = tiny_view("llama", dtype=dtype)
        bits = view.audit()
        outcome = run(view, "memit", [SPORT, CAPITAL], {"search.min_probability": 0.3})
        assert view.audit() == bits
        with view.overlaid(outcome.deltas):
            assert {p.dtype for p in view.model.parameters()} == {dtype}
        assert view.audit() == bits
        assert view.info["dtype"] == str(dtype).removeprefix("torch.")

    def test_masters_are_float32_and_what_is_served_is_their_cast(self) -> None:
        view = tiny_view("gpt2", dtype=torch.bfloat16)
        state = view.after(nudge(view))
        (master,) = state.masters.values()
        assert master.dtype == torch.float32
        with view.showing(state):
            assert torch.equal(view.weight(view.down_proj(1)), master.bfloat16())


class TestFingerprints:
    def test_they_change_with_a_bit(self, layout: str) -> None:
        one, other = tiny_view(layout), tiny_view(layout)
        assert one.fingerprint() == other.fingerprint() == one.audit()
        weight = other.model.get_submodule(other.layout.norm).weight
        weight.data.view(torch.int32)[3] ^= 1
        changed_one = ModelView(other.model, other.tokenizer)
        assert changed_one.fingerprint() != one.fingerprint()

    def test_they_do_not_change_with_a_name(self, llama: ModelView) -> None:
        renamed = ModelView(llama.model, llama.tokenizer, name="other")
        assert renamed.fingerprint() == llama.fingerprint()

    def test_they_change_with_the_format(self) -> None:
        whole, half = tiny_view("llama"), tiny_view("llama", dtype=torch.bfloat16)
        assert whole.fingerprint() != half.fingerprint()

    def test_a_state_s_does_not_depend_on_what_is_served(self, view: ModelView) -> None:
        state = view.after(nudge(view))
        name = view.fingerprint(state)
        view.adopt(view.after(nudge(view, layer=3, seed=9)))
        assert view.fingerprint(state) == name
        assert view.fingerprint(State.from_bytes(state.to_bytes())) == name

    def test_base_is_known_though_it_is_first_asked_for_when_edited(self, layout: str) -> None:
        asked_first, asked_late = tiny_view(layout), tiny_view(layout)
        name = asked_first.fingerprint()
        asked_late.adopt(asked_late.after(nudge(asked_late)))
        assert asked_late.fingerprint(State()) == name
        assert asked_late.fingerprint() == asked_late.audit() != name

    def test_an_edit_that_changes_no_bit_changes_no_fingerprint(self, view: ModelView) -> None:
        nothing = {view.down_proj(1): LowRank(torch.zeros(32, 1), torch.zeros(1, view.facts.d_key))}
        assert view.fingerprint(view.after(nothing)) == view.fingerprint()


class TestOrientation:
    def test_a_square_weight_is_turned_by_its_module_s_type(self) -> None:
        view = tiny_view("gpt2")
        name = "transformer.h.1.attn.c_proj.weight"
        module = view.module(name)
        assert isinstance(module, Conv1D)
        stored = module.weight.data
        assert stored.shape[0] == stored.shape[1]
        assert torch.equal(view.weight(name), stored.T)
        key = torch.randn(32)
        assert torch.allclose(
            view.weight(name) @ key + module.bias, module(key[None])[0], atol=1e-5
        )

    def test_a_change_of_a_square_weight_lands_the_right_way_round(self) -> None:
        view = tiny_view("gpt2")
        name = "transformer.h.1.attn.c_proj.weight"
        delta = LowRank(torch.eye(32)[:, :1], torch.eye(32)[1:2])  # output 0 hears input 1
        before = view.module(name).weight.data.clone()
        with view.overlaid({name: delta}):
            moved = view.module(name).weight.data - before
            assert moved.nonzero().tolist() == [[1, 0]]  # stored as [in, out]
            assert view.module(name).weight.is_contiguous()

    def test_weights_are_spoken_of_as_out_by_in(self, view: ModelView) -> None:
        for layer in range(view.facts.layers):
            assert view.weight(view.down_proj(layer)).shape == (32, view.facts.d_key)

    def test_conv1d_and_linear_of_the_same_weights_are_edited_alike(self) -> None:
        conv = tiny_view("gpt2")
        model = tiny_model("gpt2")
        for block in model.transformer.h:
            old = block.mlp.c_proj
            new = nn.Linear(*old.weight.shape)
            new.weight.data.copy_(old.weight.data.T)
            new.bias.data.copy_(old.bias.data)
            block.mlp.c_proj = new
        linear = ModelView(model, tiny_tokenizer())
        knobs = {"search.steps": 5, "search.lr": 0.1, "search.min_probability": 0}
        one, other = (run(view, "memit", [SPORT], knobs) for view in (conv, linear))
        for name, delta in one.deltas.items():
            assert torch.allclose(delta.matrix(), other.deltas[name].matrix(), atol=1e-3)


class TestLayouts:
    def test_every_path_leads_somewhere(self, view: ModelView) -> None:
        layout = view.layout
        for path in (layout.body, layout.blocks, layout.norm, layout.head):
            assert view.model.get_submodule(path) is not None
        for number in range(view.facts.layers):
            for part in (layout.down_proj, layout.attention_out):
                assert view.blocks[number].get_submodule(part).weight.dim() == 2

    def test_the_head_after_the_norm_after_the_blocks_is_the_model(self, view: ModelView) -> None:
        ids = torch.tensor([view.tokenizer(SPORT.question)["input_ids"]])
        with torch.no_grad():
            body = view.body(input_ids=ids)[0]
            wanted = view.model(input_ids=ids).logits
        assert torch.allclose(view.head(body), wanted, atol=1e-5)
        assert view.head(body).dtype == torch.float32

    def test_an_unmapped_model_is_refused_with_the_mapped_ones(self) -> None:
        with pytest.raises(UnsupportedArchitecture, match=r"'opt'.*gpt2, gptj, llama, qwen2"):
            layout_of("opt")

    def test_a_weight_s_name_tells_its_layer(self, view: ModelView) -> None:
        for layer in range(view.facts.layers):
            assert layer_of(view.down_proj(layer)) == layer
        with pytest.raises(ValueError, match="lm_head"):
            layer_of("lm_head.weight")

    def test_info_is_json_about_this_model(self, view: ModelView) -> None:
        count = sum(p.numel() for p in view.model.parameters())
        assert view.info == {
            "name": f"tiny-{view.facts.model_type}",
            "model_type": view.facts.model_type,
            "layers": 5,
            "d_model": 32,
            "d_key": 64 if view.facts.model_type in {"llama", "qwen2"} else 128,
            "parameters": count,
            "dtype": "float32",
            "device": "cpu",
        }

    def test_nothing_is_trained(self, make_view: MakeView) -> None:
        for layout in LAYOUTS:
            view = make_view(layout)
            assert not view.model.training
            assert not any(p.requires_grad for p in view.model.parameters())
