"""MEND: the network, the loss that trains it, and the editor that uses it."""

import copy
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

from editing.catalogue import METHODS
from editing.editors.hypernet import Hypernet, Running
from editing.editors.lessons import Lessons, texts_of
from editing.editors.token_gradients import TokenGradient, token_gradients
from editing.errors import HypernetworkDamaged, HypernetworkMissing
from editing.hparams import MendRecipe
from editing.hparams.hypernetwork import MEND_WRITES
from editing.model.tokens import continued
from editing.model.view import ModelView
from editing.outcome import Outcome
from editing.request import EditRequest
from editing.run import finish
from editing.training.artefact import load_net
from editing.training.loss import Exercise
from editing.tuned import placement
from editing.walk import Plan, already_answers, edit
from tests.tiny import tiny_tokenizer, tiny_view, untaught

from .facts import CAPITAL, OTHER_SPORT, SPORT
from .nets import lend_net, records, shapes_of

RECIPE = MendRecipe(rank=4)


def layers_of(view: ModelView) -> tuple[int, ...]:
    return placement("mend", view.facts)


def tokens_of(view: ModelView, *requests: EditRequest) -> dict[str, TokenGradient]:
    rows = [text for request in requests for text in texts_of(view, request)]
    layers = layers_of(view)
    return token_gradients(view, Lessons.of(view, rows, layers[0]), tuple(shapes_of(view, layers)))[
        0
    ]


def stirred(net: Hypernet, size: float = 0.05) -> Hypernet:
    """A network that is not the identity any more."""
    chance = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=chance))
    return net


def plain_loss(view: ModelView, weights: Mapping[str, Tensor], text: str, target: str) -> Tensor:
    """Mean negative log-probability of a target, by the model's own forward, nothing left out."""
    row = continued(view.tokenizer, text, target)
    ids = torch.tensor([row.ids])
    logits = functional_call(view.model, dict(weights), (ids,)).logits[0]
    predicted = logits[row.start - 1 : -1].log_softmax(-1)
    return -predicted.gather(1, ids[0, row.start :, None]).mean()


@pytest.fixture(params=["gpt2", "llama", "opt"])
def view(request: pytest.FixtureRequest) -> ModelView:
    return tiny_view(request.param)


class TestTokenGradients:
    def test_their_sum_is_the_gradient_of_the_weight(self, view: ModelView) -> None:
        found = tokens_of(view, SPORT)
        for name, tokens in found.items():
            weight = view.module(name).weight.detach().clone().requires_grad_()
            loss = plain_loss(view, {name: weight}, SPORT.question, SPORT.target_new)
            (gradient,) = torch.autograd.grad(loss, weight)
            dense = gradient.T if isinstance(view.module(name), Conv1D) else gradient
            assert torch.allclose(tokens.matrix(), -dense, atol=1e-6 + 1e-4 * dense.abs().max())

    def test_padding_and_tokens_without_gradient_are_no_terms(self, view: ModelView) -> None:
        longer = replace(SPORT, prompt="The old man said that {} plays the sport of")
        together, alone = tokens_of(view, longer, SPORT), tokens_of(view, SPORT)
        first, *_, last = together
        fed = [len(text.ids) - 1 for one in (longer, SPORT) for text in texts_of(view, one)]
        assert len(together[first].u) <= sum(fed) < 2 * max(fed)
        # Above the last block's attention nothing moves but what predicts the target.
        targets = sum(len(t.targets) for one in (longer, SPORT) for t in texts_of(view, one))
        assert len(together[last].u) == targets
        for name, tokens in alone.items():
            mine = together[name].delta[-len(tokens.delta) :]
            assert torch.allclose(mine, tokens.delta, atol=1e-6 + 1e-4 * tokens.delta.abs().max())


