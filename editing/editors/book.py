"""The book of a ledger: its live slots, and how facts are written into them and left out.

Of every order it is planned first what is touched: the slots whose keys new facts have (nearly),
and those that hold what ends. They are taken out of the joint solution, and what stays of them is
searched again together with what is new (ledger.py tells the method).
"""

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast, get_args

import torch
from torch import Tensor

from editing.errors import SearchDiverged
from editing.history import History
from editing.hparams import LedgerHparams
from editing.outcome import Outcome, Written
from editing.run import under
from editing.step import Step

from .anchor import NOTE as LENGTHS
from .anchor import anchor, held, pilots
from .asking import Asking, KeyAt
from .band import Band, MetricOf, placed, softly, spread
from .facts import Fact, conflict, ended, replaced, told_of
from .joint import Joint
from .keys import KeyReader
from .merging import merged
from .replaced import REPLACED
from .slots import Slot, Wrote, bare_keys, slots_of, told, widths
from .solution import changed, signed, whole

if TYPE_CHECKING:
    from editing.model.view import ModelView

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Rewriting:
    """Slots to be taken out, and the facts to be written in their place."""

    out: tuple[Slot, ...]
    facts: tuple[Fact, ...]


class Book:
    """The slots of a lineage, and the solution that they are part of."""

    def __init__(
        self,
        view: "ModelView",
        hparams: LedgerHparams,
        history: History,
        metric: tuple[MetricOf, object],
    ) -> None:
        """metric: A without any edit, and what made it."""
        self.view, self.hparams, self.history = view, hparams, history
        bases, self.made_by = metric
        self.slots = slots_of(history, self.made_by)
        edits = len({fact.edit for fact in self.facts})
        self.joint = Joint(view, hparams, history, bases, self.made_by, edits)
        self.anchor = anchor(history, self.made_by) if hparams.norm_anchor else None
        self.lengths: list[float] = []  # of what was searched, as it was found

        def bound(v: Tensor, d: Tensor) -> Tensor:
            self.lengths = (v + d).norm(dim=1).tolist()
            return held(v, d, self.anchor)

        self.band = Band(bound=bound, kept=True)

    @property
    def facts(self) -> list[Fact]:
        """All live facts."""
        return [fact for slot in self.slots.values() for fact in slot.facts]

    def rewritten(
        self, new: Sequence[Fact], gone: Sequence[Fact], anew: Sequence[Fact] = ()
    ) -> Generator[Step, None, Outcome]:
        """Write new facts, leave some out, and keep all others that are touched by that.

        anew: live facts that are searched again even if nothing touches them.
        """
        old = [fact for fact in replaced(self.facts, new) if fact not in gone]
        over = dict.fromkeys((*gone, *old))
        near = yield from self._near(new)
        # No value says these and what shares their key.
        apart = [fact for fact in anew if fact in self._late and fact not in over]
        while True:
            plan = self._plan(new, near, over, anew, apart)
            parts, poor = yield from self._written(plan)
            if not poor:
                break
            apart += [fact for fact in poor if fact in new] or poor[-1:]
        wrote = [self._searched(plan.facts, parts[-1])] if plan.facts else []
        if apart:
            beside = self._beside(apart, near, over)
            parts.append((yield from self._refuge(apart, beside, plan.out, parts)))
            alone = [[number] for number in range(len(apart))]
            wrote.append(Wrote(apart, alone, "prompt_last", parts[-1]))
        notes: Json = {LENGTHS: self.lengths}
        if self.anchor is not None:
            notes["anchor"] = self.anchor
        if again := sorted({f.edit for slot in plan.out for f in slot.facts if f not in over}):
            notes["rewritten"] = again
        if old:
            notes[REPLACED] = told_of(old)
        if apart:
            notes["apart"] = [one.request.question for one in apart]
        removes = tuple(slot.name for slot in plan.out)
        made = self.told(wrote, parts, notes, self.history)
        return replace(made, removes=removes, ends=ended(self.facts, over))

    def compacted(self) -> Generator[Step, None, Outcome]:
        """All slots written anew, as if nothing of them had been written yet."""
        if not self.slots:
            raise KeyError("no fact of this ledger is live")
        parts: list[Outcome] = []
        wrote: list[Wrote] = []
        layers = {"subject_last": self.hparams.layers, "prompt_last": self.hparams.late_layers}
        for key_at in get_args(KeyAt):
            slots = [slot for slot in self.slots.values() if slot.key_at == key_at]
            if not slots:
                continue
            facts = [fact for slot in slots for fact in slot.facts]
            work = placed(
                self.view,
                [fact.request for fact in facts],
                self.hparams,
                softly(self.joint.upon(parts, self.joint.bases)),
                torch.cat([slot.goal for slot in slots], dim=1),
                key_at=key_at,
                layers=layers[key_at] or self.hparams.layers,
            )
            parts.append((yield from under(self.view, self.joint.state(parts), work)))
            wrote.append(Wrote(facts, in_turn(slots), key_at, parts[-1]))
        notes = {LENGTHS: list(pilots(self.history, self.made_by))}
        holds = tuple(dict.fromkeys(fact.edit for fact in self.facts))
        return replace(self.told(wrote, parts, notes, None), holds=holds)

    # ---- what is touched -------------------------------------------------------------------------

    def _near(self, new: Sequence[Fact]) -> Generator[Step, None, dict[Fact, set[str]]]:
        """The slots whose keys are (nearly) those of new facts."""
        live = bare_keys(self.history, self.made_by)
        if not new or live.keys is None or self.hparams.merge_above is None:
            return {fact: set() for fact in new}
        asking = Asking(key_at="subject_last")
        reader = KeyReader(self.view, [one.request for one in new], asking, self.hparams.layers[:1])
        yield from reader.start()
        keys = torch.nn.functional.normalize(reader.read().keys[:, reader.bare], dim=0)
        close = _close(keys, live.keys, self.hparams.merge_above).cpu()
        return {
            fact: {live.owners[at] for at in close[number].nonzero()[:, 0].tolist()}
            for number, fact in enumerate(new)
        }

    @property
    def _late(self) -> set[Fact]:
        """The live facts that are written at their prompts' last token."""
        late = (slot for slot in self.slots.values() if slot.key_at == "prompt_last")
        return {fact for slot in late for fact in slot.facts}

    def meet(self, old: Sequence[Slot], rest: Sequence[Slot]) -> bool:
        """Whether slots that are not live have (nearly) a key of some that are."""
        keys = [slot.bare for slot in old if slot.key_at == "subject_last"]
        names = {slot.name for slot in rest}
        live = bare_keys(self.history, self.made_by).but({*self.slots} - names)
        if not keys or live.keys is None or self.hparams.merge_above is None:
            return False
        return bool(_close(torch.cat(keys, dim=1), live.keys, self.hparams.merge_above).any())

    def _plan(
        self,
        new: Sequence[Fact],
        near: dict[Fact, set[str]],
        over: Collection[Fact],
        anew: Sequence[Fact],
        apart: Collection[Fact],
    ) -> _Rewriting:
        """What is taken out, and what is written jointly: without what is over, or goes apart."""
        joint = [fact for fact in new if fact not in apart]
        touched = {name for fact in joint for name in near[fact]}
        these = {*over, *anew, *apart}
        touched |= {name for name, slot in self.slots.items() if these.intersection(slot.facts)}
        out = tuple(slot for name, slot in self.slots.items() if name in touched)
        kept = [fact for slot in out for fact in slot.facts]
        return _Rewriting(out, (*(f for f in kept if f not in over and f not in apart), *joint))

    def _beside(
        self, apart: Sequence[Fact], near: dict[Fact, set[str]], over: Collection[Fact]
    ) -> list[Fact]:
        """The live facts that stand against these: of an equal key, or of the same subject."""
        slots = {name for fact in apart for name in near.get(fact, ())}
        leaving = {*over, *apart}
        subjects = {fact.request.subject for fact in apart}
        return [
            fact
            for name, slot in self.slots.items()
            for fact in slot.facts
            if (name in slots or fact.request.subject in subjects) and fact not in leaving
        ]

    # ---- writing ---------------------------------------------------------------------------------

    def _written(self, plan: _Rewriting) -> Generator[Step, None, tuple[list[Outcome], list[Fact]]]:
        """Take slots out and write facts; also the facts that no joint value says."""
        parts: list[Outcome] = []
        self.lengths = []  # of an earlier try that came to nothing
        if plan.out:
            parts.append((yield from self.joint.without(plan.out)))
        if not plan.facts:
            return parts, []
        search = replace(self.hparams.search, min_probability=0)
        hparams = replace(self.hparams, search=search, key_site="subject_last")
        requests = [fact.request for fact in plan.facts]
        work = spread(self.view, requests, hparams, self.joint.solve(plan.out, parts), self.band)
        parts.append((yield from under(self.view, self.joint.state(parts), work)))
        return parts, self._poor(self._searched(plan.facts, parts[-1]))

    def _searched(self, facts: Sequence[Fact], part: Outcome) -> Wrote:
        """What was written, with the facts that were searched together."""
        wide = widths(self.view, self.hparams.contexts, facts, "subject_last")
        starts = [sum(wide[:number]) for number in range(len(wide))]
        lowest = part.written[next(iter(part.written))]
        groups = merged(lowest.keys[:, starts], self.hparams.merge_above)
        return Wrote(facts, groups, "subject_last", part)

    def _poor(self, wrote: Wrote) -> list[Fact]:
        """Facts of joint searches that failed, oldest first.

        Raises SearchDiverged for one that failed alone.
        """
        alone = self.hparams.search.min_probability
        together = max(alone, self.hparams.joint_probability)
        found = cast("list[float]", wrote.part.notes["searched_probability"])
        steps = cast("list[int]", wrote.part.notes["search_steps"])
        poor: list[Fact] = []
        for group, reached, taken in zip(wrote.groups, found, steps, strict=True):
            if len(group) > 1 and not reached >= together:
                poor += [wrote.facts[number] for number in group]
            elif not reached >= alone:
                one = wrote.facts[group[0]].request
                raise SearchDiverged(
                    subject=one.subject, target=one.target_new, reached=reached, steps=taken
                )
        return poor

    def _refuge(
        self,
        facts: Sequence[Fact],
        beside: Sequence[Fact],
        out: Sequence[Slot],
        parts: Sequence[Outcome],
    ) -> Generator[Step, None, Outcome]:
        """Write facts at their prompts' last token. Raises FactsInConflict with those beside."""
        layers = self.hparams.late_layers or self.hparams.layers
        hparams = replace(self.hparams, key_site="prompt_last", merge_above=None, layers=layers)
        requests = [fact.request for fact in facts]
        band = Band(kept=True)  # other layers, other lengths: nothing holds them
        work = spread(self.view, requests, hparams, self.joint.solve(out, parts), band)
        try:
            return (yield from under(self.view, self.joint.state(parts), work))
        except SearchDiverged as error:
            raise conflict(facts, beside) from error

    # ---- telling ---------------------------------------------------------------------------------

    def told(
        self,
        wrote: Sequence[Wrote],
        parts: Sequence[Outcome],
        notes: Json,
        before: History | None,
    ) -> Outcome:
        """One outcome of all parts, as a part of the solution that `before` has so far."""
        made = told(self.view, self.hparams.contexts, wrote, parts)
        written: dict[str, Written] = {}
        for weight, pair in made.written.items():
            S = whole(made.changes[weight])
            if before is not None and (old := changed(before, weight, self.made_by)) is not None:
                S = S + old.to(S)
            wanted = pair.missing.double() + S @ pair.keys.double()
            written[weight] = replace(pair, wanted=wanted)
        notes = {**made.notes, **notes}
        return signed(replace(made, written=written, notes=notes), self.made_by)


def _close(some: Tensor, others: Tensor, above: float) -> Tensor:
    """[n, m] which keys [d_key, n] and [d_key, m], of length 1, are (nearly) equal."""
    return some.mT @ others.to(some) >= above - 1e-9


def in_turn(slots: Sequence[Slot]) -> list[list[int]]:
    """The facts of slots, numbered one after another."""
    starts = [sum(len(slot.facts) for slot in slots[:number]) for number in range(len(slots))]
    return [
        list(range(start, start + len(slot.facts)))
        for start, slot in zip(starts, slots, strict=True)
    ]
