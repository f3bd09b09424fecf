"""A delta gives the same bits however it is added, and bytes that are not one are refused."""

import json
from dataclasses import replace
from typing import Literal

import pytest
import torch
from safetensors.torch import save

from editing import delta as delta_module
from editing.blob import read_safetensors
from editing.delta import (
    PREFACE,
    Change,
    Dense,
    LowRank,
    Memory,
    Preface,
    Slices,
    delta_of,
    is_finite,
    tensors_of,
)
from editing.errors import BlobUnreadable, NonFiniteDelta
from editing.model.state import State
from editing.outcome import Outcome, Written


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def low_rank(rows: int, columns: int, rank: int) -> LowRank:
    return LowRank(drawn(rows, rank, seed=1), drawn(rank, columns, seed=2))


class TestTheSum:
    @pytest.mark.parametrize(("rows", "columns", "rank"), [(7, 5, 3), (48, 96, 32), (33, 17, 1)])
    def test_it_is_one_term_after_another(self, rows: int, columns: int, rank: int) -> None:
        delta, weight = low_rank(rows, columns, rank), drawn(rows, columns)
        wanted = weight.clone()
        for i in range(rank):
            wanted += delta.left[:, i : i + 1] * delta.right[i]  # multiply, then add
        delta.add_to(weight)
        assert torch.equal(weight, wanted)

    @pytest.mark.parametrize("elements", [1, 100, 1 << 10, 1 << 20])
    @pytest.mark.parametrize("threads", [1, 2])
    def test_blocks_and_threads_do_not_show_in_its_bits(
        self, elements: int, threads: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        delta, base = low_rank(200, 300, 20), drawn(200, 300)
        wanted = base.clone()
        delta.add_to(wanted)
        monkeypatch.setattr(delta_module, "_BLOCK_ELEMENTS", elements)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            found = base.clone()
            delta.add_to(found)
        finally:
            torch.set_num_threads(before)
        assert torch.equal(found, wanted)

    def test_it_is_the_product(self) -> None:
        delta, weight = low_rank(20, 30, 4), torch.zeros(20, 30)
        delta.add_to(weight)
        assert torch.allclose(weight, delta.matrix(), atol=1e-5)

    def test_a_delta_of_no_terms_changes_nothing(self) -> None:
        weight = drawn(3, 4)
        before = weight.clone()
        delta = LowRank(torch.zeros(3, 0), torch.zeros(0, 4))
        delta.add_to(weight)
        assert torch.equal(weight, before)
        assert (delta.rank, delta.norm(), is_finite(delta)) == (0, 0.0, True)


class TestLowRank:
    def test_more_terms_than_rows_are_folded(self) -> None:
        left, right = drawn(4, 9).double(), drawn(9, 6).double()
        delta = LowRank.of(left, right)
        assert delta.rank == 4
        assert torch.allclose(delta.matrix().double(), left @ right, atol=1e-5)

    def test_fewer_terms_are_kept_as_they_are(self) -> None:
        left, right = drawn(9, 4).double(), drawn(4, 6).double()
        delta = LowRank.of(left, right)
        assert torch.equal(delta.left, left.float())
        assert torch.equal(delta.right, right.float())
        assert delta.left.is_contiguous()

    @pytest.mark.parametrize("rank", [1, 5, 40])
    def test_its_norm_is_found_without_the_product(self, rank: int) -> None:
        delta = low_rank(30, 20, rank)
        wanted = float((delta.left.double() @ delta.right.double()).norm())
        assert delta.norm() == pytest.approx(wanted, rel=1e-9)

    def test_a_norm_that_cancels_is_not_the_root_of_a_negative(self) -> None:
        one = drawn(8, 1)
        delta = LowRank(torch.cat([one, -one], dim=1), drawn(1, 5).expand(2, 5).contiguous())
        assert delta.norm() == pytest.approx(0, abs=1e-5)

    @pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
    def test_what_is_not_finite_is_refused_before_it_touches_a_weight(self, bad: float) -> None:
        delta = low_rank(3, 4, 2)
        delta.right[1, 2] = bad
        with pytest.raises(NonFiniteDelta, match=r"model\.w.*left as they were") as raised:
            Outcome({"fine": low_rank(3, 4, 1), "model.w": delta}).require_finite()
        assert raised.value.fields == {"weight": "model.w"}

    def test_what_float32_cannot_hold_is_not_finite(self) -> None:
        large = torch.full((3, 1), 1e200, dtype=torch.float64)
        assert not is_finite(LowRank.of(large, drawn(1, 3).double()))


def outcome() -> Outcome:
    deltas = {"model.layers.1.w": low_rank(6, 5, 2), "model.layers.0.w": low_rank(6, 5, 3)}
    written = {
        "model.layers.1.w": Written(drawn(5, 2, seed=3), drawn(6, 2, seed=4), drawn(6, 2, seed=5))
    }
    return Outcome(deltas, written, {"b": [1, 2.5], "a": {"text": "東京"}})


class TestBytes:
    def test_they_carry_everything(self) -> None:
        one = outcome()
        back = Outcome.from_bytes(one.to_bytes())
        assert set(back.deltas) == set(one.deltas)
        for name, delta in one.deltas.items():
            assert torch.equal(back.deltas[name].left, delta.left)
            assert torch.equal(back.deltas[name].right, delta.right)
        (pair,) = back.written.values()
        assert torch.equal(pair.keys, drawn(5, 2, seed=3))
        assert torch.equal(pair.values, drawn(6, 2, seed=4))
        assert torch.equal(pair.missing, drawn(6, 2, seed=5))
        assert back.notes == one.notes

    def test_equal_outcomes_give_equal_bytes(self) -> None:
        one = outcome()
        shuffled = Outcome(
            dict(reversed(one.deltas.items())), one.written, dict(reversed(one.notes.items()))
        )
        assert shuffled.to_bytes() == one.to_bytes() == outcome().to_bytes()

    def test_they_do_not_depend_on_how_tensors_lie_in_memory(self) -> None:
        one = low_rank(6, 5, 2)
        turned = LowRank(one.left.T.contiguous().T, one.right.T.contiguous().T)
        assert Outcome({"w": turned}).to_bytes() == Outcome({"w": one}).to_bytes()

    def test_nothing_written_is_nothing_read(self) -> None:
        back = Outcome.from_bytes(Outcome({"w": low_rank(2, 2, 1)}).to_bytes())
        assert back.written == {}
        assert back.notes == {}

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"not a tensor",
            b"\xff" * 64,
            b"{}",
            outcome().to_bytes()[:-1],
            outcome().to_bytes()[:40],
            save({"w": torch.zeros(1)}),
            save({"w": torch.zeros(1)}, metadata={"errata": "no json"}),
            save({"w": torch.zeros(1)}, metadata={"errata": "[1]"}),
            save({"w": torch.zeros(1)}, metadata={"errata": "{}"}),
            State({"w": torch.zeros(1)}).to_bytes(),
        ],
    )
    def test_damaged_or_foreign_bytes_are_refused_in_words(self, data: bytes) -> None:
        with pytest.raises(BlobUnreadable, match="Restore them from a backup"):
            Outcome.from_bytes(data)

    def test_a_header_damaged_anywhere_is_refused_or_read_never_crashed_on(self) -> None:
        data = outcome().to_bytes()
        length = int.from_bytes(data[:8], "little")
        refused = 0
        for at in range(8 + length):
            damaged = bytearray(data)
            damaged[at] ^= 1
            try:
                Outcome.from_bytes(bytes(damaged))
            except BlobUnreadable:
                refused += 1
        assert refused > length // 2

    def test_a_state_is_not_an_outcome(self) -> None:
        with pytest.raises(BlobUnreadable, match=r"errata-outcome-1.*errata-state-1"):
            State.from_bytes(outcome().to_bytes())

    def test_the_header_is_ours(self) -> None:
        tensors, about = read_safetensors(outcome().to_bytes(), "errata-outcome-1")
        assert "model.layers.0.w:left" in tensors
        assert about["format"] == "errata-outcome-1"
        assert json.dumps(about["notes"])


