"""memory - facts kept beside the model: a vector is added where a key is near the subject's.

Fei et al., "NeuralDB: Scaling Knowledge Editing in LLMs to 100,000 Facts with Neural KV Database",
arXiv:2507.18028; of the family of GRACE (arXiv:2211.11031) and MEMOIR (arXiv:2506.07899). At one
layer an entry holds a key, a vector and a gate; no weight changes:

    i* = argmax_i cos(k, k_i)          out(k) = W k + 1[cos(k, k_i*) > gate_i*] delta_i*

    k_i      the mean direction of the fact's keys behind prefixes; the bare prompt's own, where
             that is unlike it                                                  (keys.py, gates.py)
    delta_i  what the layer must write besides, at the fact's key, to say o*_i         (zsearch.py)
    gate_i   half way between the keys that are the fact's and those that are not        (gates.py)

Facts whose keys are (nearly) equal share an entry, as in a ledger (ledger.py): a new one that
meets a live entry is searched jointly with the facts of that, which goes. A later fact with the
same question replaces the earlier one. An edit is taken out by taking out its entries; facts that
shared one with it are searched anew. Where that finds no vector, their entry stands as it is stored
and says them as before.

The vectors are searched with the new entries in place, empty: a key that an older entry claims by
its gate is nearer to the new one from then on, and what the older one adds there is not there.
"""

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from editing.delta import Memory
from editing.errors import SearchDiverged
from editing.history import History
from editing.hparams import MemoryHparams
from editing.outcome import Outcome
from editing.run import under
from editing.step import Step

from .asking import Asking
from .entries import NOTE, Entry, entries_of, note_of, stored_as
from .facts import Fact, conflict, ended, last_word, named, replaced, told_of
from .gates import SAME, Gates, Keys, nearest_outside, openings
from .keys import KeyReader
from .merging import merged
from .replaced import REPLACED, left_out, returned, taken_back, untouched
from .zsearch import Found, find_delta

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

Json = dict[str, Any]


def edit(
    view: "ModelView",
    requests: Sequence["EditRequest"],
    hparams: MemoryHparams,
    history: History,
) -> Generator[Step, None, Outcome]:
    """Keep a batch of facts. Raises SearchDiverged or FactsInConflict."""
    return (yield from _Shelf(view, hparams, history).rewritten(last_word(requests), ()))


def without(
    view: "ModelView", hparams: MemoryHparams, history: History, edit: str
) -> Generator[Step, None, Outcome]:
    """Take all live facts of one edit out, and bring back those that it replaced.

    Where its entries are as it brought them, those that it took out for them stand again as they
    were. Else what shares an entry with its facts is searched anew. Raises KeyError where no live
    fact is of this edit.
    """
    shelf = _Shelf(view, hparams, history)
    gone = [fact for fact in shelf.facts if fact.edit == edit]
    if not gone:
        raise KeyError(edit)
    found = untouched(
        history, edit, shelf.entries, lambda name: stored_as(history, name), shelf.meet
    )
    if found is None:
        made = yield from left_out(shelf, edit, gone)
    else:
        yield Step("solve", 1, 1)
        made = shelf.exchanged(*found)
    return taken_back(edit, replace(made, ends=(edit,)))


def again(
    view: "ModelView",
    hparams: MemoryHparams,
    history: History,
    requests: Sequence["EditRequest"],
    disturbed: Sequence[tuple[str, int, "EditRequest"]],
) -> Generator[Step, None, Outcome]:
    """Keep a batch of facts, and search live ones that it would disturb anew with it.

    disturbed: the order, the place in it and the request of each; one that another editor wrote is
    left as it is. Raises as `edit` does.
    """
    shelf = _Shelf(view, hparams, history)
    anew = named(shelf.facts, disturbed)
    return (yield from shelf.rewritten(last_word(requests), (), anew))


@dataclass(frozen=True, slots=True)
class _Written:
    """Pieces of facts (one a prompt), and the entries that they are to make.

    groups: the pieces of each entry; keys: what they may stand under.
    """

    facts: Sequence[Fact]
    pieces: Sequence["EditRequest"]
    groups: Sequence[Sequence[int]]
    keys: Keys

    def facts_of(self, group: Sequence[int]) -> list[Fact]:
        """The facts that an entry says."""
        return list(dict.fromkeys(self.facts[number] for number in group))


