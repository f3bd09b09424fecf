"""A lineage of edits by one method, as the tests of ledgers write and read it."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from editing.compact import compact
from editing.editors import ledger
from editing.editors.slots import slots_of
from editing.history import Entry, History
from editing.hparams import LedgerHparams
from editing.model.scoring import score
from editing.model.state import State
from editing.model.view import ModelView
from editing.outcome import Outcome
from editing.request import EditRequest
from editing.retract import metric_of, retract
from editing.run import finish
from editing.walk import Plan

from .facts import SPORT, run

BAND = {"layers": [1, 3]}
# The same subject first in another prompt: the same key, to the bit.
PLACE = replace(SPORT, prompt="{}, whose sport is", target_new="Paris", paraphrases=())


class Book:
    """A lineage of edits by one method, each upon what the one before it left."""

    def __init__(self, view: ModelView, editor: str = "ledger", **hparams: object) -> None:
        self.view, self.editor = view, editor
        self.hparams = {**BAND, **hparams}
        self.entries: list[Entry] = []
        self._folds = History().folds  # handed on, as a worker does

    @property
    def history(self) -> History:
        return History(list(self.entries), self._folds)

    def write(self, *facts: EditRequest) -> Outcome:
        made = run(self.view, self.editor, facts, self.hparams, self.history)
        return self._keep(made)

    def without(self, edit: str) -> Outcome:
        plan = Plan.of(self.view, self.editor, self.hparams)
        return self._keep(finish(retract(self.view, plan, self.history, edit)))

    def again(self, disturbed: Sequence[tuple[str, EditRequest]], *facts: EditRequest) -> Outcome:
        hparams = Plan.of(self.view, self.editor, self.hparams).hparams
        assert isinstance(hparams, LedgerHparams)
        live = [(edit, 0, fact) for edit, fact in disturbed]
        work = ledger.again(self.view, hparams, self.history, facts, live)
        return self._keep(finish(work))

    def compact(self) -> Outcome:
        plan = Plan.of(self.view, self.editor, self.hparams)
        made = finish(compact(self.view, plan, self.history))
        self.view.adopt(State())
        self.entries = []
        return self._keep(made)

    def _keep(self, made: Outcome) -> Outcome:
        made = Outcome.from_bytes(made.to_bytes())
        self.view.adopt(self.view.after(made.deltas))
        self.entries.append(Entry(f"e{len(self.entries)}", lambda: made, made.removes))
        return made

    def says(self, *facts: EditRequest) -> list[bool]:
        asked = [(fact.question, fact.target_new) for fact in facts]
        return [one.greedy for one in finish(score(self.view, asked))]

    @property
    def slots(self) -> list[list[tuple[str, str]]]:
        _, made_by = metric_of(self.view, Plan.of(self.view, self.editor, self.hparams))
        return [
            [(fact.edit, fact.request.question) for fact in slot.facts]
            for slot in slots_of(self.history, made_by).values()
        ]

    def off(self, layers: Sequence[int] = (1, 3)) -> float:
        """How far the weights are from the joint solution of all live slots, in dense algebra."""
        worst = 0.0
        for layer in layers:
            wanted, found = self.joint(layer), self.view.master(self.view.down_proj(layer)).double()
            worst = max(worst, float((found - wanted).norm() / wanted.norm()))
        return worst

    def joint(self, layer: int) -> torch.Tensor:
        """The joint solution of all live slots for one weight, in dense algebra."""
        history, weight = self.history, self.view.down_proj(layer)
        bases, _ = metric_of(self.view, Plan.of(self.view, self.editor, self.hparams))
        start = self.view.master(weight, State()).double()
        pairs = list(history.pairs(weight))
        if not pairs:
            return start
        keys = torch.cat([pair.keys.double() for pair in pairs], dim=1)
        targets = torch.cat([p.values.double() + p.missing.double() for p in pairs], dim=1)
        inverse = bases(("mlp", layer)).with_keys(keys).inverse
        return start + (targets - start @ keys) @ keys.mT @ inverse
