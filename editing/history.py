"""What earlier live edits wrote, for the editors that keep them where they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .delta import Outcome
from .solve import Metric


@dataclass(slots=True)
class _Folded:
    """A metric with the keys of the first `count` entries already in it."""

    ids: tuple[str, ...]
    metric: Metric


@dataclass(slots=True)
class History:
    """The live edits of a lineage, oldest first; what they wrote is read when it is first needed.

    The working state is the folded inverse, one a layer: when edits are added only their keys are
    folded in, when some are gone (a restore) it is folded anew. It lives in `folds`, which a host
    passes on from one History to the next.
    """

    entries: Sequence[tuple[str, Callable[[], Outcome]]] = ()
    folds: dict[tuple[str, object], _Folded] = field(
        default_factory=dict[tuple[str, object], _Folded]
    )

    def __len__(self) -> int:
        return len(self.entries)

    @classmethod
    def empty(cls) -> "History":
        """A lineage without edits."""
        return cls()

    def keys(self, weight: str) -> Tensor | None:
        """All written keys of a weight, K_p [d_k, m]; None when there are none."""
        return _keys(self.entries, weight)

    def metric(self, weight: str, made_by: object, base: Metric) -> Metric:
        """`base` with the keys of every live edit folded in.

        `made_by` names what made the base metric (lambda, statistics). Folding costs d_k^2 a key;
        after a restart or a restore all keys are folded anew.
        """
        ids = tuple(name for name, _ in self.entries)
        known = self.folds.get((weight, made_by))
        if known is None or known.ids != ids[: len(known.ids)]:
            known = _Folded((), base)
        fresh = _keys(self.entries[len(known.ids) :], weight)
        metric = known.metric if fresh is None else known.metric.with_keys(fresh)
        self.folds[weight, made_by] = _Folded(ids, metric)
        return metric


def _keys(entries: Sequence[tuple[str, Callable[[], Outcome]]], weight: str) -> Tensor | None:
    written = [load().written.get(weight) for _, load in entries]
    columns = [pair.keys for pair in written if pair is not None]
    return torch.cat([c.double() for c in columns], dim=1) if columns else None
