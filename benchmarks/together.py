"""Scores of many short texts at once: what one row reads anyway is not read again in another.

The two answers of a prompt have nearly everything in common, and where one of them is a single
token, all that has to be read for it lies in the other's row (causality). The same sums as
`editing.model.scoring`, in half the time; in other batches, so not bit for bit.
"""

from collections.abc import Iterator, Sequence

import torch

from editing.metrics.counterfact import Compared, FactScores
from editing.model.lead import Lead
from editing.model.scoring import Score
from editing.model.state import State
from editing.model.tokens import Continuation, continued
from editing.model.view import ModelView
from editing.request import EditRequest

_ROWS = 32

Ids = tuple[int, ...]


def facts_of(
    view: ModelView, requests: Sequence[EditRequest], rival: Sequence[str], state: State
) -> list[FactScores]:
    """What `editing.metrics.counterfact.measure_facts` finds of a state."""
    asked: list[tuple[str, str, str]] = []  # prompt, the answer that should win, its rival
    for request, old in zip(requests, rival, strict=True):
        asked += [(t, request.target_new, old) for t in (request.question, *request.paraphrases)]
        asked += [(near.prompt, near.target, request.target_new) for near in request.neighborhood]
    with view.showing(state):
        flat = together(view, [(prompt, text) for prompt, *both in asked for text in both])
    found = iter(
        Compared(wanted, other, one.strip() == two.strip())
        for wanted, other, (_, one, two) in zip(flat[::2], flat[1::2], asked, strict=True)
    )
    return [_fact(request, found) for request in requests]


def _fact(request: EditRequest, found: Iterator[Compared]) -> FactScores:
    return FactScores(
        next(found),
        [next(found) for _ in request.paraphrases],
        [next(found) for _ in request.neighborhood],
    )


def together(view: ModelView, pairs: Sequence[tuple[str, str]]) -> list[Score]:
    """Scores of (question, text) pairs, in order, of what is shown now."""
    rows = [continued(view.tokenizer, view.asked(question), text) for question, text in pairs]
    hosts = _hosts([tuple(row.ids[:-1]) for row in rows])
    read = sorted(set(hosts.values()), key=lambda ids: (len(ids), ids))
    guests: dict[Ids, list[int]] = {ids: [] for ids in read}
    for number, row in enumerate(rows):
        guests[hosts[tuple(row.ids[:-1])]].append(number)
    lead = Lead(view, [row.ids[: row.start] for row in rows])
    found: dict[int, Score] = {}
    for start in range(0, len(read), _ROWS):
        part = read[start : start + _ROWS]
        mine = [(at, number) for at, ids in enumerate(part) for number in guests[ids]]
        scores = _scores(lead, part, [(at, rows[number]) for at, number in mine])
        found.update(zip((number for _, number in mine), scores, strict=True))
    return [found[number] for number in range(len(rows))]


def _hosts(rows: Sequence[Ids]) -> dict[Ids, Ids]:
    """For each row the longest one that begins with it."""
    found: dict[Ids, Ids] = {}
    host: Ids = ()
    for row in sorted(set(rows), reverse=True):  # what begins with a row stands just before it
        host = host if host[: len(row)] == row else row
        found[row] = host
    return found


@torch.no_grad()
def _scores(
    lead: Lead, read: Sequence[Ids], asked: Sequence[tuple[int, Continuation]]
) -> list[Score]:
    hidden = lead.hidden(read)  # padded behind, the lead left out
    where = [
        (at, place - 1 - lead.size) for at, row in asked for place in range(row.start, len(row.ids))
    ]
    places = torch.tensor(where, device=hidden.device)
    logits = lead.view.head(hidden[places[:, 0], places[:, 1]])  # [tokens of all texts, vocabulary]
    gold = torch.tensor([token for _, row in asked for token in row.targets], device=logits.device)
    logprobs = logits.log_softmax(-1).gather(1, gold[:, None])[:, 0]
    hits = logits.argmax(-1) == gold
    sizes = [len(row.targets) for _, row in asked]
    return [
        Score(float(part.sum()), len(part), int(hit.sum()))
        for part, hit in zip(logprobs.split(sizes), hits.split(sizes), strict=True)
    ]
