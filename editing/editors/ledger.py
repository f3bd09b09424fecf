"""ledger - many edits in a row, any of them taken out, none disturbing its subject's others.

MEMIT's write under a metric that holds the keys of all live edits (memit_history.py), with what one
edit after another needs besides:

slots      Facts whose keys are (nearly) equal share one value. A new fact that collides with live
           ones is searched jointly with them: their slot is taken out of the solution, and one that
           holds all of them is written in its place.
succession A later fact with the same question replaces the earlier one.
refuge     Where no joint value says all of them, the new fact is written at its prompt's last
           token, in later layers, where its key is its own; where that fails too it is refused.

Taking out and writing are steps of one recursive solution (RLSEdit, arXiv:2601.15686), so the
weights stay, layer by layer, the joint solution of what is live. Sharing a value is MEMIT-Merge;
that related facts disturb each other otherwise is what S2RKE measures (arXiv:2502.06868).
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from editing.delta import Change
from editing.errors import FactsInConflict, SearchDiverged
from editing.history import History
from editing.hparams import Contexts, LedgerHparams
from editing.model.state import State
from editing.outcome import Outcome, joined
from editing.run import under
from editing.solve import Metric
from editing.step import Step

from .asking import Asking, KeyAt
from .band import MetricOf, everyday, remembering, softly, spread
from .keys import KeyReader
from .merging import merged
from .site import Spot
from .slots import NOTE, Fact, Slot, note_of, slots_of
from .solution import missing_now, signed, spot_of, taken_out

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

Json = dict[str, Any]


def edit(
    view: "ModelView",
    requests: Sequence["EditRequest"],
    hparams: LedgerHparams,
    history: History,
) -> Generator[Step, None, Outcome]:
    """Write a batch of facts. Raises SearchDiverged, FactsInConflict or SingularSystem."""
    facts = [Fact("", number, request) for number, request in enumerate(requests)]
    last = [
        fact
        for number, fact in enumerate(facts)
        if not any(fact.replaced_by(later.request) for later in facts[number + 1 :])
    ]
    return (yield from _Book(view, hparams, history).rewritten(last, ()))


def without(
    view: "ModelView", hparams: LedgerHparams, history: History, edit: str
) -> Generator[Step, None, Outcome]:
    """Take all live facts of one edit out; what shares a slot with them is searched anew.

    Raises as `edit` does, and KeyError where no live fact is of this edit.
    """
    book = _Book(view, hparams, history)
    gone = [fact for slot in book.slots.values() for fact in slot.facts if fact.edit == edit]
    if not gone:
        raise KeyError(edit)
    return (yield from book.rewritten((), gone))


def metric(view: "ModelView", hparams: LedgerHparams) -> tuple[MetricOf, object]:
    """A without earlier edits, and what made it: memit-history's."""
    return everyday(view, hparams), (hparams.second_moment_weight, hparams.statistics)


@dataclass(frozen=True, slots=True)
class _Rewriting:
    """Slots to be taken out, and the facts to be written in their place."""

    out: tuple[Slot, ...]
    facts: tuple[Fact, ...]


