"""What fine-tuning methods share: Adam on copies, a bound, and when to stop.

    for each pass over the texts, in mini-batches:
        L = mean over the texts of their loss                                   (lessons.py)
        where L >= stop_loss: one step of Adam, then back within the bound
    until a pass is below stop_loss

What is trained lives beside the model: passes use it for the length of one forward and backward,
and at every yield the model serves its head. The bound is taken around the untouched model,

    min(theta_0 - epsilon, theta) <= theta' <= max(theta_0 + epsilon, theta)

with theta what the edit began with, so that edit after edit stays within epsilon of theta_0
(departure: the published code centres it anew for every edit). An entry that another method moved
further may come back, and may not go on.
"""

import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from editing.delta import Delta, Dense
from editing.errors import LossDiverged, TargetNotReached
from editing.hparams import Training
from editing.model.scoring import score
from editing.model.state import State
from editing.model.tokens import Continuation
from editing.outcome import Outcome
from editing.run import under
from editing.step import Step

from .lessons import Lessons, prefixes_of, texts_of

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

_POSITIONS = 2048  # run side by side, padding included

MakeLessons = Callable[["ModelView", Sequence[Continuation], int], Lessons]


class Trainee(Protocol):
    """What an optimiser moves, and how a pass uses it."""

    @property
    def leaves(self) -> list[Tensor]:
        """What Adam moves."""
        ...

    def used(self) -> AbstractContextManager[None]:
        """Passes inside this compute with what is trained."""
        ...

    def settle(self) -> None:
        """Do what follows a step of the optimiser."""
        ...

    def deltas(self) -> dict[str, Delta]:
        """What the training changed so far; nothing for what did not move."""
        ...


class Copies:
    """Float32 copies of some weights, trained in their place."""

    def __init__(self, view: "ModelView", names: Sequence[str], bound: float | None = None) -> None:
        self.view = view
        self.bound = bound
        self._start = {name: view.master(name) for name in names}
        self._copies = {
            name: start.clone(memory_format=torch.contiguous_format).requires_grad_()
            for name, start in self._start.items()
        }

    @property
    def leaves(self) -> list[Tensor]:
        """The copies."""
        return list(self._copies.values())

    def used(self) -> AbstractContextManager[None]:
        """Passes inside this compute with the copies."""
        return self.view.computing_with(self._copies)

    @torch.no_grad()
    def settle(self) -> None:
        """Bring every entry back within the bound."""
        if self.bound is None:
            return
        untouched = State()
        for name, copy in self._copies.items():
            base, start = self.view.master(name, untouched), self._start[name]
            low = torch.minimum(base - self.bound, start)
            copy.clamp_(low, torch.maximum(base + self.bound, start))

    def deltas(self) -> dict[str, Delta]:
        """The difference that training made, of the weights that moved."""
        moved = {name: copy.detach() - self._start[name] for name, copy in self._copies.items()}
        return {name: Dense(change) for name, change in moved.items() if bool(change.any())}


@dataclass(slots=True)
class _Log:
    """What happened while training: optimiser steps, and the mean loss of each pass."""

    steps: int = 0
    losses: list[float] = field(default_factory=list[float])


def trained(
    view: "ModelView",
    requests: Sequence["EditRequest"],
    hparams: Training,
    trainee: Trainee,
    *,
    first: int,
    lessons: MakeLessons = Lessons.of,
) -> Generator[Step, None, Outcome]:
    """Train on all requests; `first` is the lowest layer that is trained.

    Raises LossDiverged, NumericOverflow or TargetNotReached.
    """
    contexts = hparams.contexts
    prefixes = prefixes_of(view, contexts)
    rows = [
        row
        for request in requests
        for row in texts_of(
            view, request, prefixes, end=hparams.end_token, paraphrases=contexts.paraphrases
        )
    ]
    course = _Course(view, rows, hparams.batch, lambda some: lessons(view, some, first))
    log = _Log()
    yield from _train(course, hparams, trainee, log)
    deltas = trainee.deltas()
    reached = yield from probabilities(view, requests, deltas)
    for request, probability in zip(requests, reached, strict=True):
        # Written so that a NaN fails too.
        if not probability >= hparams.min_probability:
            raise TargetNotReached(
                subject=request.subject,
                target=request.target_new,
                reached=probability,
                steps=log.steps,
            )
    return Outcome(deltas, notes=_notes(log, deltas, reached))


