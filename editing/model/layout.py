"""Architecture is data: where the parts of a model are, by `config.model_type`, never by a path."""

from collections.abc import Mapping
from dataclasses import dataclass

from editing.errors import UnsupportedArchitecture


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Module paths of one family of causal language models.

    `body` is what runs without the head, `blocks` the list of layers in it; `down_proj` and
    `attention_out` are inside one block. All paths are relative to the model except these two.
    """

    body: str
    blocks: str
    down_proj: str  # the linear that writes the MLP's result into the residual stream
    attention_out: str
    norm: str
    head: str = "lm_head"


LLAMA = Layout(
    body="model",
    blocks="model.layers",
    down_proj="mlp.down_proj",
    attention_out="self_attn.o_proj",
    norm="model.norm",
)
GPT2 = Layout(
    body="transformer",
    blocks="transformer.h",
    down_proj="mlp.c_proj",
    attention_out="attn.c_proj",
    norm="transformer.ln_f",
)
GPTJ = Layout(
    body="transformer",
    blocks="transformer.h",
    down_proj="mlp.fc_out",
    attention_out="attn.out_proj",
    norm="transformer.ln_f",
)

LAYOUTS: Mapping[str, Layout] = {"gpt2": GPT2, "gptj": GPTJ, "llama": LLAMA, "qwen2": LLAMA}


def layout_of(model_type: str) -> Layout:
    """The layout of a family. Raises UnsupportedArchitecture."""
    try:
        return LAYOUTS[model_type]
    except KeyError:
        raise UnsupportedArchitecture(model_type, known=sorted(LAYOUTS)) from None
