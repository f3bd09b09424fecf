"""Knowledge neurons: attribution against a plain loop, its completeness, and what is written."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from editing.delta import Slices
from editing.editors import attribution, kn
from editing.editors.attribution import attributions
from editing.errors import NoNeurons, UnsupportedArchitecture
from editing.history import History
from editing.hparams import KnHparams
from editing.knobs import resolve
from editing.model.tokens import Continuation, continued
from editing.model.view import ModelView
from editing.request import EditRequest
from editing.run import finish
from editing.tuned import ModelFacts

from .conftest import MakeView
from .facts import CAPITAL, SPORT, changed, copied, hooked, planned, run

FEW = {"contexts.prefixes": 2}
SEVERAL = EditRequest(
    subject="Lionel Messi",
    prompt="{} plays the sport of",
    target_new="a river, a window",
    target_true="football and basketball",
)


def probability(
    view: ModelView, ids: Sequence[int], token: int, layer: int, point: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """P(token) behind a text where the last token's key is `point`, and that text's own key."""
    heard: list[Tensor] = []

    def scale(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        rows = args[0].reshape(len(ids), -1)
        heard.append(rows[-1].detach())
        if point is None:
            return args
        moved = torch.cat([rows[:-1], point[None]])
        return (moved.view(args[0].shape), *args[1:])

    def hold(norm: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        """Gemma's norm, which goes on dividing by the size of the whole write."""
        whole = view.weight(view.down_proj(layer)) @ heard[0]
        held = (1 + norm.weight) * args[0][0, -1] / (whole.square().mean() + norm.eps).sqrt()
        return torch.cat([out[:, :-1], held[None, None]], dim=1)

    hooks = [view.module(view.down_proj(layer)).register_forward_pre_hook(scale)]
    if point is not None and view.layout.post_norm is not None:
        norm = view.blocks[layer].get_submodule(view.layout.post_norm)
        hooks.append(norm.register_forward_hook(hold))
    try:
        logits = view.model(input_ids=torch.tensor([list(ids)])).logits[0, -1]
    finally:
        for hook in hooks:
            hook.remove()
    return logits.float().softmax(-1)[token], heard[0]


def plain_attribution(view: ModelView, row: Continuation, layer: int, steps: int) -> Tensor:
    """k_j / S * sum of dP / dk_j at s / S k, for one token of the target after the other."""
    total = torch.zeros(view.facts.d_key)
    for number, token in enumerate(row.targets):
        ids = row.ids[: row.start + number]
        _, key = probability(view, ids, token, layer)
        for step in range(1, steps + 1):
            point = (step / steps * key).requires_grad_()
            p, _ = probability(view, ids, token, layer, point)
            (gradient,) = torch.autograd.grad(p, point)
            total += key * gradient / steps
    return total


def rows_of(view: ModelView) -> list[Continuation]:
    asked = [(SPORT.question, "basketball"), (SEVERAL.question, "football and basketball")]
    return [continued(view.tokenizer, *both) for both in asked]


