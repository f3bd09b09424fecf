"""A model without a row is mapped by inspection: rightly, or not at all."""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from editing.errors import UnsupportedArchitecture
from editing.model.automap import mapped
from editing.model.layout import Layout, known_layout
from editing.model.scoring import score
from editing.model.view import ModelView
from editing.run import finish
from editing.walk import already_answers
from tests.tiny import LAYOUTS, OTHERS, UNMAPPED, tiny_model, tiny_tokenizer, untaught

from .facts import CAPITAL, SPORT, run

_SMALL = {
    "vocab_size": 420,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
}


def random_model(model_type: str, **config: object) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = AutoConfig.for_model(model_type, **{**_SMALL, **config})
        return AutoModelForCausalLM.from_config(made).eval()


def found_in(model: PreTrainedModel) -> Layout:
    return ModelView(model, tiny_tokenizer()).layout


@pytest.mark.parametrize("layout", [*LAYOUTS, *OTHERS])
def test_what_is_found_is_what_the_table_says(layout: str) -> None:
    model = untaught(layout)
    row = known_layout(model.config)
    assert row is not None
    paths = dict(model.named_modules())
    row = replace(row, tail=tuple(path for path in row.tail if path in paths))
    if row.shaping and getattr(model.config, row.shaping) is None:
        row = replace(row, shaping=None)
    # What makes queries and values is told by names alone; a fused gate cannot be cut in two.
    row = replace(row, attention_in=())
    if row.fused_gate:
        row = replace(row, up_proj=None, fused_gate=False)
    if layout == "opt-350m":  # a norm over the sum of stream and write hides the one before it
        row = replace(row, attention_post_norm=None)
    assert mapped(model) == row


_LLAMA = "model.layers", "mlp.down_proj", "self_attn.o_proj", ("model.norm",)
_GATED = {"up_proj": "mlp.up_proj", "gate_proj": "mlp.gate_proj"}