class TestStates:
    def test_a_state_survives_its_bytes(self) -> None:
        state = State({"b": drawn(3, 4), "a": drawn(4, 3, seed=1).T})
        back = State.from_bytes(state.to_bytes())
        assert {name: m.tolist() for name, m in back.masters.items()} == {
            name: m.tolist() for name, m in state.masters.items()
        }
        assert back.to_bytes() == state.to_bytes()
        assert state.nbytes == back.nbytes == 4 * 24

    def test_base_is_the_empty_state(self) -> None:
        assert State.from_bytes(State().to_bytes()).masters == {}


def slices(axis: Literal[0, 1]) -> Slices:
    return Slices(axis, torch.tensor([2, 0, 2]), drawn(3, 4 if axis == 0 else 5, seed=6), (5, 4))


KINDS = {
    "rows": slices(0),
    "columns": slices(1),
    "dense": Dense(drawn(5, 4, seed=7)),
    "low rank": low_rank(5, 4, 2),
}


@pytest.mark.parametrize("delta", KINDS.values(), ids=KINDS)
class TestEveryKindOfChange:
    def test_it_adds_its_matrix(self, delta: Change) -> None:
        weight = drawn(5, 4, seed=8)
        changed = weight.clone()
        delta.add_to(changed)
        assert torch.allclose(changed, weight + delta.matrix(), atol=1e-6)
        assert delta.norm() == pytest.approx(float(delta.matrix().norm()), rel=1e-5)
        keys = drawn(4, 3, seed=9)
        assert torch.allclose(delta.at(keys), (delta.matrix() @ keys).double(), atol=1e-5)

    def test_it_comes_back_from_bytes(self, delta: Change) -> None:
        data = Outcome({"w": delta}).to_bytes()
        back = Outcome.from_bytes(data)
        assert back.to_bytes() == data
        one, other = drawn(5, 4, seed=8), drawn(5, 4, seed=8)
        delta.add_to(one)
        back.changes["w"].add_to(other)
        assert torch.equal(one, other)

    def test_one_behind_another_adds_both(self, delta: Change) -> None:
        one, other = drawn(5, 4, seed=8), drawn(5, 4, seed=8)
        delta.add_to(one)
        delta.add_to(one)
        delta.then(delta).add_to(other)  # pyright: ignore[reportArgumentType]
        same = torch.allclose if isinstance(delta, Dense) else torch.equal
        assert same(one, other)

    def test_what_is_not_finite_is_refused(self, delta: Change) -> None:
        parts = tensors_of(delta)
        name = next(name for name, part in parts.items() if part.is_floating_point())
        broken = delta_of({**parts, name: torch.full_like(parts[name], torch.nan)})
        with pytest.raises(NonFiniteDelta):
            Outcome({"w": broken}).require_finite()


