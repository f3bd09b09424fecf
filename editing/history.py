"""What earlier live edits wrote, for the editors that keep them where they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from .outcome import Outcome
from .solve import Metric

T = TypeVar("T")


Entry = tuple[str, Callable[[], Outcome]]  # the edit's id, and what it did, read when asked for


@dataclass(slots=True)
class _Folded:
    """What came of the entries of these ids."""

    ids: tuple[str, ...]
    value: Any


@dataclass(slots=True)
class History:
    """The live edits of a lineage, oldest first; what they wrote is read when it is first needed.

    The working state is the folded inverse, one a layer: when edits are added only their keys are
    folded in, when some are gone (a restore) it is folded anew. It lives in `folds`, which a host
    passes on from one History to the next.
    """

    entries: Sequence[Entry] = ()
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

        def fold(metric: Metric, fresh: Sequence[Entry]) -> Metric:
            keys = _keys(fresh, weight)
            return metric if keys is None else metric.with_keys(keys)

        return self.folded(weight, ("metric", made_by), base, fold)

    def folded(
        self,
        weight: str,
        made_by: object,
        start: T,
        fold: Callable[[T, Sequence[Entry]], T],
    ) -> T:
        """`start` with all entries folded in, oldest first; only those not yet folded are read."""
        ids = tuple(name for name, _ in self.entries)
        known = self.folds.get((weight, made_by))
        if known is None or known.ids != ids[: len(known.ids)]:
            known = _Folded((), start)
        value = fold(cast("T", known.value), self.entries[len(known.ids) :])
        self.folds[weight, made_by] = _Folded(ids, value)
        return value


def _keys(entries: Sequence[Entry], weight: str) -> Tensor | None:
    written = [load().written.get(weight) for _, load in entries]
    columns = [pair.keys for pair in written if pair is not None]
    return torch.cat([c.double() for c in columns], dim=1) if columns else None
