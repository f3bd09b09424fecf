"""Knobs of the method that trains the nodes on critical transmission paths."""

from dataclasses import dataclass
from typing import Literal

from .blocks import Contexts, knob, layer_band, maybe, option

NodeScore = Literal["absz", "signed", "l2", "gradxparam"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Online:
    """One commit at a time."""

    steps: int = knob(30, "optimiser steps on the target at most", low=1, high=1000)
    lr: float = knob(
        5e-4,
        "Adam's learning rate for 15 nodes a group; it goes with sqrt(15 / N)",
        low=1e-8,
        high=1,
    )
    clamp: float = knob(
        0.006, "no entry changes by more than so many standard deviations of its weight",
        low=1e-6, high=100,
    )  # fmt: skip
    stop_loss: float = knob(
        0.5, "training ends below this loss, once every target is the first choice", low=0, high=10
    )
    retraces: int = knob(2, "how often, at most, paths are traced anew", low=0, high=100)
    replay: int = knob(64, "past texts remembered; 0 = none", low=0, high=4096)
    replay_batch: int = knob(
        4, "how many of them are traced, and trained at each step, with the new ones",
        low=0, high=4096,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """All facts of an order in many passes, as published."""

    epochs: int = knob(15, "passes over all facts at most", low=1, high=1000)
    batch: int = knob(2, "texts in a mini-batch", low=1, high=4096)
    retrace_epochs: int = knob(2, "paths are traced anew after so many passes", low=1, high=1000)
    lr: float | None = maybe(
        "Adam's learning rate; null = 5e-5, or 1e-5 with legacy_adam", low=1e-8, high=1
    )
    stop_loss: float = knob(
        0.05, "training ends after a pass below this loss in which every target was the first "
        "choice", low=0, high=10,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CtpHparams:
    """CTP: the nodes on critical transmission paths are traced, and only they are trained."""

    mode: Literal["online", "session"] = option(
        "online", "'online': one commit at a time; 'session': many passes over all, as published"
    )
    layers: tuple[int, ...] = layer_band("the layers whose nodes are traced; null = all of them")
    contexts: Contexts = Contexts(prefixes=0)
    score: NodeScore = option(
        "absz",
        "of a node's gradient: mean |z| as published, signed sum, l2 norm, |<gradient, weight>|",
    )
    tracing: Literal["rank_aligned", "exact"] = option(
        "rank_aligned",
        "'rank_aligned': the best nodes of each group, as published; 'exact': the nodes of the "
        "paths with the greatest sums",
    )
    positive: int = knob(15, "N: paths whose nodes learn the target", low=1, high=4096)
    negative: int = knob(
        1, "paths whose nodes hold what the model said before; 0 = none", low=0, high=4096
    )
    mass: float | None = maybe(
        "let N be, in each group, the least number whose scores are this share of the group's, "
        "`positive` at most; the authors' future work with 0.02; null = always `positive`",
        low=1e-6,
        high=1,
    )
    layer_weights: bool = option(
        False, "weigh each group's rate, and its part in a path's sum, by its mean score"
    )
    contrast: float = knob(
        0.1, "lambda: weight of what the model said before; 0 = that step is left out",
        low=0, high=100,
    )  # fmt: skip
    legacy_adam: bool = option(
        False, "as published: momentum goes on moving nodes whose gradient is masked"
    )
    online: Online = Online()
    session: Session = Session()