@dataclass(slots=True)
class _Course:
    """All texts, and how they are cut into mini-batches and chunks that run side by side."""

    view: "ModelView"
    rows: Sequence[Continuation]
    batch: int
    make: Callable[[Sequence[Continuation]], Lessons]
    _kept: list[Lessons] | None = None

    @property
    def laps(self) -> int:
        """Mini-batches in a pass."""
        return -(-len(self.rows) // self.batch)

    def batches(self, epoch: int) -> Iterator[list[int]]:
        """The mini-batches of one pass, in an order of its own."""
        order = list(range(len(self.rows)))
        if self.laps > 1:
            random.Random(epoch).shuffle(order)  # noqa: S311 - an order is no secret
        for start in range(0, len(order), self.batch):
            yield order[start : start + self.batch]

    def chunks(self, batch: Sequence[int]) -> Iterator[Lessons]:
        """A mini-batch, so many texts at a time; the only one there is stays halted."""
        if self._kept is not None:
            yield from self._kept
            return
        numbers = sorted(batch, key=lambda number: len(self.rows[number].ids))
        made = (self.make([self.rows[n] for n in chunk]) for chunk in self._fitting(numbers))
        if self.laps == 1:
            self._kept = list(made)
            made = iter(self._kept)
        yield from made

    def _fitting(self, numbers: Sequence[int]) -> Iterator[list[int]]:
        chunk: list[int] = []
        for number in numbers:  # shortest first: the last one sets the width
            if chunk and (len(chunk) + 1) * len(self.rows[number].ids) > _POSITIONS:
                yield chunk
                chunk = []
            chunk.append(number)
        yield chunk


def _train(
    course: _Course, hparams: Training, trainee: Trainee, log: _Log
) -> Generator[Step, None, None]:
    """Pass after pass, until one is below the loss at which to stop."""
    adam = torch.optim.Adam(trainee.leaves, lr=hparams.lr, weight_decay=hparams.weight_decay)
    total = hparams.epochs * course.laps
    for epoch in range(hparams.epochs):
        mean = 0.0
        for lap, batch in enumerate(course.batches(epoch)):
            loss = 0.0
            adam.zero_grad()
            for number, chunk in enumerate(course.chunks(batch)):
                if number:  # a large mini-batch is not waited for as a whole
                    yield Step("train", epoch * course.laps + lap, total)
                loss += _add_gradient(chunk, trainee, len(batch))
            _require_loss(course.view, loss, log)
            if loss >= hparams.stop_loss:
                adam.step()
                trainee.settle()
                log.steps += 1
            mean += loss * len(batch) / len(course.rows)
            yield Step("train", epoch * course.laps + lap + 1, total, loss)
        log.losses.append(mean)
        if mean < hparams.stop_loss:
            return


@torch.enable_grad()
def _add_gradient(chunk: Lessons, trainee: Trainee, texts: int) -> float:
    """Add the gradient of a chunk's part of the mean loss over `texts` texts; that part."""
    with trainee.used():
        loss = chunk.graded().nll.sum() / texts
        loss.backward()
    return float(loss.detach())


def _require_loss(view: "ModelView", loss: float, log: _Log) -> None:
    if isfinite(loss):
        return
    if not log.steps:
        view.require_finite(torch.tensor(loss), "What the model answers before the edit")
    raise LossDiverged(steps=log.steps)


def probabilities(
    view: "ModelView", requests: Sequence["EditRequest"], deltas: Mapping[str, Delta]
) -> Generator[Step, None, list[float]]:
    """p(o*) of each request under `deltas`: the least one of its texts (mean over tokens)."""
    asked = [
        (number, prompt.replace("{}", request.subject), target)
        for number, request in enumerate(requests)
        for prompt, target in request.texts
    ]
    pairs = [(question, target) for _, question, target in asked]
    scores = yield from under(view, view.after(deltas), score(view, pairs))
    found: dict[int, list[float]] = {}
    for (number, _, _), one in zip(asked, scores, strict=True):
        found.setdefault(number, []).append(one.mean_probability)
    # A sum keeps a NaN that a comparison would pass by.
    return [min(many) if isfinite(sum(many)) else float("nan") for many in found.values()]


def _notes(log: _Log, deltas: Mapping[str, Delta], reached: list[float]) -> dict[str, object]:
    wholes = [delta.whole for delta in deltas.values() if isinstance(delta, Dense)]
    notes: dict[str, object] = {
        "steps": log.steps,
        "loss_first": log.losses[0],
        "loss_last": log.losses[-1],
        "probability": reached,
        "weights_changed": len(deltas),
    }
    if wholes:
        notes["entries_changed"] = sum(int(whole.count_nonzero()) for whole in wholes)
        notes["largest_change"] = max(float(whole.abs().max()) for whole in wholes)
    return notes
