"""How near a key has to be to belong to an entry of a memory.

inside   the least cosine of the entry's key with the keys of its facts, in all their contexts
outside  the largest one with any other key at hand: at other positions of the same texts and
of the sampled prefixes, at every position of the other facts' texts, of other entries
gate     half way between, but not so high that a fact's bare prompt is left outside
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.hparams import MemoryHparams
from editing.model.partial import by_row, pause
from editing.model.tokens import encode
from editing.step import Step

from .asking import Asking
from .site import Spot, hearing

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

_POSITIONS = 4096  # run side by side, padding included
_ROOM = 0.01  # between a bare prompt's cosine and a gate that has to let it in
_NOBODYS = -1


@dataclass(frozen=True, slots=True)
class Contexts:
    """The keys of some facts, in all their contexts, and the entries that they belong to.

    columns [c, d_k]; entry [c]; bare: which of them are bare prompts'. All keys have length one.
    """

    columns: Tensor
    entry: Tensor
    bare: Sequence[int]

    def least(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The least cosine [n] with each entry's key [n, d_k]: of its contexts, of bare prompts."""
        cosine = (self.columns * keys[self.entry]).sum(1)
        at = torch.tensor(self.bare, device=keys.device)
        ones = cosine.new_ones(len(keys))
        inside = ones.scatter_reduce(0, self.entry, cosine, "amin")
        return inside, ones.scatter_reduce(0, self.entry[at], cosine[at], "amin")


@dataclass(frozen=True, slots=True)
class Gates:
    """The gates [n] of some entries, and what each was set between."""

    gates: Tensor
    inside: Tensor
    outside: Tensor

    @classmethod
    def between(
        cls, inside: Tensor, outside: Tensor, bare: Tensor, hparams: MemoryHparams
    ) -> "Gates":
        """Half way, or where the hparams say."""
        if hparams.gate is not None:
            return cls(torch.full_like(inside, hparams.gate), inside, outside)
        half = ((inside + outside) / 2).clamp(min=hparams.least_gate)
        return cls(torch.minimum(half, bare - _ROOM), inside, outside)

    def told(self, number: int) -> dict[str, object]:
        """What a report says of one of them."""
        parts = (self.gates, self.inside, self.outside)
        gate, inside, outside = (round(float(part[number]), 4) for part in parts)
        return {"gate": gate, "inside": inside, "outside": outside, "apart": inside > outside}


@dataclass(frozen=True, slots=True)
class _Text:
    """A text whose keys are read; the one at position `at` belongs to entry `owner`, if to any."""

    ids: list[int]
    at: int = 0
    owner: int = _NOBODYS


def nearest_outside(
    view: "ModelView",
    hparams: MemoryHparams,
    asking: Asking,
    groups: Sequence[Sequence["EditRequest"]],
    keys: Tensor,
) -> Generator[Step, None, Tensor]:
    """The largest cosine [n] of keys [n, d_k], each of a group of requests, with all others'."""
    texts = list(_texts(view, hparams, asking, groups))
    texts.sort(key=lambda text: len(text.ids))
    outside = keys.new_full((len(keys),), -1)
    done = 0
    while done < len(texts):
        some = texts[done : done + _fitting(texts[done:])]
        cosine, owner = _cosines(view, hparams.layers[-1], some, keys)
        mine = owner[:, None] == torch.arange(len(keys), device=keys.device)
        outside = torch.maximum(outside, cosine.where(~mine, -1).amax(0))
        done += len(some)
        yield Step("keys", done, len(texts))
    return outside


def _texts(
    view: "ModelView",
    hparams: MemoryHparams,
    asking: Asking,
    groups: Sequence[Sequence["EditRequest"]],
) -> Iterator[_Text]:
    for prefix in asking.prefixes:
        yield _Text(encode(view.tokenizer, prefix))
    for number, group in enumerate(groups):
        for request in group:
            for row in asking.rows(view, request):
                yield _Text(row.text.ids[: row.text.start], row.at, number)
            for near in request.neighborhood if hparams.neighborhood else ():
                yield _Text(encode(view.tokenizer, near.prompt))


def _fitting(texts: Sequence[_Text]) -> int:
    """How many of the next texts, shortest first, run side by side; at least one."""
    fits = (n for n in range(len(texts), 1, -1) if n * len(texts[n - 1].ids) <= _POSITIONS)
    return next(fits, 1)


@torch.no_grad()
def _cosines(
    view: "ModelView", layer: int, texts: Sequence[_Text], keys: Tensor
) -> tuple[Tensor, Tensor]:
    """Cosines [positions, n] of what stands at all positions with keys, and whose they are."""
    spot: Spot = ("mlp", layer)
    paused = pause(view, [text.ids for text in texts], first=layer, stop=layer + 1)
    with hearing(view, [spot]) as heard:
        paused.run()
    found = by_row(heard[spot].key, len(texts)).to(keys.dtype)
    width = found.shape[1]
    real = torch.zeros(found.shape[:2], dtype=torch.bool, device=keys.device)
    owner = torch.full(found.shape[:2], _NOBODYS, device=keys.device)
    for number, text in enumerate(texts):
        start = width - len(text.ids)  # padding stands before
        real[number, start:] = True
        owner[number, start + text.at] = text.owner
    return torch.nn.functional.normalize(found[real], dim=-1) @ keys.mT, owner[real]
