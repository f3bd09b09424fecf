"""How often a model says an answer when it is let speak freely (METRICS 1.2).

Each prompt is continued many times by sampling from the whole vocabulary at a temperature; the rate
is the share of continuations that name the answer. The random numbers of a prompt depend on the
seed and the prompt alone: before and after an edit they are the same, whatever is asked beside it.
"""

import zlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.model.generate import Decoder, _decoded, _end_tokens
from editing.model.tokens import encode
from editing.step import Step

from .answers import Groups, answers

if TYPE_CHECKING:
    from editing.model.view import ModelView

_ROWS = 100  # continuations side by side: a token of all of them is one step


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a model is let speak."""

    samples: int = 50
    temperature: float = 0.7
    max_tokens: int = 15
    seed: int = 0


def sampled_rates(
    view: "ModelView", asked: Sequence[tuple[str, Groups]], how: Sampling
) -> Generator[Step, None, list[float]]:
    """For each (prompt, groups of names): the share of samples that name any of the values.

    Raises EmptyField, TextTooLong, or NumericOverflow where the model answers with NaN.
    """
    prompts = list(dict.fromkeys(prompt for prompt, _ in asked))
    texts: dict[str, list[str]] = {}
    side_by_side = max(1, _ROWS // how.samples)
    for start in range(0, len(prompts), side_by_side):
        part = prompts[start : start + side_by_side]
        texts |= yield from sampled_texts(view, part, how)
    return [
        sum(answers(text, groups) for text in texts[prompt]) / how.samples
        for prompt, groups in asked
    ]


def sampled_texts(
    view: "ModelView", prompts: Sequence[str], how: Sampling
) -> Generator[Step, None, dict[str, list[str]]]:
    """Samples of each prompt, up to an end token; a Step after each token of all of them.

    A prompt is read once, whatever the number of its samples.
    """
    rows = [encode(view.tokenizer, view.asked(prompt)) for prompt in prompts]
    chances = torch.cat([_chances(prompt, how) for prompt in prompts])  # [rows, tokens]
    decoder = Decoder(view, rows, how.max_tokens)
    ends = torch.tensor(sorted(_end_tokens(view)), device=view.device)
    written: list[Tensor] = []
    open_rows = torch.ones(len(chances), dtype=torch.bool, device=view.device)
    for count in range(how.max_tokens):
        logits = decoder.logits()
        if not count:
            logits = _spread(decoder, logits, how.samples)
        view.require_finite(logits, "What the model writes by itself")
        tokens = _drawn(logits / how.temperature, chances[:, count])
        open_rows &= ~torch.isin(tokens, ends)
        written.append(torch.where(open_rows, tokens, -1))
        yield Step("measure", count + 1, how.max_tokens)
        if not bool(open_rows.any()):
            break
        decoder.append(tokens)
    ids = torch.stack(written, dim=1).tolist()
    texts = [_decoded(view, [token for token in row if token >= 0]) for row in ids]
    size = how.samples
    return {prompt: texts[n * size : (n + 1) * size] for n, prompt in enumerate(prompts)}


def _chances(prompt: str, how: Sampling) -> Tensor:
    """Numbers [samples, tokens] from 0 to 1 that decide what is said, float64."""
    seed = how.seed ^ zlib.crc32(prompt.encode())
    chance = torch.Generator().manual_seed(seed)
    return torch.rand(how.samples, how.max_tokens, generator=chance, dtype=torch.float64)


def _spread(decoder: Decoder, logits: Tensor, samples: int) -> Tensor:
    """Make each row of the decoder, and of what it gave, so many equal ones."""
    decoder.cache.batch_repeat_interleave(samples)
    decoder.mask = decoder.mask.repeat_interleave(samples, 0)
    decoder.positions = decoder.positions.repeat_interleave(samples, 0)
    return logits.repeat_interleave(samples, 0)


def _drawn(logits: Tensor, chances: Tensor) -> Tensor:
    """The token [rows] at which the probabilities, added up in order, reach each row's number."""
    reached = logits.double().softmax(-1).cumsum(-1)
    wanted = chances.to(logits.device)[:, None] * reached[:, -1:]
    return torch.searchsorted(reached, wanted, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
