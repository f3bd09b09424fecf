"""The one search for the vector under which a model says o* (z in MEMIT, v* in ROME).

Meng et al., "Locating and Editing Factual Associations in GPT", arXiv:2202.05262, section 3.1 and
appendix; the same search in arXiv:2210.07229. For each fact one delta [d_v], added to what layer l
writes at the subject's last token in every context, is found by Adam on

    mean over contexts of -log p(o* | context, h + delta) / |o*|
      + kl_factor * KL(p_delta(. | "{subject} is a") || p_0)
      + weight_decay * |delta| / |h|^2                       (not squared above: as published)

with |delta| <= max_norm * |h| after each step. Adding to the MLP's output or to the block's output
is the same sum, so ROME and MEMIT differ only in the vector h that sets the scale (`reference`).
Where it is not the same sum, because a norm follows, delta is added before that norm (site.py).

Departures. All facts are searched at once, each with its own delta, optimiser state and end; only
the blocks above l, only positions from the subject's last token on, and only the needed rows of the
head are run. A fact also ends when its target was the first choice in all contexts for
`rank_one_steps` steps (ENCORE's MPES). The KL is taken at the last token of "{subject} is a", as
the paper writes it (the published code takes it at the subject).
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.errors import SearchDiverged
from editing.hparams import Search
from editing.model.partial import Paused
from editing.model.tokens import continued, place, place_text
from editing.step import Step

from .site import Site

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

_ESSENCE = "{} is a"
# What is searched side by side, padding included; both bound the memory of a large batch.
_POSITIONS = 1024  # from the subject's last token on: these are run at every step
_WHOLE_POSITIONS = 8192  # of whole texts: their keys and values are kept


@dataclass(frozen=True, slots=True)
class Found:
    """What the search ended with.

    delta [n, d_v]; probability [n] of o* after the bare prompt (geometric mean per token); steps
    [n].
    """

    delta: Tensor
    probability: list[float]
    steps: list[int]

    def row(self, number: int) -> "Found":
        """What was found for one fact."""
        one = slice(number, number + 1)
        return Found(self.delta[one], self.probability[one], self.steps[one])


def find_delta(
    view: "ModelView",
    requests: Sequence["EditRequest"],
    *,
    layer: int,
    search: Search,
    prefixes: Sequence[str],
    reference: Tensor | None = None,
) -> Generator[Step, None, Found]:
    """Search every request's delta at layer `layer`, the bare prompt being one of its contexts.

    reference [n, d_v] sets the scale of the bounds; by default it is what delta is added to: the
    block's own output h, or what enters the norm behind the write. Raises SearchDiverged.
    """
    parts: dict[int, Found] = {}
    for chunk in _chunks(view, requests, prefixes):
        chosen = [requests[number] for number in chunk]
        scale = None if reference is None else reference[chunk]
        rows = _Rows(view, chosen, prefixes, layer)
        part = yield from _search(rows, search, scale, done=len(parts), total=len(requests))
        _require_reached(chosen, part, search)
        parts |= {number: part.row(at) for at, number in enumerate(chunk)}
    found = [parts[number] for number in range(len(requests))]
    return Found(
        torch.cat([one.delta for one in found]),
        [p for one in found for p in one.probability],
        [s for one in found for s in one.steps],
    )


def _chunks(
    view: "ModelView", requests: Sequence["EditRequest"], prefixes: Sequence[str]
) -> Iterator[list[int]]:
    """Numbers of requests to search together: of like length, within bounds on positions."""
    contexts = len(prefixes) + 2
    lead = max((len(view.tokenizer(prefix)["input_ids"]) + 1 for prefix in prefixes), default=0)  # type: ignore[arg-type]
    widths: list[int] = []
    lengths: list[int] = []
    for request in requests:
        placed = place(view.tokenizer, request, "")
        text = continued(view.tokenizer, placed.text, request.target_new)
        widths.append(len(text.ids) - placed.subject)
        lengths.append(len(text.ids) + lead)
    chunk: list[int] = []
    longest = 0
    for number in sorted(range(len(requests)), key=lambda n: widths[n]):
        rows = (len(chunk) + 1) * contexts
        longest = max(longest, lengths[number])
        if chunk and (rows * widths[number] > _POSITIONS or rows * longest > _WHOLE_POSITIONS):
            yield chunk
            chunk, longest = [], lengths[number]
        chunk.append(number)
    yield chunk


class _Rows:
    """The texts of a chunk of facts as one paused batch: contexts of a fact, then its essence."""

    def __init__(
        self,
        view: "ModelView",
        requests: Sequence["EditRequest"],
        prefixes: Sequence[str],
        layer: int,
    ) -> None:
        self.view = view
        self.site = Site(view, layer)
        self.contexts = len(prefixes) + 1
        ids: list[list[int]] = []
        cuts: list[int] = []
        where: list[tuple[int, int]] = []  # (row, position behind the cut) that predicts a target
        golds: list[int] = []
        sizes: list[int] = []
        essence: list[int] = []
        for request in requests:
            for prefix in ("", *prefixes):
                placed = place(view.tokenizer, request, prefix)
                text = continued(view.tokenizer, placed.text, request.target_new)
                first = text.start - 1 - placed.subject
                where += [(len(ids), first + i) for i in range(len(text.targets))]
                golds += text.targets
                sizes.append(len(text.targets))
                ids.append(text.ids[:-1])
                cuts.append(placed.subject)
            placed = place_text(view.tokenizer, _ESSENCE, request.subject)
            ids.append(placed.ids)
            cuts.append(placed.subject)
            essence.append(len(placed.ids) - 1 - placed.subject)
        self.paused = self.site.pause(ids, cuts)
        self.where = torch.tensor(where, device=view.device)  # [targets, 2]
        self.gold = torch.tensor(golds, device=view.device)  # [targets]
        self.sizes = torch.tensor(sizes, device=view.device)  # [facts * contexts]
        self.essence = torch.tensor(essence, device=view.device)  # [facts]
        self.facts = len(requests)

    def hidden(self) -> Tensor:
        """h [facts, d_v]: what stands where delta is added, in the bare prompt."""
        return self.site.reached(self.paused)[:: self.contexts + 1]


@dataclass(slots=True)
class _Active:
    """The rows of the facts still being searched."""

    facts: Tensor  # [a] their numbers
    paused: Paused
    owner: Tensor  # [rows] position in `facts` of each row's fact
    where: Tensor  # [targets, 2]
    gold: Tensor
    pair: Tensor  # [targets] number of the (fact, context) that a target token belongs to
    sizes: Tensor  # [a, contexts]
    essence_rows: Tensor  # [a]
    essence_at: Tensor  # [a]

    @classmethod
    def of(cls, rows: _Rows, facts: Tensor) -> "_Active":
        per_fact = rows.contexts + 1
        device = facts.device
        block = torch.arange(per_fact, device=device)
        kept = (facts[:, None] * per_fact + block).reshape(-1)
        renumbered = torch.full((rows.facts * per_fact,), -1, device=device)
        renumbered[kept] = torch.arange(len(kept), device=device)
        mine = renumbered[rows.where[:, 0]] >= 0
        row = renumbered[rows.where[mine, 0]]
        count = len(facts)
        return cls(
            facts=facts,
            paused=rows.paused if count == rows.facts else rows.paused.rows(kept),
            owner=torch.arange(count, device=device).repeat_interleave(per_fact),
            where=torch.stack([row, rows.where[mine, 1]], dim=1),
            gold=rows.gold[mine],
            pair=row // per_fact * rows.contexts + row % per_fact,
            sizes=rows.sizes.view(rows.facts, rows.contexts)[facts],
            essence_rows=torch.arange(count, device=device) * per_fact + rows.contexts,
            essence_at=rows.essence[facts],
        )


def _forward(rows: _Rows, active: _Active, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of the targets [a, contexts], essence log-probabilities [a, V], first choices [a]."""
    out = rows.site.run(active.paused, delta[active.owner])
    rows_at = torch.cat([active.where[:, 0], active.essence_rows])
    places = torch.cat([active.where[:, 1], active.essence_at])
    logprobs = rows.view.logits(out[rows_at, places]).log_softmax(-1)
    targets, essence = logprobs[: len(active.gold)], logprobs[len(active.gold) :]
    taken = targets.gather(1, active.gold[:, None])[:, 0]
    shape = active.sizes.shape
    nll = taken.new_zeros(shape.numel()).index_add(0, active.pair, -taken).view(shape)
    hits = (targets.argmax(-1) == active.gold).float()
    right = taken.new_zeros(shape.numel()).index_add(0, active.pair, hits).view(shape)
    return nll / active.sizes, essence, (right == active.sizes).all(1)


