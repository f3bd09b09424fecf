"""What the MEMIT family shares: what is missing is spread over a band of layers, lowest first.

    d_i    what layer L must write besides at the subject's last token to say o*_i      (zsearch.py)
    for l in layers, lowest first, with the layers below already edited:
        K  keys of the facts at layer l, one column a context                           (keys.py)
        R  (H_0 + d - H) / (layers left): this layer's share of what is missing at block L
        D_l = R (I + KT A_l^-1 K)^-1 KT A_l^-1                                         (solve.write)

Where a norm follows the write, d is added before it and R is what brings about that share behind it
(`_Goal`; see docs/decisions/0012).

Departure: the published code averages the keys of a fact over its contexts; here each context keeps
its own key and its own residual, the bare prompt among them (see docs/decisions).
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from editing.delta import LowRank
from editing.hparams import MemitHparams
from editing.outcome import Outcome, Written
from editing.solve import Metric, size_under, write
from editing.step import Step

from .keys import KeyReader, Reading
from .zsearch import find_delta

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

# The share of its residual that a key of average leverage gets written, from which lambda follows.
_WRITTEN_SHARE = 0.9


def weight_by_scale(d_key: int) -> float:
    """lambda for a model that nobody tuned: d_k (1 - share) / share.

    With A = lambda C one key gets g / (lambda + g) of its residual written, g = kT C^-1 k its
    leverage. Over the keys C was collected from, g is d_k on average, whatever the model's scale,
    since E[kT C^-1 k] = tr(C^-1 E[k kT]) = d_k. The keys of subjects are rarer and get more.
    """
    return d_key * (1 - _WRITTEN_SHARE) / _WRITTEN_SHARE


def second_moment_weight(view: "ModelView", hparams: MemitHparams) -> float:
    """lambda: what the hparams say, else by the rule of scale."""
    given = hparams.second_moment_weight
    return weight_by_scale(view.facts.d_key) if given is None else given


def spread(
    view: "ModelView",
    requests: Sequence["EditRequest"],
    hparams: MemitHparams,
    metric_of: Callable[[int], Metric],
) -> Generator[Step, None, Outcome]:
    """Write a batch of facts; `metric_of(layer)` gives A. Raises SearchDiverged, SingularSystem."""
    prefixes = view.stats.prefixes(hparams.contexts)
    band = range(hparams.layers[0], hparams.layers[-1] + 1)
    found = yield from find_delta(
        view, requests, layer=band[-1], search=hparams.search, prefixes=prefixes
    )
    reader = KeyReader(view, requests, prefixes, band)
    yield from reader.start()

    missing = found.delta.double().mT.repeat_interleave(len(prefixes) + 1, dim=1)  # [d_v, n]
    goal: _Goal | None = None
    deltas: dict[str, LowRank] = {}
    written: dict[str, Written] = {}
    leverage: dict[str, float] = {}
    size: dict[str, float] = {}
    for number, layer in enumerate(band):
        here: dict[str, LowRank] = {}
        if layer in hparams.layers:
            reading = reader.read()
            goal = goal or _Goal.of(view, band[-1], reading, missing)
            share = sum(other >= layer for other in hparams.layers)
            metric = metric_of(layer)
            R = goal.residual(layer, reading, share)
            delta = write(reading.keys, R, metric, rho=1.0)
            name = view.down_proj(layer)
            here[name] = deltas[name] = delta
            values = reading.values + delta.at(reading.keys)
            targets = reading.values + R
            written[name] = Written(reading.keys.float(), values.float(), targets.float())
            leverage[name] = float(metric.leverage(reading.keys).median())
            C = view.stats.second_moment(layer, hparams.statistics)
            size[name] = size_under(delta, C)
        if layer != band[-1]:
            reader.climb(here)
        yield Step("solve", number + 1, len(band))
    notes: dict[str, object] = {
        "second_moment_weight": second_moment_weight(view, hparams),
        "search_steps": found.steps,
        "searched_probability": found.probability,
        "leverage": leverage,
        "size_under_C": size,
    }
    return Outcome(deltas, written, notes)


@dataclass(frozen=True, slots=True)
class _Goal:
    """What the band is to bring about; columns are keys, before any layer is edited.

    entering [d_v, n]: what is to enter the step behind the last layer's write; hidden [d_v, n]:
    what block L is to answer then; rest [d_v, n]: the part of it that is not layer L's write.
    """

    view: "ModelView"
    last: int
    entering: Tensor
    hidden: Tensor
    rest: Tensor

    @classmethod
    def of(cls, view: "ModelView", last: int, reading: Reading, missing: Tensor) -> "_Goal":
        landing = view.landing(last)
        entering = reading.last + missing
        rest = reading.hidden - landing(reading.last)
        return cls(view, last, entering, rest + landing(entering), rest)

    def residual(self, layer: int, reading: Reading, share: int) -> Tensor:
        """R [d_v, n]: by how much W K is to change at `layer`, the `share`-th from above."""
        landing = self.view.landing(layer)
        if layer == self.last:
            # What lower layers brought is in `rest` now, and no longer wanted of this one.
            rest = reading.hidden - landing(reading.last)
            return landing.before(self.entering, self.rest - rest) - reading.last
        missing = (self.hidden - reading.hidden) / share
        return landing.before(reading.entering, missing) - reading.entering
