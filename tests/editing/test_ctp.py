"""CTP against its published form, and what its modes promise."""
# ruff: noqa: N806 - the notation of the papers

import copy
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from editing.delta import Slices
from editing.editors.ctp import _Text, _with_old_answers
from editing.editors.ctp import edit as ctp
from editing.editors.lessons import Lessons, texts_of
from editing.editors.nodes import Nodes
from editing.editors.paths import Selection, node_scores
from editing.errors import EmptyField, InvalidHparam, LossDiverged
from editing.history import History
from editing.model.tokens import Continuation
from editing.model.view import ModelView
from editing.outcome import Outcome
from editing.request import EditRequest
from editing.run import finish
from editing.step import Step
from editing.walk import Plan, already_answers
from tests.tiny import tiny_view

from .conftest import MakeView
from .facts import CAPITAL, OTHER_SPORT, SPORT, changed, copied, logits_of, nudge, overrides_for

FACTS = [SPORT, CAPITAL, OTHER_SPORT]
STEEP = overrides_for("ctp")
PUBLISHED = {"mode": "session", "legacy_adam": True, "session.lr": 1e-3, "session.epochs": 4}


def run(
    view: ModelView,
    overrides: Mapping[str, object],
    requests: Sequence[EditRequest] = FACTS,
    history: History | None = None,
) -> Outcome:
    plan = Plan.of(view, "ctp", overrides)
    return finish(ctp(view, requests, plan.hparams, history or History.empty()))


def notes(outcome: Outcome) -> dict[str, Any]:
    return dict(outcome.notes)


def texts(view: ModelView, requests: Sequence[EditRequest] = FACTS) -> list[Continuation]:
    return [row for request in requests for row in texts_of(view, request)]


@dataclass
class Plain:
    """The published session: whole matrices, one text at a time, torch's Adam, masked gradients."""

    view: ModelView
    model: nn.Module
    weights: Mapping[str, Tensor]

    @classmethod
    def of(cls, view: ModelView) -> "Plain":
        model = copy.deepcopy(view.model)
        names = [
            name for n in range(len(view.blocks)) for name in (view.up_proj(n), view.down_proj(n))
        ]
        weights = {name: model.get_parameter(name).requires_grad_() for name in names}
        return cls(view, model, weights)

    def logprobs(self, row: Continuation, model: nn.Module | None = None) -> Tensor:
        out = (model or self.model)(input_ids=torch.tensor([row.ids[:-1]])).logits[0]
        return out[row.start - 1 :].log_softmax(-1)

    def loss(self, row: Continuation, gold: Sequence[int]) -> Tensor:
        found = self.logprobs(row)
        return -found[torch.arange(len(gold)), torch.tensor(gold)].mean()

    def as_nodes(self, name: str, matrix: Tensor) -> Tensor:
        """[M, d], one row a node; a view of `matrix`."""
        if isinstance(self.view.module(name), Conv1D):
            matrix = matrix.T
        if name not in {self.view.up_proj(n) for n in range(len(self.view.blocks))}:
            return matrix.T
        return matrix[self.view.facts.d_key :] if self.view.layout.fused_gate else matrix

    def trace(self, rows: Sequence[Continuation], count: int) -> dict[str, tuple[Tensor, Tensor]]:
        """T+ and T- of every group."""
        self.model.zero_grad()
        for row in rows:
            self.loss(row, row.targets).backward()
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for name, weight in self.weights.items():
            assert weight.grad is not None
            G = self.as_nodes(name, weight.grad).T.double()  # [d, M]
            z = (G - G.mean(1, keepdim=True)) / G.std(1, correction=0, keepdim=True)
            order = z.abs().mean(0).argsort(descending=True)
            found[name] = order[:count], order[-1:]
        return found

    def step(self, adam: torch.optim.Adam, loss: Tensor, kept: Mapping[str, Tensor]) -> None:
        adam.zero_grad()
        loss.backward()
        for name, weight in self.weights.items():
            assert weight.grad is not None
            masked = torch.zeros_like(weight.grad)
            nodes = self.as_nodes(name, masked)
            nodes[kept[name]] = self.as_nodes(name, weight.grad)[kept[name]]
            weight.grad = masked
        adam.step()

    def session(self, rows: Sequence[Continuation], hparams: Any) -> dict[str, Tensor]:
        """What each weight is changed by, as it lies in the model."""
        before = {name: weight.detach().clone() for name, weight in self.weights.items()}
        base = self.view.model
        old = [self.logprobs(row, base).argmax(-1).tolist() for row in rows]
        adam = torch.optim.Adam(self.weights.values(), lr=hparams.session.lr)
        chance = random.Random(0)  # noqa: S311 - the order of the code it judges
        paths: dict[str, tuple[Tensor, Tensor]] = {}
        for epoch in range(hparams.session.epochs):
            if epoch % 2 == 0:
                paths = self.trace(rows, hparams.positive)
            order = chance.sample(range(len(rows)), len(rows))
            for start in range(0, len(order), 2):
                batch = order[start : start + 2]
                loss = torch.stack([self.loss(rows[n], rows[n].targets) for n in batch]).mean()
                self.step(adam, loss, {name: both[0] for name, both in paths.items()})
                loss = torch.stack([self.loss(rows[n], old[n]) for n in batch]).mean()
                self.step(adam, 0.1 * loss, {name: both[1] for name, both in paths.items()})
        return {name: weight.detach() - before[name] for name, weight in self.weights.items()}


