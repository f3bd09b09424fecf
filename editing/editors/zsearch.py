"""The one search for the vector under which a model says o* (z in MEMIT, v* in ROME).

Meng et al., "Locating and Editing Factual Associations in GPT", arXiv:2202.05262, section 3.1 and
appendix; the same search in arXiv:2210.07229. For each fact one delta [d_v], added to what layer l
writes at the fact's key in every context, is found by Adam on

    mean over contexts of -log p(o* | context, h + delta) / |o*|
      + kl_factor * KL(p_delta(. | "{subject} is a") || p_0)
      + weight_decay * |delta| / |h|^2                       (not squared above: as published)

with |delta| <= max_norm * |h| after each step. Adding to the MLP's output or to the block's output
is the same sum, so ROME and MEMIT differ only in the vector h that sets the scale (`reference`).
Where it is not the same sum, because a norm follows, delta is added before that norm (site.py).
PMET (arXiv:2308.08742) searches a second delta at the attention's output together with it: the same
loss, each bounded and decayed by its own h.

Facts whose keys are equal cannot be written apart; a group of them shares one delta, found under
the mean of their losses (MEMIT-Merge; merging.py says which).

Departures. All facts are searched at once, each with its own delta, optimiser state and end; only
the blocks above l, only positions from the key on, and only the needed rows of the head are run. A
fact also ends when its target was the first choice in all contexts for `rank_one_steps` steps
(ENCORE's MPES). The KL is taken at the last token of "{subject} is a", as the paper writes it (the
published code takes it at the subject).
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.errors import SearchDiverged
from editing.hparams import Search
from editing.model.partial import Paused
from editing.stats.store import SiteKind
from editing.step import Step

from .asking import Asking, Row
from .site import MLP, Site

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

# What is searched side by side, padding included; both bound the memory of a large batch.
_POSITIONS = 1024  # from the key on: these are run at every step
_WHOLE_POSITIONS = 8192  # of whole texts: their keys and values are kept


@dataclass(frozen=True, slots=True)
class Found:
    """What the search ended with, one entry a group.

    deltas [n, kinds, d_v]; probability [n] of o* after the bare prompt (geometric mean per token;
    the lowest of a group); steps [n].
    """

    deltas: Tensor
    probability: list[float]
    steps: list[int]

    @property
    def delta(self) -> Tensor:
        """The deltas [n, d_v] of the first kind."""
        return self.deltas[:, 0]

    def row(self, number: int) -> "Found":
        """What was found for one group."""
        one = slice(number, number + 1)
        return Found(self.deltas[one], self.probability[one], self.steps[one])


def find_delta(
    view: "ModelView",
    requests: Sequence["EditRequest"],
    *,
    layer: int,
    search: Search,
    asking: Asking,
    groups: Sequence[Sequence[int]] | None = None,
    kinds: tuple[SiteKind, ...] = MLP,
    reference: Tensor | None = None,
) -> Generator[Step, None, Found]:
    """Search a delta at layer `layer` for every group of requests; by default each is its own.

    reference [n, kinds, d_v] sets the scale of the bounds; by default it is what delta is added to:
    the block's own output h, or what enters the norm behind the write. Raises SearchDiverged.
    """
    groups = [[number] for number in range(len(requests))] if groups is None else groups
    asked = [
        _Asked(
            [requests[n] for n in group],
            [asking.rows(view, requests[n]) for n in group],
            [asking.essence(view, requests[n]) for n in group],
        )
        for group in groups
    ]
    parts: dict[int, Found] = {}
    for chunk in _chunks(asked):
        scale = None if reference is None else reference[chunk]
        rows = _Rows(view, [asked[number] for number in chunk], Site(view, layer, kinds))
        part = yield from _search(rows, search, scale, done=len(parts), total=len(asked))
        _require_reached([asked[number] for number in chunk], part, search)
        parts |= {number: part.row(at) for at, number in enumerate(chunk)}
    found = [parts[number] for number in range(len(asked))]
    return Found(
        torch.cat([one.deltas for one in found]),
        [p for one in found for p in one.probability],
        [s for one in found for s in one.steps],
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """The texts of one group: rows of each request, the bare prompt first, and their essences."""

    requests: list["EditRequest"]
    rows: list[list[Row]]
    essences: list[tuple[list[int], int]]

    @property
    def count(self) -> int:
        return sum(map(len, self.rows)) + len(self.essences)

    @property
    def width(self) -> int:
        """Positions from the key on, in the longest row."""
        return max(len(row.text.ids) - row.at for rows in self.rows for row in rows)

    @property
    def length(self) -> int:
        return max(len(row.text.ids) for rows in self.rows for row in rows)


def _chunks(asked: Sequence[_Asked]) -> Iterator[list[int]]:
    """Numbers of groups to search together: of like length, within bounds on positions."""
    chunk: list[int] = []
    longest = count = 0
    for number in sorted(range(len(asked)), key=lambda n: asked[n].width):
        one = asked[number]
        count, longest = count + one.count, max(longest, one.length)
        if chunk and (count * one.width > _POSITIONS or count * longest > _WHOLE_POSITIONS):
            yield chunk
            chunk, longest, count = [], one.length, one.count
        chunk.append(number)
    yield chunk


class _Rows:
    """The texts of a chunk of groups as one paused batch; a group's essences behind its texts."""

    def __init__(self, view: "ModelView", asked: Sequence[_Asked], site: Site) -> None:
        self.view = view
        self.site = site
        self.groups = len(asked)
        ids: list[list[int]] = []
        cuts: list[int] = []
        owner: list[int] = []
        bare: list[int] = []
        essence: list[tuple[int, int]] = []  # (row, position behind the cut) of its last token
        where: list[tuple[int, int]] = []  # (row, position behind the cut) that predicts a target
        golds: list[int] = []
        for number, one in enumerate(asked):
            for rows in one.rows:
                bare.append(len(ids))
                for row in rows:
                    first = row.text.start - 1 - row.at
                    where += [(len(ids), first + i) for i in range(len(row.text.targets))]
                    golds += row.text.targets
                    ids.append(row.text.ids[:-1])
                    cuts.append(row.at)
            for text, at in one.essences:
                essence.append((len(ids), len(text) - 1 - at))
                ids.append(text)
                cuts.append(at)
            owner += [number] * one.count
        self.paused = site.pause(ids, cuts)
        device = view.device
        self.owner = torch.tensor(owner, device=device)  # [rows]
        self.bare = torch.tensor(bare, device=device)  # row of each request's bare prompt
        self.essence = torch.tensor(essence, device=device)  # [essences, 2]
        self.where = torch.tensor(where, device=device)  # [targets, 2]
        self.gold = torch.tensor(golds, device=device)  # [targets]

    def hidden(self) -> Tensor:
        """h [groups, kinds, d_v]: what stands where delta is added, in the first bare prompt."""
        starts = torch.searchsorted(self.owner, torch.arange(self.groups, device=self.owner.device))
        return self.site.reached(self.paused)[starts]


