"""What all texts of a batch begin with, run once: its keys and values serve every one of them.

Where a preface stands before every prompt, most of what is read is that preface; where many answers
to one prompt are compared, most is the prompt. Else nothing is shared, and a batch is one plain
pass.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache

from .partial import KeptPrefix, kept_of, left_padded, positions_of, right_padded

if TYPE_CHECKING:
    from .view import ModelView


class _Shared(KeptPrefix):
    """Keys and values of one row, read by all rows of whatever batch comes."""

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        if layer_idx >= len(self.layers):
            return key_states, value_states
        keys, values = (
            part.expand(len(key_states), -1, -1, -1) for part in kept_of(self.layers[layer_idx])
        )
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)


class Lead:
    """The ids that rows have in common, and what the model made of them."""

    def __init__(
        self,
        view: "ModelView",
        rows: Sequence[Sequence[int]],
        *,
        left_padding: bool = False,
        one_prompt: bool = False,
    ) -> None:
        """`rows` are what may be shared: what is asked of the model has to lie behind them.

        left_padding: pad rows before and not behind them, and share nothing: what lies between a
        lead and a row would count as distance. one_prompt: the rows answer one question, so there
        is much to share without a preface as well.
        """
        self.view = view
        self.left = left_padding
        much = one_prompt or bool(view.current.preface)
        shares = len(rows) > 1 and much and not left_padding
        self.size = _common(rows) if shares else 0
        self._kept = self._run(rows[0][: self.size]) if self.size else None

    def _run(self, ids: Sequence[int]) -> _Shared:
        self.view.require_fits(len(ids))
        cache = DynamicCache()
        row = torch.tensor([list(ids)], device=self.view.device)
        with torch.no_grad():
            self.view.body(input_ids=row, past_key_values=cache, use_cache=True)
        kept = _Shared()
        for number, layer in enumerate(cache.layers):
            DynamicCache.update(kept, *kept_of(layer), number)
        return kept

    @torch.no_grad()
    def hidden(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """The body's output [B, S, d_model] behind the lead, for rows that all begin with it."""
        self.view.require_fits(max(map(len, rows)))
        padded = left_padded if self.left else right_padded
        ids, mask = padded(self.view, [row[self.size :] for row in rows])
        before = mask.new_ones(len(rows), self.size)
        inputs = {
            "input_ids": ids,
            "attention_mask": torch.cat([before, mask], dim=1),
            "position_ids": self.size + positions_of(mask),
        }
        if self._kept is None:
            return self.view.body(**inputs, use_cache=False)[0]
        return self.view.body(**inputs, past_key_values=self._kept, use_cache=True)[0]


def _common(rows: Sequence[Sequence[int]]) -> int:
    """How many ids all rows begin with; each keeps one of its own."""
    longest = max(min(map(len, rows)) - 1, 0)
    different = (at for at in range(longest) if len({row[at] for row in rows}) > 1)
    return next(different, longest)
