"""The clean run of a prompt and the run of its corrupted copies, which goes on from any token.

Nothing here knows an architecture: how blocks want to be called is taken down from short passes of
one row (model/partial.py), and what earlier tokens leave for later ones are keys and values.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.editors.site import Spot, hearing
from editing.model.calls import Call
from editing.model.partial import KeptPrefix, Paused, by_row, pause, pause_after
from editing.stats.store import SiteKind

from .noise import noisy

if TYPE_CHECKING:
    from editing.model.view import ModelView

    from .spans import Spanned

_SITES: tuple[SiteKind, ...] = ("attention", "mlp")

Parts = dict[int, tuple[Tensor, Tensor]]  # layer -> keys and values [rows, heads, S, d_head]


@dataclass(frozen=True, slots=True)
class Run:
    """What one run gave at every layer: block outputs and writes [rows, S, d]."""

    states: list[Tensor]
    writes: dict[Spot, Tensor]

    def at(self, start: int, stop: int | None = None) -> "Run":
        """The same at some positions."""
        writes = {spot: write[:, start:stop] for spot, write in self.writes.items()}
        return Run([state[:, start:stop] for state in self.states], writes)


@torch.no_grad()
def clean_run(view: "ModelView", ids: list[int]) -> Run:
    """The prompt as it is, one row."""
    return _climbed(view, pause(view, [ids], first=0, stop=len(view.blocks)))


def _climbed(view: "ModelView", paused: Paused) -> Run:
    """Run a pass to its end and take down what every block gives."""
    run = Run([], {})
    for layer in range(len(view.blocks)):
        with hearing(view, [(site, layer) for site in _SITES]) as heard:
            paused = paused.advanced()
        run.states.append(paused.hidden)
        for spot, one in heard.items():
            run.writes[spot] = by_row(one.value, len(paused.hidden))
    return run


class _Recorder(KeptPrefix):
    """Takes down the keys and values of a pass from its first token on."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: Parts = {}

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        self.parts[layer_idx] = key_states, value_states
        return key_states, value_states

    def rows(self, index: Tensor) -> "_Recorder":  # noqa: ARG002 - it holds no rows yet
        return self


class _Before(KeptPrefix):
    """Keys and values of the copies before a token, for any number of variants side by side."""

    def __init__(self, parts: Parts, token: int) -> None:
        super().__init__()
        self.parts = parts
        self.token = token

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        keys, values = (part[:, :, : self.token] for part in self.parts[layer_idx])
        times = len(key_states) // len(keys)
        keys, values = (part.repeat(times, 1, 1, 1) for part in (keys, values))
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)

    def rows(self, index: Tensor) -> "_Before":  # noqa: ARG002 - repeated where they are read
        return self


def _row(view: "ModelView", ids: list[int], token: int, kept: KeptPrefix) -> Paused:
    """How blocks are called from a token on: a pass of one row, reading `kept` for what is before.

    Masks, angles and positions are those of any row of these ids; only the states differ.
    """
    paused = pause_after(view, [ids], [token], first=0, stop=len(view.blocks))

    def exchanged(_: object, value: object) -> object:
        return kept if isinstance(value, KeptPrefix) else value

    calls: tuple[Call, ...] = tuple(call.mapped(exchanged) for call in paused.calls)
    return replace(paused, calls=calls)


@dataclass(frozen=True, slots=True)
class Corrupted:
    """The corrupted copies, all of them and all their tokens."""

    view: "ModelView"
    ids: list[int]
    entering: Tensor  # [copies, S, d] what block 0 is given
    run: Run
    parts: Parts

    @classmethod
    @torch.no_grad()
    def of(cls, view: "ModelView", prompt: "Spanned", noise: Tensor) -> "Corrupted":
        """Run the copies once; noise [copies, span, d]."""
        recorder = _Recorder()
        row = _row(view, prompt.ids, 0, recorder)
        with noisy(view, noise, prompt.start):  # what reads it halts before the first block
            entering = pause(view, [prompt.ids] * len(noise), first=0, stop=1).hidden
        index = torch.zeros(len(noise), dtype=torch.long, device=entering.device)
        run = _climbed(view, replace(row.rows(index), hidden=entering))
        return cls(view, prompt.ids, entering, run, recorder.parts)

    @torch.no_grad()
    def halted(self, token: int) -> "Halted":
        """The copies from a token on."""
        row = _row(self.view, self.ids, token, _Before(self.parts, token))
        return Halted(self.view, row, self.entering[:, token:], self.run.at(token))


@dataclass(frozen=True, slots=True)
class Halted:
    """The corrupted copies from one token on: position 0 is that token."""

    view: "ModelView"
    row: Paused
    first: Tensor
    run: Run

    def entering(self, layer: int) -> Tensor:
        """What block `layer` is given [copies, S, d]."""
        return self.run.states[layer - 1] if layer else self.first

    @torch.no_grad()
    def block(self, layer: int, hidden: Tensor) -> Tensor:
        """Output of a block for variants of the copies, hidden [variants, copies, S, d]."""
        rows = hidden.flatten(0, 1)
        index = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
        here = replace(self.row, first=layer, stop=layer + 1, calls=(self.row.calls[layer],))
        return here.rows(index).run(rows).unflatten(0, hidden.shape[:2])