class TestTheNetwork:
    def test_at_the_start_it_is_a_step_along_the_gradient(self, view: ModelView) -> None:
        tokens = tokens_of(view, SPORT)
        net = Hypernet(shapes_of(view, layers_of(view)), rank=4, alpha=0.25, seed=0)
        for name, (left, right) in net(tokens).items():  # its norms have seen nothing yet
            assert torch.allclose(left @ right, 0.25 * tokens[name].matrix(), atol=1e-6)

    def test_it_is_the_published_formula(self) -> None:
        shapes = {"a": (6, 4), "b": (6, 4), "c": (4, 6)}
        net = stirred(Hypernet(shapes, rank=8, alpha=0.5, seed=3), 0.5)
        tokens = {
            name: TokenGradient(torch.randn(5, d_in), torch.randn(5, d_out))
            for name, (d_out, d_in) in shapes.items()
        }
        net.see(tokens)
        state = net.state_dict()
        for name, (left, right) in net(tokens).items():
            kind, number = {"a": (0, 0), "b": (0, 1), "c": (1, 0)}[name]
            sharing = ["a", "b"] if kind == 0 else ["c"]
            whole = [(tokens[one].u, tokens[one].delta) for one in sharing]
            seen = [torch.cat(part).double() for part in zip(*whole, strict=True)]
            parts = [
                (part.double() - all_.mean(0)) / (all_.std(0) + 1e-3 * all_.std(0).mean())
                for part, all_ in zip((tokens[name].u, tokens[name].delta), seen, strict=True)
            ]
            x = torch.cat(parts, dim=1)
            for layer in range(2):
                left_factor, right_factor, bias, scale, shift = (
                    state[f"transforms.{kind}.layers.{layer}.{part}"].double()
                    for part in ("A", "B", "bias", "scale", "shift")
                )
                assert left_factor.shape == (10, 2)  # capped at half of the short side
                x = (
                    x
                    + (
                        scale[number] * (x @ right_factor.T @ left_factor.T + bias) + shift[number]
                    ).relu()
                )
            alpha = state["alpha"][list(shapes).index(name)]
            naive = sum(
                alpha * torch.outer(row[shapes[name][1] :], row[: shapes[name][1]]) for row in x
            )
            assert torch.allclose((left @ right).double(), naive, atol=1e-4)

    def test_its_first_layers_learn_from_the_first_step_on(self) -> None:
        net = Hypernet({"a": (6, 4)}, rank=2, alpha=0.5, seed=0)
        left, right = net({"a": TokenGradient(torch.randn(5, 4), torch.randn(5, 6))})["a"]
        (left @ right).sum().backward()
        for name, parameter in net.named_parameters():
            moves = parameter.grad is not None and bool(parameter.grad.any())
            # behind a zero factor the other one waits for a step
            assert moves == (not name.endswith((".B", ".scale"))), name

    def test_mean_and_deviation_are_those_of_all_rows(self) -> None:
        rows = 3 + 2 * torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
        rows[:, 5] = 1.0  # never varies
        norm = Running(6)
        for part in rows.split([1, 0, 20, 29]):
            norm.see(part)
        assert torch.allclose(norm.mean, rows.double().mean(0))
        spread = rows.double().std(0)
        assert torch.allclose(norm.deviation, spread + 1e-3 * spread.mean())
        assert norm(rows + 1).isfinite().all()

    def test_before_there_are_two_rows_nothing_is_divided(self) -> None:
        norm = Running(3)
        rows = torch.randn(1, 3)
        assert torch.equal(norm(rows), rows)
        norm.see(rows)
        assert torch.allclose(norm(rows), torch.zeros(1, 3))


