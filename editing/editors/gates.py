"""The keys that entries of a memory stand under, and how near another has to be to belong to one.

An entry stands under the mean direction of its facts' keys behind other words. A bare prompt may
begin with its subject, and so may a paraphrase, and a first token's key is unlike any later one's:
where the mean's gate would not let it in, it stands there as a key of its own. Of each key

    inside   is the least cosine with those of its facts that it stands for,
    outside  the largest with all others at hand: at other positions of the same texts and of the
             sampled prefixes, at every position of other entries' texts, of live entries,
    gate     half way between.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from editing.hparams import MemoryHparams
from editing.model.partial import by_row, pause
from editing.model.tokens import encode
from editing.step import Step

from .asking import Asking
from .merging import merged
from .site import Spot, hearing

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

_POSITIONS = 4096  # run side by side, padding included
SAME = 0.999  # keys of this cosine are one
_HIGHEST = 0.99  # of gates: a key has to be let in by its own
_NOBODYS = -1


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys [n, d_k] of length one, and the entry [n] that each is of; an entry's first is its mean.

    inside [n]: the least cosine of each with the contexts' keys that it stands for.
    """

    keys: Tensor
    entry: Tensor
    inside: Tensor

    @classmethod
    def of(cls, columns: Tensor, entry: Tensor, bare: Sequence[int], count: int) -> "Keys":
        """The candidates of `count` entries, from their facts' keys [c, d_k] of length one.

        entry [c]: whose each of them is; bare: which are those of bare prompts (`openings`).
        """
        plain = torch.zeros(len(columns), dtype=torch.bool, device=columns.device)
        plain[list(bare)] = True
        rows: list[tuple[Tensor, int]] = []
        for number in range(count):
            mine = entry == number
            behind = (mine & ~plain).nonzero()[:, 0]
            first = (mine & plain).nonzero()[:, 0]
            if len(behind):
                rows.append((behind, number))
            same = merged(columns[first].mT, SAME)
            rows += [(first[group], number) for group in same]
        keys = torch.stack([normalize(columns[at].sum(0), dim=0) for at, _ in rows])
        least = [(columns[at] @ key).amin() for (at, _), key in zip(rows, keys, strict=True)]
        owners = torch.tensor([number for _, number in rows], device=columns.device)
        return cls(keys, owners, torch.stack(least))

    def __getitem__(self, chosen: Tensor) -> "Keys":
        return Keys(self.keys[chosen], self.entry[chosen], self.inside[chosen])

    def firsts(self) -> Tensor:
        """The number [n] of the first key of each one's entry."""
        return torch.searchsorted(self.entry, self.entry)


def openings(asking: Asking, requests: Sequence["EditRequest"]) -> list[int]:
    """The columns of requests' keys with no words before them.

    Those of bare prompts, and of paraphrases that begin with the subject whose key is asked for.
    """
    found: list[int] = []
    start = 0
    for request in requests:
        each = 1 + len(asking.prefixes)
        behind = start + each * len(request.texts)
        found += range(start, behind, each)
        start = behind
        if asking.paraphrases:
            first = [text.rfind(request.subject) == 0 for text in request.paraphrases]
            if asking.key_at == "subject_last":
                found += [start + number for number, is_first in enumerate(first) if is_first]
            start += len(first)
    return found


@dataclass(frozen=True, slots=True)
class Gates:
    """The gates [n] of some keys, and what each was set between."""

    gates: Tensor
    inside: Tensor
    outside: Tensor

    @classmethod
    def between(cls, keys: Keys, outside: Tensor, hparams: MemoryHparams) -> "Gates":
        """Half way, or where the hparams say."""
        if hparams.gate is not None:
            return cls(torch.full_like(outside, hparams.gate), keys.inside, outside)
        half = (keys.inside + outside) / 2
        return cls(half.clamp(hparams.least_gate, _HIGHEST), keys.inside, outside)

    def needed(self, keys: Keys) -> Tensor:
        """Which keys [n] are not let in by the first of their entry; that one is needed itself."""
        first = keys.firsts()
        cosine = (keys.keys * keys.keys[first]).sum(1)
        own = first == torch.arange(len(first), device=first.device)
        return own | (cosine <= self.gates[first])

    def __getitem__(self, chosen: Tensor) -> "Gates":
        return Gates(self.gates[chosen], self.inside[chosen], self.outside[chosen])

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
    keys: Keys,
) -> Generator[Step, None, Tensor]:
    """The largest cosine [n] of keys with those of other texts than their entry's requests."""
    texts = list(_texts(view, hparams, asking, groups))
    texts.sort(key=lambda text: len(text.ids))
    outside = torch.full_like(keys.inside, -1)
    done = 0
    while done < len(texts):
        some = texts[done : done + _fitting(texts[done:])]
        cosine, owner = _cosines(view, hparams.layers[-1], some, keys.keys)
        mine = owner[:, None] == keys.entry
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
    return normalize(found[real], dim=-1) @ keys.mT, owner[real]
