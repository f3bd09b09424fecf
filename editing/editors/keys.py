"""The one key reader: inputs of the down-projections at the subject's last token.

A key depends on what stands before it alone, so rows end at the subject's last token. The pass is
halted at the lowest edited layer and carried upward layer by layer, each block being run once with
the weights it will have; nothing below is run again.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.delta import LowRank
from editing.model.partial import Paused, by_row, pause
from editing.model.tokens import place
from editing.step import Step

from .site import hearing

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

_POSITIONS = 8192  # run side by side, padding included


@dataclass(frozen=True, slots=True)
class Reading:
    """What stands at the subject's last token; columns are (request, context), contexts inner.

    keys [d_k, n], values [d_v, n]: input and output of the layer's down-projection;
    entering [d_v, n]: what enters the step behind its write (see model/landing.py), in the layer
    and in the last edited one (`last`); hidden [d_v, n]: output of the last edited block.
    """

    keys: Tensor
    values: Tensor
    entering: Tensor
    last: Tensor
    hidden: Tensor


class KeyReader:
    """Reads keys from the lowest edited layer upward, under the deltas given on the way."""

    def __init__(
        self,
        view: "ModelView",
        requests: Sequence["EditRequest"],
        prefixes: Sequence[str],
        layers: Sequence[int],
    ) -> None:
        self.view = view
        placed = [
            place(view.tokenizer, request, prefix)
            for request in requests
            for prefix in ("", *prefixes)
        ]
        self.rows = [row.ids[: row.subject + 1] for row in placed]
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
    def read(self) -> Reading:
        """What the current layer writes, and what comes of it in the last edited block."""
        found: list[tuple[Tensor, ...]] = []
        for paused in self.paused:
            rows = len(paused.hidden)
            with hearing(self.view, {self.layer, self.stop - 1}) as heard:
                out = paused.run()
            here, last = heard[self.layer], heard[self.stop - 1]
            parts = (here.key, here.value, here.entering, last.entering, out)
            found.append(tuple(by_row(part, rows)[:, -1] for part in parts))
        columns = [torch.cat(parts).mT.double() for parts in zip(*found, strict=True)]
        for column in columns:
            self.view.require_finite(column, f"What layer {self.layer} computes")
        return Reading(*columns)

    @torch.no_grad()
    def climb(self, deltas: dict[str, LowRank]) -> None:
        """Go one layer up; the layer left behind runs with its delta."""
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
