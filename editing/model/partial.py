"""Forward passes that are halted before a block and continued from there, any number of times.

The search for z changes one vector above the edited layer, so the layers below it and the positions
before the subject's last token never change: run them once, keep what they gave, repeat the rest.
Nothing here knows an architecture. How a block wants to be called (masks, rotary angles, cache) is
taken down from one ordinary forward pass and repeated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from .calls import Call, Place, cut, taking_down

if TYPE_CHECKING:
    from .view import ModelView


class KeptPrefix(DynamicCache):
    """Keys and values of the positions before the cut; reading them never makes them longer."""

    def update(  # noqa: D102 - transformers' own contract
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        if layer_idx >= len(self.layers):
            return key_states, value_states
        keys, values = kept_of(self.layers[layer_idx])
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)

    def forget_below(self, layer: int) -> None:
        """Let go of what the layers below this one have kept."""
        for kept in self.layers[:layer]:
            keys, values = kept_of(kept)
            # clone: a slice of no positions would still hold the whole tensor in memory.
            vars(kept).update(keys=keys[:, :, :0].clone(), values=values[:, :, :0].clone())

    def rows(self, index: Tensor) -> "KeptPrefix":
        """The same for some rows of the batch."""
        chosen = KeptPrefix()
        for number, layer in enumerate(self.layers):
            keys, values = kept_of(layer)
            DynamicCache.update(chosen, keys[index], values[index], number)
        return chosen


@dataclass(frozen=True, slots=True)
class Paused:
    """A forward pass halted before block `first`, ready to go on through blocks up to `stop`.

    hidden [B, S, d_model]  input of block `first`; `calls` holds the other arguments of each block,
    `per_text` how many entries they have for a row.
    """

    blocks: Sequence[nn.Module]
    first: int
    stop: int
    hidden: Tensor
    calls: tuple[Call, ...]
    per_text: Mapping[Place, int]

    def rows(self, index: Tensor) -> "Paused":
        """The same pass for some rows of the batch."""
        batch = self.hidden.shape[0]
        done: dict[int, object] = {}  # blocks share their masks, angles and cache: cut each once

        def rows_of(place: Place, value: object) -> object:
            if id(value) not in done:
                done[id(value)] = value
                if isinstance(value, KeptPrefix):
                    done[id(value)] = value.rows(index)
                elif isinstance(value, Tensor):
                    done[id(value)] = cut(value, self.per_text.get(place, 0), index, batch)
            return done[id(value)]

        calls = tuple(call.mapped(rows_of) for call in self.calls)
        hidden = self.hidden[index]
        return Paused(self.blocks, self.first, self.stop, hidden, calls, self.per_text)

    def run(self, hidden: Tensor | None = None, *, until: int | None = None) -> Tensor:
        """Output of block `until - 1` (default: the last one) for this or another input."""
        state = self.hidden if hidden is None else hidden
        for number in range(self.first, self.stop if until is None else until):
            call = self.calls[number - self.first]
            out = self.blocks[number](state, *call.args, **call.named)
            state = out[0] if isinstance(out, tuple) else out
        return state

    def advanced(self) -> "Paused":
        """The pass one block further on."""
        hidden = self.run(until=self.first + 1)
        calls = self.calls[1:]
        return Paused(self.blocks, self.first + 1, self.stop, hidden, calls, self.per_text)


def kept_of(layer: object) -> tuple[Tensor, Tensor]:
    """Keys and values [B, heads, S, d_head] of one layer of a cache."""
    return cast("tuple[Tensor, Tensor]", (getattr(layer, "keys"), getattr(layer, "values")))  # noqa: B009 - not every kind of cache layer has them


@torch.no_grad()
def pause(view: "ModelView", rows: Sequence[Sequence[int]], *, first: int, stop: int) -> Paused:
    """Halt a pass over whole rows, padded on the left so that all of them end together."""
    ids, mask = left_padded(view, rows)
    positions = positions_of(mask)
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    return _halted(view, {**inputs, "use_cache": False}, first, stop)


@torch.no_grad()
def pause_after(
    view: "ModelView",
    rows: Sequence[Sequence[int]],
    cuts: Sequence[int],
    *,
    first: int,
    stop: int,
) -> Paused:
    """Halt a pass over what follows each row's cut; what lies before it is run here, once.

    Position 0 of the paused pass is the token at the cut. Rows are padded on the left before the
    cut and on the right behind it.
    """
    view.require_fits(max(map(len, rows)))
    heads = [list(row[:cut]) for row, cut in zip(rows, cuts, strict=True)]
    tails = [list(row[cut:]) for row, cut in zip(rows, cuts, strict=True)]
    ids, before = left_padded(view, heads)
    kept = KeptPrefix()
    if ids.shape[1]:
        kept = _run_heads(view, ids, before)
    tail_ids, behind = right_padded(view, tails)
    inputs = {
        "input_ids": tail_ids,
        "attention_mask": torch.cat([before, behind], dim=1),
        "position_ids": before.sum(1, keepdim=True) + positions_of(behind),
        "past_key_values": kept,
        "use_cache": True,
    }
    paused = _halted(view, inputs, first, stop)
    kept.forget_below(first)  # never read again: the pass goes on above
    return paused


def _run_heads(view: "ModelView", ids: Tensor, mask: Tensor) -> KeptPrefix:
    cache = DynamicCache()
    view.body(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions_of(mask),
        past_key_values=cache,
        use_cache=True,
    )
    kept = KeptPrefix()
    seen = mask.bool()[:, None, :, None]
    for number, layer in enumerate(cache.layers):
        # A row without any head attends to nothing in it, and what comes out may be NaN; a masked
        # NaN would still spoil a sum, a masked zero does not.
        keys, values = kept_of(layer)
        DynamicCache.update(kept, keys.where(seen, 0), values.where(seen, 0), number)
    return kept


def _halted(view: "ModelView", inputs: Mapping[str, object], first: int, stop: int) -> Paused:
    with taking_down(list(view.blocks[first:stop])) as (hidden, calls):
        view.body(**inputs)
    return Paused(list(view.blocks), first, stop, hidden[0], tuple(calls), view.per_text)


def by_row(activation: Tensor, rows: int) -> Tensor:
    """An activation as [rows, S, d]; OPT's MLP sees the positions of all rows in one line."""
    flat = activation.dim() == 2  # noqa: PLR2004 - [rows * S, d]
    return activation.unflatten(0, (rows, -1)) if flat else activation


def left_padded(view: "ModelView", rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids and mask [B, S], with padding before each row."""
    return _padded(view, rows, left=True)


def right_padded(view: "ModelView", rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids and mask [B, S], with padding behind each row."""
    return _padded(view, rows, left=False)


def _padded(
    view: "ModelView", rows: Sequence[Sequence[int]], *, left: bool
) -> tuple[Tensor, Tensor]:
    width = max(len(row) for row in rows)
    view.require_fits(width)
    ids = torch.zeros(len(rows), width, dtype=torch.long)  # any id will do: it is masked
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(0, len(row))
        ids[number, place] = torch.tensor(list(row), dtype=torch.long)
        mask[number, place] = 1
    return ids.to(view.device), mask.to(view.device)


def positions_of(mask: Tensor) -> Tensor:
    """Position ids [B, S] of a padded batch; those of padding do not matter."""
    # Padding repeats a row's last position: further on there may be none in the model.
    return (mask.cumsum(1) - 1).clamp(min=0)
