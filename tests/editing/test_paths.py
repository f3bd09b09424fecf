"""Scores of nodes, and the best paths through them, against all paths there are."""
# ruff: noqa: N806 - the notation of the papers

from collections.abc import Sequence
from itertools import pairwise, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from editing.editors.paths import (
    Selection,
    best_paths,
    group_weights,
    grown,
    node_scores,
    select,
)
from editing.hparams import CtpHparams

_SCORES = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=4)
_GROUPS = st.lists(_SCORES, min_size=1, max_size=4)


def hparams(**knobs: object) -> CtpHparams:
    return CtpHparams(layers=(0,), **{"positive": 2, **knobs})  # pyright: ignore[reportArgumentType]


def tensors(groups: Sequence[Sequence[float]]) -> list[Tensor]:
    return [torch.tensor(scores) for scores in groups]


class TestBestPaths:
    @settings(max_examples=200, deadline=None)
    @given(_GROUPS, st.integers(1, 7))
    def test_they_are_those_of_brute_force(
        self, groups: Sequence[Sequence[float]], count: int
    ) -> None:
        found = best_paths(tensors(groups), count)
        every = sorted((sum(path) for path in product(*groups)), reverse=True)
        assert [path.total for path in found] == pytest.approx(every[:count], abs=1e-9)

    @settings(max_examples=200, deadline=None)
    @given(_GROUPS, st.integers(1, 7))
    def test_each_is_a_path_of_its_own_with_the_sum_it_says(
        self, groups: Sequence[Sequence[float]], count: int
    ) -> None:
        found = best_paths(tensors(groups), count)
        assert len({path.nodes for path in found}) == len(found)
        for path in found:
            whole = sum(scores[node] for scores, node in zip(groups, path.nodes, strict=True))
            assert path.total == pytest.approx(whole, abs=1e-9)

    def test_those_of_a_large_model_differ_from_the_best_in_few_nodes(self) -> None:
        chance = torch.Generator().manual_seed(0)
        groups = [torch.randn(1000, generator=chance).abs() for _ in range(64)]
        found = best_paths(groups, 15)
        assert len(found) == 15
        assert all(one.total >= other.total for one, other in pairwise(found))
        best = found[0].nodes
        assert best == tuple(int(scores.argmax()) for scores in groups)
        for path in found[1:]:
            assert 1 <= sum(a != b for a, b in zip(path.nodes, best, strict=True)) <= 4


class TestScores:
    def gradient(self) -> Tensor:
        return torch.randn(5, 9, generator=torch.Generator().manual_seed(1))

    def test_absz_is_the_mean_size_of_the_z_scores_of_its_numbers(self) -> None:
        G = self.gradient()
        naive = [0.0] * 9
        for row in G.double().tolist():
            mean = sum(row) / len(row)
            deviation = (sum((x - mean) ** 2 for x in row) / len(row)) ** 0.5
            for node, x in enumerate(row):
                naive[node] += abs((x - mean) / deviation) / len(G)
        assert node_scores("absz", G).tolist() == pytest.approx(naive, rel=1e-5)

    def test_absz_of_numbers_without_a_gradient_is_zero(self) -> None:
        assert node_scores("absz", torch.zeros(5, 9)).tolist() == [0.0] * 9

    def test_a_signed_sum_cancels_where_the_others_do_not(self) -> None:
        G = torch.tensor([[1.0, 3.0], [-1.0, 0.0]])
        assert node_scores("signed", G).tolist() == [0.0, 3.0]
        assert node_scores("l2", G).tolist() == pytest.approx([2**0.5, 3.0])
        W = torch.tensor([[2.0, -1.0], [3.0, 7.0]])
        assert node_scores("gradxparam", G, W).tolist() == [1.0, 3.0]

    @pytest.mark.parametrize("kind", ["absz", "signed", "l2"])
    def test_the_best_nodes_do_not_depend_on_the_scale_of_the_loss(self, kind: str) -> None:
        G = self.gradient()
        one, other = (node_scores(kind, scale * G).argsort() for scale in (1.0, 7.0))  # pyright: ignore[reportArgumentType]
        assert torch.equal(one, other)


class TestSelection:
    groups = (torch.tensor([5.0, 4.9, 0.0, 1.0]), torch.tensor([3.0, 9.0, 8.0, 7.9]))

    def test_rank_aligned_takes_the_best_nodes_of_each_group(self) -> None:
        found = select(self.groups, hparams())
        assert found == Selection(
            positive=[[0, 1], [1, 2]],
            negative=[[2], [0]],
            sums=[14.0, pytest.approx(12.9)],  # pyright: ignore[reportArgumentType]
            lowest=3.0,
        )

    def test_exact_takes_the_nodes_of_the_best_paths(self) -> None:
        two = select(self.groups, hparams(tracing="exact"))
        assert two.positive == [[0, 1], [1]]  # 5 + 9 and 4.9 + 9
        assert two.sums == pytest.approx([14.0, 13.9])
        assert two.negative == [[2], [0]]

    def test_weights_of_groups_change_which_paths_are_best(self) -> None:
        groups = (torch.tensor([2.0, 1.0, 0.0, 0.0]), torch.tensor([9.0, 8.1, 8.0, 8.0]))
        plain = select(groups, hparams(tracing="exact"))
        assert plain.positive == [[0], [0, 1]]
        weighed = select(groups, hparams(tracing="exact", layer_weights=True))
        assert group_weights(groups) == pytest.approx([0.75 / 4.5125, 8.275 / 4.5125])
        assert weighed.positive == [[0, 1], [0]]

    def test_no_node_is_on_both_sides_even_where_all_scores_are_alike(self) -> None:
        for tracing in ("rank_aligned", "exact"):
            found = select([torch.zeros(16)] * 3, hparams(tracing=tracing, positive=15))
            for positive, negative in zip(found.positive, found.negative, strict=True):
                assert len(negative) == 1
                assert not set(positive) & set(negative)

    def test_no_negative_path_may_be_asked_for(self) -> None:
        assert select(self.groups, hparams(negative=0)).negative == [[], []]

    def test_n_grows_until_its_nodes_are_a_share_of_the_group(self) -> None:
        scores = torch.tensor([1.0, 4.0, 2.0, 3.0])  # sums of the best: 4, 7, 9, 10
        assert [grown(scores, share, 3) for share in (0.01, 0.4, 0.41, 0.7, 0.71, 1)] == [
            1, 1, 2, 2, 3, 3,
        ]  # fmt: skip
        assert grown(-scores, 0.7, 3) == 2  # of signed scores, their size counts

    def test_groups_may_have_numbers_of_their_own(self) -> None:
        found = select(self.groups, hparams(positive=3, mass=0.5))
        assert [len(nodes) for nodes in found.positive] == [2, 2]
        found = select(self.groups, hparams(positive=3, mass=0.4))
        assert found.positive == [[0], [1, 2]]
        assert found.sums == pytest.approx([14.0, 8.0])
