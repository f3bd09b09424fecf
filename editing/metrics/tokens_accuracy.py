"""Answers token by token, teacher-forced: how many are the model's own first choice (METRICS 0).

accuracy    share of an answer's tokens that the model would choose at their places
agreement   share of its places at which the model chooses what it chose before the edit

The transmission-path paper (CTP, ACL 2025 long 1367) and zsRE's evaluations score by these. Teacher
forcing gives away an answer's length and all of its tokens but one, so both stand beside what the
model writes by itself.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from editing.model.lead import Lead
from editing.model.tokens import Continuation, continued
from editing.step import Step

if TYPE_CHECKING:
    from editing.model.view import ModelView

_ROWS = 16  # a step stays below a second on a small model


@dataclass(frozen=True, slots=True)
class Choices:
    """The tokens of an answer, and what the model would choose at the place of each."""

    gold: tuple[int, ...]
    chosen: tuple[int, ...]

    @property
    def accuracy(self) -> float:
        """Share of places at which the model chooses the answer's token."""
        return _share(self.gold, self.chosen)

    def agreement(self, before: "Choices") -> float:
        """Share of places at which it chooses what it chose before. The answer is the same one."""
        return _share(before.chosen, self.chosen)


def _share(one: Sequence[int], other: Sequence[int]) -> float:
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def choices(
    view: "ModelView", pairs: Sequence[tuple[str, str]]
) -> Generator[Step, None, list[Choices]]:
    """For each (question, answer), in order. Raises EmptyField, TargetTooLong or TextTooLong."""
    rows = [continued(view.tokenizer, view.asked(question), text) for question, text in pairs]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    lead = Lead(view, [row.ids[: row.start] for row in rows])
    found: dict[int, Choices] = {}
    for start in range(0, len(order), _ROWS):
        part = order[start : start + _ROWS]
        found.update(zip(part, _of_batch(lead, [rows[i] for i in part]), strict=True))
        yield Step("measure", len(found), len(rows))
    return [found[i] for i in range(len(rows))]


@torch.no_grad()
def _of_batch(lead: Lead, rows: Sequence[Continuation]) -> list[Choices]:
    hidden = lead.hidden([row.ids[:-1] for row in rows])  # padded behind, the lead left out
    where = [
        (number, at - 1 - lead.size)
        for number, row in enumerate(rows)
        for at in range(row.start, len(row.ids))
    ]
    at = torch.tensor(where, device=hidden.device)
    best = lead.view.head(hidden[at[:, 0], at[:, 1]]).argmax(-1)  # [tokens of all answers]
    parts = best.split([len(row.targets) for row in rows])
    return [
        Choices(tuple(row.targets), tuple(part.tolist()))
        for row, part in zip(rows, parts, strict=True)
    ]
