"""Which nodes matter, and the best paths through them: pure functions of gradients.

A group is the key vectors, or the value vectors, of one layer: M nodes of d numbers each. A path
picks one node in every group and is worth the sum of their scores. Nothing couples the groups, so

    a path among the N best never needs a node ranked worse than N in its group, and
    the N best partial sums of some groups come from the N best of those before, one group at a time

which makes O(groups (M + N log N)) of M^groups paths. The best nodes of every group taken by
themselves ("rank aligned") are N paths too: the best set of N that share no node.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from editing.hparams import CtpHparams, NodeScore


@dataclass(frozen=True, slots=True)
class Path:
    """One node for every group, and the sum of their scores."""

    total: float
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """The nodes to train, group by group.

    positive and negative hold node numbers, best or least first; sums are those of the positive
    paths, and lowest is that of the least one.
    """

    positive: list[list[int]]
    negative: list[list[int]]
    sums: list[float]
    lowest: float


def node_scores(kind: NodeScore, gradient: Tensor, weight: Tensor | None = None) -> Tensor:
    """Scores [M] of the nodes of one group, from d CE / d node [d, M].

    weight [d, M] holds the nodes themselves; only "gradxparam" asks for it.
    """
    if kind == "signed":
        return gradient.sum(0)
    if kind == "l2":
        return gradient.norm(dim=0)
    if weight is not None:  # what the loss would change by, to first order, without the node
        return (gradient * weight).sum(0).abs()
    std, mean = torch.std_mean(gradient, dim=1, keepdim=True, correction=0)
    # A row without any gradient has no deviation: its z is 0, not 0 / 0.
    inverse = torch.where(std > 0, 1 / std, 0)
    return gradient.sub(mean).mul_(inverse).abs_().mean(0)


def best_nodes(scores: Tensor, count: int) -> list[int]:
    """The nodes with the greatest scores, best first."""
    return scores.topk(count).indices.tolist()


def best_paths(groups: Sequence[Tensor], count: int) -> list[Path]:
    """The `count` paths with the greatest sums, best first, of scores [M] for each group."""
    sums = [0.0]
    tops: list[list[int]] = []
    picks: list[list[tuple[int, int]]] = []  # of each sum: the one before, and the rank added
    for scores in groups:
        top = best_nodes(scores, min(count, len(scores)))
        tops.append(top)
        sums, picked = _merged(sums, scores[top].double().tolist(), count)
        picks.append(picked)
    return [Path(total, _walk_back(rank, tops, picks)) for rank, total in enumerate(sums)]


def _merged(
    sums: Sequence[float], scores: Sequence[float], count: int
) -> tuple[list[float], list[tuple[int, int]]]:
    """The greatest sums of one of `sums` and one of `scores`, both sorted, and where from."""
    heap = [(-(sums[0] + scores[0]), 0, 0)]
    found: list[float] = []
    picked: list[tuple[int, int]] = []
    while heap and len(found) < count:
        total, i, j = heapq.heappop(heap)
        found.append(-total)
        picked.append((i, j))
        if j + 1 < len(scores):
            heapq.heappush(heap, (-(sums[i] + scores[j + 1]), i, j + 1))
        if j == 0 and i + 1 < len(sums):  # each pair is reached in one way only
            heapq.heappush(heap, (-(sums[i + 1] + scores[0]), i + 1, 0))
    return found, picked


def _walk_back(
    rank: int, tops: Sequence[list[int]], picks: Sequence[list[tuple[int, int]]]
) -> tuple[int, ...]:
    nodes: list[int] = []
    for top, picked in zip(reversed(tops), reversed(picks), strict=True):
        rank, at = picked[rank]
        nodes.append(top[at])
    return tuple(reversed(nodes))


def grown(scores: Tensor, share: float, most: int) -> int:
    """The least number of nodes whose scores are a share of their group's; `most` at most."""
    size = scores.abs()
    sums = size.topk(most).values.cumsum(0)
    return min(int((sums < share * size.sum()).sum()) + 1, most)


def group_weights(groups: Sequence[Tensor]) -> list[float]:
    """The mean size of each group's scores, relative to that of all groups."""
    means = torch.stack([scores.abs().mean() for scores in groups]).double()
    return (means / means.mean().clamp(min=torch.finfo(torch.float64).tiny)).tolist()


def select(groups: Sequence[Tensor], hparams: CtpHparams) -> Selection:
    """The nodes on the best paths, and those on the least ones, as the hparams say."""
    most = hparams.positive
    counts = [most if hparams.mass is None else grown(s, hparams.mass, most) for s in groups]
    if hparams.tracing == "exact":
        weighed = group_weights(groups) if hparams.layer_weights else [1.0] * len(groups)
        paths = best_paths([w * s for w, s in zip(weighed, groups, strict=True)], max(counts))
        # dict, not set: the order of first use is kept
        positive = [list(dict.fromkeys(p.nodes[g] for p in paths)) for g in range(len(groups))]
        sums = [path.total for path in paths]
    else:
        positive = [best_nodes(s, n) for s, n in zip(groups, counts, strict=True)]
        sums = _aligned_sums(groups, positive)
    negative = [_least(s, p, hparams.negative) for s, p in zip(groups, positive, strict=True)]
    lowest = sum(float(scores.min()) for scores in groups)
    return Selection(positive, negative, sums, lowest)


def _aligned_sums(groups: Sequence[Tensor], positive: Sequence[list[int]]) -> list[float]:
    """Sums of the paths that take the r-th node everywhere; a group with fewer ends its own."""
    ranks = range(max(map(len, positive)))
    return [
        sum(float(s[nodes[r]]) for s, nodes in zip(groups, positive, strict=True) if r < len(nodes))
        for r in ranks
    ]


def _least(scores: Tensor, taken: list[int], count: int) -> list[int]:
    """The nodes with the least scores among those that are not taken."""
    left = scores.clone()
    left[taken] = torch.inf  # where all scores are alike, the best are the least as well
    return left.topk(count, largest=False).indices.tolist()