class TestTrueToItsSource:
    @pytest.mark.parametrize("layout", ["gpt2", "llama", "phi3", "gemma3_text"])
    def test_a_session_is_the_published_one(self, layout: str, make_view: MakeView) -> None:
        view = make_view(layout)
        plan = Plan.of(view, "ctp", PUBLISHED)
        expected = Plain.of(view).session(texts(view), plan.hparams)
        outcome = run(view, PUBLISHED)
        assert notes(outcome)["steps"] == 4 * 2
        for name, whole in expected.items():
            transposed = isinstance(view.module(name), Conv1D)
            delta = outcome.changes[name].matrix()
            found = delta.T if transposed else delta
            assert (found - whole).norm() < 1e-3 * whole.norm()
            assert torch.equal(found != 0, whole != 0)  # the very nodes, and no other

    def test_the_masked_optimiser_moves_fewer_nodes_once_paths_are_traced_anew(
        self, llama: ModelView
    ) -> None:
        legacy = run(llama, PUBLISHED)
        masked = run(llama, {**PUBLISHED, "legacy_adam": False})
        # The first two steps, one on each side of disjoint nodes, are the same but for momentum.
        assert legacy.to_bytes() != masked.to_bytes()
        assert notes(legacy)["losses"][0] == notes(masked)["losses"][0]

    def test_a_session_learns_at_its_own_rate(self, llama: ModelView) -> None:
        one_step = {"mode": "session", "session.epochs": 1, "session.batch": 8}
        for legacy, rate in ((False, 5e-5), (True, 1e-5)):
            found = run(llama, {**one_step, "legacy_adam": legacy, "contrast": 0})
            largest = max(float(d.matrix().abs().max()) for d in found.changes.values())
            assert largest == pytest.approx(rate, rel=1e-3)  # Adam's first step


