"""Adding up inner products of facts' gradients, part by part, a tile of facts at a time.

Products of activations are made in float32, sums over tokens and modules in float64.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .scope import Part
from .terms import Term, starts

_ROWS = 512  # tokens in a tile, unless one fact has more
_FEW_ROWS = 96  # where only a tile's own facts are wanted of it
_PAUSE = 4e9  # multiplications between two halts


@dataclass(frozen=True, slots=True)
class Inner:
    """Inner products [n, m] of n facts with m others, and their squared norms [n] and [m]."""

    products: Tensor
    left: Tensor
    right: Tensor

    @property
    def cosine(self) -> Tensor:
        """[n, m]; 0 where a gradient is nothing, as that of an answer that is certain already."""
        size = (self.left[:, None] * self.right).sqrt()
        return torch.where(size > 0, self.products / size, 0.0)

    def __add__(self, other: "Inner") -> "Inner":
        return Inner(
            self.products + other.products, self.left + other.left, self.right + other.right
        )


@dataclass(slots=True)
class Tally:
    """Sums [N, N] of inner products between N facts, for each part.

    first: so many facts, counted from the first, are wanted with all others; of the others, only
    each one's norm. None: all with all. `sizes` are the facts' tokens.
    """

    sizes: Sequence[int]
    first: int | None = None
    sums: dict[Part, Tensor] = field(default_factory=dict[Part, Tensor])
    tiles: list[tuple[int, int]] = field(init=False)
    pairs: list[tuple[int, int]] = field(init=False)
    work: float = 0.0  # multiplications since the last halt

    def __post_init__(self) -> None:
        facts = len(self.sizes)
        if self.first is None:
            self.tiles = list(_tiles(self.sizes, 0, facts, _ROWS))
            heads = len(self.tiles)
        else:
            self.tiles = list(_tiles(self.sizes, 0, self.first, _ROWS))
            heads = len(self.tiles)
            self.tiles += _tiles(self.sizes, self.first, facts, _FEW_ROWS)
        count = len(self.tiles)
        self.pairs = [(a, b) for a in range(heads) for b in range(a, count)]
        self.pairs += [(own, own) for own in range(heads, count)]

    def add(self, part: Part, one: Term, other: Term | None = None) -> Iterator[None]:
        """Add the products of a term with itself, or of two terms, both ways; halts now and then.

        A parameter with two terms has to be added as (a), (b) and (a, b).
        """
        facts = len(self.sizes)
        if part not in self.sums:
            self.sums[part] = torch.zeros(facts, facts, dtype=torch.float64)
        sums = self.sums[part]
        rows = starts(one, facts)
        columns = rows if other is None else starts(other, facts)

        def block(a: tuple[int, int], b: tuple[int, int]) -> Tensor:
            second = one if other is None else other
            mine, theirs = (slice(at[lo], at[hi]) for at, (lo, hi) in ((rows, a), (columns, b)))
            products = one.dot(second, mine, theirs).double()
            self.work += products.numel() * one.width
            by_row = _summed(products, one.owner[mine] - a[0], a[1] - a[0])
            return _summed(by_row.mT, second.owner[theirs] - b[0], b[1] - b[0]).mT.cpu()

        for number_a, number_b in self.pairs:
            a, b = self.tiles[number_a], self.tiles[number_b]
            found = block(a, b)
            if other is not None:
                found = found + (found if number_a == number_b else block(b, a)).mT
            sums[slice(*a), slice(*b)] += found
            if number_a != number_b:
                sums[slice(*b), slice(*a)] += found.mT
            if self.work > _PAUSE:
                self.work = 0.0
                yield

    def between(self, left: Sequence[int], right: Sequence[int]) -> Mapping[Part, Inner]:
        """What was added up, of these facts with those."""
        found: dict[Part, Inner] = {}
        for part, sums in self.sums.items():
            norms = sums.diagonal()
            found[part] = Inner(sums[left][:, right], norms[left], norms[right])
        return found


def _summed(rows: Tensor, owner: Tensor, facts: int) -> Tensor:
    """Rows [P, Q] added up by their owners: [facts, Q]."""
    return rows.new_zeros(facts, rows.shape[1]).index_add_(0, owner, rows)


def _tiles(sizes: Sequence[int], start: int, stop: int, rows: int) -> Iterator[tuple[int, int]]:
    """Cut the facts start .. stop where a tile would get more tokens than `rows`."""
    held = 0
    for fact in range(start, stop):
        if held and held + sizes[fact] > rows:
            yield start, fact
            start, held = fact, 0
        held += sizes[fact]
    if start < stop:
        yield start, stop
