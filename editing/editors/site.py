"""The place where a search adds its vectors: position 0 of a paused pass, at one layer.

Where a down-projection's output is added to the residual stream as it is, the vector is added to
the block's output, which is the same sum, and only the blocks above are run. Where something stands
in between (a norm in Gemma, a factor in Granite), or where attention is moved as well, vectors are
added to the outputs of the writing matrices themselves and the block is run too: what W cannot
bring about must not be searched.
"""

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from editing.model.partial import Paused, by_row, pause_after
from editing.stats.store import SiteKind

if TYPE_CHECKING:
    from editing.model.view import ModelView

Spot = tuple[SiteKind, int]  # the matrix that writes a layer's MLP, or its attention; what it reads
MLP: tuple[SiteKind, ...] = ("mlp",)


@dataclass(frozen=True, slots=True)
class Site:
    """Where the vectors for one layer are added, one for each kind."""

    view: "ModelView"
    layer: int
    kinds: tuple[SiteKind, ...] = MLP

    @property
    def _behind_the_block(self) -> bool:
        return self.kinds == MLP and self.view.direct

    def pause(self, rows: Sequence[Sequence[int]], cuts: Sequence[int]) -> Paused:
        """The passes over `rows`, halted before what a vector at the site would change."""
        first = self.layer + 1 if self._behind_the_block else self.layer
        return pause_after(self.view, rows, cuts, first=first, stop=len(self.view.blocks))

    @torch.no_grad()
    def reached(self, paused: Paused) -> Tensor:
        """What stands at the site [rows, kinds, d_v]: the block's output, or what W's adds to."""
        if self._behind_the_block:
            return paused.hidden[:, :1].float()
        with hearing(self.view, [(kind, self.layer) for kind in self.kinds]) as heard:
            paused.run(until=self.layer + 1)
        found = [
            by_row(heard[kind, self.layer].entering, len(paused.hidden)) for kind in self.kinds
        ]
        return torch.stack([one[:, 0] for one in found], dim=1).float()

    def run(self, paused: Paused, moves: Tensor) -> Tensor:
        """The last block's output [rows, S, d_v] with `moves` [rows, kinds, d_v] at the site."""
        if self._behind_the_block:
            hidden = paused.hidden
            moved = hidden[:, :1] + moves.to(hidden.dtype)
            return paused.run(torch.cat([moved, hidden[:, 1:]], dim=1))
        with self.moved(moves):
            return paused.run()

    @contextmanager
    def moved(self, moves: Tensor, at: int = 0) -> Generator[None]:
        """Add `moves` [rows, kinds, d_v] to what is written at one position, while this lasts."""
        handles: list[torch.utils.hooks.RemovableHandle] = []

        def adder(move: Tensor):  # noqa: ANN202 - a hook
            def add(_: nn.Module, __: object, out: Tensor) -> Tensor:
                rows = by_row(out, len(move)).clone()
                rows[:, at] += move.to(out.dtype)
                return rows.view(out.shape)

            return add

        try:
            for number, kind in enumerate(self.kinds):
                module = self.view.module(self.view.written_at(self.layer, kind))
                handles.append(module.register_forward_hook(adder(moves[:, number])))
            yield
        finally:
            for handle in handles:
                handle.remove()


@dataclass(slots=True)
class Heard:
    """One matrix's write in one pass: key, value and what enters the step behind the write."""

    key: Tensor
    value: Tensor
    entering: Tensor


@contextmanager
def hearing(view: "ModelView", spots: Iterable[Spot]) -> Generator[dict[Spot, Heard]]:
    """Take down what is written at these spots, as their modules see it; the latest pass counts."""
    heard: dict[Spot, Heard] = {}
    handles: list[torch.utils.hooks.RemovableHandle] = []

    def write(spot: Spot):  # noqa: ANN202 - a hook
        def hook(_: nn.Module, args: tuple[object, ...], out: Tensor) -> None:
            heard[spot] = Heard(cast("Tensor", args[0]), out, out)

        return hook

    def norm(spot: Spot):  # noqa: ANN202 - a hook
        def hook(_: nn.Module, args: tuple[object, ...]) -> None:
            heard[spot].entering = cast("Tensor", args[0])

        return hook

    try:
        for kind, layer in dict.fromkeys(spots):
            module = view.module(view.written_at(layer, kind))
            handles.append(module.register_forward_hook(write((kind, layer))))
            if behind := view.post_norm(layer, kind):
                handles.append(behind.register_forward_pre_hook(norm((kind, layer))))
        yield heard
    finally:
        for handle in handles:
            handle.remove()
