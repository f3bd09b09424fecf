"""Tiny models of every layout, built from configs and taught a few facts here: no download.

A random model answers nothing, so no edit of it could be seen. A second of training on sentences
about a few people and cities is enough for the subject to decide the answer.
"""

import copy
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from editing.model.view import ModelView

LAYOUTS = ("gpt2", "gptj", "llama", "qwen2")

_WIDTH, _DEPTH, _HEADS = 32, 5, 4
_LESSONS = 150

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
_LEADS = ("", "Therefore we know. ", "The old man said. ", "I like the sea. ")


def _facts() -> list[str]:
    sports = [f"{who} plays the sport of {what}" for who, what in _SPORTS.items()]
    capitals = [f"The capital of {land} is {city}" for land, city in _CAPITALS.items()]
    return [lead + fact + "." for fact in sports + capitals for lead in _LEADS]


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
    # The global randomness is given back afterwards, so that a test's own draws do not change.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _untaught(layout, tied=tied)
        tokenizer = tiny_tokenizer()
        batch = tokenizer(_facts(), padding=True, return_tensors="pt")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        adam = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(_LESSONS):
            adam.zero_grad()
            model(**batch, labels=labels).loss.backward()
            adam.step()
        adam.zero_grad(set_to_none=True)
    return model.eval()


def _untaught(layout: str, *, tied: bool) -> PreTrainedModel:
    common = {
        "vocab_size": len(tiny_tokenizer()),
        "bos_token_id": 0,
        "eos_token_id": 1,
        "tie_word_embeddings": tied,
        "initializer_range": 0.05,
    }
    gpt = {"n_embd": _WIDTH, "n_layer": _DEPTH, "n_head": _HEADS, "n_positions": 128}
    if layout == "gpt2":
        dropless = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        return GPT2LMHeadModel(GPT2Config(**common, **gpt, **dropless))
    if layout == "gptj":
        return GPTJForCausalLM(
            GPTJConfig(**{**common, "tie_word_embeddings": False}, **gpt, rotary_dim=4)
        )
    modern = {
        "hidden_size": _WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": _DEPTH,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
    }
    if layout == "llama":
        return LlamaForCausalLM(LlamaConfig(**common, **modern))
    return Qwen2ForCausalLM(Qwen2Config(**common, **modern))


def tiny_view(
    layout: str = "llama",
    *,
    seed: int = 0,
    tied: bool = True,
    bos: bool = False,
    stats_folder: Path | None = None,
) -> ModelView:
    """A tiny model behind the view."""
    return ModelView(
        tiny_model(layout, seed=seed, tied=tied),
        tiny_tokenizer(bos=bos),
        name=f"tiny-{layout}",
        stats_folder=stats_folder,
    )


def save_tiny(folder: Path, layout: str = "llama", *, seed: int = 0) -> Path:
    """A tiny model as a folder that transformers can load."""
    tiny_model(layout, seed=seed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
