"""ledger - many edits in a row, any of them taken out, none disturbing its subject's others.

MEMIT's write under a metric that holds the keys of all live edits (memit_history.py), with what one
edit after another needs besides:

slots      Facts whose keys are (nearly) equal share one value. A new fact that collides with live
           ones is searched jointly with them: their slot is taken out of the solution, and one that
           holds all of them is written in its place.
succession A later fact with the same question replaces the earlier one.
refuge     Where no joint value says all of them, the new fact is written at its prompt's last
           token, in later layers, where its key is its own; where that fails too it is refused.

length     Values are held to the length of the lineage's first ones (anchor.py).
filter     From some thousands of edits on, changes leave the weights' dominant directions alone,
           and what that cuts is made up for (revive.py).

Taking out and writing are steps of one recursive solution (RLSEdit, arXiv:2601.15686), so the
weights stay, layer by layer, the joint solution of what is live. Sharing a value is MEMIT-Merge;
that related facts disturb each other otherwise is what S2RKE measures (arXiv:2502.06868).
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from editing.history import History
from editing.hparams import LedgerHparams
from editing.outcome import Outcome
from editing.step import Step

from .band import MetricOf, everyday
from .book import Book
from .facts import last_word, named
from .undoing import undone

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest


def edit(
    view: "ModelView",
    requests: Sequence["EditRequest"],
    hparams: LedgerHparams,
    history: History,
) -> Generator[Step, None, Outcome]:
    """Write a batch of facts. Raises SearchDiverged, FactsInConflict or SingularSystem."""
    return (yield from _book(view, hparams, history).rewritten(last_word(requests), ()))


def without(
    view: "ModelView", hparams: LedgerHparams, history: History, edit: str
) -> Generator[Step, None, Outcome]:
    """Take all live facts of one edit out, and bring back those that it replaced.

    Raises as `edit` does, and KeyError where no live fact is of this edit.
    """
    return (yield from undone(_book(view, hparams, history), edit))


def again(
    view: "ModelView",
    hparams: LedgerHparams,
    history: History,
    requests: Sequence["EditRequest"],
    disturbed: Sequence[tuple[str, int, "EditRequest"]],
) -> Generator[Step, None, Outcome]:
    """Write a batch of facts, and live ones that it would disturb anew with it.

    disturbed: the order, the place in it and the request of each; one that another editor wrote is
    left as it is. Raises as `edit` does.
    """
    book = _book(view, hparams, history)
    anew = named(book.facts, disturbed)
    return (yield from book.rewritten(last_word(requests), (), anew))


def compacted(
    view: "ModelView", hparams: LedgerHparams, history: History
) -> Generator[Step, None, Outcome]:
    """All live facts in one solution at fresh keys, upon the state that is shown.

    Raises SingularSystem, and KeyError where no fact is live.
    """
    return (yield from _book(view, hparams, history).compacted())


def metric(view: "ModelView", hparams: LedgerHparams) -> tuple[MetricOf, object]:
    """A without earlier edits, and what made it: as memit-history's, for a solution of its own."""
    weight = hparams.second_moment_weight, hparams.written_share
    read = hparams.layers, hparams.late_layers, hparams.contexts  # what keys and goals are of
    return everyday(view, hparams), ("ledger", *weight, hparams.statistics, *read)


def _book(view: "ModelView", hparams: LedgerHparams, history: History) -> Book:
    return Book(view, hparams, history, metric(view, hparams))
