"""What UltraEdit asks a matrix to answer: values made of one gradient, on one scale for ever.

Gu, Chen, Li, Gu, Hu, Zhang. "UltraEdit: Training-, Subject-, and Memory-Free Lifelong Editing in
Language Models", arXiv:2505.14679. For a token that predicts one of the target

    h, g      what enters the matrix, and the gradient of the loss with respect to its answer
    h^, g^    the same with mean 0 and deviation 1 in each dimension, over the tokens of all turns
    v         = - eta |h^|^2 g^          what the matrix shall answer besides

A turn is an order. Means and deviations are a fold over the live edits that kept their gradients
(outcome.Written.downhill) and the order itself, so a restore or a retract takes them back.

Departure: of one token there is no deviation, and of a few a poor one, while the published code has
turns of a hundred edits. Some tokens are counted before the first, with mean 0 and, in every
dimension, the mean square over all of them; how many is `prior`. The first token keeps its
direction and gets the scale, |h^|^2 = d_in; after some hundreds what is left is the published rule.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.catalogue import Matrix
from editing.delta import Change, LowRank
from editing.history import Entry, History
from editing.hparams import UltraHparams
from editing.outcome import Outcome, Written
from editing.step import Step

from .lessons import Lessons, texts_of
from .token_gradients import TokenGradient, target_gradients

if TYPE_CHECKING:
    from collections.abc import Callable

    from editing.model.view import ModelView
    from editing.request import EditRequest

_ROWS = 32  # texts in one backward pass
_MATRICES: dict[str, tuple[Matrix, ...]] = {
    "down": ("down_proj",),
    "up": ("up_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}
# eta |h^|^2 of a token as large as the mean one, for a model that nobody tuned: found on SmolLM2.
_STEP = 0.6


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and squared deviations of all rows so far, for each dimension (Welford); float64."""

    count: float
    mean: Tensor
    squares: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> "Moments":
        """Those of rows [n, size]."""
        exact = rows.double()
        mean = exact.mean(0)
        return cls(len(exact), mean, (exact - mean).square().sum(0))

    def then(self, more: "Moments") -> "Moments":
        """Those of both."""
        whole = self.count + more.count
        apart = more.mean - self.mean
        mean = self.mean + apart * (more.count / whole)
        between = apart.square() * (self.count * more.count / whole)
        return Moments(whole, mean, self.squares + more.squares + between)

    def normal(self, rows: Tensor, prior: float) -> Tensor:
        """Rows [n, size] with mean 0 and deviation 1, `prior` rows counted before the first."""
        scale = (self.squares / self.count + self.mean.square()).mean()
        even = torch.full_like(self.mean, float(scale))
        whole = Moments(prior, torch.zeros_like(self.mean), prior * even).then(self)
        deviation = (whole.squares / whole.count).sqrt()
        away = rows.double() - whole.mean
        return torch.where(deviation > 0, away / deviation, 0.0)


@dataclass(frozen=True, slots=True)
class Seen:
    """The moments of what enters a matrix, and of which way its answers should move."""

    h: Moments
    downhill: Moments

    @classmethod
    def of(cls, tokens: TokenGradient) -> "Seen":
        """Those of some tokens."""
        return cls(Moments.of(tokens.u), Moments.of(tokens.delta))

    def then(self, more: "Seen") -> "Seen":
        """Those of both."""
        return Seen(self.h.then(more.h), self.downhill.then(more.downhill))


def seen_before(history: History, weight: str, device: torch.device) -> Seen | None:
    """The moments over all live edits that kept their gradients at a weight; None without any."""

    def added(seen: Seen | None, pair: Written | None) -> Seen | None:
        if pair is None or pair.downhill is None:
            return seen
        tokens = TokenGradient(pair.keys.mT.to(device), pair.downhill.mT.to(device))
        return Seen.of(tokens) if seen is None else seen.then(Seen.of(tokens))

    def fold(seen: Seen | None, fresh: Sequence[Entry]) -> Seen | None:
        if any(entry.removes for entry in fresh):  # to subtract would lose digits
            seen = None
            for pair in history.pairs(weight):
                seen = added(seen, pair)
            return seen
        for entry in fresh:
            seen = added(seen, entry.load().written.get(weight))
        return seen

    start: Seen | None = None
    return history.folded(weight, "moments of keys and gradients", start, fold)


def values(tokens: TokenGradient, seen: Seen, eta: float, prior: float) -> Tensor:
    """V [d_out, n] = - eta |h^|^2 g^, float64; `seen` has counted these tokens."""
    h = seen.h.normal(tokens.u, prior)
    downhill = seen.downhill.normal(tokens.delta, prior)
    return (eta * h.square().sum(1, keepdim=True) * downhill).mT


def eta_by_scale(d_in: int) -> float:
    """Eta for a model that nobody tuned: |h^|^2 is d_in on average, whatever the model."""
    return _STEP / d_in


def stepped(
    view: "ModelView",
    requests: Sequence["EditRequest"],
    hparams: UltraHparams,
    history: History,
    solve: "Callable[[str, Tensor, Tensor], LowRank]",
) -> Generator[Step, None, Outcome]:
    """One step for a batch of facts; solve: weight, H [d_in, n], V [d_out, n] -> its change."""
    names = sites(view, hparams)
    asked, loss = yield from _asked(view, requests, names, hparams.layers[0])
    deltas: dict[str, Change] = {}
    written: dict[str, Written] = {}
    for number, (name, tokens) in enumerate(asked.items()):
        seen = Seen.of(tokens)
        before = seen_before(history, name, view.device)
        if before is not None:
            seen = before.then(seen)  # the turn's own tokens count, as published
        eta = eta_by_scale(tokens.u.shape[1]) if hparams.eta is None else hparams.eta
        V = values(tokens, seen, eta, hparams.prior)
        H = tokens.u.mT.double()
        change = deltas[name] = solve(name, H, V)
        pair = Written.of(view.master(name), H, V, change)
        written[name] = replace(pair, downhill=tokens.delta.mT.contiguous())
        yield Step("solve", number + 1, len(asked))
    tokens = len(asked[names[0]].u)
    notes: dict[str, object] = {"loss": loss, "tokens": tokens}
    return Outcome(deltas, written, notes)


def sites(view: "ModelView", hparams: UltraHparams) -> list[str]:
    """The matrices that are edited, lowest layer first."""
    kinds = _MATRICES[hparams.matrices]
    return [
        name for layer in hparams.layers for kind in kinds for name in view.matrices(layer, kind)
    ]


def _asked(
    view: "ModelView", requests: Sequence["EditRequest"], names: Sequence[str], first: int
) -> Generator[Step, None, tuple[dict[str, TokenGradient], float]]:
    """What the requests ask of each matrix, and the mean loss before."""
    texts = [text for request in requests for text in texts_of(view, request)]
    found: dict[str, TokenGradient] = {}
    loss = 0.0
    for start in range(0, len(texts), _ROWS):
        part = texts[start : start + _ROWS]
        more, mean = target_gradients(view, Lessons.of(view, part, first), names)
        found = {name: found[name].then(one) if found else one for name, one in more.items()}
        loss += mean * len(part) / len(texts)
        yield Step("train", start + len(part), len(texts), loss)
    return found, loss
