"""A gradient as a sum of terms, and inner products between terms.

The gradient of a fact with respect to a matrix is a sum over the tokens t of its text,

    G = sum_t d_t x_tT      <G_i, G_j> = sum_ts (d_t . d_s) (x_t . x_s)      (METRICS 1.1)

with x_t what enters the matrix and d_t the gradient at what leaves it. Rows of a table that are
looked up are the same, with a one-hot d_t. A gain or a bias has one short vector a fact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor


class Term(Protocol):
    """Rows that belong to facts, in the order of the facts.

    owner [P]: the fact of each row.
    """

    @property
    def owner(self) -> Tensor:
        """The fact of each row [P]."""
        ...

    @property
    def width(self) -> int:
        """Multiplications that a product of two rows takes."""
        ...

    def dot(self, other: "Term", mine: slice, theirs: slice) -> Tensor:
        """Products [P', Q'] of some rows with some rows of another term of the same parameter."""
        ...

    def joined(self, others: Sequence["Term"]) -> "Term":
        """The rows of all, one term after another."""
        ...


@dataclass(frozen=True, slots=True)
class Outer:
    """Rows d_t x_tT of a matrix: answers [P, d_out] are the d_t, entered [P, d_in] the x_t."""

    owner: Tensor
    answers: Tensor
    entered: Tensor

    @property
    def width(self) -> int:  # noqa: D102 - see Term
        return self.answers.shape[1] + self.entered.shape[1]

    def dot(self, other: "Term", mine: slice, theirs: slice) -> Tensor:  # noqa: D102 - see Term
        if isinstance(other, Looked):
            picked = self.answers[mine][:, other.ids[theirs]]
        else:
            assert isinstance(other, Outer)  # noqa: S101 - terms of one parameter
            picked = self.answers[mine] @ other.answers[theirs].mT
        return picked * (self.entered[mine] @ other.entered[theirs].mT)

    def joined(self, others: Sequence["Term"]) -> "Outer":  # noqa: D102 - see Term
        return Outer(*_joined(("owner", "answers", "entered"), self, others))


@dataclass(frozen=True, slots=True)
class Looked:
    """Rows of a table that were looked up: ids [P], and the gradients [P, d] at what was found."""

    owner: Tensor
    ids: Tensor
    entered: Tensor

    @property
    def width(self) -> int:  # noqa: D102 - see Term
        return self.entered.shape[1]

    def dot(self, other: "Term", mine: slice, theirs: slice) -> Tensor:  # noqa: D102 - see Term
        if isinstance(other, Outer):
            return other.dot(self, theirs, mine).mT
        assert isinstance(other, Looked)  # noqa: S101 - terms of one parameter
        same = self.ids[mine, None] == other.ids[theirs]
        return same * (self.entered[mine] @ other.entered[theirs].mT)

    def joined(self, others: Sequence["Term"]) -> "Looked":  # noqa: D102 - see Term
        return Looked(*_joined(("owner", "ids", "entered"), self, others))


@dataclass(frozen=True, slots=True)
class Whole:
    """Gradients [N, d] that are short enough to be held whole, one row a fact."""

    owner: Tensor
    vectors: Tensor

    @property
    def width(self) -> int:  # noqa: D102 - see Term
        return self.vectors.shape[1]

    def dot(self, other: "Term", mine: slice, theirs: slice) -> Tensor:  # noqa: D102 - see Term
        assert isinstance(other, Whole)  # noqa: S101 - terms of one parameter
        return self.vectors[mine].double() @ other.vectors[theirs].double().mT

    def joined(self, others: Sequence["Term"]) -> "Whole":  # noqa: D102 - see Term
        return Whole(*_joined(("owner", "vectors"), self, others))


def _joined(names: Sequence[str], one: Term, others: Sequence[Term]) -> list[Tensor]:
    return [torch.cat([getattr(term, name) for term in (one, *others)]) for name in names]


def starts(term: Term, facts: int) -> list[int]:
    """Where each fact's rows begin in a term, and where the last one's end."""
    counts = torch.bincount(term.owner, minlength=facts).tolist()
    return [0, *accumulate(counts)]