class TestTracing:
    @pytest.mark.parametrize("layout", ["gpt2", "llama", "phi3", "gemma3_text", "opt"])
    def test_scores_come_from_the_whole_gradient_of_the_targets_loss(
        self, layout: str, make_view: MakeView
    ) -> None:
        view = make_view(layout)
        view.adopt(view.after(nudge(view)))
        rows = texts(view)
        plain = Plain.of(view)
        for row in rows:
            plain.loss(row, row.targets).backward()
        nodes = Nodes.of(view, range(len(view.blocks)), legacy=False)
        for chunks in ([rows], [rows[:1], rows[1:]]):
            lessons = [Lessons.of(view, chunk) for chunk in chunks]
            scores = finish(nodes.trace(lessons, "absz"))
            for group, found in zip(nodes.groups, scores, strict=True):
                gradient = plain.weights[group.name].grad
                assert gradient is not None
                expected = node_scores("absz", plain.as_nodes(group.name, gradient).T)
                assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4)

    def test_gradxparam_takes_the_nodes_as_they_are_now(self, llama: ModelView) -> None:
        nodes, lessons = trained_a_little(llama)
        before = finish(nodes.trace(lessons, "gradxparam"))
        llama.adopt(llama.after(nodes.deltas()))
        fresh = Nodes.of(llama, range(len(llama.blocks)), legacy=False)
        after = finish(fresh.trace(lessons, "gradxparam"))
        for one, other in zip(before, after, strict=True):
            assert torch.allclose(one, other, rtol=1e-3, atol=1e-5)

    def test_the_report_names_nodes_and_scores_of_every_layer(self, llama: ModelView) -> None:
        outcome = run(llama, {**STEEP, "positive": 3, "tracing": "exact"})
        traced = notes(Outcome.from_bytes(outcome.to_bytes()))["traces"][0]
        assert [layer["layer"] for layer in traced["layers"]] == [0, 1, 2, 3, 4]
        best = 0.0
        for layer in traced["layers"]:
            for kind in ("keys", "values"):
                found = layer[kind]
                assert len(found["nodes"]) == len(found["scores"]) <= 3
                assert found["scores"] == sorted(found["scores"], reverse=True)
                assert found["negative_scores"][0] < found["scores"][-1]
                best += found["scores"][0]
        assert traced["path_sums"][0] == pytest.approx(best, rel=1e-3)
        assert len(traced["path_sums"]) == traced["n"] == 3
        assert traced["lowest_sum"] < traced["path_sums"][-1]

    @pytest.mark.parametrize("score", ["absz", "signed", "l2", "gradxparam"])
    @pytest.mark.parametrize("tracing", ["rank_aligned", "exact"])
    def test_every_way_to_trace_learns(self, llama: ModelView, score: str, tracing: str) -> None:
        outcome = run(llama, {**STEEP, "score": score, "tracing": tracing})
        losses = notes(outcome)["losses"]
        assert losses[-1] < 0.5 * losses[0]

    def test_layer_weights_and_a_growing_n_are_part_of_it(self, llama: ModelView) -> None:
        plain = run(llama, STEEP)
        weighed = run(llama, {**STEEP, "layer_weights": True})
        assert weighed.to_bytes() != plain.to_bytes()
        grown = run(llama, {**STEEP, "mass": 0.02})
        counts = [
            len(layer[kind]["nodes"])
            for layer in notes(grown)["traces"][0]["layers"]
            for kind in ("keys", "values")
        ]
        assert counts == [1] * 10  # one of 64 nodes is more than 2 %


def trained_a_little(view: ModelView) -> tuple[Nodes, list[Lessons]]:
    """Nodes of every layer with something learned, and the lessons."""
    nodes = Nodes.of(view, range(len(view.blocks)), legacy=False)
    groups = len(nodes.groups)
    nodes.select(Selection([[5, 2]] * groups, [[7]] * groups, [], 0.0))
    lessons = [Lessons.of(view, texts(view))]
    with nodes.live():
        gradients = nodes.gradients(lessons[0].graded().nll.mean())
    nodes.step(gradients, "positive", [0.01] * groups)
    nodes.step(gradients, "negative", [0.02] * groups)
    return nodes, lessons


