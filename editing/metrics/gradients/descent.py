"""The way down through a pass: each piece's terms, of all facts, are added up before the next."""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from editing.model.tokens import Continuation
from editing.step import Step

from .passes import Batch, Passes, batches, halted
from .pieces import Collector, Terms
from .scope import Part, Scope, refused
from .tally import Tally
from .terms import Looked, Outer, Term

if TYPE_CHECKING:
    from editing.model.view import ModelView


def filled(
    view: "ModelView", rows: Sequence[Continuation], scope: Scope, tally: Tally
) -> Generator[Step, None, None]:
    """Add up the products of all rows' gradients, part by part; a Step after each batch's piece.

    At each of them no hook is left and nothing carries gradients. Raises UnsupportedArchitecture,
    TextTooLong or NumericOverflow.
    """
    descent = _Descent(view, rows, scope, tally)
    yield from descent.forward()
    top = yield from descent.piece(descent.passes.head)
    tied = descent.tie(top)
    del top
    for layer in reversed(range(max(scope.lowest, 0), len(view.blocks))):
        yield from descent.piece(lambda batch, at=layer: descent.passes.block(batch, at))
    if scope.lowest < 0:
        below = yield from descent.piece(descent.passes.bottom)
        yield from tied.crossed(below, descent)
    descent.require_all_used()


@dataclass(frozen=True, slots=True)
class _Tied:
    """The head's term where its weight is the embedding's; only what looked-up ids need of it."""

    part: Part | None = None
    term: Outer | None = None
    ids: Tensor | None = None  # [U], ascending: the columns of the term's answers

    def crossed(self, below: Terms, descent: "_Descent") -> Generator[Step, None, None]:
        """Add the products of what the head and the look-ups say of the weight they share."""
        if self.part is None or self.term is None or self.ids is None:
            return
        looked = next(term for (part, _), term in below.items() if part == self.part)
        assert isinstance(looked, Looked)  # noqa: S101 - what tokens enter is looked up
        renumbered = torch.searchsorted(self.ids, looked.ids)
        other = Looked(looked.owner, renumbered, looked.entered)
        yield from descent.add(self.part, self.term, other)


class _Descent:
    """All batches of one pass, on their way down."""

    def __init__(
        self, view: "ModelView", rows: Sequence[Continuation], scope: Scope, tally: Tally
    ) -> None:
        self.view, self.rows, self.scope, self.tally = view, rows, scope, tally
        self.collector = Collector(view, scope)
        self.passes = Passes(view, self.collector)
        self.runs = list(batches(rows))
        self.held: list[Batch] = []
        pieces = 2 + len(view.blocks) - scope.lowest  # the way up counts as one
        self.done, self.total = 0, len(self.runs) * pieces

    def forward(self) -> Generator[Step, None, None]:
        for run in self.runs:
            self.held.append(halted(self.view, self.rows[run], run.start))
            yield self._step()

    def piece(self, terms_of: Callable[[Batch], Terms]) -> Generator[Step, None, Terms]:
        """One piece of all batches; its terms, joined, which have been added up."""
        found: list[Terms] = []
        for batch in self.held:
            found.append(terms_of(batch))
            self.view.require_finite(batch.gradient, "The gradient of an answer's log-probability")
            yield self._step()
        keys = dict.fromkeys(key for terms in found for key in terms)
        joined = {key: _joined([terms[key] for terms in found if key in terms]) for key in keys}
        for (part, _), term in joined.items():
            yield from self.add(part, term)
        return joined

    def add(self, part: Part, term: Term, other: Term | None = None) -> Generator[Step, None, None]:
        for _ in self.tally.add(part, term, other):
            yield Step("gradient", self.done, self.total)

    def tie(self, top: Terms) -> _Tied:
        """What is kept of the head's term until the look-ups are there; nothing where not tied."""
        head = self.view.model.get_submodule(self.view.layout.head)
        table = self.view.model.get_input_embeddings()
        found = [item for item in top.items() if item[0][1] == self.view.layout.head]
        if head.weight is not table.weight or not found:
            return _Tied()
        (((part, _), term),) = found
        assert isinstance(term, Outer)  # noqa: S101 - a head is a matrix
        spoken = {token for row in self.rows for token in row.ids}
        ids = torch.tensor(sorted({*spoken, 0}), device=self.view.device)  # 0 stands for padding
        return _Tied(part, Outer(term.owner, term.answers[:, ids], term.entered), ids)

    def require_all_used(self) -> None:
        """Refuse a parameter that no module was heard to use, and that counts all the same."""
        unheard = self.scope.parts.keys() - self.collector.used.keys()
        for name in sorted(unheard & _counting(self.view, self.rows[0], unheard)):
            raise refused(self.view, name, "it is used outside of the module that owns it")

    def _step(self) -> Step:
        self.done += 1
        return Step("gradient", self.done, self.total)


def _joined(terms: Sequence[Term]) -> Term:
    return terms[0].joined(terms[1:])


def _counting(view: "ModelView", row: Continuation, names: set[str]) -> set[str]:
    """Which of these parameters an answer depends on, by the model's own forward pass."""
    if not names:
        return set()
    parameters: dict[str, Tensor] = {
        name: p for name, p in view.model.named_parameters() if name in names
    }
    try:
        for parameter in parameters.values():
            parameter.requires_grad_()
        with torch.enable_grad():
            ids = torch.tensor([row.ids], device=view.device)
            logits = view.model(input_ids=ids, use_cache=False).logits.float()
            if not logits.requires_grad:
                return set()
            answered = logits.log_softmax(-1)[0, row.start - 1 :].sum()
            wanted = list(parameters.values())
            found = torch.autograd.grad(answered, wanted, allow_unused=True)
    finally:
        for parameter in parameters.values():
            parameter.requires_grad = False
    given = dict(zip(parameters, cast("Iterable[Tensor | None]", found), strict=True))
    return {name for name, gradient in given.items() if gradient is not None and gradient.any()}
