"""The one key reader: inputs of the writing matrices at the token whose key counts.

A key depends on what stands before it alone, so rows end at that token. The pass is halted at the
lowest edited layer and carried upward layer by layer, each block being run once with the weights it
will have; nothing below is run again.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.delta import Delta
from editing.model.partial import Paused, by_row, pause
from editing.stats.store import SiteKind
from editing.step import Step

from .asking import Asking
from .site import Site, Spot, hearing

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

_POSITIONS = 8192  # run side by side, padding included


@dataclass(frozen=True, slots=True)
class Reading:
    """What stands at the keys' token; columns are rows of requests, a request's side by side.

    keys [d_k, n], values [d_v, n]: input and output of the layer's writing matrix; entering
    [d_v, n]: what enters the step behind its write (see model/landing.py); last, last_values
    [d_v, n]: the same two in the last edited layer; hidden [d_v, n]: output of that block.
    """

    keys: Tensor
    values: Tensor
    entering: Tensor
    last: Tensor
    last_values: Tensor
    hidden: Tensor


class KeyReader:
    """Reads keys from the lowest edited layer upward, under the deltas given on the way.

    owner [n]: which request a column belongs to; bare: the column of each one's bare prompt.
    """

    def __init__(
        self,
        view: "ModelView",
        requests: Sequence["EditRequest"],
        asking: Asking,
        layers: Sequence[int],
    ) -> None:
        self.view = view
        rows = [asking.rows(view, request) for request in requests]
        self.rows = [row.asked for mine in rows for row in mine]
        owner = [number for number, mine in enumerate(rows) for _ in mine]
        self.owner = torch.tensor(owner, device=view.device)
        self.bare = [owner.index(number) for number in range(len(rows))]
        self.layer = layers[0]
        self.stop = layers[-1] + 1
        self.paused: list[Paused] = []

    def start(self) -> Generator[Step, None, None]:
        """Run what lies below the lowest edited layer."""
        done, total = 0, len(self.rows)
        while done < total:
            rows = self.rows[done : done + _fitting(self.rows[done:])]
            self.paused.append(pause(self.view, rows, first=self.layer, stop=self.stop))
            done += len(rows)
            yield Step("keys", done, total)

    @torch.no_grad()
    def read(self, kind: SiteKind = "mlp", under: Mapping[str, Delta] | None = None) -> Reading:
        """What the current layer writes, and what comes of it in the last edited block."""
        here: Spot = (kind, self.layer)
        last: Spot = (kind, self.stop - 1)
        found: list[tuple[Tensor, ...]] = []
        for paused in self.paused:
            rows = len(paused.hidden)
            with self.view.overlaid(under or {}), hearing(self.view, [here, last]) as heard:
                out = paused.run()
            one, other = heard[here], heard[last]
            parts = (one.key, one.value, one.entering, other.entering, other.value, out)
            found.append(tuple(by_row(part, rows)[:, -1] for part in parts))
        columns = [torch.cat(parts).mT.double() for parts in zip(*found, strict=True)]
        for column in columns:
            self.view.require_finite(column, f"What layer {self.layer} computes")
        return Reading(*columns)

    @torch.no_grad()
    def moved(self, kinds: tuple[SiteKind, ...], moves: Tensor) -> Tensor:
        """The last edited block's output [d_v, n] were `moves` [n, kinds, d_v] written in it."""
        site = Site(self.view, self.stop - 1, kinds)
        found: list[Tensor] = []
        done = 0
        for paused in self.paused:
            rows = len(paused.hidden)
            with site.moved(moves[done : done + rows], at=-1):
                found.append(paused.run()[:, -1])
            done += rows
        return torch.cat(found).mT.double()

    @torch.no_grad()
    def climb(self, deltas: Mapping[str, Delta]) -> None:
        """Go one layer up; the layer left behind runs with its deltas."""
        with self.view.overlaid(deltas):
            self.paused = [paused.advanced() for paused in self.paused]
        self.layer += 1


def _fitting(rows: Sequence[Sequence[int]]) -> int:
    """How many of the next rows run side by side within the bound; at least one."""
    longest = 0
    for count, row in enumerate(rows):
        longest = max(longest, len(row))
        if count and (count + 1) * longest > _POSITIONS:
            return count
    return len(rows)