class TestNodes:
    def test_a_pass_computes_with_what_was_trained_as_if_it_were_written(
        self, view: ModelView
    ) -> None:
        nodes, lessons = trained_a_little(view)
        with torch.no_grad():
            plain = lessons[0].graded().nll
            with nodes.live():
                trained = lessons[0].graded().nll
            with view.overlaid(nodes.deltas()):
                written = lessons[0].graded().nll
        assert not torch.allclose(trained, plain, atol=1e-3)
        assert torch.allclose(trained, written, atol=1e-5)

    def test_a_delta_holds_the_nodes_that_moved_and_no_others(self, view: ModelView) -> None:
        nodes, _ = trained_a_little(view)
        for name, delta in nodes.deltas().items():
            assert isinstance(delta, Slices)
            of_keys = name in {view.up_proj(n) for n in range(len(view.blocks))}
            first = view.facts.d_key if of_keys and view.layout.fused_gate else 0
            assert delta.axis == (0 if of_keys else 1)
            wanted = [first + 2, first + 5, first + 7]
            assert [n for n in wanted if bool(delta.matrix().select(delta.axis, n).any())] == (
                delta.index.tolist()  # OPT's neurons may be silent
            )
            assert delta.shape == view.weight(name).shape

    def test_a_gate_keeps_its_rows(self, make_view: MakeView) -> None:
        view = make_view("phi3")
        outcome = run(view, STEEP)
        for n in range(len(view.blocks)):
            delta = outcome.changes[view.up_proj(n)]
            assert isinstance(delta, Slices)
            assert int(delta.index.min()) >= view.facts.d_key

    def test_training_is_kept_when_paths_are_traced_anew(self, llama: ModelView) -> None:
        nodes, _ = trained_a_little(llama)
        before = nodes.deltas()
        groups = len(nodes.groups)
        nodes.select(Selection([[9, 2]] * groups, [[11]] * groups, [], 0.0))
        after = nodes.deltas()
        assert all(torch.equal(before[name].matrix(), after[name].matrix()) for name in before)

    def test_a_weight_stored_transposed_is_trained_alike(self, make_view: MakeView) -> None:
        stored, straight = make_view("gpt2"), linear_twin(make_view("gpt2"))
        assert isinstance(stored.module(stored.down_proj(0)), Conv1D)
        assert isinstance(straight.module(straight.down_proj(0)), nn.Linear)
        one, other = run(stored, STEEP), run(straight, STEEP)
        assert notes(one)["losses"][-1] == pytest.approx(notes(other)["losses"][-1], rel=0.05)
        for name, delta in one.changes.items():
            assert delta.matrix().shape == other.changes[name].matrix().shape
        first, second = run(stored, PUBLISHED), run(straight, PUBLISHED)
        for name, delta in first.changes.items():
            gap = delta.matrix() - second.changes[name].matrix()
            assert gap.norm() < 1e-3 * delta.norm()


def linear_twin(view: ModelView) -> ModelView:
    """GPT-2 with plain linear layers in its MLPs, and the same numbers in them."""
    for n in range(len(view.blocks)):
        for name in (view.up_proj(n), view.down_proj(n)):
            old = view.module(name)
            weight = view.weight(name)
            new = nn.Linear(weight.shape[1], weight.shape[0])
            new.weight.data = weight.contiguous()
            new.bias.data = old.get_parameter("bias").data
            owner, _, last = name.removesuffix(".weight").rpartition(".")
            setattr(view.model.get_submodule(owner), last, new)
    return ModelView(view.model, view.tokenizer)


