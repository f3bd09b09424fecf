"""What earlier live edits wrote, for the editors that keep them where they are."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from .errors import SingularSystem
from .outcome import Outcome, Written, part_of
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
    folds: dict[tuple[str, str], _Folded] = field(default_factory=dict[tuple[str, str], _Folded])

    def __post_init__(self) -> None:
        self.entries = [Entry(*entry) for entry in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    @classmethod
    def empty(cls) -> "History":
        """A lineage without edits."""
        return cls()

    def _gone(self, before: Entry | None = None) -> set[str]:
        """What was taken out, by the whole lineage or up to one of its entries."""
        gone: set[str] = set()
        for entry in self.entries:
            if entry is before:
                break
            gone.update(entry.removes)
        return gone

    @property
    def live(self) -> list[Entry]:
        """The edits that no later one takes out, oldest first; of some only a part is left."""
        gone = _Gone.of(self._gone())
        return [
            Entry(entry.id, partial(_rest, entry, gone)) if entry.id in gone.slots else entry
            for entry in self.entries
            if entry.id not in gone.edits
        ]

    def entry(self, name: str) -> Entry:
        """The edit of this id. Raises KeyError."""
        found = next((entry for entry in self.entries if entry.id == name), None)
        if found is None:
            raise KeyError(name)
        return found

    def pairs(self, weight: str, made_by: object = None) -> Iterator[Written]:
        """What each live edit wrote into a weight, of those that wrote there.

        With `made_by`, only those that are part of the joint solution under that metric.
        """
        gone = _Gone.of(self._gone())
        kin = (e for e in self.entries if made_by is None or e.load().is_part_of(made_by))
        found = (_left(entry, weight, gone) for entry in kin)
        return (pair for pair in found if pair is not None)

    def keys(self, weight: str, made_by: object = None) -> Tensor | None:
        """The keys that live edits wrote at in a weight, K_p [d_k, m]; None without any."""
        return _side_by_side([pair.keys for pair in self.pairs(weight, made_by)])

    def taken_out(self, entry: Entry, weight: str) -> list[tuple[Entry, Written]]:
        """What an entry takes out of a weight's memory, each with the entry that wrote it."""
        if not entry.removes:
            return []
        before = _Gone.of(self._gone(entry))
        found: list[tuple[Entry, Written]] = []
        for name in entry.removes:
            edit, _, number = name.partition("#")
            made = self.entry(edit)
            pair = _left(made, weight, before)
            if number and pair is not None:  # a slot need not be written in every layer
                columns = _columns(made.load(), weight, int(number))
                pair = part_of(made.load().written[weight], columns) if columns else None
            if pair is not None:
                found.append((made, pair))
        return found

    def metric(self, weight: str, made_by: object, base: Metric) -> Metric:
        """`base` with the keys of every live edit that was written under it folded in.

        `made_by` names what made the base metric (lambda, statistics); an outcome says by it what
        it is part of (`Outcome.solution`). Folding costs d_k^2 a key;
        after a restart or a restore all keys are folded anew, and so they are after some hundreds
        of changes or where a key cannot be taken out without loss.
        """

        def anew() -> _Kept:
            keys = self.keys(weight, made_by)
            return _Kept(base if keys is None else base.with_keys(keys))

        def fold(kept: _Kept | None, fresh: Sequence[Entry]) -> _Kept:
            if kept is None or kept.changes + len(fresh) > _REFACTOR_AFTER:
                return anew()
            try:
                for entry in fresh:
                    if entry.load().is_part_of(made_by):
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
        key = weight, str(made_by)  # as outcomes tell it: 200 and 200.0 are one number, two texts
        known = self.folds.get(key)
        if known is None or known.ids != ids[: len(known.ids)]:
            known = _Folded((), start)
        value = fold(cast("T", known.value), self.entries[len(known.ids) :])
        self.folds[key] = _Folded(ids, value)
        return value

    def _changed(self, kept: _Kept, entry: Entry, weight: str) -> _Kept:
        """The metric behind one more entry."""
        metric = kept.metric
        gone = _side_by_side([pair.keys for _, pair in self.taken_out(entry, weight)])
        pair = entry.load().written.get(weight)
        if gone is not None:
            metric = metric.without_keys(gone)
        if pair is not None:
            metric = metric.with_keys(pair.keys)
        return kept if metric is kept.metric else _Kept(metric, kept.changes + 1)


@dataclass(frozen=True, slots=True)
class _Gone:
    """What was taken out: edits, and of other edits the slots of these numbers."""

    edits: set[str]
    slots: dict[str, set[int]]

    @classmethod
    def of(cls, names: Iterable[str]) -> "_Gone":
        """Sort names as Outcome.removes has them."""
        edits: set[str] = set()
        slots: dict[str, set[int]] = {}
        for name in names:
            edit, _, number = name.partition("#")
            if number:
                slots.setdefault(edit, set()).add(int(number))
            else:
                edits.add(edit)
        return cls(edits, slots)


def _left(entry: Entry, weight: str, gone: _Gone) -> Written | None:
    """What is left of what an edit wrote into a weight; None where nothing is."""
    outcome = entry.load()
    pair = outcome.written.get(weight)
    if pair is None or entry.id in gone.edits:
        return None
    numbers = gone.slots.get(entry.id)
    if not numbers:
        return pair
    out = {at for number in numbers for at in _columns(outcome, weight, number)}
    kept = [at for at in range(pair.keys.shape[1]) if at not in out]
    return part_of(pair, kept) if kept else None


def _rest(entry: Entry, gone: _Gone) -> Outcome:
    """What an edit did, with what is left of what it wrote."""
    outcome = entry.load()
    left = {weight: _left(entry, weight, gone) for weight in outcome.written}
    return replace(outcome, written={name: pair for name, pair in left.items() if pair is not None})


def _columns(outcome: Outcome, weight: str, number: int) -> list[int]:
    """The columns of a slot, as an outcome's notes tell them."""
    slots = cast("list[dict[str, Any]]", outcome.notes["slots"])
    return slots[number]["columns"].get(weight, [])


def _side_by_side(columns: Sequence[Tensor]) -> Tensor | None:
    return torch.cat([c.double() for c in columns], dim=1) if columns else None
