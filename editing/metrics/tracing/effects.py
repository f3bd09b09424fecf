"""Indirect effects for all layers and tokens of a prompt, with nothing below or before run twice.

What is restored at token t leaves all earlier tokens as they are, so the corrupted copies are run
once and, for each t, taken up there (runs.py). What is restored at layer l leaves all lower blocks
as they are, so the copies climb the blocks once, and at each the ones that are restored from there
on join: one batch holds every layer, copies side by side.

    state               the output of block l at t is the clean one
    mlp, attention      what these write at t is the clean one, in a window of layers around l
    severed_mlp,        as state, while what the MLP (the attention) writes at t in all later layers
    severed_attention   stays as it is in the corrupted copy
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from editing.editors.site import Spot
from editing.model.partial import by_row
from editing.stats.store import SiteKind
from editing.step import Step

from .runs import Corrupted, Halted, Run, clean_run
from .spans import Spanned

if TYPE_CHECKING:
    from editing.model.view import ModelView

Kind = Literal["state", "mlp", "attention", "severed_mlp", "severed_attention"]
KINDS: tuple[Kind, ...] = ("state", "mlp", "attention", "severed_mlp", "severed_attention")

_POSITIONS = 1024  # run side by side: an eighth of a second of a small model on one core
_ASKED = 8  # variants whose answers are read at a time
_WINDOW = 0.2  # ROME's 10 layers of GPT-2 XL's 48
_LEAST = 3


@dataclass(frozen=True, slots=True)
class Effects:
    """What tracing one prompt gave: probabilities of the answer, means over the copies.

    ie[kind] [layers, tokens]: how much of it comes back; columns are the prompt's own tokens.
    """

    clean: float
    corrupted: float
    ie: Mapping[Kind, Tensor]

    @property
    def te(self) -> float:
        """Total effect of the corruption."""
        return self.clean - self.corrupted


def window_of(layers: int) -> int:
    """How many layers a window has in a model of so many."""
    return max(_LEAST, round(_WINDOW * layers))


def span_of_window(layer: int, window: int, layers: int) -> range:
    """The layers of the window around one, cut off at both ends of the model (as ROME's code)."""
    return range(max(0, layer - window // 2), min(layers, layer - (-window // 2)))


def effects(
    view: "ModelView",
    prompt: Spanned,
    answer: int,
    noise: Tensor,
    *,
    kinds: Sequence[Kind] = KINDS,
    window: int | None = None,
    layers: Sequence[int] | None = None,
) -> Generator[Step, None, Effects]:
    """Trace a prompt. `answer` is a token id, noise [copies, span, d] as `drawn` gives it.

    Tokens before the corrupted span are as they are in the clean run: their effects are 0.
    """
    depth = len(view.blocks)
    traced = list(range(depth)) if layers is None else list(layers)
    size = window or window_of(depth)
    clean = clean_run(view, prompt.ids)
    yield Step("trace", 0, 1)
    every = Corrupted.of(view, prompt, noise)
    p_clean, p_corrupted = (
        float(_probability(view, run.states[-1], answer)) for run in (clean, every.run)
    )
    ie: dict[Kind, Tensor] = {kind: torch.zeros(len(traced), len(prompt.labels)) for kind in kinds}
    total = len(prompt.ids) - prompt.start
    for count in range(total):
        token = prompt.start + count
        yield Step("trace", count, total)
        copies = every.halted(token)
        for kind in kinds:
            held = _held(kind, traced, size, depth)
            done = Step("trace", count, total)
            last = yield from _restored(copies, kind, held, clean.at(token, token + 1), done)
            found: list[Tensor] = []
            for some in last.split(_ASKED):
                found.append(_probability(view, some, answer).cpu())
                yield done
            ie[kind][:, token - prompt.first] = torch.cat(found) - p_corrupted
    yield Step("trace", total, total)
    return Effects(p_clean, p_corrupted, ie)


@torch.no_grad()
def _probability(view: "ModelView", states: Tensor, answer: int) -> Tensor:
    """Of the answer behind the last position; states [..., copies, S, d], mean over the copies."""
    return view.logits(states[..., -1, :]).softmax(-1)[..., answer].mean(-1)


def _held(kind: Kind, traced: Sequence[int], window: int, depth: int) -> list[tuple[int, range]]:
    """For each traced layer, before which block its variant parts, and where a write is held."""
    if kind in {"mlp", "attention"}:
        ranges = [span_of_window(layer, window, depth) for layer in traced]
        return [(layers.start, layers) for layers in ranges]
    severed = kind != "state"
    return [(n + 1, range(n + 1, depth) if severed else range(0)) for n in traced]


def _restored(
    copies: Halted, kind: Kind, held: Sequence[tuple[int, range]], clean: Run, done: Step
) -> Generator[Step, None, Tensor]:
    """The last block's output [layers, copies, S, d], one variant of the copies a traced layer."""
    site: SiteKind = "attention" if kind in {"attention", "severed_attention"} else "mlp"
    source = clean if kind in {"mlp", "attention"} else copies.run.at(0, 1)
    depth = len(copies.view.blocks)
    variants = copies.entering(0)[None][:0]
    for layer in range(depth + 1):
        for joins, _ in held:
            if joins == layer:
                start = copies.entering(layer).clone()
                if source is not clean:
                    start[:, :1] = clean.states[layer - 1]
                variants = torch.cat([variants, start[None]])
        if layer == depth or not len(variants):
            continue
        spot = (site, layer)
        touched = torch.tensor([layer in layers for _, layers in held[: len(variants)]])
        parts: list[Tensor] = []
        for some, marks in _chunks(variants, touched):
            with _holding(copies.view, spot, source.writes[spot], marks, len(some[0])):
                parts.append(copies.block(layer, some))
            yield done
        variants = torch.cat(parts)
    return variants


def _chunks(variants: Tensor, marks: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Variants that run side by side, within the bound."""
    size = max(1, _POSITIONS // (variants.shape[1] * variants.shape[2]))
    return list(zip(variants.split(size), marks.split(size), strict=True))


@contextmanager
def _holding(
    view: "ModelView", spot: Spot, write: Tensor, marks: Tensor, copies: int
) -> Generator[None]:
    """In the marked variants, what is written at position 0 is `write` [copies or 1, 1, d]."""
    if not bool(marks.any()):
        yield
        return
    chosen = marks.nonzero()[:, 0].to(write.device)

    def hold(_: nn.Module, __: object, out: Tensor) -> Tensor:
        rows = out.clone()
        # OPT's MLP sees the positions of all rows in one line.
        by_variant = by_row(rows, len(marks) * copies).unflatten(0, (len(marks), -1))
        by_variant[chosen, :, :1] = write
        return rows

    handle = view.module(view.written_at(spot[1], spot[0])).register_forward_hook(hold)
    try:
        yield
    finally:
        handle.remove()
