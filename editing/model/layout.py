"""Architecture is data: where the parts of a model are, by `config.model_type`, never by a path.

A type that has no row here is mapped by looking at the model itself (automap.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Module paths of one family of causal language models.

    `body` is what runs without the head, `blocks` the list of layers in it. Paths are relative to
    the model, but for those inside one block: all that end in `_proj`, `_in`, `_out` or `_norm`.
    """

    body: str
    blocks: str
    down_proj: str  # the linear that writes the MLP's result into the residual stream
    attention_out: str  # the linear that writes the attention's result into it
    up_proj: str | None  # the linear whose outputs are the keys' entries, before act or gate
    gate_proj: str | None = None  # the linear that gates them
    fused_gate: bool = False  # up_proj's rows hold the gate's first, then its own
    attention_in: tuple[str, ...] = ()  # what makes queries and values, or all three in one
    tail: tuple[str, ...]  # from the last block to the head; what a config leaves out is passed by
    head: str = "lm_head"
    shaping: str | None = None  # the config's value that shapes the head's output: see head.py
    post_norm: str | None = None  # a norm that stands between down_proj and the block's output
    attention_post_norm: str | None = None  # the same behind attention_out
    write_scale: float = 1.0  # what down_proj's output is multiplied by before it is added
    attention_scale: float = 1.0  # the same for attention_out's


LLAMA = Layout(
    body="model",
    blocks="model.layers",
    down_proj="mlp.down_proj",
    attention_out="self_attn.o_proj",
    up_proj="mlp.up_proj",
    gate_proj="mlp.gate_proj",
    attention_in=("self_attn.q_proj", "self_attn.v_proj"),
    tail=("model.norm",),
)
PHI3 = Layout(
    body="model",
    blocks="model.layers",
    down_proj="mlp.down_proj",
    attention_out="self_attn.o_proj",
    up_proj="mlp.gate_up_proj",
    fused_gate=True,
    attention_in=("self_attn.qkv_proj",),
    tail=("model.norm",),
)
GEMMA = Layout(
    body="model",
    blocks="model.layers",
    down_proj="mlp.down_proj",
    attention_out="self_attn.o_proj",
    up_proj="mlp.up_proj",
    gate_proj="mlp.gate_proj",
    attention_in=("self_attn.q_proj", "self_attn.v_proj"),
    tail=("model.norm",),
    shaping="final_logit_softcapping",
    post_norm="post_feedforward_layernorm",
    attention_post_norm="post_attention_layernorm",
)
GPT2 = Layout(
    body="transformer",
    blocks="transformer.h",
    down_proj="mlp.c_proj",
    attention_out="attn.c_proj",
    up_proj="mlp.c_fc",
    attention_in=("attn.c_attn",),
    tail=("transformer.ln_f",),
)
GPTJ = Layout(
    body="transformer",
    blocks="transformer.h",
    down_proj="mlp.fc_out",
    attention_out="attn.out_proj",
    up_proj="mlp.fc_in",
    attention_in=("attn.q_proj", "attn.v_proj"),
    tail=("transformer.ln_f",),
)
NEOX = Layout(
    body="gpt_neox",
    blocks="gpt_neox.layers",
    down_proj="mlp.dense_4h_to_h",
    attention_out="attention.dense",
    up_proj="mlp.dense_h_to_4h",
    attention_in=("attention.query_key_value",),
    tail=("gpt_neox.final_layer_norm",),
)
OPT = Layout(
    body="model.decoder",
    blocks="model.decoder.layers",
    down_proj="fc2",
    attention_out="self_attn.out_proj",
    up_proj="fc1",
    attention_in=("self_attn.q_proj", "self_attn.v_proj"),
    tail=("model.decoder.final_layer_norm", "model.decoder.project_out"),
)
# opt-350m: each block ends in a norm over the residual stream and the write together.
OPT_POST_NORM = Layout(
    body="model.decoder",
    blocks="model.decoder.layers",
    down_proj="fc2",
    attention_out="self_attn.out_proj",
    up_proj="fc1",
    attention_in=("self_attn.q_proj", "self_attn.v_proj"),
    tail=("model.decoder.final_layer_norm", "model.decoder.project_out"),
    post_norm="final_layer_norm",
    attention_post_norm="self_attn_layer_norm",
)

LAYOUTS: Mapping[str, Layout] = {
    "gpt2": GPT2,
    "gptj": GPTJ,
    "gpt_neox": NEOX,
    "opt": OPT,
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "phi3": PHI3,
    "gemma2": GEMMA,
    "gemma3_text": GEMMA,
}

# Where a family's config may say that the row does not hold: type -> (name, value, the row then).
VARIANTS: Mapping[str, tuple[str, object, Layout | None]] = {
    "opt": ("do_layer_norm_before", False, OPT_POST_NORM),
    "gemma3_text": ("use_bidirectional_attention", True, None),
}


def known_layout(config: object) -> Layout | None:
    """The row of a model's config, None where it has none."""
    model_type = str(getattr(config, "model_type", ""))
    name, value, layout = VARIANTS.get(model_type, ("", None, None))
    if name and getattr(config, name, None) == value:
        return layout
    return LAYOUTS.get(model_type)
