"""What earlier live edits wrote, for the editors that keep them where they are."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from .errors import SingularSystem
from .outcome import Outcome, Written
from .solve import Metric

T = TypeVar("T")

_REFACTOR_AFTER = 500  # changes of a metric, after which it is made anew of the live keys


class Entry(NamedTuple):
    """One edit of a lineage: what it did is read when it is asked for.

    removes: what it takes out of the lineage again (see Outcome.removes).
    """

    id: str
    load: Callable[[], Outcome]
    removes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Folded:
    """What came of the entries of these ids."""

    ids: tuple[str, ...]
    value: Any


@dataclass(frozen=True, slots=True)
class _Kept:
    """A metric with keys folded in, and how often that was done since it was made."""

    metric: Metric
    changes: int = 0


@dataclass(slots=True)
class History:
    """The edits of a lineage, oldest first; what they wrote is read when it is first needed.

    The working state is the folded inverse, one a layer: when edits are added only their keys are
    folded in, when some are gone (a restore) it is folded anew. It lives in `folds`, which a host
    passes on from one History to the next.
    """

    entries: Sequence[Entry] = ()
    folds: dict[tuple[str, object], _Folded] = field(
        default_factory=dict[tuple[str, object], _Folded]
    )

    def __post_init__(self) -> None:
        self.entries = [Entry(*entry) for entry in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    @classmethod
    def empty(cls) -> "History":
        """A lineage without edits."""
        return cls()

    @property
    def live(self) -> list[Entry]:
        """The edits that no later one takes out, oldest first."""
        gone = {name for entry in self.entries for name in entry.removes}
        return [entry for entry in self.entries if entry.id not in gone]

    def entry(self, name: str) -> Entry:
        """The edit of this id. Raises KeyError."""
        found = next((entry for entry in self.entries if entry.id == name), None)
        if found is None:
            raise KeyError(name)
        return found

    def pairs(self, weight: str) -> Iterator[Written]:
        """What each live edit wrote into a weight, of those that wrote there."""
        found = (entry.load().written.get(weight) for entry in self.live)
        return (pair for pair in found if pair is not None)

    def keys(self, weight: str) -> Tensor | None:
        """The keys that live edits wrote at in a weight, K_p [d_k, m]; None without any."""
        return _side_by_side([pair.keys for pair in self.pairs(weight)])

    def taken_out(self, entry: Entry, weight: str) -> Tensor | None:
        """The keys [d_k, m] that an entry takes out of a weight's memory; None without any."""
        found = [self.entry(name).load().written.get(weight) for name in entry.removes]
        return _side_by_side([pair.keys for pair in found if pair is not None])

    def metric(self, weight: str, made_by: object, base: Metric) -> Metric:
        """`base` with the keys of every live edit folded in.

        `made_by` names what made the base metric (lambda, statistics). Folding costs d_k^2 a key;
        after a restart or a restore all keys are folded anew, and so they are after some hundreds
        of changes or where a key cannot be taken out without loss.
        """

        def anew() -> _Kept:
            keys = self.keys(weight)
            return _Kept(base if keys is None else base.with_keys(keys))

        def fold(kept: _Kept | None, fresh: Sequence[Entry]) -> _Kept:
            if kept is None or kept.changes + len(fresh) > _REFACTOR_AFTER:
                return anew()
            try:
                for entry in fresh:
                    kept = self._changed(kept, entry, weight)
            except SingularSystem:
                return anew()
            return kept

        start: _Kept | None = None
        found = self.folded(weight, ("metric", made_by), start, fold)
        return base if found is None else found.metric

    def folded(
        self,
        weight: str,
        made_by: object,
        start: T,
        fold: Callable[[T, Sequence[Entry]], T],
    ) -> T:
        """`start` with all entries folded in, oldest first; only those not yet folded are read."""
        ids = tuple(entry.id for entry in self.entries)
        known = self.folds.get((weight, made_by))
        if known is None or known.ids != ids[: len(known.ids)]:
            known = _Folded((), start)
        value = fold(cast("T", known.value), self.entries[len(known.ids) :])
        self.folds[weight, made_by] = _Folded(ids, value)
        return value

    def _changed(self, kept: _Kept, entry: Entry, weight: str) -> _Kept:
        """The metric behind one more entry."""
        metric, gone = kept.metric, self.taken_out(entry, weight)
        pair = entry.load().written.get(weight)
        if gone is not None:
            metric = metric.without_keys(gone)
        if pair is not None:
            metric = metric.with_keys(pair.keys)
        return kept if metric is kept.metric else _Kept(metric, kept.changes + 1)


def _side_by_side(columns: Sequence[Tensor]) -> Tensor | None:
    return torch.cat([c.double() for c in columns], dim=1) if columns else None