def _search(
    rows: _Rows, search: Search, reference: Tensor | None, *, done: int, total: int
) -> Generator[Step, None, Found]:
    """Adam on all facts of a chunk; a fact that is done keeps its delta and leaves the batch."""
    hidden = rows.hidden()
    scale = (hidden if reference is None else reference).norm(dim=1)  # [facts]
    count = len(scale)
    delta = torch.zeros_like(hidden).requires_grad_()
    adam = torch.optim.Adam([delta], lr=search.lr)
    active = _Active.of(rows, torch.arange(count, device=scale.device))
    essence_0: Tensor | None = None
    streak = torch.zeros(count, dtype=torch.long, device=scale.device)
    ended = torch.full((count,), search.steps, device=scale.device)
    bare = torch.zeros(count, device=scale.device)

    for step in range(search.steps):
        mine = active.facts
        nll, essence, first = _forward(rows, active, delta[mine])
        if essence_0 is None:
            essence_0 = essence.detach()
            rows.view.require_finite(nll.detach(), "What the model answers before the edit")
        kl = (essence.exp() * (essence - essence_0[mine])).sum(-1)
        decay = delta[mine].norm(dim=1) / scale[mine] ** 2
        loss = nll.mean(1) + search.kl_factor * kl + search.weight_decay * decay  # [a]
        bare[mine] = (-nll[:, 0]).exp().detach()
        streak[mine] = torch.where(first, streak[mine] + 1, 0)
        over = (loss < search.stop_loss) | ~loss.isfinite()
        if search.rank_one_steps:
            over |= streak[mine] >= search.rank_one_steps
        ended[mine[over]] = step + 1
        if step == search.steps - 1:
            over = torch.ones_like(over)
        open_facts = mine[~over]
        if len(open_facts):
            _descend(adam, delta, loss[~over].sum(), open_facts, search.max_norm * scale)
        mean = float(loss.mean().detach())
        yield Step("z", done + count - len(open_facts), total, mean)
        if not len(open_facts):
            break
        if bool(over.any()):
            active = _Active.of(rows, open_facts)
    return Found(delta.detach(), bare.tolist(), ended.tolist())


def _descend(
    adam: torch.optim.Adam, delta: Tensor, loss: Tensor, facts: Tensor, limit: Tensor
) -> None:
    """One step of Adam for some facts, then back into the ball of radius `limit` [n]."""
    before = delta.detach().clone()
    adam.zero_grad()
    loss.backward()
    adam.step()
    with torch.no_grad():
        # Adam's momentum would go on moving facts that have left the search.
        still = torch.zeros(len(delta), dtype=torch.bool, device=delta.device)
        still[facts] = True
        norm = delta.norm(dim=1).clamp(min=1e-30)
        shrink = (limit / norm).clamp(max=1.0)
        delta.copy_(torch.where(still[:, None], delta * shrink[:, None], before))


def _require_reached(requests: Sequence["EditRequest"], found: Found, search: Search) -> None:
    finite = found.delta.isfinite().all(1).tolist()
    for request, reached, steps, good in zip(
        requests, found.probability, found.steps, finite, strict=True
    ):
        # Written so that a NaN fails too.
        if not good or not reached >= search.min_probability:
            raise SearchDiverged(
                subject=request.subject, target=request.target_new, reached=reached, steps=steps
            )
