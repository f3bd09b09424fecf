"""GradSim: what is put together from activations is what autograd gives, on every layout."""

from collections.abc import Iterable, Mapping

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from editing.errors import EmptyField, InvalidHparam, TextTooLong, UnsupportedArchitecture
from editing.metrics.gradients import passes, tally
from editing.metrics.gradsim import Fact, Part, Scope, gram, similarities, weights_written
from editing.model.state import State
from editing.model.tokens import continued
from editing.model.view import ModelView
from editing.run import finish, under
from editing.walk import Plan
from tests.tiny import LAYOUTS, OTHERS, UNMAPPED, tiny_tokenizer, untaught

from .facts import copied, hooked, nudge

FACTS: list[Fact] = [
    ("LeBron James plays the sport of", "tennis"),
    ("Italy", "is in"),
    ("The capital of Italy is", "Madrid"),
    ("The capital of France is", "東京"),
    ("Therefore we know. Kobe Bryant plays the sport of", "football and"),
    ("The capital of Italy is", "Rome, we know."),
]
CLOSE = 1e-5


def stirred(layout: str, **config: object) -> ModelView:
    """A random model whose gains are not all one and whose biases are not all nothing."""
    return ModelView(shaken(untaught(layout, **config)), tiny_tokenizer())  # type: ignore[arg-type]


def shaken(model: nn.Module) -> nn.Module:
    chance = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=chance)
    return model


