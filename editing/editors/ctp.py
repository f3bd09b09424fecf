"""CTP: the nodes on critical transmission paths are traced, and only they are trained.

"Critical transmission paths" and "parameter-aware contrastive rectification", ACL 2025,
2025.acl-long.1367, and its authors' code. Nodes are the key and value vectors of all MLPs. The
gradient of CE(x, y*) gives each a score (paths.py); T+ holds the nodes of the N best paths, T-
those of the least one. Two optimiser steps alternate on every mini-batch:

    on T+    CE(x, y*)
    on T-    lambda CE(x, y)       y: the untouched model's first choices, teacher-forced with y*

Modes: "session" as published, many passes over all facts of an order; "online" for one commit after
another, whose steps take all new facts and some earlier ones (replay.py).

Departures. Adam is masked by default (adam.py; `legacy_adam` as published), and for Adam lambda is
only a switch, since it divides by the gradient's size. Biases are left alone (the authors' code
trains two of them in GPT-J). Scores are weighed, and N grown, only where hparams ask for it.
"""

import random
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.errors import EmptyField, InvalidHparam
from editing.history import History
from editing.hparams import CtpHparams
from editing.model.state import State
from editing.model.tokens import Continuation, continued
from editing.outcome import Outcome
from editing.step import Step

from .lessons import Lessons, prefixes_of, texts_of
from .rectifier import Batch, Lap, Rectifier
from .replay import NOTE, Reservoir, note_of, remembered

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

_POSITIONS = 512  # run side by side, padding included


def edit(
    view: "ModelView", requests: Sequence["EditRequest"], hparams: CtpHparams, history: History
) -> Generator[Step, None, Outcome]:
    """Train a batch of facts into traced nodes.

    Raises InvalidHparam, LossDiverged, NumericOverflow or UnsupportedArchitecture.
    """
    if not requests:
        raise EmptyField(field="requests")
    nodes = view.facts.d_key
    if hparams.positive + hparams.negative > nodes:
        must = f"at most {nodes - hparams.negative}: a group of this model has {nodes} nodes"
        raise InvalidHparam("positive", value=hparams.positive, must=must)
    contexts = hparams.contexts
    prefixes = prefixes_of(view, contexts)
    texts = [
        _Text(row)
        for request in requests
        for row in texts_of(view, request, prefixes, paraphrases=contexts.paraphrases)
    ]
    if hparams.contrast and hparams.negative:
        texts = yield from _with_old_answers(view, texts)
    if hparams.mode == "session":
        trained = yield from _session(view, texts, hparams)
    else:
        past = remembered(history, requests, hparams.online.replay)
        trained = yield from _online(view, texts, past, hparams)
    notes = {**trained.report(), NOTE: note_of(requests)}
    return Outcome(trained.nodes.deltas(), notes=notes)


@dataclass(frozen=True, slots=True)
class _Text:
    """A question with its target, and what the untouched model would say at each target token."""

    row: Continuation
    old: Tensor | None = None


def _with_old_answers(
    view: "ModelView", texts: Sequence[_Text]
) -> Generator[Step, None, list[_Text]]:
    """The same texts with the untouched model's first choices, teacher-forced."""
    found: dict[int, _Text] = {}
    top = len(view.blocks) - 1  # nothing is trained here: only the last block need be run apart
    for numbers in _chunks(texts):
        with torch.no_grad(), view.showing(State()):
            lessons = Lessons.of(view, [texts[n].row for n in numbers], top)
            old = lessons.graded().logprobs.argmax(-1).split(lessons.sizes.tolist())
        found |= {n: replace(texts[n], old=one) for n, one in zip(numbers, old, strict=True)}
        yield Step("trace", len(found), len(texts))
    return [found[number] for number in range(len(texts))]


def _chunks(texts: Sequence[_Text]) -> Iterator[list[int]]:
    """Numbers of texts to run side by side: of like length, within the bound on positions."""
    chunk: list[int] = []
    for number in sorted(range(len(texts)), key=lambda n: len(texts[n].row.ids)):
        if chunk and (len(chunk) + 1) * len(texts[number].row.ids) > _POSITIONS:
            yield chunk
            chunk = []
        chunk.append(number)
    yield chunk


def _batch(view: "ModelView", texts: Sequence[_Text], first: int) -> Batch:
    """Texts halted below the lowest block in training; those that have old answers, twice."""
    new: list[Lessons] = []
    old: list[Lessons] = []
    for numbers in _chunks(texts):
        chosen = [texts[n] for n in numbers]
        new.append(Lessons.of(view, [one.row for one in chosen], first))
        answers = [one.old for one in chosen if one.old is not None]
        if answers:
            old.append(replace(new[-1], gold=torch.cat(answers)))
    return Batch(new, old)


def _session(
    view: "ModelView", texts: Sequence[_Text], hparams: CtpHparams
) -> Generator[Step, None, Rectifier]:
    """As published: shuffled mini-batches in many passes, traced anew every few of them."""
    knobs = hparams.session
    chance = random.Random(0)  # noqa: S311 - an order is no secret
    first = hparams.layers[0]
    laps = -(-len(texts) // knobs.batch)
    rectifier = Rectifier.of(view, hparams, laps * knobs.epochs)
    for epoch in range(knobs.epochs):
        if epoch % knobs.retrace_epochs == 0:
            yield from rectifier.trace(_batch(view, texts, first).new)
        order = chance.sample(texts, len(texts))
        seen: list[Lap] = []
        for start in range(0, len(order), knobs.batch):
            batch = _batch(view, order[start : start + knobs.batch], first)
            seen.append((yield from rectifier.learn(batch, enough=False)))
            yield from rectifier.hold(batch)
        loss = sum(lap.loss for lap in seen) / laps
        if rectifier.learned(Lap(loss, all(lap.right for lap in seen))):
            break
    return rectifier


def _online(
    view: "ModelView", texts: Sequence[_Text], past: Reservoir, hparams: CtpHparams
) -> Generator[Step, None, Rectifier]:
    """A few steps on all new facts, each with some of the earlier ones."""
    knobs = hparams.online
    first = hparams.layers[0]
    rectifier = Rectifier.of(view, hparams, knobs.steps)
    new = _batch(view, texts, first)
    spaced = -(-knobs.steps // (knobs.retraces + 1))
    for step in range(knobs.steps):
        drawn = past.drawn(knobs.replay_batch, step)
        old = [_Text(continued(view.tokenizer, one.question, one.target)) for one in drawn]
        again = _batch(view, old, first).new if old else []
        batch = Batch([*new.new, *again], new.old)
        if step % spaced == 0:
            yield from rectifier.trace(batch.new)
        lap = yield from rectifier.learn(batch, enough=True)
        if rectifier.learned(lap):
            break
        yield from rectifier.hold(batch)
    return rectifier
