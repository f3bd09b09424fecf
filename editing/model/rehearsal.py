"""A model that was mapped by inspection must answer as it does by itself, on all our roads.

A few made-up tokens are run whole, halted and continued, behind a kept prefix, padded, cut to some
rows, and token by token. A model that keeps a state other than keys and values, that looks ahead,
or that counts positions in its own way is found out here instead of in an edit.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.errors import UnsupportedArchitecture

from .generate import Decoder
from .partial import pause, pause_after

if TYPE_CHECKING:
    from .view import ModelView

_ROWS = ([1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11])
_CUTS = (3, 0)


@torch.no_grad()
def rehearse(view: "ModelView") -> None:
    """Raise UnsupportedArchitecture unless all roads lead to the model's own logits."""
    try:
        failed = _first_failure(view)
    except Exception as error:  # noqa: BLE001 - foreign code may raise anything
        failed = f"halting and continuing it fails: {type(error).__name__}: {error}"
    if failed:
        raise UnsupportedArchitecture(view.facts.model_type, why=failed)


def _first_failure(view: "ModelView") -> str | None:
    # Relative to how far the logits lie apart; half precision rounds every pass in its own way.
    close = 1e-3 if view.dtype in {torch.float32, torch.float64} else 0.05

    def same(one: Tensor, other: Tensor) -> bool:
        spread = float((other - other.mean(-1, keepdim=True)).norm())
        return float((one - other).norm()) <= close * spread

    whole = [_own_logits(view, row) for row in _ROWS]
    if not same(_own_logits(view, _ROWS[0][:-1]), whole[0][:-1]):
        return "what it answers at a token depends on the tokens behind it."
    stop = len(view.blocks)
    first = stop // 2
    halted = view.logits(pause(view, _ROWS, first=first, stop=stop).run())
    behind = pause_after(view, _ROWS, _CUTS, first=first, stop=stop)
    continued = view.logits(behind.run())
    some = view.logits(behind.rows(torch.tensor([1], device=view.device)).run())
    for number, (row, cut) in enumerate(zip(_ROWS, _CUTS, strict=True)):
        if not same(halted[number, -len(row) :], whole[number]):
            return "halted before a block and continued, it answers something else."
        if not same(continued[number, : len(row) - cut], whole[number][cut:]):
            return "behind keys and values that were kept, it answers something else."
    if not same(some[0, : len(_ROWS[1])], whole[1]):
        return "cut to some rows of a batch, it answers something else."
    decoder = Decoder(view, [row[:-1] for row in _ROWS])
    decoder.logits()
    decoder.append(torch.tensor([row[-1] for row in _ROWS], device=view.device))
    if not all(same(one, row[-1]) for one, row in zip(decoder.logits(), whole, strict=True)):
        return "token by token, it answers something else."
    return None


def _own_logits(view: "ModelView", row: list[int]) -> Tensor:
    """Logits [S, vocabulary] by the model's own forward."""
    ids = torch.tensor([row], device=view.device)
    return view.model(input_ids=ids, use_cache=False).logits[0].float()