@dataclass(slots=True)
class _Active:
    """The rows of the groups still being searched."""

    groups: Tensor  # [a] their numbers
    paused: Paused
    owner: Tensor  # [rows] position in `groups` of each row's group
    where: Tensor  # [targets, 2]
    gold: Tensor
    essence: Tensor  # [essences, 2]
    essences: Tensor  # [essences] their numbers in the whole batch
    bare: Tensor  # [bare prompts]

    @classmethod
    def of(cls, rows: _Rows, groups: Tensor) -> "_Active":
        device = groups.device
        place = torch.full((rows.groups,), -1, device=device)
        place[groups] = torch.arange(len(groups), device=device)
        kept = (place[rows.owner] >= 0).nonzero()[:, 0]
        row = torch.full((len(rows.owner),), -1, device=device)
        row[kept] = torch.arange(len(kept), device=device)
        targets = row[rows.where[:, 0]] >= 0
        essences = (row[rows.essence[:, 0]] >= 0).nonzero()[:, 0]
        bare = row[rows.bare]
        return cls(
            groups=groups,
            paused=rows.paused if len(groups) == rows.groups else rows.paused.rows(kept),
            owner=place[rows.owner[kept]],
            where=_renumbered(rows.where[targets], row),
            gold=rows.gold[targets],
            essence=_renumbered(rows.essence[essences], row),
            essences=essences,
            bare=bare[bare >= 0],
        )

    def mean(self, values: Tensor, rows: Tensor) -> Tensor:
        """Means [a] over the groups of values that belong to some of the rows."""
        mine = self.owner[rows]
        sums = values.new_zeros(len(self.groups)).index_add(0, mine, values)
        return sums / torch.bincount(mine, minlength=len(self.groups))


def _renumbered(where: Tensor, row: Tensor) -> Tensor:
    return torch.stack([row[where[:, 0]], where[:, 1]], dim=1)