class TestTheOuterLoss:
    @pytest.fixture(params=["gpt2", "llama"])
    def small(self, request: pytest.FixtureRequest) -> ModelView:
        depth = {"gpt2": "n_layer", "llama": "num_hidden_layers"}[request.param]
        return ModelView(untaught(request.param, **{depth: 2}), tiny_tokenizer())

    @pytest.mark.parametrize("divergence", ["from_base", "from_edited"])
    def test_it_and_its_gradient_are_those_of_the_plain_computation(
        self, small: ModelView, divergence: str
    ) -> None:
        recipe = replace(RECIPE, divergence=divergence, edit_weight=0.3, locality_weight=0.7)
        layers = layers_of(small)
        assert layers == (0, 1)
        shapes = shapes_of(small, layers)
        net = stirred(Hypernet(shapes, rank=4, alpha=1.0, seed=1))
        texts = {"paraphrases": SPORT.paraphrases, "neighbors": SPORT.neighborhood}
        exercise = Exercise.of(small, net.names, 0, SPORT, **texts, rivals=True)
        net.see(exercise.gradients)
        loss = exercise.losses(exercise.graded(small, net), recipe).weighted(recipe)
        gradients = torch.autograd.grad(loss, list(net.parameters()))

        changes = {name: left @ right for name, (left, right) in net(exercise.gradients).items()}
        edited = {
            name: small.module(name).weight
            + (change.T if isinstance(small.module(name), Conv1D) else change)
            for name, change in changes.items()
        }
        texts = (SPORT.question, *SPORT.paraphrases)
        edit_loss = sum(plain_loss(small, edited, text, SPORT.target_new) for text in texts)
        near = continued(small.tokenizer, SPORT.neighborhood[0].prompt, "basketball")
        ids = torch.tensor([near.ids])
        base, after = (
            functional_call(small.model, weights, (ids,)).logits[0, near.start - 1 : -1]
            for weights in ({}, edited)
        )
        truth, other = (base, after) if divergence == "from_base" else (after, base)
        kl = nn.functional.kl_div(
            other.log_softmax(-1), truth.log_softmax(-1), log_target=True, reduction="batchmean"
        )
        plain = 0.3 * edit_loss / len(texts) + 0.7 * kl
        assert torch.allclose(loss, plain, rtol=1e-5)
        for mine, wanted in zip(
            gradients, torch.autograd.grad(plain, list(net.parameters())), strict=True
        ):
            assert torch.allclose(mine, wanted, atol=1e-6 + 1e-3 * float(wanted.abs().max()))


class TestTheEditor:
    def run(self, view: ModelView, *requests: EditRequest, net: str | None = None) -> Outcome:
        hparams = {} if net is None else {"net": net}
        return finish(edit(view, Plan.of(view, "mend", hparams), requests))

    def test_what_it_may_change_is_in_the_catalogue(self) -> None:
        assert METHODS["mend"].writes == MEND_WRITES
        assert METHODS["mend"].batch

    def test_a_batch_is_the_sum_of_its_facts(self, view: ModelView) -> None:
        lend_net(view)
        together = self.run(view, SPORT, CAPITAL).changes
        alone = [self.run(view, one).changes for one in (SPORT, CAPITAL)]
        for name, delta in together.items():
            whole = sum(part[name].matrix() for part in alone)
            assert torch.allclose(delta.matrix(), whole, atol=1e-6 + 1e-4 * whole.abs().max())

    def test_a_long_order_is_read_in_parts(self, view: ModelView) -> None:
        lend_net(view)
        facts = (records() * 2)[:40]
        whole = self.run(view, *facts).changes
        parts = [self.run(view, *facts[:7]).changes, self.run(view, *facts[7:]).changes]
        for name, delta in whole.items():
            both = sum(part[name].matrix() for part in parts)
            assert torch.allclose(delta.matrix(), both, atol=1e-5 + 1e-4 * both.abs().max())

    def test_its_rank_is_at_most_the_tokens_of_the_texts(self, view: ModelView) -> None:
        lend_net(view)
        tokens = sum(len(t.ids) for one in (SPORT, CAPITAL) for t in texts_of(view, one))
        assert all(d.rank < tokens for d in self.run(view, SPORT, CAPITAL).deltas.values())

    def test_it_edits_the_head_that_is_served(self, view: ModelView) -> None:
        lend_net(view)
        first = self.run(view, SPORT)
        again = self.run(view, SPORT)
        assert first.to_bytes() == again.to_bytes()
        view.adopt(view.after(first.deltas))
        upon = self.run(view, SPORT)
        assert sum(d.norm() for d in upon.changes.values()) != pytest.approx(
            sum(d.norm() for d in first.changes.values())
        )
        assert upon.notes == first.notes  # the network is that of the base

    def test_weights_stored_the_other_way_round_give_the_same_change(self) -> None:
        view = tiny_view("gpt2")
        lend_net(view)
        expected = self.run(view, SPORT, OTHER_SPORT)
        turned = copy.deepcopy(view.model)
        for name in expected.deltas:
            path = name.removesuffix(".weight")
            old = turned.get_submodule(path)
            new = nn.Linear(*old.weight.shape)
            new.weight.data, new.bias.data = old.weight.data.T.contiguous(), old.bias.data
            turned.set_submodule(path, new)
        other = ModelView(turned, view.tokenizer)
        lend_net(other)
        found = self.run(other, SPORT, OTHER_SPORT)
        for name, delta in expected.changes.items():
            assert torch.allclose(found.changes[name].matrix(), delta.matrix(), atol=1e-6)

    def test_a_model_served_in_half_precision_is_edited(self) -> None:
        view = tiny_view("llama", dtype=torch.bfloat16)
        lend_net(view)
        outcome = self.run(view, SPORT)
        with view.overlaid(outcome.deltas):
            assert finish(already_answers(view, [SPORT]))


