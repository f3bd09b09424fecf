"""How likely a model finds given texts: one padded batch, the head only where it is needed."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from editing.step import Step

from .lead import Lead
from .tokens import Continuation, continued

if TYPE_CHECKING:
    from .view import ModelView

_ROWS = 64


@dataclass(frozen=True, slots=True)
class Score:
    """A text as the continuation of a question, teacher-forced.

    `logprob` is the sum over its tokens in nats; `matches` how many of them are the model's own
    first choice.
    """

    logprob: float
    tokens: int
    matches: int

    @property
    def mean_probability(self) -> float:
        """Geometric mean of the tokens' probabilities: what CounterFact compares."""
        return float(torch.tensor(self.logprob / self.tokens).exp())

    @property
    def greedy(self) -> bool:
        """Whether greedy decoding gives exactly this text."""
        return self.matches == self.tokens


def score(
    view: "ModelView",
    pairs: Sequence[tuple[str, str]],
    *,
    left_padding: bool = False,
    one_prompt: bool = False,
) -> Generator[Step, None, list[Score]]:
    """Scores of (question, text) pairs, in order; a Step after each batch of rows.

    one_prompt: all questions are one, which is then run once.
    """
    rows = [continued(view.tokenizer, view.asked(question), text) for question, text in pairs]
    # Rows of like length share a batch, so that little of it is padding.
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    asked = [row.ids[: row.start] for row in rows]
    lead = Lead(view, asked, left_padding=left_padding, one_prompt=one_prompt)
    found: dict[int, Score] = {}
    for start in range(0, len(order), _ROWS):
        chosen = order[start : start + _ROWS]
        scores = _score_batch(lead, [rows[i] for i in chosen])
        found.update(zip(chosen, scores, strict=True))
        yield Step("measure", min(start + _ROWS, len(order)), len(order))
    return [found[i] for i in range(len(rows))]


@torch.no_grad()
def _score_batch(lead: Lead, rows: Sequence[Continuation]) -> list[Score]:
    hidden = lead.hidden([row.ids[:-1] for row in rows])
    width = hidden.shape[1]
    where: list[tuple[int, int]] = []
    for number, row in enumerate(rows):
        shift = width - len(row.ids) + 1 if lead.left else -lead.size
        where += [(number, shift + at - 1) for at in range(row.start, len(row.ids))]
    view, at = lead.view, torch.tensor(where, device=hidden.device)
    logits = view.head(hidden[at[:, 0], at[:, 1]])  # [tokens of all targets, vocabulary]
    gold = torch.tensor([t for row in rows for t in row.targets], device=view.device)
    logprobs = logits.log_softmax(-1).gather(1, gold[:, None])[:, 0]
    hits = logits.argmax(-1) == gold
    sizes = [len(row.targets) for row in rows]
    return [
        Score(float(part.sum()), len(part), int(hit.sum()))
        for part, hit in zip(logprobs.split(sizes), hits.split(sizes), strict=True)
    ]
