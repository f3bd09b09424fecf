"""Which way round a weight lies, and where the parts of a model are."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from editing.delta import LowRank
from editing.model.view import ModelView, layer_of
from tests.tiny import tiny_model, tiny_tokenizer, tiny_view

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

    def test_the_head_after_the_norm_after_the_blocks_is_the_model(self, view: ModelView) -> None:
        ids = torch.tensor([view.tokenizer(SPORT.question)["input_ids"]])
        with torch.no_grad():
            body = view.body(input_ids=ids)[0]
            wanted = view.model(input_ids=ids).logits
        assert torch.allclose(view.head(body), wanted, atol=1e-5)
        assert view.head(body).dtype == torch.float32

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
