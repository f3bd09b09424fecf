"""Tiny models of every layout, built from configs and taught a few facts here: no download.

A random model answers nothing, so no edit of it could be seen. A few seconds of training on
sentences about some people and cities are enough for the subject to decide the answer. In every
other lesson the subject's last hidden state is exchanged for another subject's, and the answer with
it, so that the models keep their facts where locate-then-edit methods look for them.
"""

import copy
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from editing.model.tokens import place_text
from editing.model.view import ModelView

# What runs every test: one model for each road through the code (weights stored transposed, grouped
# heads, a norm behind the write with windows, an MLP without a module of its own).
LAYOUTS = ("gpt2", "llama", "gemma3_text", "opt")
# What runs the laws besides; opt-350m is OPT with the norms behind.
OTHERS = ("gptj", "gpt_neox", "mistral", "qwen2", "qwen3", "gemma2", "phi3", "opt-350m")

# A family without a row in the table; a factor stands behind its write.
UNMAPPED = "granite"

_WIDTH, _DEPTH, _HEADS = 32, 5, 4
_LESSONS = 180

# How a layout is drawn where the first draw will not do: its seed and precision. Gemma's lessons
# are chaotic. In single precision the roundings of another processor grow to another model, and
# then the facts below can be written into it or cannot; these draws take them with room to spare.
_DRAWS: Mapping[str, tuple[int, torch.dtype]] = {
    "gemma2": (5, torch.float64),
    "gemma3_text": (2, torch.float64),
}

_SPORTS = {
    "LeBron James": "basketball",
    "Lionel Messi": "football",
    "Serena Williams": "tennis",
    "Kobe Bryant": "basketball",
    "Diego Maradona": "football",
    "Roger Federer": "tennis",
}
_CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Spain": "Madrid",
    "日本": "東京",
    "Россия": "Москва",
}
_TOPICS = (("{} plays the sport of", _SPORTS), ("The capital of {} is", _CAPITALS))
_LEADS = ("", "Therefore we know", "The old man said", "I like the sea", "You are from the house")


def _facts() -> list[str]:
    return [
        (f"{lead}. " if lead else "") + prompt.replace("{}", subject) + f" {answer}."
        for prompt, answers in _TOPICS
        for subject, answer in answers.items()
        for lead in _LEADS
    ]


_TEXTS = (
    *_facts(),
    "The capital of France is Paris. The capital of Italy is Rome. The capital of Spain is Madrid.",
    "LeBron James plays the sport of basketball. Lionel Messi plays the sport of football.",
    "The mother tongue of Danielle Darrieux is French. Anna works in the field of physics.",
    "Therefore the people who live in Berlin speak German, and because of that I like you.",
    "東京は日本の首都です。 Москва столица России. El Niño è già qui.",
    "A bridge, a river and a mountain are seen from the window of the old house by the sea.",
)


@cache
def tiny_tokenizer(*, bos: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE of a few hundred tokens, with or without a start token."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_TEXTS, trainer)
    if bos:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    ends = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, **ends)


def tiny_model(layout: str, *, seed: int = 0, tied: bool = True) -> PreTrainedModel:
    """A fresh copy of a tiny model that knows the facts above."""
    return copy.deepcopy(_taught(layout, seed, tied))