def foreign(model_type: str, **config: object) -> ModelView:
    """A random model of a family without a row in the table."""
    shape = {
        "vocab_size": len(tiny_tokenizer()),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    made = AutoConfig.for_model(model_type, **{**shape, **config})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(made).eval()
    return ModelView(shaken(model), tiny_tokenizer())  # type: ignore[arg-type]


def materialised(view: ModelView, facts: Iterable[Fact]) -> dict[str, Tensor]:
    """Every parameter's gradients [N, size] by the model's own forward pass, one fact at a time."""
    named = dict(view.model.named_parameters())
    found: dict[str, list[Tensor]] = {name: [] for name in named}
    for parameter in named.values():
        parameter.requires_grad_()
    for question, answer in facts:
        row = continued(view.tokenizer, view.asked(question), answer)
        with torch.enable_grad():
            logits = view.model(input_ids=torch.tensor([row.ids[:-1]])).logits[0].float()
            at = torch.arange(row.start - 1, len(row.ids) - 1)
            logprob = logits.log_softmax(-1)[at, torch.tensor(row.targets)].sum()
            given = torch.autograd.grad(logprob, list(named.values()), allow_unused=True)
        for (name, parameter), gradient in zip(named.items(), given, strict=True):
            whole = torch.zeros_like(parameter) if gradient is None else gradient
            found[name].append(whole.flatten().double())
    for parameter in named.values():
        parameter.requires_grad_(requires_grad=False)
    return {name: torch.stack(rows) for name, rows in found.items()}


def products(gradients: Mapping[str, Tensor], names: Iterable[str]) -> Tensor:
    whole = torch.cat([gradients[name] for name in names], dim=1)
    return whole @ whole.mT


def cosines(gradients: Mapping[str, Tensor], names: Iterable[str]) -> Tensor:
    inner = products(gradients, names)
    return inner / (inner.diagonal()[:, None] * inner.diagonal()).sqrt()


def equals_autograd(view: ModelView) -> None:
    gradients = materialised(view, FACTS)
    found = finish(gram(view, FACTS))
    assert torch.allclose(found.cosine, cosines(gradients, gradients), rtol=0, atol=CLOSE)
    parts = Scope.of(view).parts
    assert parts.keys() == gradients.keys()
    sizes = found.whole.left.sqrt()
    for part, inner in found.parts.items():
        names = [name for name, other in parts.items() if other == part]
        off = (inner.products - products(gradients, names)).abs() / (sizes[:, None] * sizes)
        assert off.max() < CLOSE, part


class TestEqualsAutograd:
    @pytest.mark.parametrize("layout", [*LAYOUTS, *OTHERS, UNMAPPED])
    @pytest.mark.parametrize("tied", [True, False])
    def test_on_every_layout_in_every_part(self, layout: str, *, tied: bool) -> None:
        equals_autograd(stirred(layout, tied=tied))

    @pytest.mark.parametrize(
        ("layout", "config"),
        [
            ("opt", {"word_embed_proj_dim": 24}),  # matrices outside the blocks
            ("gemma2", {"final_logit_softcapping": 0.5}),  # the gradient before the cap
            ("qwen3", {"head_dim": 8}),  # gains inside the attention
        ],
    )
    def test_where_a_config_changes_what_counts(
        self, layout: str, config: Mapping[str, object]
    ) -> None:
        equals_autograd(stirred(layout, **config))

    @pytest.mark.parametrize(
        ("model_type", "config"),
        [
            ("bloom", {"n_layer": 3, "n_head": 4}),  # a norm behind the embedding
            ("falcon", {}),  # a linear layer written anew
            ("stablelm", {"qk_layernorm": True}),  # a norm for each head
            ("cohere", {}),  # logits that are scaled
        ],
    )
    def test_on_families_that_are_mapped_by_inspection(
        self, model_type: str, config: Mapping[str, object]
    ) -> None:
        equals_autograd(foreign(model_type, **config))

    @pytest.mark.parametrize("name", ["gpt2", "llama"])
    def test_in_small_batches_and_tiles(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(passes, "_TOKENS", 12)
        monkeypatch.setattr(tally, "_ROWS", 9)
        monkeypatch.setattr(tally, "_FEW_ROWS", 9)
        monkeypatch.setattr(tally, "_PAUSE", 0)
        view = stirred(name)
        equals_autograd(view)
        few = finish(similarities(view, FACTS[3:5], [*FACTS, FACTS[0]]))
        whole = finish(gram(view, FACTS)).cosine
        assert torch.allclose(few.cosine, whole[3:5][:, [*range(6), 0]], rtol=0, atol=CLOSE)

    @pytest.mark.parametrize("name", ["mlp", "down_proj", "edited_layers"])
    def test_in_every_scope(self, layout: str, name: str) -> None:
        view = stirred(layout)
        plan = Plan.of(view, "memit", {"layers": [1, 3]})
        scope = Scope.of(view, name, weights_written(view, plan))
        kinds = ("mlp_in", "down_proj") if name == "mlp" else ("down_proj",)
        named = {n for n, part in Scope.of(view).parts.items() if part.kind in kinds}
        if name == "edited_layers":
            named = {view.down_proj(1), view.down_proj(3)}
        assert scope.parts.keys() == named
        wanted = cosines(materialised(view, FACTS), named)
        assert torch.allclose(finish(gram(view, FACTS, scope)).cosine, wanted, rtol=0, atol=CLOSE)

    def test_under_the_state_that_is_shown(self, layout: str) -> None:
        view = stirred(layout)
        state = view.after(nudge(view))
        with view.showing(state):
            wanted = cosines(gradients := materialised(view, FACTS), gradients)
        found = finish(under(view, state, gram(view, FACTS))).cosine
        assert torch.allclose(found, wanted, rtol=0, atol=CLOSE)
        assert not torch.allclose(found, finish(gram(view, FACTS)).cosine, rtol=0, atol=1e-3)

    def test_behind_a_preface(self, layout: str) -> None:
        view = stirred(layout)
        lead = "Serena Williams plays the sport of tennis. "
        spelled = [(lead + question, answer) for question, answer in FACTS]
        found = finish(under(view, State(preface=lead), gram(view, FACTS))).cosine
        assert torch.allclose(found, finish(gram(view, spelled)).cosine, rtol=0, atol=CLOSE)


def test_half_precision_is_near() -> None:
    view, half = stirred("llama"), stirred("llama")
    half.model.to(torch.bfloat16)
    exact, rounded = (finish(gram(one, FACTS)).cosine for one in (view, half))
    assert (exact - rounded).abs().max() < 0.05


def test_partial_cosines_by_layer_and_by_kind() -> None:
    view = stirred("gpt2")
    found = finish(gram(view, FACTS))
    assert found.by_layer.keys() == {None, 0, 1, 2, 3, 4}
    kinds = {"embedding", "positions", "attention", "mlp_in", "down_proj", "norm", "bias"}
    assert found.by_kind.keys() == kinds
    for parts in (found.by_layer, found.by_kind):
        together = sum(inner.products for inner in parts.values())
        assert torch.allclose(together, found.whole.products)
        assert all(bool((inner.cosine.abs() <= 1 + CLOSE).all()) for inner in parts.values())
    deepest = found.over(layers=[4], kinds=["down_proj"])
    assert torch.equal(deepest.cosine, found.parts[Part(4, "down_proj")].cosine)
    with pytest.raises(EmptyField):
        found.over(layers=[7])


def test_at_every_step_the_model_is_as_it_was(layout: str) -> None:
    view = stirred(layout)
    before = copied(view)
    state = view.after(nudge(view))
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            for _ in under(view, state, gram(view, FACTS)):
                assert torch.is_grad_enabled() is grad
                assert not hooked(view)
                for name, parameter in view.model.named_parameters():
                    assert not parameter.requires_grad
                    assert parameter.grad is None
                    assert torch.equal(parameter, before[name])


class TestRefused:
    def test_a_gain_of_another_kind(self) -> None:
        view = stirred("llama")
        view.blocks[2].mlp.act_fn = nn.PReLU()
        with pytest.raises(UnsupportedArchitecture, match=r"blocks?.*2\.mlp\.act_fn|layers\.2"):
            finish(gram(view, FACTS))
        assert not hooked(view)
        finish(gram(view, FACTS, Scope.of(view, "down_proj")))  # which it is not in

    def test_a_parameter_beside_its_module(self) -> None:
        view = stirred("llama")
        mlp = view.blocks[1].mlp
        mlp.unheard = nn.Linear(32, 32, bias=False).requires_grad_(requires_grad=False)
        finish(gram(view, FACTS))  # nothing depends on it
        plain = mlp.forward
        mlp.forward = lambda x: plain(nn.functional.linear(x, mlp.unheard.weight))
        with pytest.raises(UnsupportedArchitecture, match=r"mlp\.unheard\.weight"):
            finish(gram(view, FACTS))
        assert not any(parameter.requires_grad for parameter in view.model.parameters())

    def test_a_layer_that_comes_twice(self) -> None:
        model = untaught("llama")
        model.model.layers[3].mlp = model.model.layers[1].mlp
        view = ModelView(model, tiny_tokenizer())
        with pytest.raises(UnsupportedArchitecture, match="more than once"):
            finish(gram(view, FACTS))

    def test_what_cannot_be_asked(self) -> None:
        llama = stirred("llama")
        with pytest.raises(EmptyField):
            finish(gram(llama, []))
        with pytest.raises(EmptyField, match="target"):
            finish(similarities(llama, FACTS, [("Italy", " ")]))
        with pytest.raises(TextTooLong):
            finish(gram(llama, [("the sea " * 200, "is")]))
        with pytest.raises(InvalidHparam, match="scope"):
            Scope.of(llama, "everything")
        with pytest.raises(InvalidHparam, match="layers of its own"):
            Scope.of(llama, "edited_layers")
