"""How far the model moved where nothing was asked of it (METRICS 7).

KL(base || state) in nats per token and perplexity on a few neutral texts, and the largest growth of
an edited weight's norm, |W| / |W0|. Where a preface stands before whatever the model is asked, it
stands before these texts too, and only their own tokens count.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from editing.model.lead import Lead
from editing.model.state import State
from editing.model.tokens import encode
from editing.step import Step

if TYPE_CHECKING:
    from editing.model.view import ModelView


_DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class Drift:
    """Distance of a state from base."""

    kl: float
    perplexity: float
    norm_ratio: float
    tokens: int


@cache
def neutral_texts() -> tuple[str, ...]:
    """The texts that ship with the project, one a line."""
    lines = resources.files("editing.metrics").joinpath("neutral.txt").read_text("utf-8")
    return tuple(line for line in lines.splitlines() if line)


def neutral_logprobs(view: "ModelView") -> tuple[Tensor, Tensor]:
    """`logprobs_of` the neutral texts. Raises TextTooLong where a preface leaves no room."""
    return logprobs_of(view, [encode(view.tokenizer, text) for text in neutral_texts()])


@torch.no_grad()
def logprobs_of(view: "ModelView", texts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """Log-probabilities [tokens, V] of the texts' tokens but the first of each, and their ids.

    `texts` are ids, at least two each, the tokenizer's start token among them. Raises TextTooLong.
    """
    rows = [_behind(view, text) for text in texts]
    lead = Lead(view, [row[: 1 - len(text)] for row, text in zip(rows, texts, strict=True)])
    hidden = lead.hidden(rows)
    parts: list[Tensor] = []
    for number, (row, text) in enumerate(zip(rows, texts, strict=True)):
        end = len(row) - lead.size - 1  # behind the last position that predicts a token
        parts.append(hidden[number, end - len(text) + 1 : end])
    gold = torch.tensor([token for text in texts for token in text[1:]], device=view.device)
    return view.head(torch.cat(parts)).log_softmax(-1), gold


def _behind(view: "ModelView", text: list[int]) -> list[int]:
    """A text's ids behind the preface, and not tokenized with it: the same tokens must count."""
    if not view.current.preface:
        return text
    own = text[1:] if text[0] == view.tokenizer.bos_token_id else text  # a row starts once
    return encode(view.tokenizer, view.current.preface) + own


def base_logprobs(view: "ModelView") -> Tensor:
    """Those of the untouched model, computed once a view."""
    if "neutral" not in view.remembered:
        with view.showing(State()):
            view.remembered["neutral"], _ = neutral_logprobs(view)
    return view.remembered["neutral"]


def neutral_gold(view: "ModelView") -> Tensor:
    """The ids of the neutral texts' tokens but the first of each."""
    texts = [encode(view.tokenizer, text) for text in neutral_texts()]
    return torch.tensor([token for text in texts for token in text[1:]], device=view.device)


def measure_drift(
    view: "ModelView", state: State, base_logprobs: Tensor
) -> Generator[Step, None, Drift]:
    """Drift of what the view shows while this runs, which the caller says is `state`.

    The state keeps it, so that one is measured once.
    """
    if _DRIFT in state.measured:
        return cast("Drift", state.measured[_DRIFT])
    logprobs, gold = neutral_logprobs(view)
    kl = (base_logprobs.exp() * (base_logprobs - logprobs)).sum(-1).mean()
    grown = [
        float(master.norm() / view.master(name, State()).norm())
        for name, master in state.masters.items()
    ]
    yield Step("measure", 1, 1)
    found = Drift(float(kl), perplexity(logprobs, gold), max(grown, default=1.0), len(gold))
    state.measured[_DRIFT] = found
    return found


def perplexity(logprobs: Tensor, gold: Tensor) -> float:
    """Of texts with log-probabilities [tokens, V] and their tokens' ids."""
    return float((-logprobs.gather(1, gold[:, None]).mean()).exp())
