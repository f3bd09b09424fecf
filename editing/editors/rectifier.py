"""Contrastive rectification: the nodes on the best paths learn, those on the least one hold.

Trace, then alternate two steps of Adam on every mini-batch. What was traced and what each step lost
is kept for the report.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.errors import LossDiverged
from editing.hparams import CtpHparams
from editing.step import Step

from .lessons import Lessons
from .nodes import Nodes
from .paths import Selection, group_weights, select

if TYPE_CHECKING:
    from editing.model.view import ModelView

_PUBLISHED = 15  # paths that the learning rate of mode "online" is named for
_SESSION_LR, _LEGACY_LR = 5e-5, 1e-5
_DIGITS = 4  # of scores in the report


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts to be learned, in chunks that run side by side, and the same with their old answers."""

    new: Sequence[Lessons]
    old: Sequence[Lessons] = ()


@dataclass(frozen=True, slots=True)
class Lap:
    """What was seen before a step: the mean loss, and whether every target was the first choice."""

    loss: float
    right: bool


@dataclass(slots=True)
class Rectifier:
    """The nodes of a model in training; `total` is the number of steps that progress counts to."""

    view: "ModelView"
    hparams: CtpHparams
    nodes: Nodes
    limits: Sequence[float] | None
    total: int
    rates: list[float] = field(default_factory=list[float])
    traces: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    losses: list[float] = field(default_factory=list[float])
    held: list[float] = field(default_factory=list[float])

    @classmethod
    def of(cls, view: "ModelView", hparams: CtpHparams, steps: int) -> "Rectifier":
        """Nothing is traced yet; the target is to be learned in `steps` steps at most."""
        nodes = Nodes.of(view, hparams.layers, legacy=hparams.legacy_adam)
        limits = None
        if hparams.mode == "online":
            limits = [hparams.online.clamp * deviation for deviation in nodes.deviations()]
        return cls(view, hparams, nodes, limits, steps)

    @property
    def taken(self) -> int:
        """Steps on the target so far."""
        return len(self.losses)

    def trace(self, chunks: Sequence[Lessons]) -> Generator[Step, None, None]:
        """Choose the nodes to train from now on, by the loss of the targets."""
        scores = yield from self.nodes.trace(chunks, self.hparams.score)
        if not all(bool(one.isfinite().all()) for one in scores):
            raise LossDiverged(steps=self.taken)
        chosen = select(scores, self.hparams)
        self.nodes.select(chosen)
        self.rates = self._rates(scores, chosen)
        self.traces.append(self._traced(scores, chosen))

    def learn(self, batch: Batch, *, enough: bool) -> Generator[Step, None, Lap]:
        """One step on T+ towards the targets; with `enough`, none where they are learned."""
        gradients, lap = yield from self._graded(batch.new, 1.0)
        self.losses.append(lap.loss)
        if not (enough and self.learned(lap)):
            self._step(gradients, "positive")
        yield Step("train", self.taken, self.total, lap.loss)
        return lap

    def hold(self, batch: Batch) -> Generator[Step, None, None]:
        """One step on T- towards what the untouched model would say."""
        if not batch.old:
            return
        gradients, lap = yield from self._graded(batch.old, self.hparams.contrast)
        self.held.append(lap.loss)
        self._step(gradients, "negative")
        yield Step("train", self.taken, self.total, lap.loss)

    def learned(self, lap: Lap) -> bool:
        """Whether training may end."""
        hparams = self.hparams
        knobs = hparams.session if hparams.mode == "session" else hparams.online
        return lap.right and lap.loss < knobs.stop_loss

    def _graded(
        self, chunks: Sequence[Lessons], weight: float
    ) -> Generator[Step, None, tuple[list[Tensor], Lap]]:
        """Gradients of the weighted mean loss over all chunks, and what was seen."""
        texts = sum(map(len, chunks))
        sums: list[Tensor] = []
        loss, right = 0.0, True
        for number, lessons in enumerate(chunks):
            if number:
                yield Step("train", self.taken, self.total)
            with torch.enable_grad(), self.nodes.live():
                graded = lessons.graded()
                part = self.nodes.gradients(weight * graded.nll.sum() / texts)
            sums = [a + b for a, b in zip(sums, part, strict=True)] if sums else part
            loss += float(graded.nll.detach().sum()) / texts
            right = right and bool(graded.first.all())
        if not math.isfinite(loss):
            if not self.losses:
                whole = torch.tensor(loss)
                self.view.require_finite(whole, "What the model answers before the edit")
            raise LossDiverged(steps=self.taken)
        return sums, Lap(loss, right)

    def _step(self, gradients: Sequence[Tensor], side: str) -> None:
        self.nodes.step(gradients, side, self.rates)
        if self.limits is not None:
            self.nodes.clamp(self.limits)

    def _rates(self, scores: Sequence[Tensor], chosen: Selection) -> list[float]:
        """The learning rate of each group."""
        hparams = self.hparams
        weights = group_weights(scores) if hparams.layer_weights else [1.0] * len(scores)
        if hparams.mode == "session":
            lr = hparams.session.lr or (_LEGACY_LR if hparams.legacy_adam else _SESSION_LR)
            return [lr * weight for weight in weights]
        # A step moves the nodes of a group together by as much, however many they are.
        counts = [len(nodes) for nodes in chosen.positive]
        lr = hparams.online.lr
        return [lr * w * math.sqrt(_PUBLISHED / n) for w, n in zip(weights, counts, strict=True)]

    def _traced(self, scores: Sequence[Tensor], chosen: Selection) -> dict[str, object]:
        """A trace as the report tells it."""
        layers: dict[int, dict[str, object]] = {}
        for group, values, positive, negative in zip(
            self.nodes.groups, scores, chosen.positive, chosen.negative, strict=True
        ):
            layers.setdefault(group.layer, {"layer": group.layer})[group.kind] = {
                "nodes": positive,
                "scores": _told(values[positive]),
                "negative": negative,
                "negative_scores": _told(values[negative]),
            }
        return {
            "at_step": self.taken,
            "n": len(chosen.sums),
            "path_sums": [_rounded(total) for total in chosen.sums],
            "lowest_sum": _rounded(chosen.lowest),
            "layers": list(layers.values()),
        }

    def report(self) -> dict[str, object]:
        """Everything that was traced and lost, for an outcome's notes."""
        hparams = self.hparams
        return {
            "mode": hparams.mode,
            "score": hparams.score,
            "tracing": hparams.tracing,
            "lambda": hparams.contrast,
            "legacy_adam": hparams.legacy_adam,
            "traces": self.traces,
            "steps": self.taken,
            "losses": [_rounded(loss) for loss in self.losses],
            "held": [_rounded(loss) for loss in self.held],
        }


def _told(values: Tensor) -> list[float]:
    return [_rounded(value) for value in values.tolist()]


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
