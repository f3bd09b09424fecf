"""Fine-tuning and adapters: losses, bounds and stops, against plain loops on a copied model."""

import copy
import math
import random
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from peft import LoraConfig, LoraModel
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from editing.delta import Dense, LowRank
from editing.editors import training
from editing.editors.lessons import Graded, Lessons, texts_of
from editing.errors import LossDiverged, NumericOverflow, TargetNotReached
from editing.history import History
from editing.knobs import resolve
from editing.model.state import State
from editing.model.tokens import Continuation
from editing.model.view import ModelView
from editing.outcome import Outcome
from editing.request import EditRequest
from editing.run import finish
from editing.tuned import ModelFacts
from editing.walk import already_answers, edit

from .conftest import MakeView
from .facts import CAPITAL, SPORT, copied, hooked, planned, run

# Targets of one token and of several, so that masks and means over tokens matter.
SEVERAL = EditRequest(
    subject="Lionel Messi", prompt="{} plays the sport of", target_new="a river, a window"
)
FACTS = [SPORT, SEVERAL, CAPITAL]
QUICK: Mapping[str, object] = {"epochs": 4, "lr": 2e-3, "bound": 5e-3, "stop_loss": 0.5}
LAYOUTS = ("gpt2", "llama")  # weights stored transposed, and not

Loss = Callable[[nn.Module, Continuation], Tensor]


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


def masked(model: nn.Module, text: Continuation) -> Tensor:
    """-log p of the target's tokens, each behind those before it."""
    logprobs = model(input_ids=torch.tensor([text.ids])).logits[0].log_softmax(-1)
    taken = [-logprobs[text.start - 1 + n, token] for n, token in enumerate(text.targets)]
    return torch.stack(taken).mean()


def bag(model: nn.Module, text: Continuation) -> Tensor:
    """-log p of the target's tokens, all of them where the prompt ends."""
    logits = model(input_ids=torch.tensor([text.ids[: text.start]])).logits[0]
    logprobs = logits[-1].log_softmax(-1)
    return -torch.stack([logprobs[token] for token in text.targets]).mean()


def plain(
    view: ModelView,
    names: Sequence[str],
    texts: Sequence[Continuation],
    loss_of: Loss,
    knobs: Mapping[str, object],
) -> dict[str, Tensor]:
    """The method as one reads it: text by text on a copy of the model. Changes [d_out, d_in]."""
    model = copy.deepcopy(view.model)
    weights = {name: dict(model.named_parameters())[name].requires_grad_() for name in names}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    adam = torch.optim.Adam(weights.values(), lr=float(str(knobs["lr"])))
    bound, batch = knobs.get("bound"), int(str(knobs.get("batch", len(texts))))
    for epoch in range(int(str(knobs["epochs"]))):
        order = list(range(len(texts)))
        if batch < len(texts):
            random.Random(epoch).shuffle(order)  # noqa: S311 - an order is no secret
        losses: list[float] = []
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            loss = torch.stack([loss_of(model, texts[n]) for n in chosen]).mean()
            losses += [float(loss.detach())] * len(chosen)
            if loss < float(str(knobs["stop_loss"])):
                continue
            adam.zero_grad()
            loss.backward()
            adam.step()
            if bound is not None:
                for name, weight in weights.items():
                    low, high = before[name] - bound, before[name] + bound
                    weight.data = weight.data.maximum(low).minimum(high)
        if sum(losses) / len(losses) < float(str(knobs["stop_loss"])):
            break
    change = {name: weight.detach() - before[name] for name, weight in weights.items()}
    return {
        name: part.T if isinstance(view.module(name), Conv1D) else part
        for name, part in change.items()
    }


def same(outcome: Outcome, wanted: Mapping[str, Tensor]) -> bool:
    """Whether an outcome's changes are those wanted, up to what Adam makes of rounding."""
    assert set(outcome.changes) == set(wanted)
    return all(
        float((outcome.changes[name].matrix() - matrix).norm()) < 0.01 * float(matrix.norm())
        for name, matrix in wanted.items()
    )