@pytest.mark.parametrize(
    ("model_type", "config", "where", "besides"),
    [
        ("stablelm", {}, _LLAMA, _GATED),
        ("olmo", {}, _LLAMA, _GATED),
        (
            "olmo2",
            {},
            _LLAMA,
            {
                **_GATED,
                "post_norm": "post_feedforward_layernorm",
                "attention_post_norm": "post_attention_layernorm",
            },
        ),
        ("cohere", {}, _LLAMA, {**_GATED, "shaping": "logit_scale"}),
        (
            "granite",
            {"residual_multiplier": 0.22, "logits_scaling": 8.0},
            _LLAMA,
            {
                **_GATED,
                "shaping": "logits_scaling",
                "write_scale": 0.22,
                "attention_scale": 0.22,
            },
        ),
        ("starcoder2", {}, ("model.layers", "mlp.c_proj", *_LLAMA[2:]), {"up_proj": "mlp.c_fc"}),
        (
            "phi",
            {},
            ("model.layers", "mlp.fc2", "self_attn.dense", ("model.final_layernorm",)),
            {"up_proj": "mlp.fc1"},
        ),
        *(
            (
                name,
                config,
                (
                    "transformer.h",
                    "mlp.dense_4h_to_h",
                    "self_attention.dense",
                    ("transformer.ln_f",),
                ),
                {"up_proj": "mlp.dense_h_to_4h"},
            )
            for name, config in (
                ("falcon", {"alibi": False}),
                ("falcon", {"alibi": True}),
                ("bloom", {"n_head": 4, "n_layer": 3}),
            )
        ),
        (
            "mpt",
            {"d_model": 32, "n_heads": 4, "n_layers": 3, "expansion_ratio": 2, "max_seq_len": 64},
            ("transformer.blocks", "ffn.down_proj", "attn.out_proj", ("transformer.norm_f",)),
            {"up_proj": "ffn.up_proj"},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_families_without_a_row(
    model_type: str,
    config: dict[str, object],
    where: tuple[str, str, str, tuple[str, ...]],
    besides: dict[str, object],
) -> None:
    layout = found_in(random_model(model_type, **config))
    blocks, down_proj, attention_out, tail = where
    assert layout == Layout(
        body=blocks.rpartition(".")[0],
        blocks=blocks,
        down_proj=down_proj,
        attention_out=attention_out,
        tail=tail,
        **cast("dict[str, str]", besides),
    )


@pytest.mark.parametrize(
    ("model_type", "config", "why"),
    [
        ("mixtral", {}, "mixtures of experts"),
        ("qwen2_moe", {}, "mixtures of experts"),
        ("mamba", {}, "exactly one linear layer.*none does"),
        ("bert", {}, "something stands between"),
        ("gemma3_text", {"use_bidirectional_attention": True, "head_dim": 8}, "tokens behind it"),
        ("recurrent_gemma", {}, "different kinds"),
    ],
)
def test_what_cannot_be_told_apart_is_refused_with_why(
    model_type: str, config: dict[str, object], why: str
) -> None:
    with pytest.raises(UnsupportedArchitecture, match=f"{why}.*docs/architectures.md") as raised:
        found_in(random_model(model_type, **config))
    assert raised.value.fields["model_type"] == model_type


class _Twice(nn.Module):
    """Two MLPs side by side."""

    def __init__(self, mlp: nn.Module, other: nn.Module, weigh: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.two, self.weigh = mlp, other, weigh

    def forward(self, x: Tensor) -> Tensor:
        return self.weigh(x) * self.one(x) + self.two(x)


def _unknown(model: PreTrainedModel) -> PreTrainedModel:
    model.config.model_type = "unheard-of"
    return model


def test_two_writers_in_a_block_are_named() -> None:
    model, other = _unknown(random_model("llama")), random_model("llama")
    for block, spare in zip(model.model.layers, other.model.layers, strict=True):
        block.mlp = _Twice(block.mlp, spare.mlp, torch.ones_like)
    with pytest.raises(UnsupportedArchitecture, match="several do") as raised:
        found_in(model)
    assert raised.value.fields["candidates"] == ["mlp.one.down_proj", "mlp.two.down_proj"]


def test_a_writer_weighed_by_its_input_is_refused() -> None:
    model, other = _unknown(random_model("llama")), random_model("llama")
    for block, spare in zip(model.model.layers, other.model.layers, strict=True):
        block.mlp = _Twice(block.mlp, spare.mlp, lambda x: x.mean(-1, keepdim=True).sigmoid())
    with pytest.raises(UnsupportedArchitecture, match=r"mlp\.one\.down_proj writes is weighed"):
        found_in(model)


def test_one_block_unlike_the_others_is_refused() -> None:
    model = _unknown(random_model("llama", num_hidden_layers=5))
    wide = random_model("llama", intermediate_size=64)
    model.model.layers[1].mlp = wide.model.layers[1].mlp  # neither first, middle nor last
    with pytest.raises(UnsupportedArchitecture, match="different kinds"):
        found_in(model)


def test_something_behind_the_write_that_is_no_norm_is_refused() -> None:
    class Squash(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(x)

    model = _unknown(random_model("olmo2"))
    for block in model.model.layers:
        block.post_feedforward_layernorm = Squash()
    with pytest.raises(UnsupportedArchitecture, match="neither an RMS norm nor a layer norm"):
        found_in(model)


def test_nothing_is_left_behind_by_the_inspection() -> None:
    model = random_model("olmo2")
    before = {name: p.clone() for name, p in model.named_parameters()}
    found_in(model)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    kinds = ("_forward_hooks", "_forward_pre_hooks")
    assert not any(getattr(module, kind) for module in model.modules() for kind in kinds)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_mapped_alike(dtype: torch.dtype) -> None:
    for name in ("olmo2", "granite"):
        assert found_in(random_model(name).to(dtype)) == found_in(random_model(name))


@pytest.mark.parametrize("family", [UNMAPPED, "gemma3_text"])
@pytest.mark.parametrize("editor", ["rome", "memit-history"])
def test_a_model_mapped_by_inspection_is_edited(family: str, editor: str) -> None:
    view = ModelView(_unknown(tiny_model(family)), tiny_tokenizer())
    assert known_layout(view.model.config) is None
    assert not view.direct
    assert not finish(already_answers(view, [SPORT, CAPITAL]))
    overrides = {"layers": [1, 3]} if editor == "memit-history" else {}
    outcome = run(view, editor, [SPORT, CAPITAL], overrides)
    with view.overlaid(outcome.deltas):
        assert finish(already_answers(view, [SPORT, CAPITAL]))
        pairs = [(SPORT.question, "tennis"), (SPORT.question, "basketball")]
        new, old = finish(score(view, pairs))
    assert new.mean_probability > 2 * old.mean_probability
