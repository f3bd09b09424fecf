"""One normalised step: its formula, what it remembers, and how that is taken back."""
# ruff: noqa: N803, N806 - the notation of the paper

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from editing.editors.lifelong import Moments, eta_by_scale, seen_before, sites
from editing.forecast import collisions
from editing.history import Entry, History
from editing.model.tokens import continued
from editing.model.view import ModelView
from editing.outcome import Outcome, Written, part_of
from editing.request import EditRequest
from editing.retract import retract
from editing.run import finish
from editing.solve import Metric, write, write_evenly

from .facts import CAPITAL, OTHER_SPORT, SPORT, planned, run

BOTH = ("ultraedit", "ultra-rls")
KNOBS = {"matrices": "mlp", "layers": [1, 3], "eta": 0.003, "prior": 4, "ridge": 2}
RELATION = EditRequest(
    subject="Italy",
    prompt="The relation between {} and Madrid is",
    target_new="capital",
    target_true="None",
    perspective="relation",
    object="Madrid",
    delete_prompt="The relation between {} and Rome is",
)


def plain_rows(
    view: ModelView, requests: Sequence[EditRequest], name: str
) -> tuple[Tensor, Tensor]:
    """H [d_in, n] and G [d_out, n], by the model's own passes, one text at a time."""
    keys: list[Tensor] = []
    gradients: list[Tensor] = []
    for request in requests:
        for prompt, target in request.texts:
            row = continued(view.tokenizer, prompt.replace("{}", request.subject), target)
            heard: list[Tensor] = []

            def hook(
                _: nn.Module, args: tuple[Tensor], out: Tensor, heard: list[Tensor] = heard
            ) -> Tensor:
                heard[:] = [args[0], out.detach().requires_grad_()]
                return heard[1]

            handle = view.module(name).register_forward_hook(hook)
            ids = torch.tensor([row.ids])
            with torch.enable_grad():
                logits = view.model(input_ids=ids).logits[0, row.start - 1 : -1].double()
                loss = nn.functional.cross_entropy(logits, ids[0, row.start :])
                (gradient,) = torch.autograd.grad(loss, [heard[1]])
            handle.remove()
            at = slice(row.start - 1, len(row.ids) - 1)
            keys.append(heard[0].detach().view(len(row.ids), -1)[at])
            gradients.append(gradient.view(len(row.ids), -1)[at])
    return torch.cat(keys).double().mT, torch.cat(gradients).double().mT


def normal(rows: Tensor, new: Tensor, prior: float) -> Tensor:
    """`new` [d, n], normalised by what `prior` rows of zero mean and all `rows` [d, m] show."""
    even = rows.square().mean()
    mean = rows.sum(1, keepdim=True) / (prior + rows.shape[1])
    square = (rows.square().sum(1, keepdim=True) + prior * even) / (prior + rows.shape[1])
    return (new - mean) / (square - mean.square()).sqrt()


def dense(H: Tensor, G: Tensor, before: tuple[Tensor, Tensor], A: Tensor) -> Tensor:
    """V HT (A + H HT)^-1, v = - eta |h^|^2 g^; A [d_in, d_in] is all that H is weighed against."""
    h = normal(torch.cat([before[0], H], dim=1), H, KNOBS["prior"])
    g = normal(torch.cat([before[1], G], dim=1), G, KNOBS["prior"])
    V = -KNOBS["eta"] * h.square().sum(0) * g
    return V @ H.mT @ torch.linalg.inv(A + H @ H.mT)


def ridge(size: int) -> Tensor:
    return KNOBS["ridge"] * torch.eye(size, dtype=torch.float64)


def nothing(H: Tensor, G: Tensor) -> tuple[Tensor, Tensor]:
    return H[:, :0], G[:, :0]


def off(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())


def in_a_row(view: ModelView, editor: str, *facts: EditRequest) -> list[Entry]:
    """Edits one after another, each served before the next is made."""
    entries: list[Entry] = []
    for number, fact in enumerate(facts):
        made = run(view, editor, [fact], KNOBS, History(entries))
        view.adopt(view.after(made.deltas))
        entries.append(Entry(f"edit-{number}", lambda made=made: made))
    return entries