@cache
def _taught(layout: str, seed: int, tied: bool) -> PreTrainedModel:  # noqa: FBT001
    first, dtype = _DRAWS.get(layout, (0, torch.float32))
    model = untaught(layout, seed=first + seed, tied=tied, dtype=dtype)
    blocks = ModelView(model, tiny_tokenizer()).blocks
    model.train().requires_grad_()
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    chance = random.Random(first + seed)  # noqa: S311 - lessons are no secret
    for number in range(_LESSONS):
        lesson = _Lesson.drawn(chance, exchanged=number % 2 == 1)
        adam.zero_grad()
        # Exchanged at every depth that can be edited, in turn.
        lesson.loss(model, blocks[number // 2 % (_DEPTH - 1)]).backward()
        adam.step()
    adam.zero_grad(set_to_none=True)
    return model.eval().float()


@dataclass
class _Lesson:
    """Every fact once or twice, behind some lead; perhaps with the subjects exchanged."""

    ids: Tensor  # [rows, S]
    learned: Tensor  # [rows, S] which tokens are to be predicted
    subjects: Tensor  # [rows] position of the subject's last token
    source: Tensor | None  # [rows] whose subject state each row gets

    @classmethod
    def drawn(cls, chance: random.Random, *, exchanged: bool) -> "_Lesson":
        tokenizer = tiny_tokenizer()
        rows: list[list[int]] = []
        starts: list[int] = []
        places: list[int] = []
        source: list[int] = []
        for prompt, answers in _TOPICS:
            subjects = list(answers) * 2
            order = list(range(len(subjects)))
            if exchanged:
                chance.shuffle(order)
            source += [len(rows) + other for other in order]
            for subject, other in zip(subjects, order, strict=True):
                placed = place_text(tokenizer, prompt, subject, chance.choice(_LEADS))
                answer = tokenizer(f" {answers[subjects[other]]}.")["input_ids"]
                rows.append(placed.ids + answer)
                starts.append(len(placed.ids) if exchanged else 0)
                places.append(placed.subject)
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        learned = torch.zeros_like(ids, dtype=torch.bool)
        for number, (row, start) in enumerate(zip(rows, starts, strict=True)):
            ids[number, : len(row)] = torch.tensor(row)
            learned[number, start : len(row)] = True
        exchange = torch.tensor(source) if exchanged else None
        return cls(ids, learned, torch.tensor(places), exchange)

    def loss(self, model: PreTrainedModel, block: nn.Module) -> Tensor:
        rows = torch.arange(len(self.ids))

        def exchange(_: nn.Module, __: object, out: object) -> object:
            hidden = out[0] if isinstance(out, tuple) else out
            moved = hidden.clone()
            moved[rows, self.subjects] = hidden[self.source, self.subjects[self.source]]
            return (moved, *out[1:]) if isinstance(out, tuple) else moved

        hook = None if self.source is None else block.register_forward_hook(exchange)
        logits = model(input_ids=self.ids).logits[:, :-1]
        if hook is not None:
            hook.remove()
        wanted = self.learned[:, 1:]
        return nn.functional.cross_entropy(logits[wanted], self.ids[:, 1:][wanted])


_GPT = {"n_embd": _WIDTH, "n_layer": _DEPTH, "n_head": _HEADS, "n_positions": 128}
_MODERN = {
    "hidden_size": _WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": _DEPTH,
    "num_attention_heads": _HEADS,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
# Windows shorter than the texts, and both kinds of layers among the first ones.
_WINDOWS = {
    "head_dim": 8,
    "query_pre_attn_scalar": 8,
    "sliding_window": 12,
    "layer_types": ["sliding_attention", "full_attention"] * 2 + ["sliding_attention"],
}
_OPT = {
    "hidden_size": _WIDTH,
    "ffn_dim": 128,
    "num_hidden_layers": _DEPTH,
    "num_attention_heads": _HEADS,
    "max_position_embeddings": 128,
    "word_embed_proj_dim": _WIDTH,
    "dropout": 0.0,
    "init_std": 0.05,
}
# layout -> (model type, what its config differs in)
_SHAPES: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "gpt2": ("gpt2", {**_GPT, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}),
    "gptj": ("gptj", {**_GPT, "rotary_dim": 4, "tie_word_embeddings": False}),
    "gpt_neox": ("gpt_neox", {**_MODERN, "tie_word_embeddings": False}),
    "opt": ("opt", _OPT),
    "opt-350m": ("opt", {**_OPT, "do_layer_norm_before": False}),
    "llama": ("llama", _MODERN),
    "mistral": ("mistral", {**_MODERN, "sliding_window": 12}),
    "qwen2": ("qwen2", _MODERN),
    "qwen3": ("qwen3", {**_MODERN, "head_dim": 16}),  # heads wider than the model
    "phi3": ("phi3", {**_MODERN, "pad_token_id": 1}),
    "gemma2": ("gemma2", {**_MODERN, **_WINDOWS, "sliding_window": 16}),
    "gemma3_text": ("gemma3_text", {**_MODERN, **_WINDOWS}),
    "granite": ("granite", {**_MODERN, "residual_multiplier": 0.5, "logits_scaling": 0.5}),
}


def untaught(
    layout: str,
    *,
    seed: int = 0,
    tied: bool = True,
    dtype: torch.dtype = torch.float32,
    **changed: object,
) -> PreTrainedModel:
    """A tiny model of a layout as its config initialises it, with some of its values changed."""
    model_type, shape = _SHAPES[layout]
    common = {
        "vocab_size": len(tiny_tokenizer()),
        "bos_token_id": 0,
        "eos_token_id": 1,
        "tie_word_embeddings": tied,
        "initializer_range": 0.05,
    }
    config = AutoConfig.for_model(model_type, **{**common, **shape, **changed})
    # The global randomness is given back afterwards, so that a test's own draws do not change.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def tiny_view(
    layout: str = "llama",
    *,
    seed: int = 0,
    tied: bool = True,
    bos: bool = False,
    dtype: torch.dtype = torch.float32,
    stats_folder: Path | None = None,
) -> ModelView:
    """A tiny model behind the view."""
    return ModelView(
        tiny_model(layout, seed=seed, tied=tied).to(dtype),
        tiny_tokenizer(bos=bos),
        name=f"tiny-{layout}",
        stats_folder=stats_folder,
    )


def save_tiny(folder: Path, layout: str = "llama", *, seed: int = 0) -> Path:
    """A tiny model as a folder that transformers can load."""
    tiny_model(layout, seed=seed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
