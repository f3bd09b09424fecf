"""Indirect effects for all layers and tokens of a prompt, with nothing below or before run twice.

What is restored at token t leaves all earlier tokens as they are, so for each t the corrupted
copies are halted there, their earlier tokens kept as keys and values (model/partial.py). What is
restored at layer l leaves all lower blocks as they are, so the copies climb the blocks once, and at
each the ones that are restored from there on join: one batch holds every layer, copies side by
side.

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

from editing.editors.site import Spot, hearing
from editing.model.partial import KeptPrefix, Paused, by_row, kept_of, pause, pause_after
from editing.stats.store import SiteKind
from editing.step import Step

from .noise import noisy
from .spans import Spanned

if TYPE_CHECKING:
    from editing.model.view import ModelView

Kind = Literal["state", "mlp", "attention", "severed_mlp", "severed_attention"]
KINDS: tuple[Kind, ...] = ("state", "mlp", "attention", "severed_mlp", "severed_attention")

_SITES: tuple[SiteKind, ...] = ("attention", "mlp")
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
    clean = _climbed(view, pause(view, [prompt.ids], first=0, stop=depth))
    p_clean = float(_probability(view, clean.states[-1], answer))
    ie: dict[Kind, Tensor] = {kind: torch.zeros(len(traced), len(prompt.labels)) for kind in kinds}
    p_corrupted = 0.0
    total = len(prompt.ids) - prompt.start
    for count in range(total):
        token = prompt.start + count
        copies = _Copies.halted(view, prompt, noise, token)
        if not count:
            p_corrupted = float(_probability(view, copies.run.states[-1], answer))
        yield Step("trace", count, total)
        for kind in kinds:
            held = _held(kind, traced, size, depth)
            done = Step("trace", count, total)
            last = yield from _restored(copies, kind, held, clean.at(token), done)
            found: list[Tensor] = []
            for some in last.split(_ASKED):
                found.append(_probability(view, some, answer).cpu())
                yield done
            ie[kind][:, token - prompt.first] = torch.cat(found) - p_corrupted
    yield Step("trace", total, total)
    return Effects(p_clean, p_corrupted, ie)


@dataclass(slots=True)
class _Run:
    """What one run gave at every layer: block outputs and writes [rows, S, d]."""

    states: list[Tensor]
    writes: dict[Spot, Tensor]

    def at(self, position: int) -> "_Run":
        """The same at one position."""
        some = slice(position, position + 1)
        writes = {spot: write[:, some] for spot, write in self.writes.items()}
        return _Run([state[:, some] for state in self.states], writes)


@torch.no_grad()
def _climbed(view: "ModelView", paused: Paused) -> _Run:
    """Run a pass to its end and take down what every block gives."""
    run = _Run([], {})
    for layer in range(len(view.blocks)):
        with hearing(view, [(site, layer) for site in _SITES]) as heard:
            paused = paused.advanced()
        run.states.append(paused.hidden)
        for spot, one in heard.items():
            run.writes[spot] = by_row(one.value, len(paused.hidden))
    return run


@torch.no_grad()
def _probability(view: "ModelView", states: Tensor, answer: int) -> Tensor:
    """Of the answer behind the last position; states [..., copies, S, d], mean over the copies."""
    return view.logits(states[..., -1, :]).softmax(-1)[..., answer].mean(-1)


class _Repeated(KeptPrefix):
    """Keys and values of the copies, read by any number of variants of them, side by side."""

    @classmethod
    def of(cls, kept: KeptPrefix) -> "_Repeated":
        found = cls()
        found.layers = kept.layers
        return found

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        if layer_idx >= len(self.layers):
            return key_states, value_states
        keys, values = kept_of(self.layers[layer_idx])
        times = len(key_states) // len(keys)
        keys, values = (part.repeat(times, 1, 1, 1) for part in (keys, values))
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)

    def rows(self, index: Tensor) -> "_Repeated":  # noqa: ARG002 - repeated where they are read
        return self


@dataclass(frozen=True, slots=True)
class _Copies:
    """The corrupted copies from one token on: position 0 of every pass is that token."""

    view: "ModelView"
    paused: Paused
    run: _Run

    @classmethod
    @torch.no_grad()
    def halted(cls, view: "ModelView", prompt: Spanned, noise: Tensor, token: int) -> "_Copies":
        """Run what lies before the token, and the copies as they are."""
        count = len(noise)
        _ = view.per_text  # short passes of its own, which the noise is not for
        with noisy(view, noise, prompt.start):
            rows, cuts = [prompt.ids] * count, [token] * count
            paused = pause_after(view, rows, cuts, first=0, stop=len(view.blocks))

        def repeated(_: object, value: object) -> object:
            return _Repeated.of(value) if isinstance(value, KeptPrefix) else value

        calls = tuple(call.mapped(repeated) for call in paused.calls)
        paused = Paused(paused.blocks, 0, paused.stop, paused.hidden, calls, paused.per_text)
        return cls(view, paused, _climbed(view, paused))

    def entering(self, layer: int) -> Tensor:
        """What block `layer` is given [copies, S, d]."""
        return self.run.states[layer - 1] if layer else self.paused.hidden

    @torch.no_grad()
    def block(self, layer: int, hidden: Tensor) -> Tensor:
        """Output of a block for variants of the copies, hidden [variants, copies, S, d]."""
        rows = hidden.flatten(0, 1)
        own, paused = self.entering(layer), self.paused
        index = torch.arange(hidden.shape[1], device=rows.device).repeat(len(hidden))
        calls = (paused.calls[layer],)
        one = Paused(paused.blocks, layer, layer + 1, own, calls, paused.per_text).rows(index)
        return one.run(rows).unflatten(0, hidden.shape[:2])


def _held(kind: Kind, traced: Sequence[int], window: int, depth: int) -> list[tuple[int, range]]:
    """For each traced layer, before which block its variant parts, and where a write is held."""
    if kind in {"mlp", "attention"}:
        ranges = [span_of_window(layer, window, depth) for layer in traced]
        return [(layers.start, layers) for layers in ranges]
    severed = kind != "state"
    return [(n + 1, range(n + 1, depth) if severed else range(0)) for n in traced]


def _restored(
    copies: _Copies, kind: Kind, held: Sequence[tuple[int, range]], clean: _Run, done: Step
) -> Generator[Step, None, Tensor]:
    """The last block's output [layers, copies, S, d], one variant of the copies a traced layer."""
    site: SiteKind = "attention" if kind in {"attention", "severed_attention"} else "mlp"
    source = clean if kind in {"mlp", "attention"} else copies.run.at(0)
    depth = len(copies.view.blocks)
    variants = copies.paused.hidden.new_empty(0, *copies.paused.hidden.shape)
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
