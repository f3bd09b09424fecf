"""The noise that corrupts a span: nu = 3 sigma, sigma of the embeddings of the data's subjects."""

import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from editing.model.view import ModelView

    from .spans import Spanned

_TOKENS = 4096  # embedded at a time


@torch.no_grad()
def sigma_of(view: "ModelView", subjects: Sequence[str]) -> float:
    """Standard deviation of the embeddings' entries over all tokens of all subjects."""
    embed = view.model.get_input_embeddings()
    tokenizer = view.tokenizer
    ids = [token for text in subjects for token in _own(tokenizer(text, add_special_tokens=False))]
    count, total, squares = 0, 0.0, 0.0
    for start in range(0, len(ids), _TOKENS):
        part = torch.tensor([ids[start : start + _TOKENS]], device=view.device)
        entries = embed(part).double()
        count += entries.numel()
        total += float(entries.sum())
        squares += float(entries.square().sum())
    return max(squares / count - (total / count) ** 2, 0.0) ** 0.5 if count else 0.0


def _own(encoded: object) -> list[int]:
    return encoded["input_ids"]  # type: ignore[index]


def drawn(view: "ModelView", prompt: "Spanned", size: float, *, copies: int, seed: int) -> Tensor:
    """Noise [copies, span, d] of standard deviation `size`; the same for one prompt and seed.

    Random numbers come from the CPU, and from the tokens: a fact's noise does not depend on which
    facts are traced beside it.
    """
    # One number of 32 bits: of a longer seed the generator would not read the rest.
    mark = zlib.crc32(repr((seed, prompt.ids, prompt.start, prompt.stop)).encode())
    chance = torch.Generator().manual_seed(mark)
    embed = view.model.get_input_embeddings()
    with torch.no_grad():
        width = embed(torch.tensor([[0]], device=view.device)).shape[-1]
    shape = (copies, prompt.stop - prompt.start, width)
    return (size * torch.randn(*shape, generator=chance)).to(view.device, view.dtype)


@contextmanager
def noisy(view: "ModelView", noise: Tensor, start: int) -> Generator[None]:
    """Add the noise to the embeddings of tokens `start` and on, while this lasts.

    A row may be embedded in several calls, one part of it after another; every `with` reads it once
    from its first token.
    """
    seen = 0
    stop = start + noise.shape[1]

    def add(_: nn.Module, __: object, out: Tensor) -> Tensor:
        nonlocal seen
        here, seen = seen, seen + out.shape[1]
        low, high = max(start, here), min(stop, seen)
        if low >= high:
            return out
        moved = out.clone()
        moved[:, low - here : high - here] += noise[:, low - start : high - start]
        return moved

    handle = view.model.get_input_embeddings().register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
