"""Which way round a weight lies, and where the parts of a model are."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from editing.delta import LowRank, is_finite
from editing.errors import UnsupportedArchitecture
from editing.model.landing import Scaled
from editing.model.rehearsal import rehearse
from editing.model.view import ModelView, layer_of
from tests.tiny import LAYOUTS, OTHERS, tiny_model, tiny_tokenizer, tiny_view, untaught

from .facts import SPORT, run


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
        for path in (layout.body, layout.blocks, layout.head):
            assert view.model.get_submodule(path) is not None
        for number in range(view.facts.layers):
            for part in (layout.down_proj, layout.attention_out):
                assert view.blocks[number].get_submodule(part).weight.dim() == 2

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
            "d_key": 64 if view.facts.model_type in {"llama", "gemma3_text"} else 128,
            "parameters": count,
            "dtype": "float32",
            "device": "cpu",
        }

    def test_nothing_is_trained(self, view: ModelView) -> None:
        assert not view.model.training
        assert not any(p.requires_grad for p in view.model.parameters())


def shallow(layout: str, **config: object) -> ModelView:
    """A random model of any layout, its config changed here and there."""
    return ModelView(untaught(layout, **config), tiny_tokenizer())


class TestEveryRow:
    @pytest.mark.parametrize("name", [*LAYOUTS, *OTHERS])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_what_is_behind_the_blocks_is_the_model_s_own(
        self, name: str, dtype: torch.dtype
    ) -> None:
        view = ModelView(untaught(name).to(dtype), tiny_tokenizer())
        is_the_model(view)

    @pytest.mark.parametrize("name", [*LAYOUTS, *OTHERS])
    def test_halted_padded_cut_and_token_by_token_it_answers_the_same(self, name: str) -> None:
        rehearse(shallow(name))

    @pytest.mark.parametrize(
        ("name", "config"),
        [
            ("opt", {"word_embed_proj_dim": 24}),
            ("opt", {"_remove_final_layer_norm": True}),
            ("opt-350m", {"word_embed_proj_dim": 24}),
            ("gemma2", {"final_logit_softcapping": 0.5}),
            ("gemma2", {"final_logit_softcapping": None}),
            ("gemma3_text", {"final_logit_softcapping": 0.5}),
            ("gpt_neox", {"use_parallel_residual": False}),
            ("mistral", {"sliding_window": None}),
            ("gemma3_text", {"layer_types": ["full_attention"] * 5}),
            ("qwen3", {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 2}),
        ],
    )
    def test_whatever_its_config_chooses(self, name: str, config: dict[str, object]) -> None:
        view = shallow(name, **config)
        is_the_model(view)
        rehearse(view)
        outcome = run(view, "memit", [SPORT], {"search.steps": 2, "search.min_probability": 0})
        assert all(is_finite(delta) for delta in outcome.deltas.values())

    def test_a_cap_on_the_logits_is_part_of_the_head(self) -> None:
        capped = shallow("gemma2", final_logit_softcapping=0.5)
        free = shallow("gemma2", final_logit_softcapping=None)
        x = 10 * torch.randn(3, capped.facts.d_model, generator=torch.Generator().manual_seed(0))
        assert float(capped.head(x).abs().max()) <= 0.5 < float(free.head(x).abs().max())


@torch.no_grad()
def is_the_model(view: ModelView) -> None:
    """Body then head, and last block then tail then head, are the model's logits."""
    ids = torch.tensor([view.tokenizer(SPORT.question)["input_ids"]])
    last: list[torch.Tensor] = []
    hook = view.blocks[-1].register_forward_hook(
        lambda _, __, out: last.append(out[0] if isinstance(out, tuple) else out)
    )
    body = view.body(input_ids=ids)[0]
    hook.remove()
    wanted = view.model(input_ids=ids).logits.float()
    assert torch.equal(view.head(body), wanted)
    assert torch.equal(view.logits(last[0]), wanted)


class TestLanding:
    """What stands between a write and the residual stream."""

    @pytest.mark.parametrize("name", [*LAYOUTS, *OTHERS])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_it_is_what_the_block_does(self, name: str, dtype: torch.dtype) -> None:
        view = ModelView(untaught(name).to(dtype), tiny_tokenizer())
        ids = torch.tensor([view.tokenizer(SPORT.question)["input_ids"]])
        norm = view.post_norm(2)
        assert view.direct == (norm is None)
        if norm is None:
            x = torch.randn(32, 5).double()
            assert torch.equal(view.landing(2)(x), x)
            return
        chance = torch.Generator().manual_seed(0)
        for parameter in norm.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=chance).to(dtype)
        found: list[torch.Tensor] = []
        hook = norm.register_forward_hook(lambda _, args, out: found.extend((args[0], out)))
        with torch.no_grad():
            view.body(input_ids=ids)
        hook.remove()
        x, y = (part[0].mT.double() for part in found)
        close = 1e-5 if dtype == torch.float32 else 0.02
        assert (view.landing(2)(x) - y).norm() <= close * y.norm()

    @pytest.mark.parametrize("name", ["gemma3_text", "opt-350m"])
    def test_a_move_is_brought_about_before_the_norm(self, name: str) -> None:
        view = shallow(name)
        landing = view.landing(1)
        chance = torch.Generator().manual_seed(0)
        x = torch.randn(32, 6, generator=chance).double()
        assert torch.equal(landing.before(x, torch.zeros_like(x)), x)
        goal = landing(torch.randn(32, 6, generator=chance).double())  # within reach
        back = landing.before(x, goal - landing(x))
        assert (landing(back) - goal).norm() < 0.05 * (goal - landing(x)).norm()
        spread = x - x.mean(0) if name == "opt-350m" else x
        after = back - back.mean(0) if name == "opt-350m" else back
        assert torch.allclose(after.norm(dim=0), spread.norm(dim=0))

    def test_a_factor_is_divided_by(self) -> None:
        landing = Scaled(0.25)
        x, move = torch.randn(4, 2).double(), torch.randn(4, 2).double()
        assert torch.allclose(landing(landing.before(x, move)), landing(x) + move)

    def test_another_kind_of_norm_is_refused(self) -> None:
        view = shallow("gemma2")
        for block in view.blocks:
            block.post_feedforward_layernorm = torch.nn.Tanh()
        with pytest.raises(UnsupportedArchitecture, match="no RMS or layer norm"):
            view.landing(1)