def _forward(rows: _Rows, active: _Active, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of each text [rows] (0 for essences), log-probabilities [essences, V], first [a]."""
    out = rows.site.run(active.paused, delta[active.owner])
    at = torch.cat([active.where, active.essence])
    logprobs = rows.view.logits(out[at[:, 0], at[:, 1]]).log_softmax(-1)
    targets, essence = logprobs[: len(active.gold)], logprobs[len(active.gold) :]
    taken = targets.gather(1, active.gold[:, None])[:, 0]
    row, count = active.where[:, 0], len(active.owner)
    size = torch.bincount(row, minlength=count).clamp(min=1)
    nll = taken.new_zeros(count).index_add(0, row, -taken) / size
    missed = (targets.argmax(-1) != active.gold).float()
    wrong = taken.new_zeros(len(active.groups)).index_add(0, active.owner[row], missed)
    return nll, essence, wrong == 0


def _search(
    rows: _Rows, search: Search, reference: Tensor | None, *, done: int, total: int
) -> Generator[Step, None, Found]:
    """Adam on all groups of a chunk; one that is done keeps its delta and leaves the batch."""
    hidden = rows.hidden()
    scale = (hidden if reference is None else reference).norm(dim=-1)  # [groups, kinds]
    count = len(scale)
    delta = torch.zeros_like(hidden).requires_grad_()
    adam = torch.optim.Adam([delta], lr=search.lr)
    active = _Active.of(rows, torch.arange(count, device=scale.device))
    essence_0: Tensor | None = None
    streak = torch.zeros(count, dtype=torch.long, device=scale.device)
    ended = torch.full((count,), search.steps, device=scale.device)
    bare = torch.zeros(count, device=scale.device)

    for step in range(search.steps):
        mine = active.groups
        nll, essence, first = _forward(rows, active, delta[mine])
        if essence_0 is None:
            essence_0 = essence.detach()
            rows.view.require_finite(nll.detach(), "What the model answers before the edit")
        kl = (essence.exp() * (essence - essence_0[active.essences])).sum(-1)
        decay = (delta[mine].norm(dim=-1) / scale[mine] ** 2).sum(-1)
        loss = (
            active.mean(nll[active.where[:, 0].unique()], active.where[:, 0].unique())
            + search.kl_factor * active.mean(kl, active.essence[:, 0])
            + search.weight_decay * decay
        )  # [a]
        bare[mine] = _lowest(active, nll)
        streak[mine] = torch.where(first, streak[mine] + 1, 0)
        over = (loss < search.stop_loss) | ~loss.isfinite()
        if search.rank_one_steps:
            over |= streak[mine] >= search.rank_one_steps
        ended[mine[over]] = step + 1
        if step == search.steps - 1:
            over = torch.ones_like(over)
        still = mine[~over]
        if len(still):
            _descend(adam, delta, loss[~over].sum(), still, search.max_norm * scale)
        mean = float(loss.mean().detach())
        yield Step("z", done + count - len(still), total, mean)
        if not len(still):
            break
        if bool(over.any()):
            active = _Active.of(rows, still)
    return Found(delta.detach(), bare.tolist(), ended.tolist())


@torch.no_grad()
def _lowest(active: _Active, nll: Tensor) -> Tensor:
    """p(o*) [a] after the bare prompt, the lowest of a group; a NaN is the lowest of all."""
    p = (-nll[active.bare]).exp()
    owner = active.owner[active.bare]
    return p.new_full((len(active.groups),), 2.0).scatter_reduce(0, owner, p, "amin")


def _descend(
    adam: torch.optim.Adam, delta: Tensor, loss: Tensor, groups: Tensor, limit: Tensor
) -> None:
    """One step of Adam for some groups, then back into balls of radius `limit` [n, kinds]."""
    before = delta.detach().clone()
    adam.zero_grad()
    loss.backward()
    adam.step()
    with torch.no_grad():
        # Adam's momentum would go on moving what has left the search.
        still = torch.zeros(len(delta), dtype=torch.bool, device=delta.device)
        still[groups] = True
        norm = delta.norm(dim=-1).clamp(min=1e-30)
        shrink = (limit / norm).clamp(max=1.0)
        delta.copy_(torch.where(still[:, None, None], delta * shrink[..., None], before))


def _require_reached(asked: Sequence[_Asked], found: Found, search: Search) -> None:
    finite = found.deltas.isfinite().flatten(1).all(1).tolist()
    for one, reached, steps, good in zip(
        asked, found.probability, found.steps, finite, strict=True
    ):
        # Written so that a NaN fails too.
        if not good or not reached >= search.min_probability:
            request = one.requests[0]
            raise SearchDiverged(
                subject=request.subject, target=request.target_new, reached=reached, steps=steps
            )