class TestTheObjective:
    def test_what_is_held_is_what_the_untouched_model_said(self, llama: ModelView) -> None:
        rows = texts(llama)
        untouched = [Plain.of(llama).logprobs(row).argmax(-1).tolist() for row in rows]
        llama.adopt(llama.after(nudge(llama, size=2.0)))  # a head that says something else
        assert [Plain.of(llama).logprobs(row).argmax(-1).tolist() for row in rows] != untouched
        found = finish(_with_old_answers(llama, [_Text(row) for row in rows]))
        assert [one.old.tolist() for one in found if one.old is not None] == untouched

    def test_without_lambda_no_negative_node_moves(self, llama: ModelView) -> None:
        plain = run(llama, {**STEEP, "contrast": 0})
        assert notes(plain)["held"] == []
        traces = notes(plain)["traces"]
        for number, layer in enumerate(traces[0]["layers"]):
            delta = plain.changes[llama.down_proj(number)]
            assert isinstance(delta, Slices)
            chosen = {n for t in traces for n in t["layers"][number]["values"]["nodes"]}
            assert set(delta.index.tolist()) == chosen
            assert (
                layer["values"]["negative"][0] not in traces[0]["layers"][number]["values"]["nodes"]
            )

    def test_lambda_is_a_switch_and_no_weight(self, llama: ModelView) -> None:
        # Adam divides by the size of the gradient: as documented, only 0 or not 0 counts.
        one, other = (run(llama, {**STEEP, "contrast": weight}) for weight in (0.1, 10))
        assert notes(one)["losses"] == pytest.approx(notes(other)["losses"], rel=0.02, abs=0.01)
        assert run(llama, {**STEEP, "contrast": 0}).to_bytes() != one.to_bytes()

    def test_no_entry_goes_past_the_clamp(self, llama: ModelView) -> None:
        limits = {**STEEP, "online.clamp": 0.05}
        for name, delta in run(llama, limits).changes.items():
            limit = 0.05 * float(llama.weight(name).std())
            assert float(delta.matrix().abs().max()) == pytest.approx(limit, rel=1e-4)