def test_a_preface_survives_bytes_and_is_no_change_of_a_weight() -> None:
    outcome = Outcome({PREFACE: Preface("Paris, 東京.\n")})
    back = Outcome.from_bytes(outcome.to_bytes())
    assert back.deltas == outcome.deltas
    assert back.changes == {}


def test_bytes_of_earlier_versions_can_be_read() -> None:
    tensors = {"w:keys": drawn(3, 1), "w:values": drawn(2, 1)}
    targets = drawn(2, 1, seed=7)
    about = json.dumps({"format": "errata-outcome-1", "notes": {}})
    for more, wanted in (({}, tensors["w:values"]), ({"w:targets": targets}, targets)):
        data = save({**tensors, **more}, metadata={"errata": about})
        assert torch.allclose(Outcome.from_bytes(data).written["w"].targets, wanted, atol=1e-7)


def test_half_a_delta_is_no_delta() -> None:
    about = json.dumps({"format": "errata-outcome-1", "notes": {}})
    data = save({"w:left": drawn(3, 1)}, metadata={"errata": about})
    with pytest.raises(BlobUnreadable, match="not whole"):
        Outcome.from_bytes(data)


class TestMemory:
    def entries(self, count: int, seed: int) -> Memory:
        keys = torch.nn.functional.normalize(drawn(count, 5, seed=seed), dim=1)
        return Memory.of(keys, drawn(count, 6, seed=seed + 1), torch.full((count,), 0.5))

    def test_its_tensors_make_it_anew(self) -> None:
        memory = replace(self.entries(3, 1), gone=drawn(2, 5))
        back = delta_of(tensors_of(memory))
        assert isinstance(back, Memory)
        assert all(
            torch.equal(getattr(memory, part), getattr(back, part))
            for part in ("keys", "values", "gates", "gone")
        )
        assert (memory.rank, len(memory)) == (0, 3)
        data = Outcome({"w": memory}).to_bytes()
        assert Outcome.from_bytes(data).to_bytes() == data
        assert Outcome({"w": memory}).changes == {}

    def test_what_goes_is_told_by_its_bits(self) -> None:
        first, second = self.entries(3, 1), self.entries(2, 9)
        swap = replace(second, gone=first.keys[1:2])
        both = first.then(swap)
        assert torch.equal(both.keys, torch.cat([first.keys[[0, 2]], second.keys]))
        assert torch.equal(both.values, torch.cat([first.values[[0, 2]], second.values]))
        near = replace(second, gone=first.keys[1:2].nextafter(torch.tensor(1.0)))
        assert len(first.then(near)) == 5

    def test_two_changes_are_one(self) -> None:
        state, one, two = self.entries(2, 1), self.entries(2, 5), self.entries(1, 9)
        one = replace(one, gone=state.keys[:1])
        two = replace(two, gone=torch.cat([state.keys[1:], one.keys[:1]]))
        stepwise, joint = state.then(one).then(two), state.then(one.then(two))
        assert torch.equal(stepwise.keys, joint.keys)
        assert torch.equal(stepwise.gates, joint.gates)

    def test_what_is_not_finite_is_refused(self) -> None:
        memory = self.entries(2, 1)
        memory.values[1, 0] = torch.nan
        with pytest.raises(NonFiniteDelta):
            Outcome({"w": memory}).require_finite()
