"""The pass whose gradients are compared, cut into pieces: below the blocks, each block, the head.

One forward pass keeps what enters each block. Then the pieces are run again from the top down, each
by itself with gradients, and the gradient at its entry is handed to the piece below: only one
piece's activations are ever held, for all facts. A parameter's own gradient is never asked for.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from editing.model.calls import Call, taking_down
from editing.model.partial import positions_of, right_padded
from editing.model.tokens import Continuation, continued

from .heard import Use, hearing
from .pieces import Collector, Places, Terms
from .scope import refused

if TYPE_CHECKING:
    from editing.model.view import ModelView

_TOKENS = 192  # run side by side, padding included: a forward pass is one step


@dataclass(slots=True)
class Batch:
    """Facts that are run side by side.

    hidden: what enters each block [B, S, d_model], given up once its piece is done; gradient: of
    the summed objective, at what leaves the piece that comes next.
    """

    rows: Sequence[Continuation]
    inputs: Mapping[str, Tensor]
    facts: Tensor  # [B]
    hidden: list[Tensor]
    calls: list[Call]
    gradient: Tensor

    @property
    def places(self) -> Places:
        """Whose the tokens are."""
        mask = self.inputs["attention_mask"].bool()
        return Places(mask, self.facts[:, None].expand_as(mask)[mask], self.facts)


def batches(rows: Sequence[Continuation]) -> Generator[slice, None, None]:
    """Cut rows into runs of like cost."""
    start = width = 0
    for number, row in enumerate(rows):
        width = max(width, len(row.ids) - 1)
        if number > start and (number - start + 1) * width > _TOKENS:
            yield slice(start, number)
            start, width = number, len(row.ids) - 1
    if start < len(rows):
        yield slice(start, len(rows))


def rows_of(view: "ModelView", facts: Iterable[tuple[str, str]]) -> list[Continuation]:
    """(question, answer) pairs as the model is asked them in the state it serves.

    Raises EmptyField or TargetTooLong.
    """
    return [continued(view.tokenizer, view.asked(question), answer) for question, answer in facts]


@torch.no_grad()
def halted(view: "ModelView", rows: Sequence[Continuation], first: int) -> Batch:
    """Run rows forward, keeping what enters each block; `first` is the first one's number."""
    ids, mask = right_padded(view, [row.ids[:-1] for row in rows])
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions_of(mask)}
    with taking_down(list(view.blocks)) as (hidden, calls):
        view.body(**inputs, use_cache=False)
    out = _run(view.blocks[-1], calls[-1], hidden[-1])
    facts = torch.arange(first, first + len(rows), device=view.device)
    return Batch(rows, inputs, facts, hidden, calls, out)


@dataclass(frozen=True, slots=True)
class Passes:
    """The pieces of one pass, each giving its terms and moving the batch's gradient on."""

    view: "ModelView"
    collector: Collector

    def head(self, batch: Batch) -> Terms:
        """What comes behind the blocks, run at the positions that predict an answer's token."""
        layout = self.view.layout
        where = [
            (number, at - 1)
            for number, row in enumerate(batch.rows)
            for at in range(row.start, len(row.ids))
        ]
        rows, columns = torch.tensor(where, device=self.view.device).T
        gold = torch.tensor([t for row in batch.rows for t in row.targets], device=self.view.device)
        modules = self.collector.modules((layout.head, *layout.tail))
        last = batch.gradient  # what leaves the last block, until now
        with torch.enable_grad(), hearing(self.view, modules) as uses:
            at = last[rows, columns].detach().requires_grad_()
            logprob = self.view.logits(at).log_softmax(-1).gather(1, gold[:, None]).sum()
        below, *given = _gradients(logprob, [at], uses)
        batch.gradient = torch.zeros_like(last)
        assert below is not None  # noqa: S101 - the head answers to what it is given
        batch.gradient[rows, columns] = below.to(last.dtype)
        places = Places(None, batch.facts[rows], batch.facts)
        return self.collector.terms(uses, given, places)

    def block(self, batch: Batch, layer: int) -> Terms:
        """One block; what entered it is given up."""
        hidden = batch.hidden.pop().detach().requires_grad_()
        modules = self.collector.modules([f"{self.view.layout.blocks}.{layer}"])
        with torch.enable_grad(), hearing(self.view, modules) as uses:
            out = _run(self.view.blocks[layer], batch.calls[layer], hidden)
        below, *given = _gradients(out, [hidden], uses, batch.gradient)
        terms = self.collector.terms(uses, given, batch.places)
        batch.gradient = torch.zeros_like(hidden) if below is None else below
        return terms

    def bottom(self, batch: Batch) -> Terms:
        """What comes before the blocks: look-ups, and what is done with what they gave."""
        layout = self.view.layout
        above = (layout.blocks, layout.head, *layout.tail)
        modules = self.collector.modules([""], without=above)
        with (
            torch.enable_grad(),
            hearing(self.view, modules) as uses,
            taking_down([self.view.blocks[0]]) as (hidden, calls),
        ):
            self.view.body(**batch.inputs, use_cache=False)
        if any(tensor.requires_grad for _, tensor in calls[0].tensors()):
            name = next(iter(modules))
            raise refused(
                self.view, name, "it is heard in the blocks by another way than their input"
            )
        given = _gradients(hidden[0], [], uses, batch.gradient)
        return self.collector.terms(uses, given, batch.places)


def _run(block: nn.Module, call: Call, hidden: Tensor) -> Tensor:
    out = block(hidden, *call.args, **call.named)
    return out[0] if isinstance(out, tuple) else out


def _gradients(
    out: Tensor, entering: Sequence[Tensor], uses: Sequence[Use], given: Tensor | None = None
) -> list[Tensor | None]:
    wanted = [*entering, *(use.leaving for use in uses)]
    if not wanted or not out.requires_grad:
        return [None] * len(wanted)
    return list(torch.autograd.grad(out, wanted, given, allow_unused=True))