class TestTheFormula:
    @pytest.mark.parametrize("editor", BOTH)
    def test_a_turn_is_written_as_the_paper_states_it(self, view: ModelView, editor: str) -> None:
        outcome = run(view, editor, [SPORT, CAPITAL], KNOBS)
        names = sites(view, planned(view, editor, KNOBS).hparams)
        assert list(outcome.deltas) == names
        for name in names:
            H, G = plain_rows(view, [SPORT, CAPITAL], name)
            wanted = dense(H, G, nothing(H, G), ridge(len(H)))
            assert off(outcome.changes[name].matrix(), wanted) < 1e-3

    @pytest.mark.parametrize("editor", BOTH)
    def test_means_and_deviations_go_over_both_of_two_turns(
        self, view: ModelView, editor: str
    ) -> None:
        (first,) = in_a_row(view, editor, SPORT)
        second = run(view, editor, [CAPITAL], KNOBS, History([first]))
        for name, pair in first.load().written.items():
            assert pair.downhill is not None
            before = pair.keys.double(), -pair.downhill.double()
            H, G = plain_rows(view, [CAPITAL], name)
            A = ridge(len(H))
            if editor == "ultra-rls":
                A += before[0] @ before[0].mT
            wanted = dense(H, G, before, A)
            assert off(second.changes[name].matrix(), wanted) < 1e-3
            alone = dense(H, G, nothing(H, G), A)
            assert off(wanted, alone) > 1e-2

    def test_a_relation_is_asked_in_both_of_its_prompts(self, llama: ModelView) -> None:
        outcome = run(llama, "ultraedit", [RELATION], KNOBS)
        for name, change in outcome.changes.items():
            H, G = plain_rows(llama, [RELATION], name)
            assert off(change.matrix(), dense(H, G, nothing(H, G), ridge(len(H)))) < 1e-3

    def test_a_turn_read_in_parts_is_one_turn(
        self, llama: ModelView, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = run(llama, "ultraedit", [SPORT, CAPITAL, OTHER_SPORT], KNOBS)
        monkeypatch.setattr("editing.editors.lifelong._ROWS", 2)
        parts = run(llama, "ultraedit", [SPORT, CAPITAL, OTHER_SPORT], KNOBS)
        assert parts.notes["loss"] == pytest.approx(whole.notes["loss"], rel=1e-5)
        for name, change in whole.changes.items():
            assert off(parts.changes[name].matrix(), change.matrix().double()) < 1e-3

    def test_the_step_goes_by_the_width_unless_it_is_given(self, llama: ModelView) -> None:
        knobs = {**KNOBS, "matrices": "down"}
        given = run(llama, "ultraedit", [SPORT], {**knobs, "eta": eta_by_scale(64)})
        ruled = run(llama, "ultraedit", [SPORT], {**knobs, "eta": None})
        assert llama.facts.d_key == 64
        assert given.to_bytes() == ruled.to_bytes()

    def test_what_is_solved_evenly_is_the_kernel_under_a_ridge(self) -> None:
        chance = torch.Generator().manual_seed(0)
        K = torch.randn(12, 5, generator=chance, dtype=torch.float64)
        R = torch.randn(7, 5, generator=chance, dtype=torch.float64)
        metric = Metric.of(3 * torch.eye(12, dtype=torch.float64))
        wanted = write(K, R, metric, 1.0).matrix()
        assert torch.allclose(write_evenly(K, R, 3.0).matrix(), wanted, atol=1e-6)


class TestTheScale:
    def test_moments_of_parts_are_those_of_the_whole(self) -> None:
        rows = 3 + 2 * torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
        first, *rest = (Moments.of(part) for part in rows.split([1, 9, 30]))
        for part in rest:
            first = first.then(part)
        assert first.count == 40
        assert torch.allclose(first.mean, rows.double().mean(0))
        assert torch.allclose(first.squares / 39, rows.double().var(0))

    def test_with_nothing_before_it_a_token_keeps_its_direction(self) -> None:
        row = torch.tensor([[3.0, 4.0, 0.0, 0.0]])
        found = Moments.of(row).normal(row, prior=1e6)
        assert torch.allclose(found, row.double() / 2.5, atol=1e-4)  # |h^|^2 = d_in
        assert not Moments.of(0 * row).normal(0 * row, prior=1.0).any()

    def test_after_many_tokens_the_prior_is_forgotten(self) -> None:
        rows = 3 + 2 * torch.randn(5000, 4, generator=torch.Generator().manual_seed(1))
        found = Moments.of(rows).normal(rows, prior=1.0)
        assert float(found.mean(0).abs().max()) < 1e-2
        assert torch.allclose(found.std(0), torch.ones(4).double(), atol=1e-2)


class TestWhatIsRemembered:
    def fresh(self, entries: Sequence[Entry], name: str) -> Tensor:
        seen = seen_before(History(entries), name, torch.device("cpu"))
        assert seen is not None
        return torch.cat([seen.h.mean, seen.h.squares, seen.downhill.mean, seen.downhill.squares])

    def test_a_restore_forgets_what_came_after_it(self, llama: ModelView) -> None:
        entries = in_a_row(llama, "ultraedit", SPORT, CAPITAL, OTHER_SPORT)
        name = llama.down_proj(1)
        history = History(entries)
        three = seen_before(history, name, llama.device)
        back = seen_before(History(entries[:1], history.folds), name, llama.device)
        assert three is not None
        assert back is not None
        pairs = [entry.load().written[name] for entry in entries]
        assert three.h.count == sum(pair.keys.shape[1] for pair in pairs)
        assert back.h.count == pairs[0].keys.shape[1]
        assert torch.allclose(back.h.mean, pairs[0].keys.double().mean(1))
        assert seen_before(History([], history.folds), name, llama.device) is None

    def test_edit_by_edit_it_is_folded_to_the_same(self, llama: ModelView) -> None:
        entries = in_a_row(llama, "ultraedit", SPORT, CAPITAL, OTHER_SPORT)
        name = llama.up_proj(3)
        history = History()
        for stop in range(1, 4):
            history = History(entries[:stop], history.folds)
            seen = seen_before(history, name, llama.device)
        assert seen is not None
        step_by_step = torch.cat([seen.h.mean, seen.downhill.squares])
        whole = self.fresh(entries, name)
        d_in, d_out = len(seen.h.mean), len(seen.downhill.mean)
        assert torch.equal(step_by_step, torch.cat([whole[:d_in], whole[-d_out:]]))

    def test_what_is_taken_out_counts_no_longer(self, llama: ModelView) -> None:
        entries = in_a_row(llama, "ultra-rls", SPORT, CAPITAL, OTHER_SPORT)
        history = History(entries)
        name = llama.down_proj(3)
        seen_before(history, name, llama.device)  # folded with it
        plan = planned(llama, "ultra-rls", KNOBS)
        out = finish(retract(llama, plan, history, "edit-1"))
        assert set(out.deltas) == set(entries[1].load().deltas)
        after = [*entries, Entry("out", lambda: out, out.removes)]
        found = seen_before(History(after, history.folds), name, llama.device)
        assert found is not None
        assert torch.equal(
            torch.cat([found.h.mean, found.h.squares]),
            self.fresh([entries[0], entries[2]], name)[: 2 * len(found.h.mean)],
        )

    def test_edits_of_others_are_no_part_of_it(self, llama: ModelView) -> None:
        other = run(llama, "rome", [CAPITAL])
        (name,) = other.written
        assert seen_before(History([("a", lambda: other)]), name, llama.device) is None

    def test_the_gradients_travel_with_the_keys(self, llama: ModelView) -> None:
        outcome = run(llama, "ultraedit", [SPORT, CAPITAL], KNOBS)
        back = Outcome.from_bytes(outcome.to_bytes())
        for name, pair in outcome.written.items():
            there = back.written[name]
            assert pair.downhill is not None
            assert there.downhill is not None
            assert torch.equal(there.downhill, pair.downhill)
            one = part_of(pair, [1])
            assert one.downhill is not None
            assert torch.equal(one.downhill, pair.downhill[:, 1:2])
        plain = Written(*(torch.ones(2, 1) for _ in range(3)))
        assert set(plain.parts) == {"keys", "values", "missing"}


class TestBesideTheOthers:
    def test_history_keeps_the_first_of_two_edits_where_it_is(self, llama: ModelView) -> None:
        moved: dict[str, float] = {}
        before = llama.current
        for editor in BOTH:
            llama.adopt(before)
            (first,) = in_a_row(llama, editor, SPORT)
            second = run(llama, editor, [OTHER_SPORT], KNOBS, History([first]))
            moved[editor] = sum(
                float(second.changes[name].at(pair.keys).norm())
                for name, pair in first.load().written.items()
            )
        assert moved["ultra-rls"] < 0.8 * moved["ultraedit"]

    def test_a_forecast_compares_keys_where_a_matrix_writes(self, llama: ModelView) -> None:
        made = run(llama, "ultraedit", [SPORT], KNOBS)
        live = [Entry("edit", lambda: made)]
        found = finish(collisions(llama, SPORT, live, "prompt_last"))
        assert [one["edit"] for one in found] == ["edit"]
        assert found[0]["cosine"] == pytest.approx(1, abs=1e-4)
        above = run(llama, "ultraedit", [SPORT], {**KNOBS, "matrices": "gate_up"})
        live = [Entry("edit", lambda: above)]
        assert finish(collisions(llama, SPORT, live, "prompt_last")) == []
