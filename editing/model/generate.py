"""Texts that the model itself writes: greedy answers, and samples with a seed."""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache

from editing.errors import EmptyField
from editing.run import finish
from editing.step import Step

from .partial import left_padded, positions_of
from .tokens import encode

if TYPE_CHECKING:
    from .view import ModelView


class Decoder:
    """A batch of rows being continued token by token, with their keys and values kept."""

    def __init__(
        self, view: "ModelView", rows: Sequence[Sequence[int]], max_tokens: int = 0
    ) -> None:
        if not all(rows):
            raise EmptyField(field="prompt")
        view.require_fits(max(len(row) for row in rows) + max_tokens)
        self.view = view
        self.cache = DynamicCache()
        self.ids, self.mask = left_padded(view, rows)
        self.positions = positions_of(self.mask)

    @torch.no_grad()
    def logits(self) -> Tensor:
        """Logits [B, vocabulary] of the next token of each row."""
        out = self.view.body(
            input_ids=self.ids,
            attention_mask=self.mask,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        return self.view.head(out[0][:, -1])

    def append(self, tokens: Tensor) -> None:
        """Choose the next token [B] of each row."""
        self.ids = tokens[:, None]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        self.positions = self.positions[:, -1:] + 1


def greedy(view: "ModelView", prompts: Sequence[str], max_tokens: int) -> tuple[list[str], Tensor]:
    """Continue each prompt greedily, up to an end token.

    Returns the continuations, and the logits [B, vocabulary] of their first tokens. Raises
    EmptyField or TextTooLong.
    """
    return finish(greedily(view, prompts, max_tokens))


def greedily(
    view: "ModelView", prompts: Sequence[str], max_tokens: int
) -> Generator[Step, None, tuple[list[str], Tensor]]:
    """`greedy` with a Step after each token."""
    rows_asked = [encode(view.tokenizer, view.asked(prompt)) for prompt in prompts]
    decoder = Decoder(view, rows_asked, max_tokens)
    ends = _end_tokens(view)
    rows: list[list[int]] = [[] for _ in prompts]
    open_rows = set(range(len(rows)))
    first = logits = decoder.logits()
    for count in range(max_tokens):
        if count:
            logits = decoder.logits()
        tokens = logits.argmax(-1)
        for number, token in enumerate(tokens.tolist()):
            if token in ends:
                open_rows.discard(number)
            if number in open_rows:
                rows[number].append(token)
        if not open_rows:
            break
        decoder.append(tokens)
        yield Step("measure", count + 1, max_tokens)
    return [_decoded(view, row) for row in rows], first


def sampled(
    view: "ModelView", starts: Sequence[str], tokens: int, *, top_k: int, seed: int
) -> Generator[Step, None, list[str]]:
    """Each start with `tokens` sampled tokens behind it; a Step after each token.

    Random numbers come from the CPU: what differs between devices is what their logits differ by.
    """
    chance = torch.Generator().manual_seed(seed)
    decoder = Decoder(view, [encode(view.tokenizer, start) for start in starts], tokens)
    rows: list[Tensor] = []
    for count in range(tokens):
        rows.append(draw(view, decoder.logits(), top_k, chance))
        decoder.append(rows[-1])
        yield Step("statistics", count + 1, tokens)
    written = torch.stack(rows, dim=1).tolist()
    return [start + _decoded(view, row) for start, row in zip(starts, written, strict=True)]


def draw(view: "ModelView", logits: Tensor, top_k: int, chance: torch.Generator) -> Tensor:
    """One token [B] for each row of logits [B, vocabulary], among its `top_k` likeliest.

    Raises NumericOverflow where the model answers with NaN.
    """
    view.require_finite(logits, "What the model writes by itself")
    best = logits.topk(min(top_k, logits.shape[-1]), dim=-1)
    picked = torch.multinomial(best.values.softmax(-1).cpu(), 1, generator=chance)
    return best.indices.gather(1, picked.to(logits.device))[:, 0]


def _end_tokens(view: "ModelView") -> set[int]:
    found: list[object] = [view.tokenizer.eos_token_id]
    config = getattr(view.model, "generation_config", None)
    ends = getattr(config, "eos_token_id", None)
    found += ends if isinstance(ends, list) else [ends]
    return {token for token in found if isinstance(token, int)}


def _decoded(view: "ModelView", ids: Sequence[int]) -> str:
    text = str(view.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))
    return text.replace("\0", "")  # reports hold such texts, and no database takes a NUL
