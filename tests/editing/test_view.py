"""The one door to the weights: it shows, adopts and names states, and never loses a bit."""

import pytest
import torch

from editing.delta import LowRank
from editing.model.state import State
from editing.model.view import ModelView
from tests.tiny import tiny_view

from .facts import SPORT, changed, copied, logits_of, nudge


class TestShowing:
    def test_it_puts_back_every_bit(self, view: ModelView) -> None:
        before, bits, answer = copied(view), view.audit(), logits_of(view, SPORT.question)
        with view.overlaid(nudge(view)):
            assert view.audit() != bits
            assert not torch.equal(logits_of(view, SPORT.question), answer)
        assert changed(view, before) == set()
        assert torch.equal(logits_of(view, SPORT.question), answer)

    def test_a_state_that_cannot_be_made_ready_replaces_no_weight(
        self, view: ModelView, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bits, state = view.audit(), view.after({**nudge(view, 1), **nudge(view, 2)})
        made, real = list[str](), view._served

        def full(name: str, wanted: State) -> torch.Tensor:
            if made and wanted is state:
                raise MemoryError
            made.append(name)
            return real(name, wanted)

        monkeypatch.setattr(view, "_served", full)
        with pytest.raises(MemoryError), view.showing(state):
            pass
        assert view.audit() == bits
        assert view.audit(everything=False) == bits == view.fingerprint()

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


class TestFingerprints:
    def test_they_change_with_a_bit(self, layout: str) -> None:
        one, other = tiny_view(layout), tiny_view(layout)
        assert one.fingerprint() == other.fingerprint() == one.audit()
        weight = other.model.get_submodule(other.layout.tail[0]).weight
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
