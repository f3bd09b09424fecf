"""The place where a search adds its vector: the subject's last token, position 0 of a paused pass.

Where a down-projection's output is added to the residual stream as it is, the vector is added to
the block's output, which is the same sum, and only the blocks above are run. Where something stands
in between (a norm in Gemma, a factor in Granite), it is added to the down-projection's output
itself and the block is run as well: what W cannot bring about must not be searched.
"""

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from editing.model.partial import Paused, by_row, pause_after

if TYPE_CHECKING:
    from editing.model.view import ModelView


@dataclass(frozen=True, slots=True)
class Site:
    """Where the vectors for one layer are added."""

    view: "ModelView"
    layer: int

    def pause(self, rows: Sequence[Sequence[int]], cuts: Sequence[int]) -> Paused:
        """The passes over `rows`, halted before what a vector at the site would change."""
        first = self.layer + 1 if self.view.direct else self.layer
        return pause_after(self.view, rows, cuts, first=first, stop=len(self.view.blocks))

    @torch.no_grad()
    def reached(self, paused: Paused) -> Tensor:
        """What stands at the site [rows, d_v]: the block's output, or what enters its norm."""
        if self.view.direct:
            return paused.hidden[:, 0].float()
        with hearing(self.view, [self.layer]) as heard:
            paused.run(until=self.layer + 1)
        return by_row(heard[self.layer].entering, len(paused.hidden))[:, 0].float()

    def run(self, paused: Paused, moves: Tensor) -> Tensor:
        """The last block's output [rows, S, d_v] with `moves` [rows, d_v] added at the site."""
        hidden = paused.hidden
        if self.view.direct:
            moved = hidden[:, :1] + moves[:, None].to(hidden.dtype)
            return paused.run(torch.cat([moved, hidden[:, 1:]], dim=1))

        def add(_: nn.Module, __: object, out: Tensor) -> Tensor:
            rows = by_row(out, len(hidden))
            moved = rows[:, :1] + moves[:, None].to(out.dtype)
            return torch.cat([moved, rows[:, 1:]], dim=1).view(out.shape)

        handle = self.view.module(self.view.down_proj(self.layer)).register_forward_hook(add)
        try:
            return paused.run()
        finally:
            handle.remove()


@dataclass(slots=True)
class Heard:
    """One layer's write in one pass: key, value and what enters the step behind the write."""

    key: Tensor
    value: Tensor
    entering: Tensor


@contextmanager
def hearing(view: "ModelView", layers: Iterable[int]) -> Generator[dict[int, Heard]]:
    """Take down what these layers write, as their modules see it; the latest pass counts."""
    heard: dict[int, Heard] = {}
    handles: list[torch.utils.hooks.RemovableHandle] = []

    def write(layer: int):  # noqa: ANN202 - a hook
        def hook(_: nn.Module, args: tuple[object, ...], out: Tensor) -> None:
            heard[layer] = Heard(cast("Tensor", args[0]), out, out)

        return hook

    def norm(layer: int):  # noqa: ANN202 - a hook
        def hook(_: nn.Module, args: tuple[object, ...]) -> None:
            heard[layer].entering = cast("Tensor", args[0])

        return hook

    try:
        for layer in layers:
            module = view.module(view.down_proj(layer))
            handles.append(module.register_forward_hook(write(layer)))
            if behind := view.post_norm(layer):
                handles.append(behind.register_forward_pre_hook(norm(layer)))
        yield heard
    finally:
        for handle in handles:
            handle.remove()
