"""The joint solution that a ledger writes into, with what one order takes out of it and puts in."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.delta import Change
from editing.errors import SingularSystem
from editing.history import History
from editing.hparams import LedgerHparams
from editing.model.state import State
from editing.model.view import layer_of
from editing.outcome import Outcome, Written
from editing.solve import Metric
from editing.step import Step

from .band import MetricOf, Solve, Solved, remembering, softly
from .revive import revived
from .site import Spot
from .slots import Slot
from .solution import changed, missing_now, rest_of, spot_of, taken_out, wanted_of, whole

if TYPE_CHECKING:
    from editing.model.view import ModelView

Parts = Sequence[Outcome]  # what one order has done so far, each part upon the one before


@dataclass(frozen=True, slots=True)
class Joint:
    """A solution under the metric `bases`, which hparams `made_by` made, as a lineage has it."""

    view: "ModelView"
    hparams: LedgerHparams
    history: History
    bases: MetricOf
    made_by: object
    edits: int  # of which a fact is live in it

    def state(self, parts: Parts) -> State:
        """What the model is behind these parts."""
        state = self.view.current
        for part in parts:
            state = self.view.after(part.deltas, state)
        return state

    def without(self, slots: Sequence[Slot]) -> Generator[Step, None, Outcome]:
        """The change that takes slots out. Raises SingularSystem."""
        found: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for slot in slots:
            for weight in slot.columns:
                pair = slot.pair(weight)
                left = missing_now(self.history, slot.entry, weight, pair, self.made_by)
                found.setdefault(weight, []).append((pair.keys, left))
        deltas: dict[str, Change] = {}
        for number, (weight, some) in enumerate(found.items()):
            keys, missing = (torch.cat(part, dim=1) for part in zip(*some, strict=True))
            base = self.bases(spot_of(self.view, weight))
            deltas[weight] = taken_out(self.history, weight, keys, missing, base, self.made_by)
            yield Step("solve", number + 1, len(found))
        return Outcome(deltas)

    def put_back(self, slots: Sequence[Slot], out: Sequence[Slot], parts: Parts) -> Outcome:
        """The change that writes slots again at their keys for their targets.

        Raises SingularSystem.
        """
        solve, state = self.solve(out, parts), self.state(parts)
        deltas: dict[str, Change] = {}
        written: dict[str, Written] = {}
        for weight in sorted({weight for slot in slots for weight in slot.columns}, key=layer_of):
            pairs = [(slot.entry, slot.pair(weight)) for slot in slots if weight in slot.columns]
            asked = [wanted_of(self.history, e, weight, p, self.made_by) for e, p in pairs]
            keys, wanted = torch.cat([pair.keys for _, pair in pairs], dim=1), torch.cat(asked, 1)
            changes = [whole(part.changes[weight]) for part in parts if weight in part.changes]
            before = changed(self.history, weight, self.made_by)
            for S in (*changes, *(() if before is None else (before,))):
                wanted = wanted - S @ keys.to(S)
            solved = solve(spot_of(self.view, weight), keys, wanted)
            deltas[weight] = solved.change
            written[weight] = Written.of(
                self.view.master(weight, state), keys, wanted, solved.change
            )
        return Outcome(deltas, written)

    def solve(self, out: Sequence[Slot], parts: Parts) -> Solve:
        """How a weight is written, where slots were taken out and parts written before."""
        metric_of = self.upon(parts, self._less(out))
        plain, after = softly(metric_of), self.hparams.filter_after
        if after is None or self.edits < after:
            return plain
        filtered = revived(self.view, self.hparams, self.history, metric_of, self.made_by)
        written = {weight for part in parts for weight in part.written}

        def solve(spot: Spot, K: Tensor, R: Tensor) -> Solved:
            kind, layer = spot
            # What is to be made up for is written once an order.
            return (plain if self.view.written_at(layer, kind) in written else filtered)(spot, K, R)

        return solve

    def upon(self, parts: Parts, metric_of: MetricOf) -> MetricOf:
        """A metric with the keys of parts."""

        def more(spot: Spot) -> Metric:
            kind, layer = spot
            weight = self.view.written_at(layer, kind)
            found = metric_of(spot)
            for part in parts:
                if weight in part.written:
                    found = found.with_keys(part.written[weight].keys)
            return found

        return more

    def _less(self, out: Sequence[Slot]) -> MetricOf:
        """The metric of the lineage without the keys of slots."""
        folded = remembering(self.view, self.history, self.bases, self.made_by)

        def less(spot: Spot) -> Metric:
            kind, layer = spot
            weight = self.view.written_at(layer, kind)
            gone = [slot.pair(weight).keys for slot in out if weight in slot.columns]
            found = folded(spot)
            if not gone:
                return found
            K = torch.cat(gone, dim=1)
            try:
                return found.without_keys(K)
            except SingularSystem:  # taking them out would lose digits
                return rest_of(self.history, weight, K, self.bases(spot), self.made_by)

        return less