class TestAttribution:
    @pytest.mark.parametrize("rows_side_by_side", [512, 1])
    def test_it_is_the_integrated_gradient_of_each_token_added_up(
        self, rows_side_by_side: int, view: ModelView, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(attribution, "_ROWS", rows_side_by_side)
        rows = rows_of(view)
        assert len(rows[1].targets) > 1
        found = finish(attributions(view, rows, [1, 4], 5))
        assert found.shape == (2, 2, view.facts.d_key)
        for number, row in enumerate(rows):
            for at, layer in enumerate((1, 4)):
                wanted = plain_attribution(view, row, layer, 5)
                assert (found[number, at] - wanted).norm() < 1e-3 * wanted.norm()
        assert hooked(view) == []

    def test_over_a_layer_it_adds_up_to_what_the_layer_s_key_does(self, view: ModelView) -> None:
        layers = range(5)
        row = continued(view.tokenizer, SPORT.question, "basketball")
        missing: list[float] = []
        for steps in (4, 80):
            found = finish(attributions(view, [row], layers, steps))[0].sum(-1)
            wanted = torch.zeros(5)
            with torch.no_grad():
                for layer in layers:
                    for number, token in enumerate(row.targets):
                        ids = row.ids[: row.start + number]
                        whole, key = probability(view, ids, token, layer)
                        none, _ = probability(view, ids, token, layer, 0 * key)
                        wanted[layer] += whole - none
            missing.append(float((found - wanted).abs().max()))
        assert missing[1] < 0.03
        assert missing[1] < 0.1 * missing[0]

    def test_a_half_precision_model_is_traced_too(self, make_view: MakeView) -> None:
        view, whole = make_view("llama", dtype=torch.bfloat16), make_view("llama")
        rows = rows_of(whole)
        half, full = (finish(attributions(one, rows, [2], 10)) for one in (view, whole))
        assert (half - full).norm() < 0.2 * full.norm()


class TestRefining:
    SCORES = torch.tensor(
        [
            [[1.0, 0.5, 0.0], [0.1, 0.3, -2.0]],
            [[10.0, 0.0, 0.0], [5.0, 2.0, 9.0]],
            [[0.0, 0.4, 0.0], [0.0, 0.4, 0.0]],
        ]
    )

    @pytest.mark.parametrize(
        ("threshold", "share", "kept"),
        [
            (0.25, 0.0, [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]),
            (0.25, 0.4, [[0, 0], [0, 1], [1, 1]]),
            (0.25, 2 / 3, [[0, 0], [0, 1], [1, 1]]),
            (0.25, 0.7, []),
            (0.45, 0.5, [[0, 0], [0, 1]]),
            (0.15, 1.0, [[1, 1]]),
        ],
    )
    def test_neurons_of_enough_coarse_sets_are_kept(
        self, threshold: float, share: float, kept: list[list[int]]
    ) -> None:
        assert kn.refined(self.SCORES, threshold, share)[0].tolist() == kept

    def test_a_prompt_to_which_nothing_adds_has_no_coarse_set(self) -> None:
        chosen, coarse = kn.refined(-self.SCORES.abs() - 1, 0.2, 0.0)
        assert (chosen.tolist(), coarse) == ([], 0)


def shift(view: ModelView, fact: EditRequest, less: float, more: float) -> Tensor:
    """What is added to each chosen value vector, by the head's own rows."""
    new = continued(view.tokenizer, fact.question, fact.target_new).targets
    ids = continued(view.tokenizer, fact.question, fact.target_new).ids[: -len(new)]
    old: list[int] = []
    for _ in new:
        old.append(int(view.model(input_ids=torch.tensor([ids + old])).logits[0, -1].argmax()))
    head = view.model.get_output_embeddings().weight.detach()
    return more * head[new].sum(0) - less * head[old].sum(0)


class TestWriting:
    @pytest.mark.parametrize(
        ("fact", "knobs"),
        [
            (SPORT, {}),
            (SEVERAL, {}),
            (SPORT, {"old_weight": 0.5, "new_weight": 3.0}),
            (SPORT, {"old_weight": 0.0}),
        ],
        ids=["one-or-more-tokens", "several", "weights", "nothing-away"],
    )
    @torch.no_grad()
    def test_each_neuron_s_value_vector_moves_from_the_old_answer_to_the_new(
        self, fact: EditRequest, knobs: dict[str, float], view: ModelView
    ) -> None:
        with torch.enable_grad():
            outcome = run(view, "kn", [fact], {**FEW, **knobs})
        tokens = len(continued(view.tokenizer, fact.question, fact.target_new).targets)
        usual = 2.0 if tokens == 1 else 1.0
        less, more = knobs.get("old_weight", usual), knobs.get("new_weight", usual)
        move = shift(view, fact, less, more)
        before = {view.down_proj(n): view.weight(view.down_proj(n)).clone() for n in range(5)}
        wanted = {name: weight.clone() for name, weight in before.items()}
        for layer, column in outcome.notes["neurons"]:  # pyright: ignore[reportGeneralTypeIssues]
            wanted[view.down_proj(layer)][:, column] += move
        with view.overlaid(outcome.deltas):
            for name, weight in wanted.items():
                assert torch.allclose(view.weight(name), weight, atol=1e-5)
                untouched = (weight == before[name]).all(0)
                assert torch.equal(view.weight(name)[:, untouched], before[name][:, untouched])

    def test_one_token_counts_twice(self, llama: ModelView) -> None:
        fact = EditRequest(
            subject="Italy", prompt="The capital of {} is", target_new="a", target_true="Rome"
        )
        assert len(continued(llama.tokenizer, fact.question, "a").targets) == 1
        outcome = run(llama, "kn", [fact], FEW)
        for delta in outcome.deltas.values():
            assert isinstance(delta, Slices)
            for value in delta.values:
                assert torch.allclose(value, shift(llama, fact, 2.0, 2.0).detach(), atol=1e-5)

    def test_the_change_is_of_a_few_columns(self, view: ModelView) -> None:
        outcome = run(view, "kn", [SPORT], FEW)
        neurons = sum(delta.rank for delta in outcome.changes.values())
        assert neurons == len(outcome.notes["neurons"])  # pyright: ignore[reportArgumentType]
        assert 0 < neurons < 5 * view.facts.d_key / 4
        for delta in outcome.changes.values():
            assert isinstance(delta, Slices)
            assert delta.axis == 1
            columns = delta.matrix().abs().sum(0).nonzero()[:, 0]
            assert columns.tolist() == delta.index.tolist()

    def test_an_untied_head_gives_its_own_rows(self, make_view: MakeView) -> None:
        view = make_view("gptj")
        head, embedding = view.model.get_output_embeddings(), view.model.get_input_embeddings()
        assert head.weight is not embedding.weight
        outcome = run(view, "kn", [SPORT], FEW)
        tokens = len(continued(view.tokenizer, SPORT.question, "tennis").targets)
        weight = 2.0 if tokens == 1 else 1.0
        delta = next(iter(outcome.deltas.values()))
        assert isinstance(delta, Slices)
        wanted = shift(view, SPORT, weight, weight).detach()
        assert torch.allclose(delta.values[0], wanted, atol=1e-5)

    def test_it_makes_the_new_answer_likelier_than_it_was(self, make_view: MakeView) -> None:
        view = make_view("gpt2")
        row = continued(view.tokenizer, SPORT.question, "tennis")

        def likely() -> float:
            with torch.no_grad():
                logits = view.model(input_ids=torch.tensor([row.ids])).logits[0, row.start - 1]
            return float(logits.log_softmax(-1)[row.targets[0]])

        before = likely()
        with view.overlaid(run(view, "kn", [SPORT], FEW).deltas):
            assert likely() > before + 1

    def test_two_facts_may_move_the_same_neurons(self, llama: ModelView) -> None:
        together = run(llama, "kn", [SPORT, CAPITAL], FEW)
        after = llama.after(together.deltas)
        for fact in (SPORT, CAPITAL):
            llama.adopt(llama.after(run(llama, "kn", [fact], FEW).deltas))
        assert llama.fingerprint() == llama.fingerprint(after)


class TestPrompts:
    def test_what_is_traced_is_the_known_object_else_the_model_s_own_answer(
        self, make_view: MakeView
    ) -> None:
        view = make_view("gpt2")
        known = run(view, "kn", [SPORT], FEW)
        asked = {"subject": SPORT.subject, "prompt": SPORT.prompt, "target_new": "tennis"}
        unknown = run(view, "kn", [EditRequest(**asked)], FEW)
        (own,) = (t for t in [kn.own_answer(view, SPORT.question, 1)])
        said = run(view, "kn", [EditRequest(**asked, target_true=view.tokenizer.decode(own))], FEW)
        assert unknown.to_bytes() == said.to_bytes()
        assert known.notes["replaced"] == unknown.notes["replaced"]

    def test_paraphrases_stand_for_prefixes_where_they_may_be_used(self, llama: ModelView) -> None:
        plain, asked, without = (
            run(llama, "kn", [fact], {**FEW, **knobs, "share": 0})
            for fact, knobs in (
                (SPORT, {}),
                (SPORT, {"contexts.paraphrases": True}),
                (CAPITAL, {"contexts.paraphrases": True}),
            )
        )
        assert [one.notes["prompts"] for one in (plain, asked, without)] == [3, 2, 3]

    def test_a_relation_edit_moves_both_its_prompts(self, llama: ModelView) -> None:
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
        outcome = run(llama, "kn", [relation], {**FEW, "share": 0})
        assert len(outcome.notes["parts"]) == 2  # pyright: ignore[reportArgumentType]


class TestRefusals:
    def test_no_neuron_in_enough_prompts(self, llama: ModelView) -> None:
        bits = llama.audit()
        with pytest.raises(NoNeurons, match="Lower share or threshold") as caught:
            run(llama, "kn", [SPORT], {**FEW, "threshold": 1.0})
        assert caught.value.fields == {"subject": SPORT.subject, "prompts": 3, "coarse": 0}
        assert llama.audit() == bits
        assert hooked(llama) == []

    def test_a_head_of_another_width(
        self, llama: ModelView, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kn, "_head", lambda _: torch.zeros(420, 16))
        with pytest.raises(UnsupportedArchitecture, match="16 wide"):
            run(llama, "kn", [SPORT], FEW)

    def test_it_is_given_one_fact_at_a_time(self, llama: ModelView) -> None:
        hparams = planned(llama, "kn", FEW).hparams
        assert isinstance(hparams, KnHparams)
        with pytest.raises(ValueError, match="unpack"):
            finish(kn.edit(llama, [SPORT, CAPITAL], hparams, History.empty()))


def test_only_chosen_layers_are_traced_and_written(llama: ModelView) -> None:
    before = copied(llama)
    outcome = run(llama, "kn", [SPORT], {**FEW, "layers": [1, 3]})
    with llama.overlaid(outcome.deltas):
        assert changed(llama, before) <= {llama.down_proj(1), llama.down_proj(3)}
    steps = list[tuple[int, int]]()
    plan = planned(llama, "kn", {**FEW, "layers": [1, 3]})
    finish(
        kn.edit(llama, [SPORT], plan.hparams, History.empty()),
        lambda step: steps.append((step.done, step.total)),
    )
    assert steps == [(1, 2), (1, 2), (2, 2)]  # layer 2 is run between them


def test_published_values() -> None:
    xl = resolve("kn", {}, ModelFacts("gpt2", 48, 1600, 6400))
    assert (xl.steps, xl.threshold, xl.share) == (20, 0.2, 0.4)
    assert xl.contexts.prefixes + 1 == 10
    assert xl.layers == tuple(range(48))
    assert resolve("kn", {}, ModelFacts("gptj", 28, 4096, 16384)).threshold == 0.1
