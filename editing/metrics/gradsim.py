"""GradSim: how alike the gradients of two facts are (arXiv:2407.12828; METRICS 1 and 1.1).

    GradSim(x, y) = cos( grad log P(a_x | q_x), grad log P(a_y | q_y) )

P is the likelihood of the whole answer, teacher-forced, asked behind the preface of the state that
is served. log P, P and the mean loss give the same cosine. The gradients are those of the weights
served while this runs; they are never formed: see editing/metrics/gradients.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from editing.errors import EmptyField
from editing.step import Step

from .gradients.descent import filled
from .gradients.passes import rows_of
from .gradients.scope import Part, Scope, ScopeName, weights_written
from .gradients.tally import Inner, Tally

if TYPE_CHECKING:
    from editing.model.view import ModelView

__all__ = [
    "Fact",
    "GradSim",
    "Inner",
    "Part",
    "Scope",
    "ScopeName",
    "gram",
    "similarities",
    "weights_written",
]

Fact = tuple[str, str]  # question, answer


@dataclass(frozen=True, slots=True)
class GradSim:
    """Facts compared with facts: inner products of their gradients, by part of the model."""

    parts: Mapping[Part, Inner]

    @property
    def cosine(self) -> Tensor:
        """[n, m], float64."""
        return self.whole.cosine

    @property
    def whole(self) -> Inner:
        """All parts together."""
        return self.over()

    def over(
        self, *, layers: Sequence[int | None] | None = None, kinds: Sequence[str] = ()
    ) -> Inner:
        """Some layers (None: outside the blocks) and some kinds together; default: all of them.

        Raises EmptyField where nothing is left.
        """
        chosen = [
            inner
            for part, inner in self.parts.items()
            if (layers is None or part.layer in layers) and (not kinds or part.kind in kinds)
        ]
        if not chosen:
            raise EmptyField(field="the part of the model")
        return sum(chosen[1:], chosen[0])

    @property
    def by_layer(self) -> dict[int | None, Inner]:
        """Each layer by itself."""
        layers = dict.fromkeys(part.layer for part in self.parts)
        return {layer: self.over(layers=[layer]) for layer in layers}

    @property
    def by_kind(self) -> dict[str, Inner]:
        """Each kind of parameter by itself, over all layers."""
        kinds = dict.fromkeys(part.kind for part in self.parts)
        return {kind: self.over(kinds=[kind]) for kind in kinds}


def gram(
    view: "ModelView", facts: Sequence[Fact], scope: Scope | None = None
) -> Generator[Step, None, GradSim]:
    """All facts with all facts. Raises BadRequest."""
    return (yield from _compared(view, facts, facts, scope, every=True))


def similarities(
    view: "ModelView", facts: Sequence[Fact], others: Sequence[Fact], scope: Scope | None = None
) -> Generator[Step, None, GradSim]:
    """A few facts (rows), each with all others (columns). Raises BadRequest.

    What the others are to each other is not worked out.
    """
    return (yield from _compared(view, facts, others, scope, every=False))


def _compared(
    view: "ModelView",
    facts: Sequence[Fact],
    others: Sequence[Fact],
    scope: Scope | None,
    *,
    every: bool,
) -> Generator[Step, None, GradSim]:
    if not facts or not others:
        raise EmptyField(field="facts")
    scope = scope or Scope.of(view)
    distinct = list(dict.fromkeys([*facts, *others]))  # a fact that is asked for twice is run once
    number = {fact: at for at, fact in enumerate(distinct)}
    rows = rows_of(view, distinct)
    firsts = len({*facts})
    # The first ones first, then those of like length side by side.
    order = sorted(range(len(rows)), key=lambda at: (at >= firsts, len(rows[at].ids)))
    place = {fact: at for at, fact in enumerate(order)}
    tally = Tally([len(rows[at].ids) - 1 for at in order], None if every else firsts)
    yield from filled(view, [rows[at] for at in order], scope, tally)
    left, right = ([place[number[fact]] for fact in some] for some in (facts, others))
    return GradSim(tally.between(left, right))