class _Shelf:
    """The live entries of a lineage, and the layer that new ones stand at."""

    def __init__(self, view: "ModelView", hparams: MemoryHparams, history: History) -> None:
        self.view, self.hparams, self.history = view, hparams, history
        self.layer = hparams.layers[-1]
        self.weight = view.down_proj(self.layer)
        self.entries = entries_of(history)
        self.facts = list(dict.fromkeys(f for one in self.entries.values() for f in one.facts))
        self.asking = Asking.of(view, hparams.contexts, hparams.key_site)

    def rewritten(
        self, new: Sequence[Fact], gone: Sequence[Fact], anew: Sequence[Fact] = ()
    ) -> Generator[Step, None, Outcome]:
        """Keep new facts, leave some out, and keep all others that are touched by that.

        anew: live facts that are searched again even if nothing touches them.
        """
        old = [fact for fact in replaced(self.facts, new) if fact not in gone]
        over = [*gone, *old]
        out, left, made = yield from self._touched(new, over, anew)
        stay: set[Fact] = set()  # no new vector says them; that of their entry still does
        while True:
            goes = [one for one in out if not stay & {*one.facts}]
            deltas, notes = self._gone(goes), Json({NOTE: []})
            if made is None:
                break
            entries, gates = yield from self._gated(made, goes)
            found, poor = yield from self._searched(entries, gates, deltas)
            if not poor:
                deltas = self._with(entries, gates, found.delta, deltas)
                notes = self._told(entries, gates, found)
                break
            stay |= poor
            rest = [fact for fact in [*left, *new] if fact not in stay]
            made = (yield from self._grouped(rest)) if rest else None
        yield Step("solve", 1, 1)
        if stay:
            notes["poor"] = [fact.request.question for fact in left if fact in stay]
            deltas, kept = self._standing(out, stay, deltas)
            notes[NOTE] += kept
        if rewritten := sorted({fact.edit for fact in left if fact not in stay}):
            notes["rewritten"] = rewritten
        if old:
            notes[REPLACED] = told_of(old)
        removes = tuple(entry.name for entry in out)
        return Outcome(deltas, {}, notes, removes, ended(self.facts, over))

    def exchanged(self, mine: Sequence[Entry], old: Sequence[Entry]) -> Outcome:
        """Entries gone, and those that they took the place of back as they are stored."""
        facts = [fact for entry in old for fact in entry.facts]
        deltas, notes = self._standing(old, {*facts}, self._gone(mine))
        removes = tuple(entry.name for entry in mine)
        return returned(Outcome(deltas, {}, {NOTE: notes}, removes), self.facts, facts)

    def meet(self, old: Sequence[Entry], rest: Sequence[Entry]) -> bool:
        """Whether entries that are not live have (nearly) a key of some that are."""
        for entry in old:
            beside = [one.keys for one in rest if one.weight == entry.weight]
            firsts = [keys[0] for keys in beside]
            if firsts and float((torch.stack(firsts) @ entry.keys[0]).max()) >= (
                self.hparams.merge_above
            ):
                return True
            if beside and float((torch.cat(beside) @ entry.keys.mT).max()) >= SAME:
                return True
        return False

    # ---- what is touched -------------------------------------------------------------------------

    def _touched(
        self, new: Sequence[Fact], over: Sequence[Fact], anew: Sequence[Fact]
    ) -> Generator[Step, None, tuple[list[Entry], list[Fact], _Written | None]]:
        """The entries that go, the facts of them that are left, and what these and new ones make.

        An entry goes that says a fact which ends or is wanted anew, one whose key is (nearly) that
        of a fact to be kept, and any other that says a fact of one of these.
        """
        facts = {*over, *anew}
        while True:
            out = [one for one in self.entries.values() if facts & {*one.facts}]
            said = dict.fromkeys(fact for one in out for fact in one.facts)
            left = [fact for fact in said if fact not in over]
            made = (yield from self._grouped([*left, *new])) if left or new else None
            more = {*said, *(fact for one in self._near(made) for fact in one.facts)}
            if more <= facts:
                return out, left, made
            facts |= more

    def _near(self, made: _Written | None) -> list[Entry]:
        """The live entries that new ones meet: by their first keys, or by an equal one."""
        here = [one for one in self.entries.values() if one.weight == self.weight]
        if made is None or not here:
            return []
        keys = torch.stack([one.keys[0] for one in here]).to(made.keys.keys)
        new = made.keys.keys[made.keys.firsts().unique()]
        close = (keys @ new.mT >= self.hparams.merge_above).any(1)
        owner = torch.tensor([at for at, one in enumerate(here) for _ in one.keys]).to(close.device)
        rows = torch.cat([one.keys for one in here]).to(keys)
        close[owner[(rows @ made.keys.keys.mT >= SAME).any(1)]] = True
        return [one for one, is_close in zip(here, close.tolist(), strict=True) if is_close]

    # ---- making entries --------------------------------------------------------------------------

    def _grouped(self, facts: Sequence[Fact]) -> Generator[Step, None, _Written]:
        """The entries that facts make: those with (nearly) equal keys share one."""
        asked = [(fact, piece) for fact in facts for piece in self.asking.apart([fact.request])]
        owners, pieces = [fact for fact, _ in asked], [piece for _, piece in asked]
        reader = KeyReader(self.view, pieces, self.asking, [self.layer])
        yield from reader.start()
        columns = normalize(reader.read().keys, dim=0).mT  # [c, d_k]
        bare = openings(self.asking, pieces)
        alone = Keys.of(columns, reader.owner, bare, len(pieces))
        groups = merged(alone.keys[alone.firsts().unique()].mT, self.hparams.merge_above)
        of = {piece: number for number, group in enumerate(groups) for piece in group}
        entry = torch.tensor([of[number] for number in range(len(pieces))], device=columns.device)
        keys = Keys.of(columns, entry[reader.owner], bare, len(groups))
        return _Written(owners, pieces, groups, keys)

    def _gated(
        self, made: _Written, out: Sequence[Entry]
    ) -> Generator[Step, None, tuple[_Written, Gates]]:
        """How near a key has to be to belong to one of them; the same with the keys needed."""
        groups = [[made.pieces[number] for number in group] for group in made.groups]
        outside = yield from nearest_outside(
            self.view, self.hparams, self.asking, groups, made.keys
        )
        gone = {one.name for one in out}
        beside = [
            one.keys
            for one in self.entries.values()
            if one.weight == self.weight and one.name not in gone
        ]
        if beside:
            keys = made.keys.keys
            outside = torch.maximum(outside, (torch.cat(beside).to(keys) @ keys.mT).amax(0))
        gates = Gates.between(made.keys, outside, self.hparams)
        needed = gates.needed(made.keys)
        return replace(made, keys=made.keys[needed]), gates[needed]

    def _searched(
        self, made: _Written, gates: Gates, deltas: Mapping[str, Memory]
    ) -> Generator[Step, None, tuple[Found, set[Fact]]]:
        """What each entry has to add; also the facts of those that are live and not said by it.

        Raises SearchDiverged or FactsInConflict for one with a new fact.
        """
        width = self.view.weight(self.weight).shape[0]
        empty = made.keys.keys.new_zeros(len(made.groups), width)
        state = self.view.after(self._with(made, gates, empty, deltas))
        work = find_delta(
            self.view,
            made.pieces,
            layer=self.layer,
            search=replace(self.hparams.search, min_probability=0),
            asking=self.asking,
            groups=made.groups,
        )
        found = yield from under(self.view, state, work)
        poor: set[Fact] = set()
        for group, reached, steps in zip(made.groups, found.probability, found.steps, strict=True):
            facts = made.facts_of(group)
            apart = len(facts) > 1 and not reached >= self.hparams.joint_probability
            if not apart and reached >= self.hparams.search.min_probability:
                continue
            new = [fact for fact in facts if fact not in self.facts]
            if not new:
                poor |= {*facts}
            elif apart:
                raise conflict(new, [fact for fact in facts if fact not in new[:1]])
            else:
                one = facts[0].request
                raise SearchDiverged(
                    subject=one.subject, target=one.target_new, reached=reached, steps=steps
                )
        return found, poor

    # ---- deltas and notes ------------------------------------------------------------------------

    def _gone(self, out: Sequence[Entry]) -> dict[str, Memory]:
        """The deltas that take entries out, by weight."""
        keys: dict[str, list[Tensor]] = {}
        for entry in out:
            keys.setdefault(entry.weight, []).append(entry.keys)
        found: dict[str, Memory] = {}
        for weight, gone in keys.items():
            none = torch.zeros(0, self.view.weight(weight).shape[0])
            memory = Memory.of(gone[0][:0], none, none[:, 0], torch.cat(gone))
            found[weight] = memory.to(self.view.device)
        return found

    def _standing(
        self, entries: Sequence[Entry], stay: Collection[Fact], deltas: Mapping[str, Memory]
    ) -> tuple[dict[str, Memory], list[Json]]:
        """The same deltas, which bring the entries of facts that stay as stored; and their notes.

        A retracted fact is not among an entry's facts any more, whatever its vector says.
        """
        found, notes = dict(deltas), list[Json]()
        for entry in entries:
            if not (facts := [fact for fact in entry.facts if fact in stay]):
                continue
            same, weight = entry.anew.to(self.view.device), entry.weight
            start = len(found.get(weight, ()))
            found[weight] = found[weight].then(same) if weight in found else same
            notes.append(note_of(facts, weight, range(start, start + len(same))))
        return found, notes

    def _with(
        self, made: _Written, gates: Gates, values: Tensor, deltas: Mapping[str, Memory]
    ) -> dict[str, Memory]:
        """The same deltas, which bring entries as well; values [entries, d_v]."""
        before, keys = deltas.get(self.weight), made.keys
        gone = None if before is None else before.gone.to(keys.keys)
        here = Memory.of(keys.keys, values[keys.entry], gates.gates, gone)
        return {**deltas, self.weight: here}

    def _told(self, made: _Written, gates: Gates, found: Found) -> Json:
        """What the notes say of the entries."""
        facts = [made.facts_of(group) for group in made.groups]
        owner = made.keys.entry.tolist()
        rows = [[at for at, n in enumerate(owner) if n == number] for number in range(len(facts))]
        said = list(zip(facts, rows, strict=True))
        gated = [
            {"subjects": list(dict.fromkeys(f.request.subject for f in some)), **gates.told(row)}
            for some, mine in said
            for row in mine
        ]
        return {
            NOTE: [
                note_of(some, self.weight, mine) for some, mine in zip(facts, rows, strict=True)
            ],
            "gates": gated,
            "search_steps": found.steps,
            "searched_probability": found.probability,
        }
