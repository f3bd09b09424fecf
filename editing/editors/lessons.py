"""What gradient methods share: a request as texts to be learned, and the loss of its target.

    L = mean over a text's target tokens of -log p(token | question, tokens before it)

A lesson is one question with its target, teacher-forced; a request gives one for its bare prompt
and, where asked for, one for each prefix and paraphrase. Only the blocks from the lowest trained
one on are run at each step: what lies below never changes and is run once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.hparams import Contexts
from editing.model.partial import Paused, pause
from editing.model.tokens import Continuation, continued, place_text

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest


def texts_of(
    view: "ModelView",
    request: "EditRequest",
    prefixes: Sequence[str] = (),
    *,
    end: bool = False,
    paraphrases: bool = False,
) -> list[Continuation]:
    """A request's bare prompt and its prefixed ones, each with the target behind it.

    A relation edit may bring a second prompt, which is to be answered with "None".

    paraphrases: learn in the request's paraphrases too; they are whole questions.
    end: put the tokenizer's end token behind the target, so that the model learns to stop there.
    Raises EmptyField, SubjectNotFound or TargetTooLong.
    """
    tokenizer = view.tokenizer
    rows = [
        continued(tokenizer, place_text(tokenizer, prompt, request.subject, prefix).text, target)
        for prompt, target in request.texts
        for prefix in ("", *prefixes)
    ]
    if paraphrases:
        rows += [continued(tokenizer, text, request.target_new) for text in request.paraphrases]
    stop = view.tokenizer.eos_token_id
    if end and isinstance(stop, int):
        rows = [Continuation([*row.ids, stop], row.start) for row in rows]
    return rows


def prefixes_of(view: "ModelView", contexts: Contexts) -> tuple[str, ...]:
    """The sampled prefixes of the untouched model that `contexts` asks for."""
    return view.stats.prefixes(contexts) if contexts.prefixes else ()


@dataclass(frozen=True, slots=True)
class Graded:
    """What one pass over lessons gave.

    nll [rows] is the mean loss of each, first [rows] whether every target token was the first
    choice, logprobs [tokens, V] what was predicted at the target tokens, row after row.
    """

    nll: Tensor
    first: Tensor
    logprobs: Tensor


@dataclass(frozen=True, slots=True)
class Lessons:
    """Texts halted below the lowest trained block, ready to be run on any number of times."""

    view: "ModelView"
    paused: Paused
    where: Tensor  # [tokens, 2] row and position whose logits predict a target token
    gold: Tensor  # [tokens]
    sizes: Tensor  # [rows] target tokens of each

    @classmethod
    def of(cls, view: "ModelView", rows: Sequence[Continuation], first: int = 0) -> "Lessons":
        """Halt `rows` below block `first`; everything above may be trained."""
        fed = [row.ids[:-1] for row in rows]
        width = max(map(len, fed))
        where = [
            (number, width - len(row.ids) + at)  # rows end together
            for number, row in enumerate(rows)
            for at in range(row.start, len(row.ids))
        ]
        return cls(
            view,
            pause(view, fed, first=first, stop=len(view.blocks)),
            torch.tensor(where, device=view.device),
            torch.tensor([t for row in rows for t in row.targets], device=view.device),
            torch.tensor([len(row.targets) for row in rows], device=view.device),
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def rows(self, numbers: Sequence[int]) -> "Lessons":
        """Some of the lessons, for a mini-batch."""
        chosen = torch.tensor(list(numbers), device=self.view.device)
        renumbered = torch.full((len(self),), -1, device=self.view.device)
        renumbered[chosen] = torch.arange(len(chosen), device=self.view.device)
        # Tokens in the order of the chosen rows, so that `logprobs` is row after row here too.
        mine = torch.cat([(self.where[:, 0] == n).nonzero()[:, 0] for n in chosen])
        where = torch.stack([renumbered[self.where[mine, 0]], self.where[mine, 1]], dim=1)
        paused = self.paused.rows(chosen)
        return Lessons(self.view, paused, where, self.gold[mine], self.sizes[chosen])

    def graded(self) -> Graded:
        """Run them through the blocks above, with whatever weights the view computes with now."""
        out = self.paused.run()
        logits = self.view.logits(out[self.where[:, 0], self.where[:, 1]])
        logprobs = logits.log_softmax(-1)  # [tokens, V]
        taken = logprobs.gather(1, self.gold[:, None])[:, 0]
        hits = (logprobs.argmax(-1) == self.gold).float()
        row = self.where[:, 0]
        nll = taken.new_zeros(len(self)).index_add(0, row, -taken) / self.sizes
        right = taken.new_zeros(len(self)).index_add(0, row, hits)
        return Graded(nll, right == self.sizes, logprobs)