def lessons_for(view: ModelView, *, end: bool = False) -> list[Continuation]:
    return [row for fact in FACTS for row in texts_of(view, fact, end=end)]


class TestTrueToTheirSource:
    def test_ft_m_is_adam_on_the_target_s_tokens_within_a_bound(
        self, layout: str, make_view: MakeView
    ) -> None:
        view = make_view(layout)
        knobs = {**QUICK, "layers": [1]}
        wanted = plain(view, [view.down_proj(1)], lessons_for(view), masked, knobs)
        assert same(run(view, "ft-m", FACTS, knobs), wanted)

    def test_ft_l_asks_for_the_whole_target_where_the_prompt_ends(
        self, layout: str, make_view: MakeView
    ) -> None:
        view = make_view(layout)
        knobs = {**QUICK, "layers": [1]}
        texts = lessons_for(view)
        outcome = run(view, "ft-l", FACTS, knobs)
        assert same(outcome, plain(view, [view.down_proj(1)], texts, bag, knobs))
        with torch.no_grad():
            at_once, in_turn = (
                float(torch.stack([loss(view.model, text) for text in texts]).mean())
                for loss in (bag, masked)
            )
        assert outcome.notes["loss_first"] == pytest.approx(at_once, rel=1e-4)
        assert abs(at_once - in_turn) > 0.1

    def test_full_c_trains_every_matrix_of_every_mlp(
        self, layout: str, make_view: MakeView
    ) -> None:
        view = make_view(layout)
        knobs = {**QUICK, "lr": 1e-3}
        names = [
            name
            for layer in range(5)
            for kind in ("up_proj", "gate_proj", "down_proj")
            for name in view.matrices(layer, kind)  # pyright: ignore[reportArgumentType]
        ]
        assert len(names) == (10 if layout == "gpt2" else 15)
        wanted = plain(view, names, lessons_for(view), masked, knobs)
        assert same(run(view, "full-c", FACTS, knobs), wanted)

    @pytest.mark.parametrize("batch", [1, 2, 3])
    def test_locft_goes_over_all_facts_in_shuffled_mini_batches_and_learns_to_stop(
        self, batch: int, layout: str, make_view: MakeView
    ) -> None:
        view = make_view(layout)
        knobs = {"epochs": 3, "lr": 2e-3, "stop_loss": 0.5, "layers": [1], "batch": batch}
        texts = lessons_for(view, end=True)
        assert {text.ids[-1] for text in texts} == {view.tokenizer.eos_token_id}
        wanted = plain(view, [view.down_proj(1)], texts, masked, knobs)
        assert same(run(view, "locft", FACTS, knobs), wanted)

    def test_lora_is_what_peft_makes_of_a_copy_of_the_model(
        self, layout: str, make_view: MakeView
    ) -> None:
        view = make_view(layout)
        knobs = {"epochs": 4, "lr": 5e-3, "rank": 3, "layers": [1, 3], "stop_loss": 0}
        texts = lessons_for(view)
        # Without dropout, whose draws depend on how texts are batched.
        outcome = run(view, "lora", FACTS, {**knobs, "dropout": 0})
        config = LoraConfig(
            r=3,
            lora_alpha=32,
            target_modules=["c_attn"] if layout == "gpt2" else ["q_proj", "v_proj"],
            layers_to_transform=[1, 3],
            layers_pattern="h" if layout == "gpt2" else "layers",
            fan_in_fan_out=layout == "gpt2",
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = LoraModel(copy.deepcopy(view.model), config, "default")
        adapters = [p for p in model.parameters() if p.requires_grad]
        adam = torch.optim.Adam(adapters, lr=5e-3)
        for _ in range(4):
            adam.zero_grad()
            torch.stack([masked(model, text) for text in texts]).mean().backward()
            adam.step()
        merged = dict(model.merge_and_unload().named_parameters())
        for name, delta in outcome.changes.items():
            change = merged[name].detach() - view._parameters[name]
            change = change.T if layout == "gpt2" else change
            assert (delta.matrix() - change).norm() < 0.01 * change.norm()


class TestStopping:
    def test_what_is_learned_already_takes_no_step(self, llama: ModelView) -> None:
        outcome = run(llama, "ft-m", FACTS, {"stop_loss": 10, "layers": [1]})
        assert outcome.notes["steps"] == 0
        assert outcome.deltas == {}

    def test_training_ends_with_the_first_pass_below_the_loss(self, llama: ModelView) -> None:
        knobs = {"lr": 0.01, "epochs": 40, "bound": None, "stop_loss": 0.3}
        notes = run(llama, "ft-m", [SPORT], knobs).notes
        assert 0 < int(str(notes["steps"])) < 40
        assert float(str(notes["loss_last"])) < 0.3
        fewer = {**knobs, "epochs": int(str(notes["steps"]))}
        before = run(llama, "ft-m", [SPORT], fewer).notes
        assert float(str(before["loss_last"])) >= 0.3

    def test_an_edit_that_ends_too_unlikely_fails_with_its_numbers(self, llama: ModelView) -> None:
        bits = llama.audit()
        knobs = {"lr": 1e-8, "epochs": 2, "min_probability": 0.5}
        with pytest.raises(TargetNotReached, match="Raise epochs") as caught:
            run(llama, "ft-m", [SPORT, CAPITAL], knobs)
        assert caught.value.fields["steps"] == 2
        assert 0 < float(str(caught.value.fields["reached"])) < 0.5
        assert llama.audit() == bits

    @pytest.mark.parametrize("editor", ["ft-l", "ft-m", "full-c", "locft", "lora"])
    @pytest.mark.parametrize("after", [0, 2])
    def test_a_loss_that_is_no_number_fails_whatever_is_asked(
        self, editor: str, after: int, llama: ModelView, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        passes: list[int] = []
        graded = Lessons.graded

        def broken(lessons: Lessons) -> Graded:
            passes.append(len(lessons))
            found = graded(lessons)
            nan = found.nll * (torch.nan if len(passes) > after else 1)
            return Graded(nan, found.first, found.logprobs)

        monkeypatch.setattr(Lessons, "graded", broken)
        bits = llama.audit()
        # Before any step it is the model itself that answers with NaN.
        with pytest.raises(LossDiverged if after else NumericOverflow):
            run(llama, editor, [SPORT], {"stop_loss": 0})
        assert llama.audit() == bits
        assert hooked(llama) == []


class TestBound:
    KNOBS: Mapping[str, object] = {"layers": [1], "lr": 5e-3, "epochs": 6, "bound": 0.01}

    @pytest.mark.parametrize("editor", ["ft-l", "ft-m", "full-c"])
    def test_edit_after_edit_stays_within_the_bound_of_the_untouched_model(
        self, editor: str, layout: str, make_view: MakeView
    ) -> None:
        view = make_view(layout)
        knobs = {**self.KNOBS, "layers": [0, 1] if editor == "full-c" else [1]}
        total = dict[str, Tensor]()
        for fact in (SPORT, SEVERAL, CAPITAL):
            deltas = run(view, editor, [fact], knobs).changes
            for name, delta in deltas.items():
                moved = delta.matrix().abs()
                total[name] = moved + total[name] if name in total else moved
            view.adopt(view.after(deltas))
        for name, master in view.current.masters.items():
            away = (master - view.master(name, State())).abs()
            assert away.max() <= 0.01 * (1 + 1e-4)
            assert away.max() >= 0.01 * (1 - 1e-4)
            assert total[name].max() > 0.011  # without the bound on their sum they went further

    def test_what_another_method_wrote_beyond_the_bound_is_left_there(
        self, llama: ModelView
    ) -> None:
        name = llama.down_proj(1)
        far = torch.zeros(llama.weight(name).shape)
        far[3, 5], far[4, 6] = 0.5, -0.5
        llama.adopt(llama.after({name: Dense(far)}))
        llama.adopt(llama.after(run(llama, "ft-m", FACTS, self.KNOBS).deltas))
        away = llama.master(name) - llama.master(name, State())
        assert 0.01 < away[3, 5] <= 0.5
        assert -0.5 <= away[4, 6] < -0.01
        assert away[far == 0].abs().max() <= 0.01 * (1 + 1e-4)

    def test_null_is_no_bound(self, llama: ModelView) -> None:
        (delta,) = run(llama, "ft-m", FACTS, {**self.KNOBS, "bound": None}).changes.values()
        assert delta.matrix().abs().max() > 0.015

    @pytest.mark.parametrize(
        ("width", "bound"), [(1024, 2e-3), (1280, 1e-3), (1600, 5e-4), (4096, 5e-5)]
    )
    def test_the_rule_of_width_gives_the_published_bounds(self, width: int, bound: float) -> None:
        for editor in ("ft-l", "ft-m"):
            hparams = resolve(editor, {}, ModelFacts("unheard-of", 20, width, 4 * width))
            assert hparams.bound == pytest.approx(bound, rel=0.2)
            assert hparams.layers == (0,)
        assert resolve("ft-m", {"bound": None}, ModelFacts("opt", 20, width, 64)).bound is None


def test_published_rows() -> None:
    xl, gpt_j = ModelFacts("gpt2", 48, 1600, 6400), ModelFacts("gptj", 28, 4096, 16384)
    llama_2, llama_3 = (ModelFacts("llama", 32, 4096, width) for width in (11008, 14336))
    for editor in ("ft-l", "ft-m"):
        for facts, row in (
            (ModelFacts("gpt2", 24, 1024, 4096), ((0,), 2e-3)),
            (ModelFacts("gpt2", 36, 1280, 5120), ((0,), 1e-3)),
            (xl, ((0,), 5e-4)),
            (gpt_j, ((0,), 5e-5)),
            (llama_2, ((21,), None)),
            (llama_3, ((21,), None)),
        ):
            found = resolve(editor, {}, facts)
            assert (found.layers, found.bound) == row
            assert (found.epochs, found.lr, found.weight_decay) == (25, 5e-4, 0)
            assert found.stop_loss == 1e-2
    locft = resolve("locft", {}, llama_3)
    assert (locft.layers, locft.batch, locft.epochs, locft.lr) == ((22,), 100, 25, 5e-4)
    assert resolve("locft", {}, ModelFacts("qwen2", 28, 3584, 18944)).layers == (6,)
    for facts, epochs, targets in (
        (xl, 30, "attention"),
        (gpt_j, 50, "mlp"),
        (llama_2, 70, "attention"),
        (llama_3, 70, "attention"),
    ):
        lora = resolve("lora", {}, facts)
        assert (lora.epochs, lora.targets, lora.lr) == (epochs, targets, 5e-3)
        assert (lora.rank, lora.alpha, lora.dropout) == (8, 32, 0.1)
        assert lora.layers == tuple(range(facts.layers))


class TestTexts:
    KNOBS: Mapping[str, object] = {"layers": [1], "epochs": 2}

    def test_paraphrases_are_learned_only_where_asked_for(self, llama: ModelView) -> None:
        bare = EditRequest(subject=SPORT.subject, prompt=SPORT.prompt, target_new=SPORT.target_new)
        without = run(llama, "ft-m", [SPORT], self.KNOBS)
        assert run(llama, "ft-m", [bare], self.KNOBS).to_bytes() == without.to_bytes()
        asked = run(llama, "ft-m", [SPORT], {**self.KNOBS, "contexts.paraphrases": True})
        with torch.no_grad():
            losses = [
                float(masked(llama.model, row)) for row in texts_of(llama, SPORT, paraphrases=True)
            ]
        assert len(losses) == 2
        assert asked.notes["loss_first"] == pytest.approx(sum(losses) / 2, rel=1e-4)

    def test_prefixes_are_learned_where_asked_for(self, llama: ModelView) -> None:
        knobs = {**self.KNOBS, "contexts.prefixes": 2}
        prefixes = llama.stats.prefixes(planned(llama, "ft-m", knobs).hparams.contexts)
        with torch.no_grad():
            rows = texts_of(llama, SPORT, prefixes)
            losses = [float(masked(llama.model, row)) for row in rows]
        found = run(llama, "ft-m", [SPORT], knobs).notes["loss_first"]
        assert found == pytest.approx(sum(losses) / 3, rel=1e-4)

    def test_both_prompts_of_a_relation_edit_are_learned(self, llama: ModelView) -> None:
        relation = EditRequest.from_dict(
            {
                "perspective": "relation",
                "subject": "Italy",
                "object": "Madrid",
                "relation_text": "capital",
                "add_prompt": "The relation between {} and Madrid is",
                "delete_prompt": "The relation between {} and Rome is",
            }
        )
        rows = texts_of(llama, relation)
        outcome = run(llama, "ft-m", [relation], {**self.KNOBS, "lr": 0.01, "bound": None})
        with torch.no_grad():
            losses = [float(masked(llama.model, row)) for row in rows]
            with llama.overlaid(outcome.deltas):
                after = [float(masked(llama.model, row)) for row in rows]
        assert len(losses) == 2
        assert outcome.notes["loss_first"] == pytest.approx(sum(losses) / 2, rel=1e-4)
        assert all(new < old for new, old in zip(after, losses, strict=True))
        (least,) = outcome.notes["probability"]  # pyright: ignore[reportGeneralTypeIssues]
        assert least == pytest.approx(math.exp(-max(after)), rel=1e-3)

    def test_after_locft_the_model_stops_behind_the_target(self, llama: ModelView) -> None:
        outcome = run(llama, "locft", [SPORT], {"lr": 0.02, "epochs": 80})
        (row,) = texts_of(llama, SPORT, end=True)
        with torch.no_grad(), llama.overlaid(outcome.deltas):
            said = llama.model(input_ids=torch.tensor([row.ids[:-1]])).logits[0, -1].argmax()
        assert int(said) == llama.tokenizer.eos_token_id

    def test_a_large_mini_batch_is_run_in_parts(
        self, llama: ModelView, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = run(llama, "ft-m", FACTS, QUICK)
        monkeypatch.setattr(training, "_POSITIONS", 1)
        steps = 0

        def count(_: object) -> None:
            nonlocal steps
            steps += 1

        parts = finish(edit(llama, planned(llama, "ft-m", QUICK), FACTS), count)
        assert steps > 3 * 4  # between the parts, too
        assert same(parts, {name: delta.matrix() for name, delta in whole.changes.items()})


class TestAdapter:
    KNOBS: Mapping[str, object] = {"layers": [1, 3], "epochs": 3, "rank": 2, "lr": 5e-3}

    @pytest.mark.parametrize(("targets", "count"), [("attention", 2), ("mlp", 2)])
    def test_only_what_is_chosen_gets_one_of_its_rank(
        self, targets: str, count: int, llama: ModelView
    ) -> None:
        outcome = run(llama, "lora", [SPORT], {**self.KNOBS, "targets": targets})
        wanted = {
            name
            for layer in (1, 3)
            for name in (
                llama.attention_in(layer)
                if targets == "attention"
                else [llama.up_proj(layer), llama.down_proj(layer)]
            )
        }
        assert set(outcome.deltas) == wanted
        assert len(wanted) == 2 * count
        for delta in outcome.changes.values():
            assert isinstance(delta, LowRank)
            assert delta.rank == 2

    def test_the_model_keeps_its_modules_their_order_and_its_random_numbers(
        self, layout: str, make_view: MakeView
    ) -> None:
        view = make_view(layout)
        plan = planned(view, "lora", self.KNOBS)
        modules = [(name, id(m), m.training) for name, m in view.model.named_modules()]
        parameters = [(n, id(p), p.requires_grad) for n, p in view.model.named_parameters()]
        chance = torch.get_rng_state()

        def look(_: object) -> None:
            assert [(n, id(m), m.training) for n, m in view.model.named_modules()] == modules
            assert [
                (n, id(p), p.requires_grad) for n, p in view.model.named_parameters()
            ] == parameters
            assert torch.equal(torch.get_rng_state(), chance)

        finish(edit(view, plan, FACTS), look)

    def test_a_pass_that_fails_leaves_the_model_its_own_modules(
        self, llama: ModelView, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        modules = list(map(id, llama.model.modules()))

        def broken(_: Lessons) -> Graded:
            assert list(map(id, llama.model.modules())) != modules  # the adapter is in place
            raise MemoryError

        monkeypatch.setattr(Lessons, "graded", broken)
        with pytest.raises(MemoryError):
            run(llama, "lora", [SPORT], self.KNOBS)
        assert list(map(id, llama.model.modules())) == modules

    def test_dropout_counts_and_is_the_same_every_time(self, llama: ModelView) -> None:
        with_it, again, without = (
            run(llama, "lora", [SPORT], {**self.KNOBS, "dropout": share}).to_bytes()
            for share in (0.5, 0.5, 0)
        )
        assert with_it == again
        assert with_it != without

    def test_the_adapter_of_a_half_precision_model_is_trained_in_float32(
        self, make_view: MakeView
    ) -> None:
        view = make_view("llama", dtype=torch.bfloat16)
        before = copied(view)
        outcome = run(view, "lora", [SPORT], {**self.KNOBS, "epochs": 20, "lr": 0.02})
        assert all(torch.equal(p, before[n]) for n, p in view.model.named_parameters())
        for delta in outcome.changes.values():
            assert delta.matrix().dtype == torch.float32
            rounded = delta.matrix().bfloat16().float()
            assert not torch.equal(rounded, delta.matrix())
        with view.overlaid(outcome.deltas):
            assert finish(already_answers(view, [SPORT]))

    def test_each_edit_trains_an_adapter_of_its_own(self, llama: ModelView) -> None:
        first = run(llama, "lora", [SPORT], self.KNOBS)
        llama.adopt(llama.after(first.deltas))
        second = run(llama, "lora", [CAPITAL], self.KNOBS, History([("a", lambda: first)]))
        assert all(delta.rank == 2 for delta in second.changes.values())


@pytest.mark.parametrize("editor", ["ft-l", "ft-m", "full-c", "locft"])
def test_copies_of_a_half_precision_model_are_trained_in_float32(
    editor: str, make_view: MakeView
) -> None:
    view = make_view("gpt2", dtype=torch.bfloat16)
    outcome = run(view, editor, [SPORT], {"epochs": 2, "lr": 1e-5, "stop_loss": 0})
    change = max(float(delta.matrix().abs().max()) for delta in outcome.changes.values())
    assert 0 < change < 1e-4  # smaller than bfloat16 could add to most of the weights


def test_the_notes_say_what_changed(llama: ModelView) -> None:
    outcome = run(llama, "ft-m", [SPORT, CAPITAL], {"lr": 0.01, "bound": 0.02})
    (delta,) = outcome.changes.values()
    whole = delta.matrix()
    notes = outcome.notes
    assert notes["entries_changed"] == int(whole.count_nonzero())
    assert notes["largest_change"] == pytest.approx(float(whole.abs().max()))
    assert notes["weights_changed"] == 1
    with llama.overlaid(outcome.deltas), torch.no_grad():
        rows = [texts_of(llama, fact)[0] for fact in (SPORT, CAPITAL)]
        wanted = [float((-masked(llama.model, row)).exp()) for row in rows]
    assert notes["probability"] == pytest.approx(wanted, rel=1e-4)