class _Book:
    """The slots of a lineage, and the solution that they are part of."""

    def __init__(self, view: "ModelView", hparams: LedgerHparams, history: History) -> None:
        self.view = view
        self.hparams = hparams
        self.history = history
        self.slots = slots_of(history)
        self.bases, self.made_by = metric(view, hparams)

    def rewritten(
        self, new: Sequence[Fact], gone: Sequence[Fact]
    ) -> Generator[Step, None, Outcome]:
        """Write new facts, leave some out, and keep all others that are touched by that."""
        replaced = [
            fact
            for slot in self.slots.values()
            for fact in slot.facts
            if any(fact.replaced_by(one.request) for one in new)
        ]
        near = yield from self._near(new)
        apart: list[Fact] = []  # no value says them and what shares their key
        while True:
            plan = self._plan([one for one in new if one not in apart], near, [*gone, *replaced])
            parts, poor = yield from self._written(plan)
            fresh = [fact for fact in poor if fact in new]
            if not fresh:
                break
            apart += fresh
        if apart:
            parts.append((yield from self._refuge(apart, plan.out, parts)))
        return self._told(plan, apart, parts, gone=gone, replaced=replaced)

    # ---- what is touched -------------------------------------------------------------------------

    def _near(self, new: Sequence[Fact]) -> Generator[Step, None, dict[Fact, set[str]]]:
        """The slots whose keys are (nearly) those of new facts."""
        shared = {n: one for n, one in self.slots.items() if one.key_at == "subject_last"}
        if not new or not shared or self.hparams.merge_above is None:
            return {fact: set() for fact in new}
        asking = Asking(key_at="subject_last")
        reader = KeyReader(self.view, [one.request for one in new], asking, self.hparams.layers[:1])
        yield from reader.start()
        keys = torch.nn.functional.normalize(reader.read().keys[:, reader.bare], dim=0)
        names = [name for name, slot in shared.items() for _ in slot.facts]
        bare = torch.cat([slot.bare for slot in shared.values()], dim=1).to(keys)
        close = (keys.mT @ bare >= self.hparams.merge_above - 1e-9).cpu()
        return {
            fact: {names[at] for at in close[number].nonzero()[:, 0].tolist()}
            for number, fact in enumerate(new)
        }

    def _plan(
        self, new: Sequence[Fact], near: dict[Fact, set[str]], gone: Sequence[Fact]
    ) -> _Rewriting:
        touched = {name for fact in new for name in near[fact]}
        touched |= {n for n, slot in self.slots.items() if any(f in gone for f in slot.facts)}
        out = tuple(slot for name, slot in self.slots.items() if name in touched)
        kept = [fact for slot in out for fact in slot.facts if fact not in gone]
        return _Rewriting(out, (*kept, *new))

    # ---- writing ---------------------------------------------------------------------------------

    def _written(self, plan: _Rewriting) -> Generator[Step, None, tuple[list[Outcome], list[Fact]]]:
        """Take slots out and write facts; also the facts that no joint value says."""
        parts: list[Outcome] = []
        if plan.out:
            parts.append((yield from self._taken_out(plan.out)))
        if not plan.facts:
            return parts, []
        search = replace(self.hparams.search, min_probability=0)
        hparams = replace(self.hparams, search=search, key_site="subject_last")
        requests = [fact.request for fact in plan.facts]
        solve = softly(self._metric(plan.out, parts))
        done = yield from under(
            self.view, self._state(parts), spread(self.view, requests, hparams, solve)
        )
        return [*parts, done], self._poor(plan.facts, done)

    def _poor(self, facts: Sequence[Fact], done: Outcome) -> list[Fact]:
        """Facts of joint searches that failed. Raises SearchDiverged for one that failed alone."""
        found = cast("list[float]", done.notes["searched_probability"])
        steps = cast("list[int]", done.notes["search_steps"])
        poor: list[Fact] = []
        widths = _widths(self.view, facts, self.hparams.contexts, "subject_last")
        starts = [sum(widths[:number]) for number in range(len(widths))]
        groups = _groups(starts, done, self.hparams.merge_above)
        for group, reached, taken in zip(groups, found, steps, strict=True):
            if len(group) > 1 and reached < self.hparams.joint_probability:
                poor += [facts[number] for number in group]
            elif not reached >= self.hparams.search.min_probability:
                one = facts[group[0]].request
                raise SearchDiverged(
                    subject=one.subject, target=one.target_new, reached=reached, steps=taken
                )
        return poor

    def _refuge(
        self, facts: Sequence[Fact], out: Sequence[Slot], parts: Sequence[Outcome]
    ) -> Generator[Step, None, Outcome]:
        """Write facts at their prompts' last token. Raises FactsInConflict."""
        hparams = replace(self.hparams, key_site="prompt_last", merge_above=None)
        requests = [fact.request for fact in facts]
        solve = softly(self._metric(out, parts))
        work = spread(self.view, requests, hparams, solve)
        try:
            return (yield from under(self.view, self._state(parts), work))
        except SearchDiverged as error:
            raise self._conflict(facts) from error

    def _conflict(self, facts: Sequence[Fact]) -> FactsInConflict:
        subjects = {fact.request.subject for fact in facts}
        with_them = [
            {"edit": fact.edit, "question": fact.request.question, "says": fact.request.target_new}
            for slot in self.slots.values()
            for fact in slot.facts
            if fact.request.subject in subjects
        ]
        return FactsInConflict([fact.request.question for fact in facts], with_them)

    # ---- the solution that it is part of ---------------------------------------------------------

    def _state(self, parts: Sequence[Outcome]) -> State:
        state = self.view.current
        for part in parts:
            state = self.view.after(part.deltas, state)
        return state

    def _taken_out(self, slots: Sequence[Slot]) -> Generator[Step, None, Outcome]:
        """The change that takes slots out of the solution."""
        found: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for slot in slots:
            pairs = {weight: slot.pair(weight) for weight in slot.columns}
            left = yield from missing_now(self.history, slot.entry, pairs, self.made_by)
            for weight, pair in pairs.items():
                found.setdefault(weight, []).append((pair.keys, left[weight]))
        deltas: dict[str, Change] = {}
        for number, (weight, some) in enumerate(found.items()):
            keys, missing = (torch.cat(part, dim=1) for part in zip(*some, strict=True))
            base = self.bases(spot_of(self.view, weight))
            deltas[weight] = taken_out(self.history, weight, keys, missing, base, self.made_by)
            yield Step("solve", number + 1, len(found))
        return Outcome(deltas)

    def _metric(self, out: Sequence[Slot], parts: Sequence[Outcome]) -> MetricOf:
        """The metric without the slots that are taken out, and with what was written since."""
        folded = remembering(self.view, self.history, self.bases, self.made_by)

        def metric_of(spot: Spot) -> Metric:
            kind, layer = spot
            weight = self.view.written_at(layer, kind)
            found = folded(spot)
            gone = [slot.pair(weight).keys for slot in out if weight in slot.columns]
            if gone:
                found = found.without_keys(torch.cat(gone, dim=1))
            for part in parts:
                if weight in part.written:
                    found = found.with_keys(part.written[weight].keys)
            return found

        return metric_of

    # ---- telling ---------------------------------------------------------------------------------

    def _told(
        self,
        plan: _Rewriting,
        apart: Sequence[Fact],
        parts: Sequence[Outcome],
        *,
        gone: Sequence[Fact],
        replaced: Sequence[Fact],
    ) -> Outcome:
        """One outcome of all parts, with its slots."""
        made = joined(parts)
        slots: list[Json] = []
        taken: dict[str, int] = {}  # columns of a weight that earlier parts have
        written = [part for part in parts if part.written]
        wrote: list[tuple[Sequence[Fact], KeyAt]] = []
        if plan.facts:
            wrote.append((plan.facts, "subject_last"))
        if apart:
            wrote.append((apart, "prompt_last"))
        for (facts, key_at), part in zip(wrote, written, strict=True):
            slots += self._slots(facts, key_at, part, taken)
            for weight, pair in part.written.items():
                taken[weight] = taken.get(weight, 0) + pair.keys.shape[1]
        notes: Json = {NOTE: slots}
        for part in written:
            notes |= {f"{name}": value for name, value in part.notes.items() if name not in notes}
        if plan.out:
            notes["rewritten"] = sorted({f.edit for slot in plan.out for f in slot.facts if f.edit})
        if replaced:
            notes["replaced"] = [{"edit": one.edit, "number": one.number} for one in replaced]
        if apart:
            notes["apart"] = [one.request.question for one in apart]
        removes = tuple(slot.name for slot in plan.out)
        ends = self._ended([*gone, *replaced])
        return signed(Outcome(made.deltas, made.written, notes, removes, ends), self.made_by)

    def _ended(self, gone: Sequence[Fact]) -> tuple[str, ...]:
        """The edits of which no fact is left."""
        left = {f.edit for slot in self.slots.values() for f in slot.facts if f not in gone}
        return tuple(dict.fromkeys(fact.edit for fact in gone if fact.edit not in left))

    def _slots(
        self, facts: Sequence[Fact], key_at: KeyAt, part: Outcome, taken: dict[str, int]
    ) -> list[Json]:
        """What a part of the outcome says of its slots; `taken` columns stand before its own."""
        widths = _widths(self.view, facts, self.hparams.contexts, key_at)
        starts = [sum(widths[:number]) for number in range(len(widths))]
        groups = _groups(
            starts, part, self.hparams.merge_above if key_at != "prompt_last" else None
        )
        found: list[Json] = []
        for group in groups:
            own = [starts[n] + at for n in group for at in range(widths[n])]
            columns = {w: [taken.get(w, 0) + at for at in own] for w in part.written}
            lowest = next(iter(part.written))
            bare = [taken.get(lowest, 0) + starts[n] for n in group]
            found.append(note_of([facts[n] for n in group], key_at, columns, bare))
        return found


def _widths(
    view: "ModelView", facts: Sequence[Fact], contexts: Contexts, key_at: KeyAt
) -> list[int]:
    """How many columns of keys each fact has."""
    asking = Asking.of(view, contexts, key_at)
    return [
        sum(len(asking.rows(view, piece)) for piece in asking.apart([fact.request]))
        for fact in facts
    ]


def _groups(starts: Sequence[int], part: Outcome, above: float | None) -> list[list[int]]:
    """The facts that were searched together, as `spread` has put them together."""
    lowest = part.written[next(iter(part.written))]
    return merged(lowest.keys[:, list(starts)], above)