class TestOnline:
    def test_it_stops_when_every_target_is_the_first_choice(self, llama: ModelView) -> None:
        outcome = run(llama, STEEP)
        losses = notes(outcome)["losses"]
        assert len(losses) < 30
        assert losses[-1] < 0.5 < losses[0]
        with llama.overlaid(outcome.deltas):
            assert finish(already_answers(llama, FACTS))

    def test_what_is_learned_already_is_left_alone(self, llama: ModelView) -> None:
        known = EditRequest(subject="Kobe Bryant", prompt=SPORT.prompt, target_new="basketball")
        outcome = run(llama, {**STEEP, "online.stop_loss": 1.0}, [known])
        assert notes(outcome)["steps"] == 1
        assert outcome.deltas == {}

    @pytest.mark.parametrize(
        ("retraces", "steps", "at"), [(0, 7, [0]), (2, 9, [0, 3, 6]), (2, 2, [0, 1]), (3, 8, None)]
    )
    def test_paths_are_traced_at_even_distances(
        self, llama: ModelView, retraces: int, steps: int, at: list[int] | None
    ) -> None:
        knobs = {"online.retraces": retraces, "online.steps": steps, "online.lr": 1e-6}
        outcome = run(llama, knobs, [SPORT])
        assert [t["at_step"] for t in notes(outcome)["traces"]] == (at or [0, 2, 4, 6])
        assert notes(outcome)["steps"] == steps

    def test_earlier_facts_are_gone_over_again(self, llama: ModelView) -> None:
        first = run(llama, STEEP, [CAPITAL])
        llama.adopt(llama.after(first.deltas))
        history = History([("a", lambda: first)])
        alone = run(llama, STEEP, [SPORT])
        with_past = run(llama, STEEP, [SPORT], history)
        assert with_past.to_bytes() != alone.to_bytes()
        none = run(llama, {**STEEP, "online.replay": 0}, [SPORT], history)
        assert none.to_bytes() == alone.to_bytes()
        with llama.overlaid(with_past.deltas):
            assert finish(already_answers(llama, [SPORT, CAPITAL]))

    def test_a_large_batch_is_run_in_parts(
        self, llama: ModelView, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = run(llama, {**STEEP, "online.steps": 3})
        monkeypatch.setattr("editing.editors.ctp._POSITIONS", 1)
        steps = list[Step]()
        plan = Plan.of(llama, "ctp", {**STEEP, "online.steps": 3})
        parts = finish(ctp(llama, FACTS, plan.hparams, History.empty()), steps.append)
        assert len(steps) > 3 * 3
        assert notes(parts)["losses"] == pytest.approx(notes(whole)["losses"], rel=1e-3)


class TestSession:
    def test_it_makes_several_passes_and_traces_anew_after_every_other(
        self, llama: ModelView
    ) -> None:
        knobs = {"mode": "session", "session.epochs": 5, "session.lr": 1e-6}
        outcome = run(llama, knobs)
        assert notes(outcome)["steps"] == 5 * 2  # three facts, two to a mini-batch
        assert [t["at_step"] for t in notes(outcome)["traces"]] == [0, 4, 8]
        assert len(notes(outcome)["held"]) == 5 * 2

    def test_it_stops_once_a_whole_pass_was_right(self, llama: ModelView) -> None:
        outcome = run(llama, {"mode": "session", "session.lr": 0.01})
        steps = notes(outcome)["steps"]
        assert steps < 15 * 2
        assert steps % 2 == 0
        with llama.overlaid(outcome.deltas):
            assert finish(already_answers(llama, FACTS))

    def test_the_past_is_no_part_of_it(self, llama: ModelView) -> None:
        first = run(llama, STEEP, [CAPITAL])
        history = History([("a", lambda: first)])
        knobs = {"mode": "session", "session.lr": 0.01}
        with_past = run(llama, knobs, [SPORT], history)
        assert with_past.to_bytes() == run(llama, knobs, [SPORT]).to_bytes()
        assert [t["question"] for t in notes(with_past)["replay"]] == [SPORT.question]


class TestWhatItRefuses:
    def test_an_order_without_requests(self, llama: ModelView) -> None:
        with pytest.raises(EmptyField, match="requests"):
            run(llama, STEEP, [])

    def test_more_paths_than_there_are_nodes(self, llama: ModelView) -> None:
        with pytest.raises(InvalidHparam, match=r"positive = 64: it must be at most 63"):
            run(llama, {"positive": 64})
        run(llama, {"positive": 63, "online.steps": 1})

    def test_a_loss_that_is_not_a_number_while_it_trains(self, llama: ModelView) -> None:
        bits = copied(llama)
        knobs = {"mode": "session", "session.lr": 1.0, "session.batch": 1}
        plan = Plan.of(llama, "ctp", knobs)
        work = ctp(llama, FACTS, plan.hparams, History.empty())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "editing.editors.adam.NodeAdam.step",
                lambda _self, values, *_: values.fill_(torch.nan),
            )
            with pytest.raises(LossDiverged, match="Lower the learning rate"):
                finish(work)
        assert changed(llama, bits) == set()

    def test_a_layer_that_the_model_does_not_have(self, llama: ModelView) -> None:
        with pytest.raises(InvalidHparam, match="between 0 and 4"):
            run(llama, {"layers": [5]})


def test_some_layers_alone_may_be_traced(llama: ModelView) -> None:
    outcome = run(llama, {**STEEP, "layers": [1, 3]})
    assert set(outcome.changes) <= {m(n) for n in (1, 3) for m in (llama.up_proj, llama.down_proj)}
    assert notes(outcome)["losses"][-1] < notes(outcome)["losses"][0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_learns_too(dtype: torch.dtype) -> None:
    view = tiny_view("llama", dtype=dtype)
    outcome = run(view, STEEP)
    assert all(delta.matrix().dtype == torch.float32 for delta in outcome.changes.values())
    with view.overlaid(outcome.deltas):
        assert finish(already_answers(view, FACTS))
        assert logits_of(view, SPORT.question).isfinite().all()