class TestWithoutANetwork:
    def test_an_edit_says_how_one_is_trained(self, view: ModelView) -> None:
        bits = view.audit()
        with pytest.raises(
            HypernetworkMissing, match=r"errata train mend --model.*--data"
        ) as raised:
            finish(edit(view, Plan.of(view, "mend"), [SPORT]))
        assert raised.value.code == "hypernetwork-missing"
        assert view.audit() == bits

    def test_one_for_other_layers_or_another_model_is_none(self, llama: ModelView) -> None:
        lend_net(llama)
        other = tiny_view("llama", seed=1, stats_folder=llama.stats.folder)
        for view, layers in ((llama, [1, 2]), (other, [2, 3, 4])):
            with pytest.raises(HypernetworkMissing):
                finish(edit(view, Plan.of(view, "mend", {"layers": layers}), [SPORT]))

    def test_a_name_that_none_has_is_told_with_those_there_are(self, view: ModelView) -> None:
        known = lend_net(view)
        with pytest.raises(HypernetworkMissing, match=known):
            load_net(view, layers_of(view), "zzz")
        assert load_net(view, layers_of(view), known[:5]).id == known

    def test_the_newest_is_taken_or_the_one_that_is_named(self, view: ModelView, tmp_path) -> None:  # noqa: ANN001
        view.stats.folder = tmp_path
        one, two = lend_net(view, 0.01), lend_net(view, 0.02)
        assert load_net(view, layers_of(view)).id == two
        assert load_net(view, layers_of(view), one).id == one
        outcome = finish(edit(view, Plan.of(view, "mend", {"net": one}), [SPORT]))
        assert outcome.notes == {"net": one}

    @pytest.mark.parametrize("harm", ["cut", "flipped", "empty"])
    def test_a_damaged_one_is_refused_and_named(self, tmp_path, harm: str) -> None:  # noqa: ANN001
        view = tiny_view("llama", stats_folder=tmp_path)
        name = lend_net(view)
        (path,) = tmp_path.glob(f"mend-*-{name}.safetensors")
        data = bytearray(path.read_bytes())
        data[-100] ^= 255
        path.write_bytes({"cut": data[:-60], "flipped": data, "empty": b""}[harm])
        with pytest.raises(HypernetworkDamaged, match=r"train mend.*again") as raised:
            finish(edit(view, Plan.of(view, "mend"), [SPORT]))
        assert raised.value.fields["path"] == str(path)
