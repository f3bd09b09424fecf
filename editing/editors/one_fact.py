"""What ROME and R-ROME share: one fact is learned at one layer before anything is written."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.delta import LowRank
from editing.hparams import RomeHparams, RRomeHparams
from editing.outcome import Outcome, Written
from editing.solve import Metric, size_under
from editing.step import Step

from .asking import Asking, KeyAt
from .at_site import at_key_site
from .keys import KeyReader
from .zsearch import find_delta

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest


@dataclass(frozen=True, slots=True)
class Learned:
    """One fact, learned but not yet written.

    W [d_v, d_k]: the weight as it is; keys [d_k, c]: one column a context, the bare prompt first;
    delta [d_v]: what the layer's output lacks; moment: the second moment of the layer, metric: the
    same, factored.
    """

    weight: str
    W: Tensor
    keys: Tensor
    delta: Tensor
    metric: Metric
    moment: Tensor
    notes: dict[str, object]

    def outcome(self, change: LowRank) -> Outcome:
        """The change as an outcome, with the association that it writes."""
        missing = self.delta[:, None].expand(-1, self.keys.shape[1])
        written = Written.of(self.W, self.keys, missing, change)
        notes = {**self.notes, "size_under_C": {self.weight: size_under(change, self.moment)}}
        return Outcome({self.weight: change}, {self.weight: written}, notes)


def write_one(
    view: "ModelView",
    requests: Sequence["EditRequest"],
    hparams: RomeHparams | RRomeHparams,
    change_of: Callable[[Learned], LowRank],
) -> Generator[Step, None, Outcome]:
    """Learn the one fact and write what `change_of` makes of it. Raises SearchDiverged."""

    def once(
        key_at: KeyAt, layers: tuple[int, ...], share: float
    ) -> Generator[Step, None, Outcome]:
        asking = Asking.of(view, hparams.contexts, key_at)
        fact = yield from _learn(view, requests, hparams, asking=asking, layers=layers, share=share)
        change = change_of(fact)
        yield Step("solve", 1, 1)
        return fact.outcome(change)

    return (yield from at_key_site(view, hparams, hparams.layers, once))


def _learn(
    view: "ModelView",
    requests: Sequence["EditRequest"],
    hparams: RomeHparams | RRomeHparams,
    *,
    asking: Asking,
    layers: tuple[int, ...],
    share: float,
) -> Generator[Step, None, Learned]:
    """Read the fact's keys and search what its layer should add."""
    (request,) = requests  # of two prompts the one to add is written; the other has another key
    request = asking.apart([request])[0]
    layer = layers[-1]
    reader = KeyReader(view, [request], asking, [layer])
    yield from reader.start()
    reading = reader.read()
    found = yield from find_delta(
        view,
        [request],
        layer=layer,
        search=hparams.search,
        asking=asking,
        # the bounds are set by v here, not by h
        reference=reading.entering[:, :1].mT.float()[:, None],
    )
    metric = view.stats.metric(layer, hparams.statistics)
    bare = float(torch.atleast_1d(metric.leverage(reading.keys))[0])
    notes: dict[str, object] = {
        "search_steps": found.steps,
        "searched_probability": found.probability,
        "leverage": bare,
    }
    delta = share * found.delta[0].double()
    name = view.down_proj(layer)
    moment = view.stats.second_moment(layer, hparams.statistics)
    W = view.master(name)
    return Learned(name, W, reading.keys, delta, metric, moment, notes)


def mean_key(keys: Tensor, bare_weight: float) -> Tensor:
    """One key [d_k, 1] for all contexts [d_k, c], in which the bare prompt counts `bare_weight`."""
    bare, prefixed = keys[:, :1], keys[:, 1:]
    if not prefixed.shape[1]:
        return bare
    return bare_weight * bare + (1 - bare_weight) * prefixed.mean(1, keepdim=True)
